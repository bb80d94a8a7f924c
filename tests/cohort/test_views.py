import ast

import pandas as pd
import pytest
from pydicom.sr._snomed_dict import mapping
from pydicom.sr.codedict import codes

from monai_cxrpair.cohort.views import normal_position, view_of


@pytest.mark.parametrize(
    ("position", "laterality", "normal"),
    [
        ("PA", "frontal", "PA"),
        (" ap ", "frontal", "AP"),
        ("LL", "lateral", "LL"),
        ("RL", "lateral", "RL"),
        ("LATERAL", "lateral", "LATERAL"),
        ("LARGE LATERAL", "lateral", "LATERAL"),
        ("Postero-Anterior", "frontal", "PA"),
        ("", "unknown", ""),
        ("LLD", "unknown", "LLD"),
        ("RAO", "unknown", "RAO"),
        ("Mrs Smith sitting", "unknown", "OTHER"),
    ],
)
def test_all_spellings_of_a_view_position_are_known(position: str, laterality: str, normal: str) -> None:
    view = view_of(position=position)
    assert (view.laterality, view.position) == (laterality, normal)


@pytest.mark.parametrize(
    ("text", "laterality", "position"),
    [
        ("CHEST LAT", "lateral", "LATERAL"),
        ("Thorax lateral", "lateral", "LATERAL"),
        ("Thorax seitl. left", "lateral", "LL"),
        ("view: PA", "frontal", "PA"),
        ("Chest_AP_portable", "frontal", "AP"),
        ("CHEST PA & LAT", "unknown", ""),
        ("CHEST 2 VIEWS", "unknown", ""),
        ("ThoraxLAT", "lateral", "LATERAL"),
        ("PAEDIATRIC CHEST", "unknown", ""),
        ("BILATERAL", "unknown", ""),
    ],
)
def test_a_description_decides_only_where_it_leaves_one_possibility(text: str, laterality: str, position: str) -> None:
    view = view_of(position="", descriptions=[("SeriesDescription", text)])
    assert (view.laterality, view.position) == (laterality, position)
    assert view.evidence == ("SeriesDescription" if laterality != "unknown" else "")


def test_an_oblique_or_a_decubitus_in_words_is_not_overruled_by_the_orientation() -> None:
    for text in ("CHEST AP LEFT LATERAL DECUBITUS", "Chest oblique"):
        view = view_of(position="", descriptions=[("SeriesDescription", text)], orientation=["L", "F"])
        assert (view.laterality, view.evidence) == ("unknown", "SeriesDescription")
    view = view_of(position="", codes=["left anterior oblique"], descriptions=[("ProtocolName", "PA")])
    assert (view.laterality, view.evidence) == ("unknown", "ViewCodeSequence")


@pytest.mark.parametrize(
    ("text", "laterality", "position"),
    [
        ("NA_chest_auto_lat_CES", "lateral", "LATERAL"),
        ("NA_chestLAT_auto", "lateral", "LATERAL"),
        ("NA_chestAP_auto", "frontal", "FRONTAL"),  # in Open-i 159 PA radiographs were processed by it
        ("NA_chest_auto", "unknown", ""),
    ],
)
def test_the_name_of_a_processing_algorithm_tells_the_laterality_only(
    text: str, laterality: str, position: str
) -> None:
    view = view_of(position="", descriptions=[("PostprocessingFunction", text)])
    assert (view.laterality, view.position) == (laterality, position)


def test_the_codes_of_the_standard_mean_what_their_names_say() -> None:
    # pydicom's copy of CID 4010 of DICOM PS3.16: the meaning of each code, and its older SRT code.
    views = {code.value: code.meaning for code in codes.cid4010.concepts.values()}
    older = {value: key for key, value in mapping["SRT"].items()}
    decided = {}
    for value, meaning in views.items():
        by_meaning = view_of(position="", codes=[meaning])
        for code in {value, older.get(value, value)}:
            by_value = view_of(position="", codes=[code])
            if by_value.laterality != "unknown":
                decided[code] = meaning
                assert (by_value.laterality, by_value.position) == (by_meaning.laterality, by_meaning.position), meaning
    plain = {"postero-anterior", "antero-posterior", "frontal", "left lateral", "right lateral", "lateral"}
    assert set(decided.values()) == plain
    assert len(decided) == 2 * len(plain)
    assert view_of(position="", codes=["R-10214"]).position == "PA"  # as it stands in Open-i, not in the standard


def test_the_first_evidence_that_decides_wins() -> None:
    view = view_of(
        position="PA", codes=["left lateral"], descriptions=[("ProtocolName", "LAT")], orientation=["A", "F"]
    )
    assert (view.laterality, view.evidence) == ("frontal", "ViewPosition")
    view = view_of(position="", codes=["left lateral"], descriptions=[("ProtocolName", "PA")])
    assert (view.laterality, view.position, view.evidence) == ("lateral", "LL", "ViewCodeSequence")
    assert view_of(position="", codes=["postero-anterior"]).position == "PA"
    assert view_of(position="", orientation=["P", "F"]).laterality == "lateral"
    assert view_of(position="", orientation=["L", "F"]).laterality == "frontal"
    assert view_of(position="LLD", orientation=["L", "F"]).laterality == "unknown"


@pytest.mark.data
def test_the_real_headers_of_open_i_never_contradict_themselves(shared_data) -> None:
    headers = pd.read_csv(
        shared_data / "metadata/nlmcxr_dicom_metadata.csv.gz",
        usecols=["View Position", "Patient Orientation"],
        dtype=str,
        keep_default_na=False,
    )
    by_position = headers["View Position"].map(lambda text: view_of(position=text).laterality)
    orientations = [ast.literal_eval(text) if text else [] for text in headers["Patient Orientation"]]
    by_orientation = pd.Series([view_of(position="", orientation=axes).laterality for axes in orientations])
    assert by_position.value_counts().to_dict() == {"frontal": 4016, "unknown": 2586, "lateral": 867}
    assert (headers["View Position"].map(normal_position) == "OTHER").sum() == 0
    both = (by_position != "unknown") & (by_orientation != "unknown")
    assert both.sum() == 4481
    assert (by_position == by_orientation)[both].all()
