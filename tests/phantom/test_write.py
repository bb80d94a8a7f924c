from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.phantom import PhantomSettings, write_phantom


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("file_format", ["dicom", "png"])
def test_the_same_seed_writes_the_same_bytes(tmp_path: Path, file_format: Any) -> None:
    for name, seed in (("one", 4), ("two", 4), ("other", 5)):
        write_phantom(tmp_path / name, patients=3, file_format=file_format, seed=seed)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert set(hashes(tmp_path / "one").values()).isdisjoint(hashes(tmp_path / "other").values())


def test_more_patients_leave_the_first_ones_unchanged(tmp_path: Path) -> None:
    write_phantom(tmp_path / "few", patients=2, file_format="png", seed=4)
    write_phantom(tmp_path / "many", patients=5, file_format="png", seed=4)
    few, many = hashes(tmp_path / "few"), hashes(tmp_path / "many")
    pictures = {name: value for name, value in few.items() if name.endswith(".png")}
    assert pictures
    assert pictures.items() <= many.items()
    assert rows(tmp_path / "many" / "truth.csv")[: len(pictures)] == rows(tmp_path / "few" / "truth.csv")


def test_the_png_phantom_has_pictures_an_index_and_the_truth(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    summary = write_phantom(
        tmp_path / "out",
        patients=12,
        file_format="png",
        seed=1,
        progress=lambda done, total: seen.append((done, total)),
    )
    truth, index = rows(tmp_path / "out" / "truth.csv"), rows(tmp_path / "out" / "index.csv")
    assert list(index[0]) == ["patient_id", "study_id", "view", "view_position", "age", "sex", "effusion", "path"]
    assert [row["path"] for row in truth] == [row["path"] for row in index]
    assert [row["pleural_effusion"] for row in truth] == [row["effusion"] for row in index]
    assert len({row["image_id"] for row in truth}) == len(truth) == summary["radiographs"] == len(seen)
    assert seen[-1] == (len(truth), len(truth))
    for row in truth:
        picture = cv2.imread(str(tmp_path / "out" / row["path"]), cv2.IMREAD_UNCHANGED)
        assert picture.dtype == np.uint8
        assert picture.shape == PhantomSettings().shape
        grades = float(row["effusion_left_grade"]), float(row["effusion_right_grade"])
        assert (max(grades) > 0) == (row["pleural_effusion"] == "1")
    by_study = {(row["study_id"], row["pleural_effusion"]) for row in truth}
    assert len(by_study) == summary["studies"]


def test_the_summary_names_settings_seed_and_counts(tmp_path: Path) -> None:
    summary = write_phantom(tmp_path / "out", patients=6, file_format="png", seed=8)
    written = json.loads((tmp_path / "out" / "phantom.json").read_text())
    assert written.items() >= summary.items()
    assert written["settings_hash"] == PhantomSettings().hash
    assert written["settings"]["prevalence"] == PhantomSettings().prevalence
    assert written["seed"] == 8
    assert summary["patients"] == 6
    assert sum(summary["laterality"].values()) == sum(summary["pleural_effusion"].values()) == summary["radiographs"]


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(CxrPairError, match="not an empty folder"):
        write_phantom(tmp_path, patients=1, file_format="png", seed=0)
    with pytest.raises(CxrPairError, match="not an empty folder"):
        write_phantom(tmp_path / "mine.txt", patients=1, file_format="png", seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("wrong", "named"), [({"patients": 0}, "patients=0"), ({"seed": -1}, "seed=-1"), ({"file_format": "gif"}, "'gif'")]
)
def test_a_wrong_argument_is_named_and_nothing_is_written(tmp_path: Path, wrong: dict[str, Any], named: str) -> None:
    arguments: dict[str, Any] = {"patients": 1, "file_format": "png", "seed": 0}
    with pytest.raises(CxrPairError, match=named):
        write_phantom(tmp_path / "out", **(arguments | wrong))
    assert not (tmp_path / "out").exists()
