import io
import re
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from monai_cxrpair.cohort.index import IndexResult, index_source
from monai_cxrpair.errors import CxrPairError

CODES = "[(0008, 0100) Code Value  SH: 'R-10236'\n(0008, 0102) Coding Scheme Designator SH: 'SNM3'\n---------]"
HEADERS = pd.DataFrame(
    [
        ("CXR7_IM-0001-1001", "./7_IM-0001-1001.dcm", "7", "19550820", "20110819", "PA", "", "", "['L', 'F']"),
        ("CXR7_IM-0001-2001", "./7_IM-0001-2001.dcm", "7", "19550820", "20110819", "", CODES, "", "['L', 'F']"),
        ("CXR8_IM-0002-1001", "./8_IM-0002-1001.dcm", "8", "19550820", "20110820", "", "", "NA_chestAP_auto", ""),
        ("CXR8_IM-0002-2001", "./8_IM-0002-2001.dcm", "8", "19550820", "20110820", "", "", "", "['A', 'F']"),
        ("CXR9_IM-0003-1001", "./9_IM-0003-1001.dcm", "9", "", "", "", "", "NA_chest_auto", ""),
    ],
    columns=[
        *("imageid", "filename", "Patient ID", "Patient's Birth Date", "Study Date", "View Position"),
        *("View Code Sequence", "Postprocessing Function", "Patient Orientation"),
    ],
)


def _report(number: int, *terms: tuple[str, str]) -> bytes:
    mesh = "".join(f"<{kind}>{term}</{kind}>" for kind, term in terms)
    return f'<eCitation><uId id="CXR{number}"/><pmcId id="{number}"/><MeSH>{mesh}</MeSH></eCitation>'.encode()


REPORTS = {
    "7": _report(
        7, ("major", "Pleural Effusion/left/small"), ("automatic", "pleural effusions"), ("automatic", "mass")
    ),
    "8": _report(8, ("major", "normal")),
    "9": _report(9, ("major", "no indexing"), ("automatic", "pleural effusion")),
}


def _index(tmp_path: Path, reports: dict[str, bytes] | None = None) -> IndexResult:
    HEADERS.to_csv(tmp_path / "nlmcxr_dicom_metadata.csv", index=False)
    if reports is not None:
        with tarfile.open(tmp_path / "NLMCXR_reports.tgz", "w:gz") as archive:
            for name, text in reports.items():
                member = tarfile.TarInfo(f"ecgen-radiology/{name}.xml")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))
    return index_source(tmp_path / "nlmcxr_dicom_metadata.csv", out=tmp_path / "o.parquet")


def _values(result: IndexResult, name: str) -> list[float | None]:
    return [None if pd.isna(value) else value for value in result.cohort.table[name]]


def test_ids_ages_and_the_evidence_of_each_laterality(tmp_path: Path) -> None:
    result = _index(tmp_path)
    table = result.cohort.table
    assert result.cohort.source == "openi"
    assert table["study_id"].tolist() == ["CXR7", "CXR7", "CXR8", "CXR8", "CXR9"]
    assert table["path"].tolist()[0] == "7_IM-0001-1001.dcm"
    assert table["age"].tolist()[:4] == [55, 55, 56, 56]
    assert table["laterality"].tolist() == ["frontal", "lateral", "frontal", "lateral", "unknown"]
    assert table["view_position"].tolist() == ["PA", "LL", "FRONTAL", "", ""]
    assert table["laterality_evidence"].tolist() == [
        *("ViewPosition", "ViewCodeSequence", "PostprocessingFunction", "PatientOrientation", ""),
    ]
    assert any("no NLMCXR_reports.tgz beside" in note for note in result.notes)


def test_what_humans_indexed_is_present_and_what_only_a_program_found_is_uncertain(tmp_path: Path) -> None:
    result = _index(tmp_path, REPORTS)
    assert _values(result, "pleural_effusion") == [1, 1, 0, 0, None]
    assert _values(result, "mass") == [-1, -1, 0, 0, None]
    assert _values(result, "no_finding") == [0, 0, 1, 1, None]
    assert any("1 radiographs have no findings" in note for note in result.notes)


@pytest.mark.parametrize(
    ("term", "finding"),
    [
        ("Pericardial Effusion", None),
        ("hydropneumothorax/left", "pleural_effusion"),
        ("Opacity/lung/base/left", "lung_opacity"),
        ("Opacity/thorax/posterior", None),
        ("Thickening/pleura/apex/left", "pleural_thickening"),
        ("Subcutaneous Emphysema", None),
        ("Pulmonary Atelectasis/base/bilateral/mild", "atelectasis"),
        ("Catheters, Indwelling/left", "support_devices"),
    ],
)
def test_a_heading_means_a_finding_or_none(tmp_path: Path, term: str, finding: str | None) -> None:
    result = _index(tmp_path, {"7": _report(7, ("major", term))})
    assert set(result.cohort.findings) >= {finding} - {None}
    assert bool(result.cohort.findings) == (finding is not None)


def test_converted_images_are_found_by_the_image_id(tmp_path: Path) -> None:
    (tmp_path / "png").mkdir()
    (tmp_path / "png" / "CXR7_IM-0001-1001.png").touch()
    assert _index(tmp_path).cohort.table["path"].tolist()[0] == "png/CXR7_IM-0001-1001.png"


def test_damaged_reports_are_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "NLMCXR_reports.tgz").write_bytes(b"no archive")
    with pytest.raises(CxrPairError, match=r"NLMCXR_reports\.tgz cannot be read"):
        _index(tmp_path)
    with pytest.raises(CxrPairError, match=r"NLMCXR_reports\.tgz cannot be read"):
        _index(tmp_path, {"7": b"<eCitation><uId"})


@pytest.mark.data
def test_the_real_headers_and_reports_of_open_i(shared_data: Path, tmp_path: Path) -> None:
    result = index_source(shared_data / "metadata/nlmcxr_dicom_metadata.csv.gz", out=tmp_path / "o.parquet")
    table = result.cohort.table
    summary = result.cohort.summary()
    assert (summary["radiographs"], summary["patients"], summary["studies"]) == (7469, 3851, 3851)
    assert summary["laterality"] == {"frontal": 4025, "lateral": 878, "unknown": 2566}
    assert table["laterality_evidence"].value_counts().to_dict() == {
        "ViewPosition": 4883,
        "": 2566,
        "PostprocessingFunction": 20,
    }
    # Counted again from the text of the archive: reports that have an image and a major term of their own.
    present, missing = 0, 0
    with tarfile.open(shared_data / "metadata/NLMCXR_reports.tgz") as archive:
        for member in archive:
            text = archive.extractfile(member).read().decode() if member.isfile() else ""  # type: ignore[union-attr]
            number = re.search(r'uId id="(CXR\d+)"', text)
            images = int((table["study_id"] == number[1]).sum()) if number else 0
            major = re.findall(r"<major>(.*?)</major>", text)
            present += images * any(
                re.match(r"(?i)pleural effusion|hydropneumo|hemopneumo|hemothorax", t) for t in major
            )
            missing += images * (major == ["No Indexing"])
    counts = summary["findings"]["pleural_effusion"]
    assert (counts["present"], counts["missing"]) == (present, missing)
    assert counts["uncertain"] == 56


@pytest.mark.data
def test_no_two_kinds_of_evidence_contradict_each_other_in_the_real_headers(shared_data: Path, tmp_path: Path) -> None:
    headers = pd.read_csv(shared_data / "metadata/nlmcxr_dicom_metadata.csv.gz", dtype=str, keep_default_na=False)
    columns = ["View Position", "View Code Sequence", "Postprocessing Function", "Patient Orientation"]
    found = {}
    for kept in columns:  # each kind of evidence alone
        alone = headers.assign(**{name: "" for name in columns if name != kept})
        alone.to_csv(tmp_path / "h.csv", index=False)
        found[kept] = index_source(tmp_path / "h.csv", out=tmp_path / "o.parquet").cohort.table["laterality"]
    decided = pd.DataFrame(found).replace("unknown", None)
    assert decided.notna().sum().to_dict() == dict(zip(columns, (4883, 26, 613, 4481), strict=True))
    assert (decided.nunique(axis=1) <= 1).all()
