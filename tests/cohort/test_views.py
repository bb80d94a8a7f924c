import ast

import pandas as pd
import pytest

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
        ("CHEST AP LEFT LATERAL DECUBITUS", "unknown", ""),
        ("PAEDIATRIC CHEST", "unknown", ""),
        ("BILATERAL", "unknown", ""),
    ],
)
def test_a_description_decides_only_where_it_leaves_one_possibility(text: str, laterality: str, position: str) -> None:
    view = view_of(position="", descriptions=[("SeriesDescription", text)])
    assert (view.laterality, view.position) == (laterality, position)
    assert view.evidence == ("SeriesDescription" if laterality != "unknown" else "")


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
