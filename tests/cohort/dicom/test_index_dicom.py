import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from monai_cxrpair.cohort.dicom import file as dicom_file
from monai_cxrpair.cohort.dicom.export import read_dicom
from monai_cxrpair.cohort.index import IndexResult, index_source
from monai_cxrpair.cohort.readers.paths import names_patient
from monai_cxrpair.cohort.rejects import Reason
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.check import pixel_columns

MakeDicom = Callable[..., Path]


def _index(tmp_path: Path, **options: Any) -> IndexResult:
    return index_source(tmp_path / "pacs", out=tmp_path / "out" / "cohort.parquet", **options)


def test_a_radiograph_becomes_a_row(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom("a/IM1", SOPInstanceUID="1.1")
    result = _index(tmp_path, keep_identifiers=True)
    row = result.cohort.table.iloc[0].to_dict()
    assert row == {
        "image_id": "1.1",
        "patient_id": "P1",
        "study_id": "1.2.3",
        "study_order": 0,
        "study_datetime": pd.Timestamp("2020-01-31 10:15:30"),
        "laterality": "frontal",
        "view_position": "PA",
        "age": 45.0,
        "sex": "F",
        "path": "a/IM1",
        "frame": 0,
        "laterality_evidence": "ViewPosition",
    }
    assert result.cohort.source == "dicom"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, Reason.OTHER_MODALITY),
        ({"Modality": "RF"}, Reason.OTHER_MODALITY),
        ({"Modality": None}, Reason.NO_MODALITY),
        ({"Modality": "PR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.1"}, Reason.PRESENTATION_STATE),
        ({"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, Reason.SECONDARY_CAPTURE),
        ({"BodyPartExamined": "HIP"}, Reason.OTHER_BODY_PART),
        ({"BodyPartExamined": None, "SeriesDescription": "LEFT HAND PA"}, Reason.OTHER_BODY_PART),
        ({"BodyPartExamined": "RIBS"}, Reason.OTHER_BODY_PART),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, Reason.LOCALISER),
        ({"NumberOfFrames": 2}, Reason.MULTI_FRAME),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}, Reason.COLOUR),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, Reason.COLOUR),
        ({"PixelData": None}, Reason.NO_PIXEL_DATA),
        ({"PhotometricInterpretation": None}, Reason.INCOMPLETE_HEADER),
        ({"Rows": None}, Reason.INCOMPLETE_HEADER),
        ({"Rows": 46341, "Columns": 46341}, Reason.IMPLAUSIBLE_SIZE),
        ({"Rows": 16}, Reason.TRUNCATED),
        ({"PatientID": None}, Reason.NO_PATIENT_ID),
        ({"PatientID": "  "}, Reason.NO_PATIENT_ID),
        ({"StudyInstanceUID": None}, Reason.NO_STUDY_ID),
        ({"SOPInstanceUID": ""}, Reason.NO_SOP_INSTANCE_UID),
    ],
)
def test_what_is_no_usable_chest_radiograph_gets_its_reason(
    make_dicom: MakeDicom, tmp_path: Path, changes: dict[str, Any], reason: Reason
) -> None:
    make_dicom("bad.dcm", **changes)
    reading, _ = read_dicom(tmp_path / "pacs", root=tmp_path / "pacs")
    assert reading.rejects == [("bad.dcm", reason)]
    assert reading.table.empty
    assert reading.files_seen == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"BodyPartExamined": None},
        {"BodyPartExamined": "PORTABLE CHEST"},
        {"BodyPartExamined": "THORAX"},
        {"BodyPartExamined": None, "StudyDescription": "CHEST AND ABDOMEN"},
        {"Modality": "CR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"NumberOfFrames": 1},
        {"StudyDate": "", "StudyTime": "nonsense"},
        {"PatientName": None},
    ],
)
def test_what_is_unusual_but_usable_is_accepted(make_dicom: MakeDicom, tmp_path: Path, changes: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make_dicom("good", **changes)
    assert len(read_dicom(tmp_path / "pacs", root=tmp_path / "pacs")[0].table) == 1


def test_foreign_and_broken_files_are_counted_not_fatal(make_dicom: MakeDicom, tmp_path: Path) -> None:
    good = make_dicom("good.dcm")
    pacs = tmp_path / "pacs"
    (pacs / "README").write_text("hello")
    (pacs / "page.dcm").write_text("<html></html>")
    (pacs / "empty").touch()
    (pacs / "cut.dcm").write_bytes(good.read_bytes()[:-20])
    (pacs / "header only.dcm").write_bytes(good.read_bytes()[:150])
    (pacs / "marked.dcm").write_bytes(b"\0" * 128 + b"DICM" + os.urandom(300))
    os.mkfifo(pacs / "pipe")
    (pacs / "dangling").symlink_to(pacs / "nowhere")
    with open(os.fsencode(pacs) + b"/latin\xe4.dcm", "wb") as file:
        file.write(good.read_bytes())
    result = _index(tmp_path)
    reasons = dict(zip(result.rejects["path"], result.rejects["reason"], strict=True))
    assert len(result.cohort) == 1
    assert result.files_seen == 10 == 1 + len(reasons)
    assert {name for name, reason in reasons.items() if reason == "not dicom"} == {"README", "page.dcm", "empty"}
    assert reasons["cut.dcm"] == "truncated"
    assert reasons["pipe"] == reasons["dangling"] == reasons[r"latin\udce4.dcm"] == "unreadable"
    assert set(reasons.values()) <= {str(reason) for reason in Reason}


def test_a_compressed_file_that_is_cut_inside_a_fragment_is_truncated(make_dicom: MakeDicom, tmp_path: Path) -> None:
    whole = make_dicom("a.dcm", jpeg=b"\xff\xd8" + b"x" * 500)
    pacs = tmp_path / "pacs"
    (pacs / "b.dcm").write_bytes(whole.read_bytes()[:-100])
    reading, _ = read_dicom(pacs, root=pacs)
    assert reading.table["path"].tolist() == ["a.dcm"]
    assert reading.rejects == [("b.dcm", Reason.TRUNCATED)]


def test_a_deflated_file_is_read_and_a_zip_bomb_is_not(
    make_dicom: MakeDicom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = pydicom.dcmread(make_dicom("a.dcm"))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "pacs" / "a.dcm", enforce_file_format=True)
    assert len(read_dicom(tmp_path / "pacs", root=tmp_path / "pacs")[0].table) == 1
    monkeypatch.setattr(dicom_file, "MAX_INFLATED", 100)
    reading, _ = read_dicom(tmp_path / "pacs", root=tmp_path / "pacs")
    assert reading.rejects == [("a.dcm", Reason.IMPLAUSIBLE_SIZE)]


def test_of_duplicates_the_first_usable_path_is_kept(make_dicom: MakeDicom, tmp_path: Path) -> None:
    for name in ("z.dcm", "b/1.dcm", "b.dcm"):
        make_dicom(name, SOPInstanceUID="1.1")
    make_dicom("a.dcm", SOPInstanceUID="1.1", PixelData=None)
    reading, _ = read_dicom(tmp_path / "pacs", root=tmp_path / "pacs")
    assert reading.table["path"].tolist() == ["b.dcm"]
    assert sorted(reading.rejects) == [
        ("a.dcm", Reason.NO_PIXEL_DATA),
        ("b/1.dcm", Reason.DUPLICATE),
        ("z.dcm", Reason.DUPLICATE),
    ]


def test_the_result_does_not_depend_on_the_workers(
    make_dicom: MakeDicom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monai_cxrpair.cohort.dicom.export._MANY", 4)
    monkeypatch.setattr("monai_cxrpair.cohort.dicom.export._CHUNK", 2)
    for number in range(11):
        make_dicom(
            f"{number}",
            Modality="CT" if number % 4 == 0 else "DX",
            PatientID=f"P{number % 3}",
            StudyInstanceUID=f"1.{number}",
        )
    pacs, calls = tmp_path / "pacs", []
    one, _ = read_dicom(pacs, root=pacs, workers=1, progress=lambda done, total: calls.append((done, total)))
    three, _ = read_dicom(pacs, root=pacs, workers=3)
    pd.testing.assert_frame_equal(one.table, three.table)
    assert one.rejects == three.rejects
    assert one.files_seen == 11
    assert calls[-1] == (11, 11)


def test_a_study_of_two_patients_becomes_one_of_each(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom("1", PatientID="A", StudyInstanceUID="1.9")
    make_dicom("2", PatientID="B", StudyInstanceUID="1.9")
    result = _index(tmp_path, keep_identifiers=True)
    assert result.cohort.table["study_id"].tolist() == ["A/1.9", "B/1.9"]
    assert any("several patients" in note for note in result.notes)


def test_the_age_follows_from_the_birth_date_where_it_is_missing(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom("1", PatientAge=None, PatientBirthDate="19500201")
    make_dicom("2", PatientAge="006M")
    ages = _index(tmp_path).cohort.table["age"].tolist()
    assert ages == [69.0, 0.5]


def test_studies_are_ranked_by_their_date(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom("1", StudyInstanceUID="1.1", StudyDate="20210505")
    make_dicom("2", StudyInstanceUID="1.2", StudyDate="20200505")
    for keep in (True, False):
        assert _index(tmp_path, keep_identifiers=keep).cohort.table["study_order"].tolist() == [1, 0]


def test_a_path_with_the_patients_id_or_name_is_warned_of_without_quoting_it(
    make_dicom: MakeDicom, tmp_path: Path
) -> None:
    make_dicom("DOE_jane/1.dcm", PatientID="4711")
    result = _index(tmp_path)
    assert any(note.startswith("paths that contain the patient's id or name") for note in result.notes)
    assert "doe" not in " ".join(result.notes).casefold()
    assert names_patient("x/0815.dcm", "0815")
    assert names_patient("x/pre4711post.dcm", "4711")
    assert not names_patient("x/1234.dcm", "4", "A^B")


def test_nothing_usable_is_an_error_that_counts_the_reasons(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom("1", Modality="CT")
    with pytest.raises(CxrPairError, match=r"1 files were left out \(other modality 1\)"):
        _index(tmp_path)
    assert (tmp_path / "out/cohort.rejects.csv").read_text() == "path,reason\n1,other modality\n"
    (tmp_path / "empty").mkdir()
    with pytest.raises(CxrPairError, match="there is no file in it"):
        index_source(tmp_path / "empty", out=tmp_path / "x.parquet")


def test_the_indexs_own_files_are_not_counted(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom("1")
    for _ in range(2):
        result = index_source(tmp_path / "pacs", out=tmp_path / "pacs" / "cohort.parquet")
        assert result.files_seen == 1


def test_a_root_above_the_source_and_one_beside_it(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom("1")
    assert _index(tmp_path, root=tmp_path).cohort.table["path"].tolist() == ["pacs/1"]
    (tmp_path / "beside").mkdir()
    with pytest.raises(CxrPairError, match="not beneath the root"):
        _index(tmp_path, root=tmp_path / "beside")


def test_every_reason_says_what_it_means() -> None:
    assert all(reason.description.endswith(".") or reason.description.endswith(").") for reason in Reason)
    assert f"{Reason.NOT_DICOM}" == "not dicom"


@pytest.mark.data
def test_the_mini_pacs(shared_data: Path, tmp_path: Path) -> None:
    summary = index_source(shared_data / "dicom/derived/mini_pacs", out=tmp_path / "m.parquet").as_json()
    assert (summary["radiographs"], summary["patients"], summary["studies"]) == (30, 8, 15)
    assert summary["laterality"] == {"frontal": 15, "lateral": 15, "unknown": 0}
    assert summary["rejected"] == {}


@pytest.mark.data
def test_the_whole_tree_of_real_dicom_files(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "dicom"
    result = index_source(folder, out=tmp_path / "all.parquet")
    assert result.files_seen == len(result.cohort) + len(result.rejects) == 128
    assert set(result.rejects["reason"]) <= {str(reason) for reason in Reason}
    kept = {path for path in result.cohort.table["path"] if not path.startswith("derived/mini_pacs")}
    assert kept == {
        "chest/RG1_chest_pa_mono1_15bit_j2k_lossy.dcm",
        "chest/nih_dx_implicitLE.dcm",
        "chest/orthanc_Issue44_CR_mono1_jpeg.dcm",
        "chest/rsna_cr_ap_jpegbaseline.dcm",
        "chest/rsna_cr_pa_fake_monochrome1.dcm",
    }
    reasons = dict(zip(result.rejects["path"], result.rejects["reason"], strict=True))
    assert reasons["chest/CR-MONO1-10-chest"] == "no patient id"  # read without preamble and file meta
    assert reasons["broken/orthanc_2026-05-06-Deeply-Nested-Sequence.dcm"] == "other modality"  # known before the depth
    assert reasons["derived/broken/nih_dx_truncated_60pct.dcm"] == "truncated"
    assert reasons["derived/broken/png_named.dcm"] == "not dicom"
    assert reasons["dicomdir_tree/DICOMDIR"] == "dicomdir"


def test_names_in_other_character_sets_are_decoded(make_dicom: MakeDicom, tmp_path: Path) -> None:
    charset = ["", "ISO 2022 IR 87"]  # Japanese: escape sequences and bytes below 128
    make_dicom("山田/1.dcm", SpecificCharacterSet=charset, PatientName="Yamada^Tarou=山田^太郎")
    make_dicom("x/2.dcm", SpecificCharacterSet="ISO_IR 192", PatientID="Müller-7", StudyInstanceUID="1.9")
    result = _index(tmp_path, keep_identifiers=True)
    assert set(result.cohort.table["patient_id"]) == {"P1", "Müller-7"}
    assert result.notes == ["paths that contain the patient's id or name (they stay in the cohort file): 1"]


def test_a_code_sequence_gives_the_view(make_dicom: MakeDicom, tmp_path: Path) -> None:
    code = pydicom.Dataset()
    code.CodeMeaning = "left lateral"
    make_dicom("1", ViewPosition="", ViewCodeSequence=[code])
    table = read_dicom(tmp_path / "pacs", root=tmp_path / "pacs")[0].table
    assert table[["laterality", "view_position", "laterality_evidence"]].iloc[0].tolist() == [
        "lateral",
        "LL",
        "ViewCodeSequence",
    ]


@pytest.mark.data
def test_chest_radiographs_that_can_be_decoded_are_kept_and_nothing_else_is(shared_data: Path, tmp_path: Path) -> None:
    """The truth comes from `files.csv`, which other software wrote; what is left out rightly says so in its reason."""
    folder = shared_data / "dicom"
    truth = pd.read_csv(folder / "files.csv", dtype=str, na_filter=False)
    result = index_source(folder, out=tmp_path / "all.parquet", check_pixels=pixel_columns)
    verdict = dict.fromkeys(result.cohort.table["path"], "kept")
    verdict |= dict(zip(result.rejects["path"], result.rejects["reason"], strict=True))
    elsewhere = truth["BodyPartExamined"].isin(["HIP", "CSPINE"]) | truth["note"].str.contains("teeth")
    usable = truth["Modality"].isin(["CR", "DX"]) & (truth["decode_plugins"] == "ok") & ~elsewhere
    found = truth["file"].map(verdict)
    assert found.notna().all()
    table = pd.crosstab(usable, found == "kept")
    assert table.loc[False].to_dict() == {False: 88, True: 0}
    assert table.loc[True].to_dict() == {False: 4, True: 35}
    wrongly = found[usable & (found != "kept")]
    assert sorted(wrongly) == ["duplicate", "duplicate", "no patient id", "no study id"], (
        "all four are as they should be"
    )
