import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from monai_cxrpair.cohort import Cohort, open_split, split_patients
from monai_cxrpair.cohort.split.draws import SavedDraws, label_draws, saved_label_draws
from monai_cxrpair.cohort.split.make import draw_labels, make_split_file
from monai_cxrpair.cohort.split.near_duplicates import DIGITS, find_links
from monai_cxrpair.cohort.split.saved import content_hash, read_split, write_split
from monai_cxrpair.errors import CxrPairError


def _table() -> pd.DataFrame:
    """60 patients with three radiographs each; patients p3 and p40 share a picture."""
    table = pd.DataFrame({"patient_id": [f"p{row // 3}" for row in range(180)]}, dtype="str")
    table["image_id"] = [f"i{row}" for row in range(180)]
    table["path"], table["study_id"] = table["image_id"], "s" + table["image_id"]
    table["effusion"] = np.random.default_rng(0).choice([1.0, 0.0, -1.0, np.nan], 180, p=[0.3, 0.4, 0.1, 0.2])
    hashes = [np.random.default_rng(row).bytes(DIGITS // 2).hex() for row in range(180)]
    hashes[120] = hashes[9]
    table["perceptual_hash"] = pd.Series(hashes, dtype="str")
    return table


def _cohort(**changes: Any) -> Cohort:
    return Cohort(_table().assign(**changes), root=Path(), findings=["effusion"], source="table")


@pytest.fixture
def sides() -> np.ndarray:
    """Patients 0 to 44 train (p3 and p40 too), 45 to 49 validation, the others test; radiograph 0 on no side."""
    numbers = np.repeat([0, 1, 2], [135, 15, 30])
    numbers[0] = -1
    return numbers


def _save(path: Path, sides: np.ndarray, *, draws: list[SavedDraws] | None = None) -> dict[str, Any]:
    cohort = _cohort()
    content = make_split_file(cohort, find_links(cohort), sides, method={"name": "test"}, label_draws=draws or [])
    write_split(content, path)
    return content


def test_what_is_read_is_what_was_written(tmp_path: Path, sides: np.ndarray) -> None:
    cohort, path = _cohort(), tmp_path / "split.json"
    content = _save(path, sides)
    split = read_split(path, cohort)
    assert split.train_rows.tolist() == list(range(1, 135))
    assert split.validation_rows.tolist() == list(range(135, 150))
    assert split.test_rows.tolist() == list(range(150, 180))
    assert set(split.test_patients) == {f"p{number}" for number in range(50, 60)}
    assert split.file_hash == content["hash"]
    assert content["left_out"] == ["i0"]
    assert content["counts"]["test"]["findings"]["effusion"]["present"] == (_table()["effusion"][150:] == 1).sum()
    assert content["near_duplicates"]["linked_patients"] == 2
    assert path.stat().st_mode & 0o777 == 0o600
    assert "p5" not in split.describe()
    assert "validation 15 of 5" in split.describe()


def test_a_part_of_the_cohort_keeps_everybody_on_their_side(tmp_path: Path, sides: np.ndarray) -> None:
    cohort, path = _cohort(), tmp_path / "split.json"
    _save(path, sides)
    whole = open_split(cohort, split_file=path, test_fraction=0.3, seed=0)
    rows = np.random.default_rng(1).permutation(180)[:90]
    part = whole.within(cohort.take(rows))
    for side in ("train", "validation", "test"):
        assert set(rows[getattr(part, f"{side}_rows")]) == set(rows) & set(getattr(whole, f"{side}_rows"))
    with pytest.raises(CxrPairError, match="falls on the test side"):
        whole.within(cohort.take(np.arange(140)))


def test_without_a_file_a_part_keeps_linked_patients_together() -> None:
    """The part lacks the picture that p3 and p40 share, and would put p40 elsewhere for itself."""
    cohort = _cohort()
    part = cohort.take(np.flatnonzero(cohort.table["image_id"] != "i120"))
    moved = 0
    for seed in range(20):
        split = open_split(cohort, split_file=None, test_fraction=0.4, seed=seed).within(part)
        assert ("p3" in split.test_patients) == ("p40" in split.test_patients)
        alone = split_patients(part, test_fraction=0.4, seed=seed)
        moved += ("p3" in alone.test_patients) != ("p40" in alone.test_patients)
    assert moved


def test_a_changed_file_is_an_error(tmp_path: Path, sides: np.ndarray) -> None:
    path = tmp_path / "split.json"
    content = _save(path, sides)
    content["patients"]["train"].append(content["patients"]["test"].pop())
    path.write_text(json.dumps(content))
    with pytest.raises(CxrPairError, match="was changed after it was written"):
        read_split(path, _cohort())
    # Only the way of writing it differs: no change.
    path.write_text(json.dumps(_save(path, sides), sort_keys=True))
    read_split(path, _cohort())


def test_a_file_that_overlaps_is_an_error_even_with_the_right_hash(tmp_path: Path, sides: np.ndarray) -> None:
    path = tmp_path / "split.json"
    content = _save(path, sides)
    content["patients"]["train"].append(content["patients"]["test"][0])
    path.write_text(json.dumps({**content, "hash": content_hash(content)}))
    with pytest.raises(CxrPairError, match="1 patients on both sides"):
        read_split(path, _cohort())


def test_another_cohort_is_an_error(tmp_path: Path, sides: np.ndarray) -> None:
    path = tmp_path / "split.json"
    _save(path, sides)
    with pytest.raises(CxrPairError, match=r"another cohort \(180 radiographs of 60 patients\)"):
        read_split(path, _cohort().take(np.arange(179)))
    read_split(path, _cohort(effusion=1.0))  # labels may change
    with pytest.raises(CxrPairError, match="other perceptual hashes"):
        read_split(path, _cohort(perceptual_hash=""))


@pytest.mark.parametrize("text", ["", "[]", '{"format": "cxrpair-split/9"}', '{"format": "cxrpair-split/1"}'])
def test_what_is_no_split_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(CxrPairError, match=r"odd\.json"):
        read_split(path, _cohort())
    with pytest.raises(CxrPairError, match="cxrpair split"):
        read_split(tmp_path / "nothing.json", _cohort())


def test_a_patient_or_a_linked_group_on_two_sides_is_an_error(tmp_path: Path, sides: np.ndarray) -> None:
    torn = sides.copy()
    torn[178] = 0
    with pytest.raises(CxrPairError, match="1 patients are on two sides"):
        _save(tmp_path / "split.json", torn)
    linked = sides.copy()
    linked[120:123] = 2  # p40, who shares a picture with p3
    with pytest.raises(CxrPairError, match="1 groups of patients who share a picture"):
        _save(tmp_path / "split.json", linked)
    assert os.listdir(tmp_path) == []


def test_the_draws_are_those_that_evaluating_would_draw(tmp_path: Path, sides: np.ndarray) -> None:
    cohort, path = _cohort(), tmp_path / "split.json"
    saved = draw_labels(cohort, sides, finding="effusion", fraction=0.2, draws=3, seed=7)
    _save(path, sides, draws=[saved])
    split = read_split(path, cohort)
    known = split.train_rows
    labels, images = cohort.table["effusion"].to_numpy(float)[known], cohort.table["image_id"].to_numpy(object)[known]
    patients, studies = cohort.codes("patient_id")[known], cohort.codes("study_id")[known]
    drawn = label_draws(labels, patients, studies, fraction=0.2, draws=3, seed=7)
    arguments: dict[str, Any] = {"finding": "effusion", "fraction": 0.2}
    again = saved_label_draws(split.label_draws, labels, images, draws=3, **arguments)
    assert again is not None
    assert [rows.tolist() for rows in again] == [rows.tolist() for rows in drawn]
    assert again.studies_per_draw == drawn.studies_per_draw
    two = saved_label_draws(split.label_draws, labels, images, draws=2, **arguments)
    assert two is not None
    assert len(two) == 2
    for other in ({"finding": "edema"}, {"fraction": 0.3}):
        assert saved_label_draws(split.label_draws, labels, images, draws=3, **{**arguments, **other}) is None
    with pytest.raises(CxrPairError, match="draws is 4: the split file has 3"):
        saved_label_draws(split.label_draws, labels, images, draws=4, **arguments)
    with pytest.raises(CxrPairError, match="of each are needed"):
        saved_label_draws(split.label_draws, labels[:20], images[:20], draws=3, **arguments)


def test_a_draw_outside_of_the_train_side_is_an_error(tmp_path: Path, sides: np.ndarray) -> None:
    draw = SavedDraws(finding="effusion", fraction=0.1, image_ids=(("i5", "i170"),))
    with pytest.raises(CxrPairError, match="1 radiographs that are not on the train side"):
        _save(tmp_path / "split.json", sides, draws=[draw])
