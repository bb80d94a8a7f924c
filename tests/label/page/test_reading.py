"""What a reader says arrives, in whatever state the server is."""

import json

CONTROL = 2  # the bit in the DevTools protocol


def test_answers_by_the_keyboard_are_on_the_disk_and_the_next_study_is_there(reader):
    reader.open()
    given = {reader.answer(key): said for key, said in (("1", "present"), ("a", "absent"), ("3", "uncertain"))}
    reader.saved(3)
    assert reader.said() == given
    assert reader.text("#progress-text").startswith("3 of ")
    assert reader.text("#progress-answers").startswith("1 present · 1 absent · 1 uncertain")
    assert {body["reader"] for verb, _, body in reader.server.asked if verb == "POST"} == {"kim"}
    assert reader.complaints() == []


def test_the_answer_buttons_say_the_same(reader):
    reader.open()
    study = reader.study
    reader.click("[data-answer=absent]")
    reader.saved(1)
    assert reader.said() == {study: "absent"}


def test_a_key_that_is_held_down_or_comes_too_quick_answers_one_study(reader):
    reader.open()
    reader.key("1", release=False)
    for _ in range(8):
        reader.key("1", repeat=True, release=False)
    reader.until("document.body.dataset.phase === 'reading'")
    reader.key("1")
    assert "Too quick" in reader.text("#notice")
    reader.saved(1)


def test_keys_with_control_and_keys_into_a_field_answer_nothing(reader):
    reader.open()
    reader.key("1", modifiers=CONTROL)
    reader.click("#reader")
    for key in "1pau":
        reader.key(key)
    assert reader.value("document.querySelector('#reader-field').value").endswith("1pau")
    assert not any("/answer" in path for _, path, _ in reader.server.asked)


def test_undo_brings_the_study_back_and_the_one_in_between_comes_after_it(reader):
    reader.open()
    first = reader.answer("1")
    between = reader.study
    reader.saved(1)
    reader.key("Backspace")
    reader.until(f"document.querySelector('#study-name').innerText.includes('{first}')")
    reader.saved(0)
    reader.until("document.body.dataset.phase === 'reading'")
    reader.settle()
    assert reader.answer("2") == first
    assert reader.study == between
    reader.saved(1)
    assert reader.said() == {first: "absent"}
    reader.key("z", modifiers=CONTROL)
    reader.saved(0)


def test_undo_without_an_answer_says_so(reader):
    reader.open()
    study = reader.study
    reader.key("Backspace")
    reader.until("document.querySelector('#notice').innerText.includes('no answer of yours')")
    assert reader.study == study


def test_a_study_that_was_skipped_comes_again_when_nothing_else_is_left(reader):
    reader.open()
    skipped, everything = reader.answer("n"), len(reader.server.desk.studies)
    seen = [reader.answer("2") for _ in range(everything)]
    assert seen[-1] == skipped
    assert len(set(seen)) == everything
    reader.until("document.body.dataset.phase === 'done'")
    assert "Nothing is left" in reader.text("#empty")
    reader.saved(everything)


def test_the_next_study_is_leased_and_its_pictures_are_loaded_while_this_one_is_read(reader):
    reader.open()
    desk, shown = reader.server.desk, reader.study
    reader.until("performance.getEntriesByType('resource').filter(each => each.name.includes('worklist')).length > 1")
    ahead = [study for study in json.loads((desk.state / "leases.json").read_text()) if not study.startswith(shown)]
    assert len(ahead) == 1
    pictures = f"performance.getEntriesByType('resource').filter(each => /{ahead[0]}.*raw/.test(each.name)).length"
    reader.until(f"{pictures} === {len(desk.studies[ahead[0]].radiographs)}")
    reader.server.faults.append(("GET", "/api/study/", "drop"))
    reader.answer("1")
    assert ahead[0].startswith(reader.study)


def test_an_answer_outlives_a_server_that_is_away_and_is_sent_once_when_it_is_back(reader):
    reader.open()
    reader.server.faults.append(("POST", "/answer", "drop"))
    study = reader.answer("1")
    reader.until("document.querySelector('#progress-waiting').innerText.includes('1 answer is waiting')")
    reader.until("document.querySelector('#away').checkVisibility()")
    assert "kept here" in reader.text("#away")
    assert reader.server.answers() == {}
    reader.server.faults.clear()
    reader.click("#try-now")
    reader.saved(1)
    assert reader.said() == {study: "present"}
    assert not reader.shows("#away")


def test_an_answer_that_arrived_without_an_answer_is_not_written_twice(reader):
    reader.open()
    reader.server.faults.append(("POST", "/answer", "deaf"))
    reader.answer("1")
    reader.until("document.querySelector('#away').checkVisibility()")
    reader.server.faults.clear()
    reader.click("#try-now")
    reader.saved(1)
    assert len(reader.server.desk.answers.standing()) == 1


def test_an_answer_undone_while_the_server_is_away_never_counts_even_where_it_had_arrived(reader):
    for fault in ("drop", "deaf"):
        reader.open()
        reader.server.faults.append(("POST", "/answer", fault))
        study = reader.answer("1")
        reader.until("document.querySelector('#away').checkVisibility()")
        reader.key("Backspace")
        reader.until(f"document.querySelector('#study-name').innerText.includes('{study}')")
        assert len(reader.server.answers()) == (fault == "deaf")
        reader.server.faults.clear()
        reader.click("#try-now")
        reader.until("document.body.dataset.phase === 'reading'")
        reader.settle()
        reader.answer("2")
        reader.saved(1)
        assert reader.said() == {study: "absent"}
        assert len(reader.server.desk.answers.standing()) == 1
        reader.key("Backspace")
        reader.saved(0)


def test_an_answer_outlives_the_page(reader):
    reader.open()
    reader.server.faults.append(("POST", "/answer", 503))
    study = reader.answer("3")
    reader.until("document.querySelector('#away').checkVisibility()")
    assert "made to fail" in reader.text("#away")
    assert reader.value("localStorage.length") == 2  # settings, and the answer
    assert reader.leave()  # it asks: an answer is not sent
    reader.server.faults.clear()
    reader.open()
    reader.saved(1)
    assert reader.said() == {study: "uncertain"}
    assert reader.value("localStorage.length") == 1


def test_a_page_without_unsent_answers_may_be_left_at_once(reader):
    reader.open()
    reader.answer("1")
    reader.saved(1)
    assert not reader.leave()


def test_an_answer_to_a_study_that_another_reader_has_stays_on_the_page_until_it_is_seen(reader):
    reader.open()
    desk, study = reader.server.desk, reader.study
    whole = next(each for each in desk.studies if each.startswith(study))
    desk._worklist.leases.take(whole, "lee")  # as after the lease's end
    reader.answer("1")
    reader.until("document.querySelector('#refused').innerText.includes('another reader')")
    assert f"Not saved: ● Present · study {study}" in reader.text("#refused")
    assert reader.server.answers() == {}
    reader.answer("2")
    reader.saved(1)  # a refusal stops no other answer
    assert reader.leave()
    reader.open()
    assert "Not saved" in reader.text("#refused")
    reader.click("#refused button")
    assert reader.text("#refused") == ""


def test_an_answer_for_another_finding_is_not_sent_for_this_one(reader):
    reader.open()
    reader.server.faults.append(("POST", "/answer", "drop"))
    reader.answer("1")
    reader.until("document.querySelector('#away').checkVisibility()")
    reader.server.desk.model.finding = reader.server.desk.finding = "pneumonia"
    reader.server.faults.clear()
    reader.click("#try-now")
    reader.until("document.querySelector('#refused').innerText.includes('now reads pneumonia')")
    assert reader.server.answers() == {}


def test_a_server_that_gives_no_study_is_asked_until_it_does(reader):
    reader.server.faults.append(("POST", "/worklist", 500))
    reader.browser.open(reader.server.address, width=1280)
    reader.until("document.querySelector('#reader-dialog').open")
    for key in "kim":
        reader.key(key)
    reader.click("#reader-dialog button")
    reader.until("document.querySelector('#away').checkVisibility()")
    assert reader.value("document.querySelectorAll('[data-answer]:disabled').length") == 3
    reader.server.faults.clear()
    reader.click("#try-now")
    reader.until("document.body.dataset.phase === 'reading'")
    assert not reader.shows("#away")


def test_a_radiograph_that_cannot_be_read_says_so_and_cannot_be_answered(reader):
    reader.server.faults.append(("GET", ".raw", 422))
    reader.open()
    assert "cannot be shown: made to fail" in reader.text("figure")
    reader.key("1")
    assert "nothing to answer" in reader.text("#notice")
    assert not any("/answer" in path for _, path, _ in reader.server.asked)


def test_the_reader_is_asked_for_once(reader):
    reader.open(name=None)
    reader.until("document.querySelector('#reader-dialog').open")
    reader.key("Escape")
    reader.until("document.querySelector('#reader-dialog').open")  # an answer needs a reader
    for key in "lee":
        reader.key(key)
    reader.click("#reader-dialog button")
    reader.until("document.body.dataset.phase === 'reading'")
    assert any(body and body.get("reader") == "lee" for _, _, body in reader.server.asked)
    reader.open(name=None)
    reader.until("document.body.dataset.phase === 'reading'")
    assert reader.text("#reader-name") == "lee"
    assert not reader.value("document.querySelector('#reader-dialog').open")


def test_another_order_is_asked_for_from_the_next_study_on_and_kept(reader):
    reader.open()
    reader.value(
        "(s => { s.value = 'uncertain'; s.dispatchEvent(new Event('change')) })(document.querySelector('#strategy'))"
    )
    reader.answer("1")
    reader.until("document.body.dataset.phase === 'reading'")
    assert [body["strategy"] for _, path, body in reader.server.asked if "worklist" in path][-1] == "uncertain"
    assert json.loads(reader.value("localStorage.getItem('cxrpair.settings')"))["strategy"] == "uncertain"


def test_a_name_that_looks_like_html_is_text(reader):
    run = "<img src=x onerror=\"document.body.dataset.run='yes'\">"
    reader.open(name=run)
    reader.answer("1")
    reader.saved(1)
    reader.until("document.body.dataset.phase === 'reading'")
    assert "<img src=x" in reader.value("document.body.innerText")
    assert reader.value("document.querySelectorAll('img').length") == 0
    assert reader.value("document.body.dataset.run ?? ''") == ""
