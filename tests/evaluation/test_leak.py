"""Was any test patient seen in pre-training? The cards of the encoders must prove that they were not."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monai_cxrpair.cohort import Cohort, open_split, patient_digests, split_patients
from monai_cxrpair.cohort.split.make import make_split_file
from monai_cxrpair.cohort.split.near_duplicates import DIGITS, find_links
from monai_cxrpair.cohort.split.saved import write_split
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.cards import HELD_OUT, SEEN
from monai_cxrpair.evaluation.encoders import check_no_leak
from monai_cxrpair.evaluation.report.words import verdict


def _cohort(*, hashes: bool = False, patients: int = 40) -> Cohort:
    table = pd.DataFrame({"patient_id": [f"p{number}" for number in range(patients)]}, dtype="str")
    table["image_id"], table["study_id"], table["path"] = table["patient_id"], table["patient_id"], table["patient_id"]
    if hashes:
        table["perceptual_hash"] = [np.random.default_rng(row).bytes(DIGITS // 2).hex() for row in range(patients)]
    return Cohort(table, root=Path(), findings=[], source="chexpert")


def _encoder(folder: Path, cohort: Cohort, split) -> str:
    """An encoder's card as training writes it; the weights are not looked at."""
    card = {"fingerprint": cohort.fingerprint(), "test_fraction": split.test_fraction, "split_seed": split.seed,
            "split_file": split.file_hash, "near_duplicates": split.near_duplicates,
            "patients_seen": patient_digests(cohort, split.train_rows)}  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "encoder.json").write_text(
        json.dumps(
            {
                "format": "cxrpair-encoder/1",
                "encoder": "resnet18",
                "cohort": card,
                "preprocessing": {"image_size": 64, "mean": 0.5, "std": 0.25},
            }
        )
    )
    return str(folder / "encoder.pt")


def _file(path: Path, cohort: Cohort, test_patients: set[str]) -> Path:
    sides = np.where(cohort.table["patient_id"].isin(test_patients), 2, 0)
    write_split(make_split_file(cohort, find_links(cohort), sides, method={}), path)
    return path


def _split(cohort: Cohort, file: Path | None = None, fraction: float = 0.3, seed: int = 0):
    return open_split(cohort, split_file=file, test_fraction=fraction, seed=seed)


def test_the_same_split_and_a_smaller_test_side_of_it_are_fine(tmp_path: Path) -> None:
    cohort = _cohort()
    encoder = _encoder(tmp_path / "run", cohort, _split(cohort))
    for fraction in (0.3, 0.2):
        said = check_no_leak(encoder, cohort=cohort, split=_split(cohort, fraction=fraction))
        assert said == {"run": "test patients were held out of pre-training"}
    for fraction, seed in ((0.31, 0), (0.3, 1)):
        with pytest.raises(CxrPairError, match="test patients were seen"):
            check_no_leak(encoder, cohort=cohort, split=_split(cohort, fraction=fraction, seed=seed))


def test_a_split_file_goes_with_itself_only(tmp_path: Path) -> None:
    cohort = _cohort()
    one, other = (_file(tmp_path / f"{name}.json", cohort, {name}) for name in ("p1", "p2"))
    encoder = _encoder(tmp_path / "run", cohort, _split(cohort, one))
    assert "held out" in check_no_leak(encoder, cohort=cohort, split=_split(cohort, one))["run"]
    for split in (_split(cohort, other), _split(cohort)):
        with pytest.raises(CxrPairError, match=r"split_file .* test patients were seen"):
            check_no_leak(encoder, cohort=cohort, split=split)


def test_a_split_file_may_test_on_those_who_were_held_out_without_a_file(tmp_path: Path) -> None:
    cohort = _cohort()
    trained = split_patients(cohort, test_fraction=0.3)
    encoder = _encoder(tmp_path / "run", cohort, trained)
    inside = _file(tmp_path / "in.json", cohort, set(trained.test_patients[:4]))
    assert "held out" in check_no_leak(encoder, cohort=cohort, split=_split(cohort, inside))["run"]
    across = _file(tmp_path / "out.json", cohort, {trained.test_patients[0], trained.train_patients[0]})
    with pytest.raises(CxrPairError, match="test patients were seen"):
        check_no_leak(encoder, cohort=cohort, split=_split(cohort, across))


def test_near_duplicates_that_became_known_later_are_an_error(tmp_path: Path) -> None:
    cohort = _cohort()
    encoder = _encoder(tmp_path / "run", cohort, _split(cohort))
    checked = _cohort(hashes=True)
    assert checked.fingerprint() == cohort.fingerprint()
    with pytest.raises(CxrPairError, match="other near-duplicates"):
        check_no_leak(encoder, cohort=checked, split=_split(checked))


def test_a_cohort_that_shares_no_test_patient_with_the_one_of_pre_training_is_said(tmp_path: Path) -> None:
    cohort = _cohort()
    encoder = _encoder(tmp_path / "run", cohort, _split(cohort))
    other = _cohort(patients=41)  # the side of a patient is a hash of its id, so nobody changed sides
    assert "cannot be ruled out" in check_no_leak(encoder, cohort=other, split=_split(other))["run"]


def test_a_test_patient_who_was_in_the_other_cohort_of_pre_training_is_refused_unless_wanted(
    tmp_path: Path,
) -> None:
    cohort, other = _cohort(), _cohort(patients=41)
    split = _split(cohort)
    encoder = _encoder(tmp_path / "run", cohort, split)
    moved = _file(tmp_path / "moved.json", other, {split.train_patients[0], split.test_patients[0], "p40"})
    with pytest.raises(CxrPairError, match=r"another cohort, with 1 of the 3 test patients.*allow_seen_test_patients"):
        check_no_leak(encoder, cohort=other, split=_split(other, moved))
    said = check_no_leak(encoder, cohort=other, split=_split(other, moved), allow_seen=True)["run"]
    assert said.startswith("test patients were seen")


def test_seen_test_patients_stand_at_the_head_of_the_report() -> None:
    figures = {"auc_mean": 0.9, "ci95": [0.8, 0.95], "auc_ci95": [0.8, 0.95]}
    card = {"format": "cxrpair-encoder/1", "test_patients": SEEN + ": pre-trained on them"}
    results = {"finding": "x", "encoders": {"run": {"linear": figures, "card": card}}}
    assert verdict(results)[0].startswith("run has seen test patients")
    card["test_patients"] = HELD_OUT
    assert "seen" not in verdict(results)[0]
