import json
import multiprocessing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.label.answers import ANSWERS, Answers

FINDING = "pleural_effusion"


def test_the_last_answer_of_a_study_counts_whoever_gave_it(tmp_path):
    answers = Answers(tmp_path / "answers.jsonl")
    answers.add("a", FINDING, "present", reader="Ada")
    answers.add("b", FINDING, "uncertain", reader="Ada")
    answers.add("a", FINDING, "absent", reader="Bo")
    answers.add("a", "pneumonia", "present", reader="Ada")
    assert answers.labels(FINDING) == {"b": -1.0, "a": 0.0}
    assert answers.current(FINDING)["a"].reader == "Bo"
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [set(line) for line in lines] == [{"study", "finding", "answer", "reader", "time"}] * 4
    assert (tmp_path / "answers.jsonl").stat().st_mode & 0o077 == 0


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from([*ANSWERS, "undo"]), st.sampled_from("AB"))))
def test_answers_and_undos_in_any_order_are_those_of_a_list_from_which_the_last_of_the_reader_is_taken(steps):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        answers, expected = Answers(f"{folder}/answers.jsonl"), []
        for study, what, reader in steps:
            if what != "undo":
                answers.add(study, FINDING, what, reader=reader)
                expected.append((study, what, reader))
                continue
            undone = answers.undo(reader=reader, finding=FINDING)
            own = [n for n, each in enumerate(expected) if each[2] == reader]
            if own:
                gone = expected.pop(own[-1])
                assert (undone.study, undone.answer, undone.reader) == gone
            else:
                assert undone is None
        assert [(a.study, a.answer, a.reader) for a in answers.standing()] == expected
        assert {k: v.answer for k, v in answers.current(FINDING).items()} == {s: a for s, a, _ in expected}


def test_a_line_that_a_crash_cut_off_is_not_read_and_the_next_answer_takes_its_place(tmp_path):
    answers = Answers(tmp_path / "answers.jsonl")
    answers.add("a", FINDING, "present", reader="Ada")
    whole = answers.path.read_bytes()
    answers.path.write_bytes(whole + b'{"study": "b", "find')
    assert answers.labels(FINDING) == {"a": 1.0}
    answers.add("c", FINDING, "absent", reader="Ada")
    assert answers.labels(FINDING) == {"a": 1.0, "c": 0.0}
    assert answers.path.read_bytes().startswith(whole)


def test_a_line_that_is_no_answer_is_an_error_that_names_it(tmp_path):
    answers = Answers(tmp_path / "answers.jsonl")
    answers.add("a", FINDING, "present", reader="Ada")
    with answers.path.open("a") as file:
        file.write('{"study": "b"}\n')
    with pytest.raises(CxrPairError, match="line 2 is no answer"):
        answers.labels(FINDING)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"answer": "maybe"}, "answer"), ({"reader": " "}, "reader"), ({"study": "x" * 200}, "study"),
     ({"reader": "a\nb"}, "reader"), ({"finding": ""}, "finding"), ({"answer": "undone"}, "answer")],
)  # fmt: skip
def test_what_is_no_answer_is_refused_and_nothing_is_written(tmp_path, change, named):
    said = {"study": "a", "finding": FINDING, "answer": "present", "reader": "Ada", **change}
    answers = Answers(tmp_path / "answers.jsonl")
    with pytest.raises(CxrPairError, match=f"^{named} is"):
        answers.add(said["study"], said["finding"], said["answer"], reader=said["reader"])
    assert not answers.path.exists()


def _add_many(path, reader):
    answers = Answers(path)
    for number in range(40):
        answers.add(f"{reader}{number}", FINDING, "present", reader=reader)


def test_two_processes_that_answer_at_once_lose_nothing(tmp_path):
    path = tmp_path / "answers.jsonl"
    processes = [multiprocessing.get_context("fork").Process(target=_add_many, args=(path, name)) for name in "AB"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert Answers(path).labels(FINDING).keys() == {f"{name}{n}" for name in "AB" for n in range(40)}
