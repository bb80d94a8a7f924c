from pathlib import Path

import pandas as pd

from monai_cxrpair.cohort.index import IndexResult, index_source

HEADER = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,"
    "MethodProjection,Report,MethodLabel,Labels\n"
)
ROWS = (
    ("20536686640136348236148679891455886468_k6ga29.png", "0", "S1", "P1", "1936.0", "M", "PA", "['pleural effusion']"),
    ("b.png", "0", "S1", "P1", "1936.0", "M", "L", "['pericardial effusion', 'cardiomegaly']"),
    ("c.png", "1", "S2", "P2", "1990", "F", "AP_horizontal", "['normal']"),
    ("d.png", "1", "S3", "P2", "1990", "F", "COSTAL", "['unchanged', ' pulmonary edema ']"),
    ("e.png", "54", "S4", "P3", "", "", "AP", "['exclude']"),
    ("f.png", "54", "S5", "P3", "", "O", "PA", ""),
    ("g.png", "54", "S6", "P3", "", "O", "EXCLUDE", "['pleural effusion']"),
    ("h.png", "54", "S7", "P3", "", "O", "", "['loculated pleural effusion', 'mass'"),
)


def _index(tmp_path: Path, rows=ROWS, **options) -> IndexResult:
    lines = [
        f'{n},{image},{folder},20150107,{study},{patient},{born},{sex},POSTEROANTERIOR,{view},x,texto,Physician,"{labels}"'
        for n, (image, folder, study, patient, born, sex, view, labels) in enumerate(rows)
    ]
    (tmp_path / "padchest.csv").write_text(HEADER + "\n".join(lines), encoding="utf-8")
    return index_source(tmp_path / "padchest.csv", out=tmp_path / "o.parquet", **options)


def _values(result: IndexResult, name: str) -> list[float | None]:
    return [None if pd.isna(value) else value for value in result.cohort.table[name]]


def test_ids_views_ages_and_paths_follow_the_published_layout(tmp_path: Path) -> None:
    result = _index(tmp_path)
    table = result.cohort.table
    assert result.cohort.source == "padchest"
    assert table["path"].tolist()[0] == "0/20536686640136348236148679891455886468_k6ga29.png"
    assert table["laterality"].tolist() == ["frontal", "lateral", "frontal", "unknown", "frontal", "frontal", "unknown"]
    assert table["view_position"].tolist() == ["PA", "LATERAL", "AP", "OTHER", "AP", "PA", ""]
    assert table["laterality_evidence"].tolist() == ["Projection"] * 6 + [""]
    assert table["age"].tolist()[:3] == [79, 79, 25]
    assert table["sex"].tolist() == ["M", "M", "F", "F", "", "O", "O"]
    assert result.as_json()["rejected"] == {"excluded": 1}


def test_pleural_effusion_is_taken_exactly_and_silence_is_missing(tmp_path: Path) -> None:
    result = _index(tmp_path)
    assert _values(result, "pleural_effusion") == [1, 0, 0, 0, None, None, None]
    assert _values(result, "cardiomegaly") == [0, 1, 0, 0, None, None, None]
    assert _values(result, "no_finding") == [0, 0, 1, 0, None, None, None]
    assert _values(result, "edema") == [0, 0, 0, 1, None, None, None]
    assert "pericardial_effusion" not in result.cohort.findings
    assert any("1 lists could not be read" in note for note in result.notes)


def test_nothing_in_a_list_of_labels_is_executed(tmp_path: Path) -> None:
    bomb = f"[__import__('pathlib').Path('{tmp_path}/executed').touch()]"
    result = _index(tmp_path, (*ROWS[:1], ("z.png", "1", "S9", "P9", "1990", "F", "PA", bomb)))
    assert not (tmp_path / "executed").exists()
    assert _values(result, "pleural_effusion") == [1, None]


def test_the_table_as_labels_file_gives_all_the_names(tmp_path: Path) -> None:
    _index(tmp_path)
    result = index_source(tmp_path / "padchest.csv", out=tmp_path / "o.parquet", labels=tmp_path / "padchest.csv")
    assert _values(result, "pericardial_effusion")[:3] == [0, 1, 0]
    assert _values(result, "pleural_effusion")[:3] == [1, 0, 0]


def test_images_in_one_flat_folder_or_converted_are_found(tmp_path: Path) -> None:
    (tmp_path / "images-224").mkdir()
    for name in ("b.png", "c.jpg", "20536686640136348236148679891455886468_k6ga29.png"):
        (tmp_path / "images-224" / name).touch()
    result = _index(tmp_path, ROWS[:4], check_files=True)
    assert sorted(result.cohort.table["path"])[1:] == ["images-224/b.png", "images-224/c.jpg"]
    assert result.as_json()["rejected"] == {"missing file": 1}
