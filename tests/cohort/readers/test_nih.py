from pathlib import Path

import pytest

from monai_cxrpair.cohort.index import index_source

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"


def test_the_published_lists_beside_the_table_become_the_published_split(tmp_path: Path) -> None:
    (tmp_path / "Data_Entry_2017.csv").write_text(
        f"{HEADER}1_0.png,Mass,0,1,57,M,PA\n2_0.png,No Finding,0,2,57,M,AP\n3_0.png,Mass,0,3,57,M,PA\n"
    )
    (tmp_path / "train_val_list.txt").write_text("1_0.png\n")
    (tmp_path / "test_list.txt").write_text("2_0.png\r\n")
    cohort = index_source(tmp_path, out=tmp_path / "o.parquet").cohort
    assert cohort.source == "nih"
    assert cohort.table["published_split"].tolist() == ["train", "test", ""]


def test_repeated_rows_and_rows_without_a_patient_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        f"{HEADER}1_0.png,Mass,0,1,57,M,PA\n1_0.png,Mass,0,1,57,M,PA\n3_0.png,Mass,0,,57,M,PA\n,Mass,0,4,57,M,PA\n"
    )
    result = index_source(tmp_path / "t.csv", out=tmp_path / "o.parquet")
    assert result.as_json()["rejected"] == {"duplicate": 1, "no path": 1, "no patient id": 1}


@pytest.mark.data
def test_the_published_counts_of_nih(shared_data: Path, tmp_path: Path) -> None:
    cohort = index_source(shared_data / "metadata/Data_Entry_2017_v2020.csv.gz", out=tmp_path / "n.parquet").cohort
    summary = cohort.summary()
    assert (summary["radiographs"], summary["patients"], summary["studies"]) == (112_120, 30_805, 112_120)
    assert cohort.table["view_position"].value_counts().to_dict() == {"PA": 67_310, "AP": 44_810}
    assert summary["laterality"] == {"frontal": 112_120, "lateral": 0, "unknown": 0}
    assert list(summary["findings"]["pleural_effusion"].values()) == [13_317, 98_803, 0, 0]
    assert len(summary["findings"]) == 15
