import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_evaluation import evaluated_on, make_cohort, page_of

from monai_cxrpair.evaluation.panels.training_curves import make, read_history

LINES = [
    {"epoch": epoch, "iteration": 10 * epoch, "loss": 5.0 - 0.1 * epoch, "alignment": 1.5, "uniformity": -0.1 * epoch}
    | ({"knn_auc": 0.5 + 0.01 * epoch} if epoch % 2 == 0 else {})
    for epoch in range(1, 7)
]


@pytest.fixture(scope="module")
def cohort():
    return make_cohort()


def write(folder, lines):
    folder.mkdir()
    (folder / "history.jsonl").write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n"
    )
    return str(folder / "encoder.pt")


def evaluated_with(cohort, files, training=None):
    card = {"training": training or {"epoch": 4, "chosen_by": "knn_auc", "last_epoch": {"loss": 4.6}}}
    return evaluated_on(cohort, cards=dict.fromkeys(files, card), files=files)


def test_the_curves_are_the_figures_of_the_history(cohort, tmp_path):
    evaluated = evaluated_with(cohort, {"ours": write(tmp_path / "a", LINES)})
    panel = make(evaluated, tmp_path)
    ours = panel.figures["encoders"]["ours"]
    assert ours["curves"]["loss"] == {"epochs": [1, 2, 3, 4, 5, 6], "values": [line["loss"] for line in LINES]}
    assert ours["curves"]["knn_auc"] == {"epochs": [2, 4, 6], "values": [0.52, 0.54, 0.56]}
    assert "accuracy" not in ours["curves"]
    assert (ours["epochs"], ours["encoder_epoch"], ours["damaged"]) == (6, 4, 0)
    assert panel.pictures["training_curves"] == tmp_path / "training_curves.svg"
    assert (tmp_path / "training_curves.png").stat().st_size > 10_000


def test_the_same_history_gives_the_same_picture_byte_for_byte(cohort, tmp_path):
    evaluated = evaluated_with(cohort, {"ours": write(tmp_path / "a", LINES)})
    first = make(evaluated, tmp_path).pictures["training_curves"].read_bytes()
    assert make(evaluated, tmp_path).pictures["training_curves"].read_bytes() == first


def test_without_a_history_there_is_no_panel(cohort, tmp_path):
    assert make(evaluated_with(cohort, {"ours": str(tmp_path / "encoder.pt")}), tmp_path) is None


def test_damaged_lines_are_counted_and_the_others_drawn(cohort, tmp_path):
    lines = [LINES[0], '{"epoch": 2, "lo', "[1, 2]", '{"epoch": true}', '{"epoch": "3"}', LINES[3], "[" * 100_000]
    page = page_of(evaluated_with(cohort, {"ours": write(tmp_path / "a", lines)}), "training_curves", make, tmp_path)
    ours = json.loads((tmp_path / "results.json").read_text())["panels"]["training_curves"]["encoders"]["ours"]
    assert ours["damaged"] == 5
    assert ours["curves"]["loss"]["epochs"] == [1, 4]
    assert "5 lines of its <code>history.jsonl</code> are damaged and not shown" in page
    assert "is of epoch 4 (chosen by the kNN AUC)" in page


@given(st.lists(st.one_of(st.text(max_size=40), st.builds(json.dumps, st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.dictionaries(st.sampled_from(["epoch", "loss", "knn_auc", "x"]), inner, max_size=4),
    max_leaves=6,
))), max_size=8))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_whatever_stands_in_a_history_is_either_a_line_or_damaged(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("x") / "history.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8", errors="replace")
    found, damaged = read_history(path)
    there = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert 0 <= damaged <= len(there)
    assert len(found) <= len(there) - damaged
    assert list(found) == sorted(found)


def test_a_history_of_nothing_but_damage_is_said_and_draws_nothing(cohort, tmp_path):
    evaluated = evaluated_with(cohort, {"ours": write(tmp_path / "a", ["\x00\x00", "{"])})
    panel = make(evaluated, tmp_path)
    assert panel.pictures == {}
    assert panel.figures["left_out"] == {"ours": "no line of its history.jsonl can be read"}
    page = page_of(evaluated, "training_curves", make, tmp_path)
    assert "ours is not shown: no line of its history.jsonl can be read" in page


def test_a_history_that_is_no_file_is_said(cohort, tmp_path):
    (tmp_path / "a" / "history.jsonl").mkdir(parents=True)
    panel = make(evaluated_with(cohort, {"ours": str(tmp_path / "a" / "encoder.pt")}), tmp_path)
    assert "cannot be read" in panel.figures["left_out"]["ours"]


def test_the_history_of_another_run_is_not_taken_for_the_encoders_own(cohort, tmp_path):
    files = {"ours": write(tmp_path / "a", LINES), "moved": write(tmp_path / "b", LINES)}
    cards = {
        "ours": {"training": {"epoch": 4, "last_epoch": {"loss": LINES[3]["loss"]}}},
        "moved": {"training": {"epoch": 4, "last_epoch": {"loss": 1.25}}},
    }
    panel = make(evaluated_on(cohort, cards=cards, files=files), tmp_path)
    assert list(panel.figures["encoders"]) == ["ours"]
    assert "of another run" in panel.figures["left_out"]["moved"]


def test_figures_that_are_no_numbers_leave_a_gap(cohort, tmp_path):
    huge = '{"epoch": 5, "loss": 1' + "0" * 400 + "}"
    odd = [{"epoch": 2, "loss": None}, '{"epoch": 3, "loss": NaN}', huge, {"epoch": 6, "loss": "low"}]
    lines = [LINES[0], *odd]
    panel = make(evaluated_with(cohort, {"ours": write(tmp_path / "a", lines)}), tmp_path)
    values = panel.figures["encoders"]["ours"]["curves"]["loss"]["values"]
    assert values[1:] == [None] * 4
    assert math.isclose(values[0], LINES[0]["loss"])
    assert panel.pictures


def test_a_card_that_does_not_know_its_epoch_marks_none(cohort, tmp_path):
    files = {"ours": write(tmp_path / "a", LINES)}
    page = page_of(evaluated_on(cohort, cards={"ours": {}}, files=files), "training_curves", make, tmp_path)
    assert "ours: 6 epochs." in page
