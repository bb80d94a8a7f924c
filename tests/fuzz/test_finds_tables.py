"""What `make fuzz` has found in tables, cohorts, splits, cards and YAML, as small as it can be made."""

import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzz_base import PROJECT, Base
from fuzz_bases import all_bases

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.readers.locate import locate
from monai_cxrpair.cohort.readers.nih import read_nih
from monai_cxrpair.cohort.readers.textfile import read_text_table
from monai_cxrpair.cohort.split.saved import content_hash, read_split
from monai_cxrpair.commands.pairs import _overlay
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.cards import read_encoder_card
from monai_cxrpair.experiments.checks import MAX_DEPTH, check_settings, load_yaml, parse_yaml
from monai_cxrpair.experiments.experiment import read_experiment
from monai_cxrpair.pairing import AffinityTable
from monai_cxrpair.reporting import read_algorithm

SECONDS = 5.0


@pytest.fixture(scope="module")
def bases() -> dict[str, Base]:
    return {base.name: base for base in all_bases(shared=False)}


def _written(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# tables


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("field.csv", "x" * 200_000 + ",path\n1,2\n", "holds no names of columns"),
        ("wide.csv", "a," * 40_000 + "\n1,2\n", "40001 columns"),
        ("wide.tsv", "a\t" * 40_000 + "\n1\t2\n", "40001 columns"),
        ("quoted.csv", '"a\nb",' + "x," * 40_000 + "\n1,2\n", "40002 columns"),
        ("quoted.csv", 'patient_id,"a\n"x"y,"\n"' + "x," * 40_000 + '"', "columns, no table"),
        ("wide.csv", "patient_id\n" + "x," * 40_000, "more cells than"),
        ("shifted.csv", "patient_id,study_id,path\np,s,x.png,1\np,s,y.png,2\n", "more cells than"),
    ],
)
def test_a_table_that_is_none_is_one_line_and_at_once(tmp_path: Path, name: str, content: str, said: str) -> None:
    began = time.process_time()
    with pytest.raises(CxrPairError, match=said):
        read_text_table(_written(tmp_path / name, content))
    assert time.process_time() - began < 1


def test_a_name_of_a_column_may_go_on_in_the_next_line(tmp_path: Path) -> None:
    table = read_text_table(_written(tmp_path / "quoted.csv", '"a\nb",c\n1,2\n'))
    assert list(table.columns) == ["a\nb", "c"]


def test_a_finding_that_is_called_like_a_column_of_the_cohort_is_another_column(tmp_path: Path) -> None:
    names = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
    (tmp_path / "nih.csv").write_text(f"{names}\na.png,Image ID|Mass,0,1,50,M,PA\n")
    reading = read_nih(read_text_table(tmp_path / "nih.csv"), root=tmp_path)
    assert sorted(reading.findings) == ["finding_image_id", "mass"]


def test_a_parquet_column_that_is_no_text_is_an_error_of_the_table(tmp_path: Path) -> None:
    """What the file says of pandas' types promises a text."""
    promised = pa.Table.from_pandas(pd.DataFrame({"path": ["a"]}, dtype="str"))
    odd = promised.set_column(0, "path", pa.array([[1, 2]], pa.list_(pa.int8())))
    pq.write_table(odd, tmp_path / "list.parquet")
    with pytest.raises(CxrPairError, match=r"list\.parquet cannot be read as a table"):
        read_text_table(tmp_path / "list.parquet")


def test_a_parquet_column_of_text_that_is_no_unicode_is_an_error_of_the_file(
    bases: dict[str, Base], tmp_path: Path
) -> None:
    """Arrow takes the file's word for it, and pandas stumbles later."""
    table = pq.read_table(io.BytesIO(bases["cohort.parquet"].data))
    bytes_of_it = pa.array([b"\xbe%d" % row for row in range(len(table))]).view(pa.string())
    pq.write_table(table.set_column(table.column_names.index("path"), "path", bytes_of_it), tmp_path / "odd.parquet")
    with pytest.raises(CxrPairError, match=r"odd\.parquet cannot be read as a table"):
        read_text_table(tmp_path / "odd.parquet")
    with pytest.raises(CxrPairError, match=r"odd\.parquet is damaged"):
        Cohort.read(tmp_path / "odd.parquet")


def test_a_damaged_sheet_is_an_error_of_the_table(bases: dict[str, Base], tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    with zipfile.ZipFile(io.BytesIO(bases["table.xlsx"].data)) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info.filename, content[:200] if info.filename.endswith("sheet1.xml") else content)
    with pytest.raises(CxrPairError, match="cannot be read as a table"):
        read_text_table(path)


# cohort and split


def test_a_cohort_with_what_pandas_cannot_take_is_damaged(bases: dict[str, Base], tmp_path: Path) -> None:
    table = pq.read_table(io.BytesIO(bases["cohort.parquet"].data))
    odd = pa.array([[("a", 1)]] * len(table), pa.map_(pa.string(), pa.int8()))
    at = table.column_names.index("perceptual_hash")
    pq.write_table(table.set_column(at, "perceptual_hash", odd), tmp_path / "odd.parquet")
    with pytest.raises(CxrPairError, match=r"odd\.parquet"):
        Cohort.read(tmp_path / "odd.parquet")
    metadata = {**table.schema.metadata, b"pandas": b'{"columns": 1.5}'}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "odd.parquet")
    with pytest.raises(CxrPairError, match=r"odd\.parquet is damaged"):
        Cohort.read(tmp_path / "odd.parquet")
    metadata = {**table.schema.metadata, b"cxrpair": b"[" * 100_000}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "odd.parquet")
    with pytest.raises(CxrPairError, match=r"odd\.parquet is a parquet file, but not a cohort"):
        Cohort.read(tmp_path / "odd.parquet")
    stored = json.loads(table.schema.metadata[b"cxrpair"])
    metadata = {**table.schema.metadata, b"cxrpair": json.dumps({**stored, "root": None}).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "odd.parquet")
    with pytest.raises(CxrPairError, match=r"odd\.parquet is damaged"):
        Cohort.read(tmp_path / "odd.parquet")


@pytest.mark.parametrize("change", [{"patients": {}}, {"left_out": True}, {"label_draws": [1]}, {"cohort": []}])
def test_a_split_file_with_a_right_hash_may_still_lack_something(
    bases: dict[str, Base], tmp_path: Path, change: dict[str, Any]
) -> None:
    cohort = Cohort.read(_written(tmp_path / "cohort.parquet", bases["cohort.parquet"].data))
    content = {**json.loads(bases["split.json"].data), **change}
    content["hash"] = content_hash(content)
    with pytest.raises(CxrPairError, match="lacks what a split file has"):
        read_split(_written(tmp_path / "split.json", json.dumps(content)), cohort)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000], ids=["list", "object"])
def test_json_without_end_is_an_error_of_the_file(bases: dict[str, Base], tmp_path: Path, text: str) -> None:
    cohort = Cohort.read(_written(tmp_path / "cohort.parquet", bases["cohort.parquet"].data))
    path = _written(tmp_path / "deep.json", text)
    _written(tmp_path / "deep.pt", b"weights")
    for read in (
        lambda: read_split(path, cohort),
        lambda: read_encoder_card(tmp_path / "deep.pt"),
        lambda: read_algorithm(tmp_path / "deep.pt"),
        lambda: AffinityTable.of(str(path)),
    ):
        with pytest.raises(CxrPairError, match="deep"):
            read()


# YAML

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        "a: 2024-02-30\n",
        "a: !!int x\n",
        f"a: {'9' * 5000}\n",
        "a: " + "[" * 30_000,
        "a: &a [*a]\n",
        LAUGHS + "pairing: *i\n",
        "a:\n" + "".join(" " * depth + "- \n" for depth in range(1, 900)),
    ],
    ids=["day", "number", "digits", "deep", "itself", "laughs", "blocks"],
)
def test_yaml_that_cannot_be_is_an_error_of_the_file_and_at_once(tmp_path: Path, text: str) -> None:
    path = _written(tmp_path / "odd.yaml", text)
    began = time.process_time()
    for read in (load_yaml, _overlay):
        with pytest.raises(CxrPairError, match=r"odd\.yaml"):
            read(path)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("key", ["null", "1", "2024-01-01"])
def test_a_setting_whose_name_is_no_text_is_no_setting(key: str) -> None:
    with pytest.raises(CxrPairError, match=r"is not a setting of train\.yaml"):
        check_settings(parse_yaml(f"{key}: x"), {"seed_of_it"}, "x.yaml", "train.yaml")


@pytest.mark.parametrize("rows", ["[{name: x, overlays: [1]}]", "[{name: x, overlays: [.5]}]"])
def test_an_overlay_whose_name_is_no_text_is_named(tmp_path: Path, rows: str) -> None:
    path = _written(tmp_path / "configs" / "experiments" / "x.yaml", f"rows: {rows}\n")
    with pytest.raises(CxrPairError, match="an overlay is named by its file"):
        read_experiment(path, bundle=PROJECT / "bundle")


def test_yaml_with_brackets_and_aliases_of_a_usual_kind_is_read() -> None:
    assert parse_yaml("a: &a {b: [1, [2]]}\nc: [*a, *a]\n")["c"] == [{"b": [1, [2]]}] * 2
    assert parse_yaml("a: " + "[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    assert isinstance(pd.DataFrame(parse_yaml("a: [1]")), pd.DataFrame)


def test_a_path_that_is_too_long_for_a_file_is_not_found(tmp_path):
    expected = pd.Series(["9" * 5000 + ".png"])
    (tmp_path / "a.png").touch()
    assert list(locate(expected, tmp_path)) == list(expected)
