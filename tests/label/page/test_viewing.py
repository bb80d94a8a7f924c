"""What a reader sees: the radiograph, the classifier only when it is asked for, and nothing in the console."""

import pytest

SHIFT = 8  # the bit in the DevTools protocol


def mean(pixels):
    return sum(map(sum, pixels)) / (3 * len(pixels))


def coloured(pixels):
    return sum(max(pixel) - min(pixel) > 20 for pixel in pixels)


def test_the_first_radiograph_is_on_the_canvas_in_grey(reader):
    reader.open()
    pixels = reader.pixels()
    assert 10 < mean(pixels) < 245
    assert len(set(map(tuple, pixels))) > 20
    assert coloured(pixels) == 0


def test_the_canvas_shows_the_pixels_of_the_server_in_the_right_place(reader):
    reader.open()
    whole = next(each for each in reader.server.desk.studies if each.startswith(reader.study))
    picture = reader.server.desk.picture(whole, 0)
    rows, columns = picture.shape
    width, height = reader.value("(c => [c.width, c.height])(document.querySelector('canvas'))")
    scale = min(width / columns, height / rows)
    for down, across in ((0.3, 0.3), (0.5, 0.7), (0.8, 0.5)):
        x, y = width / 2 + (across - 0.5) * columns * scale, height / 2 + (down - 0.5) * rows * scale
        row, column = int(down * rows), int(across * columns)
        near = picture[row - 1 : row + 2, column - 1 : column + 2] / 257
        seen = reader.pixels(x=x, y=y)[0][0]
        assert near.min() - 3 <= seen <= near.max() + 3


@pytest.mark.parametrize("how", ["right button", "W", "Shift and an arrow"])
def test_window_and_level_change_what_is_seen_and_reset_takes_that_back(reader, how):
    reader.open()
    before = reader.pixels()
    if how == "right button":
        reader.drag(0, -150, button="right")
    elif how == "W":
        reader.key("w", release=False)
        reader.drag(0, -150)
        reader.key("w")
    else:
        for _ in range(5):
            reader.key("ArrowUp", modifiers=SHIFT)
        reader.settle()
    assert mean(reader.pixels()) > mean(before) + 10  # up: brighter
    reader.key("r")
    reader.settle()
    assert reader.pixels() == before
    reader.drag(-200, 0, button="right")
    spread = sorted(sum(pixel) for pixel in reader.pixels())
    assert spread[-20] - spread[20] > sorted(map(sum, before))[-20] - sorted(map(sum, before))[20]  # narrower: steeper
    assert "W 100 %" not in reader.text("figcaption")


def test_the_wheel_zooms_where_the_pointer_is_and_a_drag_moves(reader):
    reader.open()
    x, y = reader.centre("canvas")
    box = reader.value("(b => [b.x, b.y])(document.querySelector('canvas').getBoundingClientRect())")
    spot = (x - 100, y + 60)
    at = {"x": spot[0] - box[0], "y": spot[1] - box[1]}
    before, whole = reader.pixels(**at)[0][0], reader.pixels()
    reader.mouse("mouseWheel", *spot, deltaX=0, deltaY=-300)
    reader.settle()
    assert "×1.7" in reader.text("figcaption")
    assert abs(reader.pixels(**at)[0][0] - before) <= 12
    zoomed = reader.pixels()
    assert zoomed != whole
    reader.drag(90, 0)
    assert reader.pixels() != zoomed
    assert abs(reader.pixels(x=at["x"] + 90, y=at["y"])[0][0] - before) <= 12
    reader.mouse("mouseWheel", *spot, deltaX=0, deltaY=2000)
    reader.key("r")
    reader.settle()
    assert reader.pixels() == whole


def test_invert_turns_black_into_white(reader):
    reader.open()
    before = reader.pixels()
    reader.key("i")
    reader.settle()
    inside = [(old, new) for old, new in zip(before, reader.pixels(), strict=True) if old != new]
    assert len(inside) > 30
    assert all(abs(old[0] + new[0] - 255) <= 2 for old, new in inside)
    assert reader.value("document.querySelector('#invert').getAttribute('aria-pressed')") == "true"


def test_the_prediction_is_hidden_until_it_is_asked_for_and_hidden_again_at_the_next_study(reader):
    reader.open()
    assert "79" not in reader.text("#prediction")
    assert "score" not in reader.text("#radiographs")
    reader.key("s")
    assert "79 %" in reader.text("#prediction-shown")
    assert "positive" in reader.text("#prediction-shown")
    assert "score 0.83" in reader.text("#prediction-shown")
    reader.answer("1")
    assert not reader.shows("#prediction-shown")
    assert reader.text("#last").replace("\n", " ").endswith("Classifier: 79 % ▲ positive")


def test_with_the_setting_the_prediction_is_there_before_the_answer(reader):
    reader.open(showPrediction=True)
    assert "79 %" in reader.text("#prediction-shown")
    reader.answer("1")
    assert "79 %" in reader.text("#prediction-shown")


def test_with_the_other_setting_the_study_stays_and_shows_the_prediction_after_the_answer(reader):
    reader.open(pause=True)
    study = reader.study
    assert not reader.shows("#prediction-shown")
    reader.key("1")
    reader.saved(1)
    assert reader.study == study
    assert "79 %" in reader.text("#prediction-shown")
    reader.key("2")
    assert "answered" in reader.text("#notice")
    assert reader.answer("n") == study
    assert reader.said() == {study: "present"}


def test_settings_are_kept(reader):
    reader.open()
    reader.click("#settings")
    reader.click("#set-prediction")
    reader.key("Escape")
    assert "79 %" in reader.text("#prediction-shown")
    reader.browser.open(reader.server.address, width=1280)
    reader.until("document.body.dataset.phase === 'reading'")
    assert "79 %" in reader.text("#prediction-shown")


def test_the_heat_map_is_laid_over_and_taken_away_and_gone_at_the_next_study(reader):
    reader.open()
    before = reader.pixels()
    reader.key("h")
    reader.until("!document.querySelector('.heated').hidden")
    reader.settle()
    assert coloured(reader.pixels()) > 3
    reader.key("h")
    reader.settle()
    assert reader.pixels() == before
    reader.key("h")
    reader.answer("1")
    assert coloured(reader.pixels()) == 0
    assert not any("heatmap" in path and reader.study in path for _, path, _ in reader.server.asked)


def test_a_heat_map_that_cannot_be_made_says_why(reader):
    reader.open()
    reader.server.faults.append(("GET", "heatmap", 422))
    reader.key("h")
    reader.until("document.querySelector('#notice').innerText === 'No heat map: made to fail'")
    assert reader.value("document.querySelector('#heat').getAttribute('aria-pressed')") == "false"


def test_two_radiographs_stand_side_by_side_or_one_is_large(reader):
    reader.open()
    while reader.value("document.querySelectorAll('figure').length") < 2:
        reader.answer("2")
    boxes = "[...document.querySelectorAll('figure')].map(f => f.getBoundingClientRect().width)"
    left, right = reader.value(boxes)[:2]
    assert left == pytest.approx(right, abs=2)
    reader.key("t")
    left, right = reader.value(boxes)[:2]
    assert left > 4 * right
    assert reader.text("figure.active .what").startswith("frontal")
    reader.click("figure:not(.active) canvas")
    left, right = reader.value(boxes)[:2]
    assert right > 4 * left
    reader.key("[")
    assert reader.value("document.querySelector('figure').classList.contains('active')")


def test_help_lists_the_keys_and_answers_nothing_while_it_is_open(reader):
    reader.open()
    reader.key("?", modifiers=SHIFT)
    assert reader.shows("#help-dialog")
    reader.key("1")
    reader.key("Escape")
    assert not reader.shows("#help-dialog")
    assert not any("/answer" in path for _, path, _ in reader.server.asked)


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1280, 800), (390, 844)])
def test_nothing_is_cut_off_and_research_use_is_in_sight(reader, width, height):
    reader.open(width=width, height=height, showPrediction=True)
    while reader.value("document.querySelectorAll('figure').length") < 2 or not reader.shows("#last"):
        reader.answer("2")
    assert reader.value("document.documentElement.scrollWidth") <= width
    outside = f"[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > {width} + 1)"
    assert reader.value(f"{outside}.map(e => e.outerHTML.slice(0, 100))") == []
    assert reader.shows(".research")
    if width > 390:
        assert reader.value("(a => a.scrollHeight <= a.clientHeight)(document.querySelector('aside'))")
        assert reader.value("document.documentElement.scrollHeight") <= height


def test_every_control_has_a_name_and_text_stands_out_from_its_ground(reader):
    reader.open(showPrediction=True)
    nameless = "[...document.querySelectorAll('button, select, input, canvas, progress')]"
    nameless += ".filter(e => e.checkVisibility() && !e.innerText.trim() && !e.ariaLabel)"
    nameless += ".filter(e => !e.getAttribute('aria-labelledby') && !e.labels?.length)"
    assert reader.value(f"{nameless}.map(e => e.outerHTML)") == []
    contrast = """[...document.querySelectorAll('body *')].filter(e => e.checkVisibility() && !e.disabled &&
      [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).map(e => {
        const light = c => { const v = c.match(/[\\d.]+/g).map(x => x / 255).map(x => x <= .04045 ? x / 12.92 :
          ((x + .055) / 1.055) ** 2.4); return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
        let ground = e; const clear = g => getComputedStyle(g).backgroundColor === 'rgba(0, 0, 0, 0)';
        while (ground.parentElement && clear(ground)) ground = ground.parentElement;
        const [a, b] = [light(getComputedStyle(e).color), light(getComputedStyle(ground).backgroundColor)];
        return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.outerHTML.slice(0, 80)];
      }).filter(([ratio]) => ratio < 4.5)"""  # WCAG 2.2, AA
    assert reader.value(contrast) == []


def test_the_page_asks_nobody_else_obeys_its_policy_and_logs_nothing(reader):
    reader.open()
    for key in ("s", "h", "i", "t", "+", "?", "Escape"):
        reader.key(key)
        reader.settle()
    reader.answer("1")
    reader.saved(1)
    assert reader.complaints() == []
    sent = [event["params"] for event in reader.browser.events if event["method"] == "Network.requestWillBeSent"]
    origin = reader.server.address.removesuffix("cxrpair/")
    assert {each["request"]["url"].startswith((origin, "data:")) for each in sent} == {True}
    answers = [event["params"]["response"] for event in reader.browser.events
               if event["method"] == "Network.responseReceived"]  # fmt: skip
    page = next(each for each in answers if each["url"] == reader.server.address)
    headers = {name.lower(): value for name, value in page["headers"].items()}
    assert "default-src 'self'" in headers["content-security-policy"]
    broken = "document.body.setAttribute('style', 'color: red'), document.body.style.color"
    assert reader.value(broken) == ""  # the policy is at work
