import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.label.studies import Studies
from monai_cxrpair.phantom import write_phantom


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "dicom"
    write_phantom(folder, patients=3, file_format="dicom", seed=5, structure="mimic")
    return folder, pd.read_csv(folder / "truth.csv", dtype=str)


def test_a_folder_of_dicom_files_gives_the_studies_and_radiographs_of_the_truth(export, tmp_path):
    folder, truth = export
    studies = Studies.read(folder, key_folder=tmp_path)
    expected = {frozenset(str(folder / path) for path in part["path"]) for _, part in truth.groupby("study_id")}
    assert {frozenset(str(each.path) for each in study.radiographs) for study in studies.values()} == expected
    assert studies.left_out == {"not dicom": 2}  # truth.csv and phantom.json
    by_path = truth.set_index("path")["laterality"]
    for study in studies.values():
        said = [each.laterality for each in study.radiographs]
        assert said == sorted(said)  # frontal first
        assert said == [by_path[each.path.relative_to(folder).as_posix()] for each in study.radiographs]


def test_no_identifier_of_a_header_is_an_id_of_a_study_and_the_same_key_gives_the_same_ids(export, tmp_path):
    folder, truth = export
    studies = Studies.read(folder, key_folder=tmp_path)
    names = {*studies, *(s.patient for s in studies.values()), *studies.cohort.table["image_id"]}
    assert not names & {*truth["study_id"], *truth["patient_id"], *truth["image_id"]}
    assert list(Studies.read(folder, key_folder=tmp_path)) == list(studies)
    assert set(Studies.read(folder, key_folder=tmp_path / "other")).isdisjoint(studies)
    assert (tmp_path / "label.key").stat().st_mode & 0o077 == 0


def test_a_list_of_files_gives_the_studies_of_these_files_only(export, tmp_path):
    folder, truth = export
    chosen = [folder / path for path in truth["path"][:2]]
    studies = Studies.read(chosen, key_folder=tmp_path)
    assert {each.path for study in studies.values() for each in study.radiographs} == set(chosen)
    assert studies.of_file(chosen[0]).id in studies
    assert studies.of_file(folder / truth["path"].iloc[-1]) is None


def test_a_copy_of_a_file_is_left_out_and_counted(export, tmp_path):
    folder, truth = export
    source = folder / truth["path"][0]
    files = [source, tmp_path / "copy.dcm"]
    shutil.copy(*files)
    studies = Studies.read(files, key_folder=tmp_path / "key")
    assert sum(len(study.radiographs) for study in studies.values()) == 1
    assert studies.left_out == {"duplicate": 1}


def test_pictures_without_a_table_are_studies_of_their_own_and_it_is_said(tmp_path):
    for name in ("Doe_John.png", "b.jpg"):
        cv2.imwrite(str(tmp_path / name), np.zeros((40, 40), np.uint8))
    (tmp_path / "notes.txt").write_text("no radiograph")
    studies = Studies.read(tmp_path, key_folder=tmp_path / "key")
    assert len(studies) == 2
    assert not studies.cohort.patients_known
    assert any("2" in note and "cxrpair index" in note for note in studies.notes)
    assert not any("Doe" in name for study in studies.values() for name in (study.id, study.patient))


def test_studies_come_in_the_order_in_which_they_were_taken(tmp_path):
    table = pd.DataFrame({"image_id": list("abc"), "patient_id": list("ppq"), "study_id": list("xyz")})
    table["path"] = table["image_id"]
    table["study_datetime"] = pd.to_datetime(["2021-05-02", "2020-01-01", None])
    cohort = Cohort(table, root=tmp_path, findings=[], source="table")
    assert list(Studies(cohort)) == ["y", "x", "z"]


def test_what_is_not_there_is_an_error_of_one_line(tmp_path, export):
    with pytest.raises(CxrPairError, match="no such folder"):
        Studies.read(tmp_path / "absent", key_folder=tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(CxrPairError, match=r"no radiograph to read \(not dicom 1\)"):
        Studies.read([tmp_path / "a.txt"], key_folder=tmp_path / "key")
    studies = Studies.read(export[0], key_folder=tmp_path)
    with pytest.raises(CxrPairError, match=r"no study '\.\./etc/passwd'"):
        studies.find("../etc/passwd")
    with pytest.raises(CxrPairError, match="no radiograph 'x'"):
        studies.radiograph("x")
