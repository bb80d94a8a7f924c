import base64
import json
import re
import stat
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from monai_cxrpair import cli
from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.describe.contact_sheet import choose
from monai_cxrpair.cohort.describe.figures import describe
from monai_cxrpair.cohort.describe.html import write_page
from monai_cxrpair.cohort.describe.table_one import lines, median_iqr, percent
from monai_cxrpair.cohort.describe.text import description_tables
from monai_cxrpair.cohort.rejects import Reason
from monai_cxrpair.errors import CxrPairError

HOSTILE = "<script>alert(1)</script>"
TOKENS = ("PATIENTTOKEN", "STUDYTOKEN", "IMAGETOKEN", "PATHTOKEN", "ROOTTOKEN", "FREETOKEN", "1987", "03:04:05")


def _table() -> pd.DataFrame:
    """Three patients, five studies, eight radiographs; study `A2` comes before `A1`."""
    columns = ["patient_id", "study_id", "study_datetime", "laterality", "view_position", "age", "sex", "effusion"]
    rows = [
        ("A", "A1", "1987-03-10 23:59", "frontal", "PA", 61.0, "F", 1),
        ("A", "A1", "1987-03-10 23:59", "lateral", "LL", 61.0, "F", None),
        ("A", "A2", "1987-03-01 08:00", "frontal", "AP", 60.0, "F", 0),
        ("A", "A3", "1987-03-11 00:01", "frontal", "PA", 61.0, "F", -1),
        ("B", "B1", None, "frontal", "AP", None, "M", 0),
        ("B", "B1", None, "lateral", "", None, "M", 0),
        ("B", "B1", None, "unknown", "CHEST FREETOKEN", 40.0, "F", -1),
        ("C", "C1", "1987-05-01 10:00", "frontal", "AP", 92.0, "", None),
    ]
    table = pd.DataFrame(rows, columns=columns)
    table["study_datetime"] = pd.to_datetime(table["study_datetime"])
    for name, token in (("patient_id", "PATIENTTOKEN"), ("study_id", "STUDYTOKEN")):
        table[name] = token + table[name]
    table["image_id"] = [f"IMAGETOKEN{i}" for i in range(len(table))]
    table["path"] = [f"PATHTOKEN/{i}.png" for i in range(len(table))]
    table["free_text"] = "FREETOKEN"
    return table.rename(columns={"effusion": "pleural_effusion"})


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    intake = {"files_seen": 11, "rejected": {"duplicate": 1, "other modality": 2}}
    root = tmp_path / "ROOTTOKEN"
    return Cohort(_table(), root=root, findings=["pleural_effusion"], source="table", intake=intake)


@pytest.fixture
def cohort_file(cohort: Cohort, tmp_path: Path) -> Path:
    """The cohort with pictures, of which number 3 is damaged and number 7 is not there."""
    (cohort.root / "PATHTOKEN").mkdir(parents=True)
    for number in range(7):
        picture = np.full((700, 500), 30 * number, dtype=np.uint8)
        (cohort.root / "PATHTOKEN" / f"{number}.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    (cohort.root / "PATHTOKEN" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nFREETOKEN")
    cohort.write(tmp_path / "cohort.parquet")
    return tmp_path / "cohort.parquet"


def _random(seed: int, rows: int = 400) -> Cohort:
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, 60, rows)
    study = rng.integers(0, 4, rows)
    day = pd.Timestamp("2001-01-01") + pd.to_timedelta(patient * 11 + study * study * 37, unit="D")
    table = pd.DataFrame(
        {
            "image_id": [f"i{n}" for n in range(rows)],
            "patient_id": [f"p{n}" for n in patient],
            "study_id": [f"p{p}/s{s}" for p, s in zip(patient, study, strict=True)],
            "study_datetime": day + pd.to_timedelta(rng.integers(0, 80_000, rows), unit="s"),
            "laterality": rng.choice(["frontal", "lateral", "unknown"], rows, p=[0.7, 0.2, 0.1]),
            "view_position": rng.choice(["PA", "AP", "LL", "RL", "LATERAL", "LLD", ""], rows),
            "age": np.where(rng.random(rows) < 0.2, np.nan, rng.integers(0, 110, rows)),
            "sex": rng.choice(["F", "M", "O", ""], rows),
            "path": [f"{n}.png" for n in range(rows)],
            "edema": rng.choice([1.0, 0.0, -1.0, np.nan], rows),
            "pleural_effusion": rng.choice([1.0, 0.0, -1.0, np.nan], rows),
        }
    )
    return Cohort(table, root=Path("x"), findings=["edema", "pleural_effusion"], source="table")


def test_the_figures_of_a_small_cohort_are_those_counted_by_hand(cohort: Cohort) -> None:
    found = describe(cohort)
    assert (found["radiographs"], found["patients"], found["studies"]) == (8, 3, 5)
    assert found["laterality"] == {"frontal": 5, "lateral": 2, "unknown": 1}
    assert found["views"] == {"AP": 3, "LL": 1, "OTHER": 1, "PA": 2, "missing": 1}
    assert found["sex"] == {"F": 1, "M": 0, "O": 0, "several": 1, "unknown": 1}
    assert found["dated_studies"] == 4
    assert found["findings"] == {"pleural_effusion": {"present": 1, "absent": 3, "uncertain": 2, "missing": 2}}
    # A1 present (beside a missing one), A2 absent, A3 uncertain, B1 uncertain (beside absent ones), C1 missing.
    assert found["study_findings"] == {"pleural_effusion": {"present": 1, "absent": 1, "uncertain": 2, "missing": 1}}
    assert found["distributions"]["studies_per_patient"] == {
        **dict.fromkeys(["2", "4", "5", "6 to 10", "11 to 20", "more than 20"], 0), "1": 2, "3": 1,
    }  # fmt: skip
    # 1 March -> 10 March 23:59 -> 11 March 00:01: nine days, and a day though it is two minutes.
    intervals = found["study_intervals"]
    assert (intervals["known"], intervals["min"], intervals["median"], intervals["max"]) == (2, 1.0, 5.0, 9.0)
    assert intervals["buckets"] == {
        "same day": 0, "1 to 7": 1, "8 to 30": 1, "31 to 90": 0, "91 to 365": 0, "more than 365": 0
    }  # fmt: skip
    # A is 60 at the first study by date, though its row comes third; B's sex is contradictory, C's is not known.
    assert {sex: sum(ages.values()) for sex, ages in found["age_by_sex"].items()} == {"F": 1, "M": 0, "O": 0}
    assert found["age_by_sex"]["F"]["60 to 69"] == 1
    assert found["rejected"] == {"duplicate": 1, "other modality": 2}


def test_table_one_of_a_small_cohort_is_the_one_made_by_hand(cohort: Cohort) -> None:
    columns = {column["group"]: column for column in describe(cohort)["table_one"]["columns"]}
    assert list(columns) == ["all", "present", "absent or missing", "uncertain"]
    assert [columns[name]["radiographs"] for name in columns] == [8, 1, 5, 2]
    assert [columns[name]["patients"] for name in columns] == [3, 1, 3, 2]
    every = columns["all"]["age"]  # 60, 40, 92
    assert (every["mean"], every["median"], every["q1"], every["q3"], every["missing"]) == (64.0, 60.0, 50.0, 76.0, 0)
    assert every["sd"] == 26.23  # sqrt((16 + 576 + 784) / 2)
    absent = columns["absent or missing"]["age"]  # A is 60 in A2, C is 92; B's age stands in another column's row
    assert (absent["known"], absent["mean"], absent["missing"]) == (2, 76.0, 1)
    assert columns["present"]["age"]["sd"] is None
    # In the column of the uncertain, B is represented by the one row in which B is female.
    assert columns["uncertain"]["sex"] == {"F": 2, "M": 0, "O": 0, "several": 0, "unknown": 0}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_figures_equal_those_of_plain_loops(seed: int) -> None:
    cohort = _random(seed)
    rows = cohort.table.to_dict("records")
    found = describe(cohort, by="edema")
    studies: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        studies.setdefault(row["study_id"], []).append(row)
    for name in cohort.findings:
        tally = {"present": 0, "absent": 0, "uncertain": 0, "missing": 0}
        for radiographs in studies.values():
            values = {row[name] for row in radiographs}
            word = "present" if 1 in values else "uncertain" if -1 in values else "absent" if 0 in values else "missing"
            tally[word] += 1
        assert found["study_findings"][name] == tally
    patients: dict[str, list[Any]] = {}
    for radiographs in studies.values():
        first = min(row["study_datetime"] for row in radiographs).date()
        patients.setdefault(radiographs[0]["patient_id"], []).append(first)
    gaps = [(b - a).days for dates in patients.values() for a, b in pairwise(sorted(dates))]
    assert found["study_intervals"]["known"] == len(gaps)
    assert found["study_intervals"]["median"] == np.median(gaps)
    assert found["study_intervals"]["sd"] == round(float(np.std(gaps, ddof=1)), 2)
    edges = (-1, 0, 7, 30, 90, 365, 10**6)
    wanted = [sum(low < gap <= high for gap in gaps) for low, high in pairwise(edges)]
    assert list(found["study_intervals"]["buckets"].values()) == wanted
    sizes = [sum(row["patient_id"] == who for row in rows) for who in patients]
    assert found["distributions"]["images_per_patient"]["6 to 10"] == sum(6 <= size <= 10 for size in sizes)
    assert sum(found["distributions"]["images_per_patient"].values()) == len(patients)
    groups = {
        "present": lambda row: row["edema"] == 1,
        "absent or missing": lambda row: row["edema"] not in (1, -1),
        "uncertain": lambda row: row["edema"] == -1,
    }
    for column in found["table_one"]["columns"][1:]:
        chosen = [row for row in rows if groups[column["group"]](row)]
        ages: dict[str, float] = {}
        for row in sorted(chosen, key=lambda row: row["study_order"]):  # stable, as the rows of a study are not ranked
            if not np.isnan(row["age"]):
                ages.setdefault(row["patient_id"], row["age"])
        assert column["radiographs"] == len(chosen)
        assert column["age"]["mean"] == round(float(np.mean(list(ages.values()))), 2)
        assert [column["age"][name] for name in ("q1", "median", "q3")] == [
            round(float(quartile), 2) for quartile in np.percentile(list(ages.values()), [25, 50, 75])
        ]
        assert column["age"]["missing"] == len({row["patient_id"] for row in chosen}) - len(ages)
        for word, value in (("present", 1), ("absent", 0), ("uncertain", -1)):
            n = sum(row["pleural_effusion"] == value for row in chosen)
            assert column["findings"]["pleural_effusion"][word] == n


@pytest.mark.parametrize("by", ["edema", "sex", "laterality", "view_position", "published_split"])
def test_the_groups_of_table_one_share_out_all_radiographs(by: str) -> None:
    cohort = _random(3)
    table = cohort.table
    table["published_split"] = np.where(np.arange(len(table)) % 3, "train", "valid")
    cohort = Cohort(table, root=Path("x"), findings=cohort.findings, source="table")
    everybody, *groups = describe(cohort, by=by)["table_one"]["columns"]
    assert 2 <= len(groups) <= 4
    assert sum(group["radiographs"] for group in groups) == everybody["radiographs"] == 400
    for view in everybody["views"]:
        assert sum(group["views"].get(view, 0) for group in groups) == everybody["views"][view]


def test_shifted_dates_keep_every_figure(cohort: Cohort) -> None:
    table = cohort.table
    table["study_datetime"] -= pd.to_timedelta(table["patient_id"].map({"PATIENTTOKENA": 1234}).fillna(77), unit="D")
    shifted = Cohort(table, root=cohort.root, findings=cohort.findings, source="table", intake=cohort.intake)
    assert describe(shifted) == describe(cohort)


def test_a_group_that_the_cohort_cannot_make_is_an_error_that_lists_the_others(cohort: Cohort) -> None:
    with pytest.raises(CxrPairError, match=r"--by published_split: .*pleural_effusion, sex, laterality, view_position"):
        describe(cohort, by="published_split")


def test_without_the_default_finding_table_one_has_one_column(cohort: Cohort) -> None:
    table = cohort.table.drop(columns="pleural_effusion")
    found = describe(Cohort(table, root=Path("x"), findings=[], source="dicom"))
    assert found["table_one"]["by"] is None
    assert [column["group"] for column in found["table_one"]["columns"]] == ["all"]
    assert "rejected" not in found
    assert description_tables(found)


def test_a_cohort_of_one_radiograph_without_age_sex_or_date_has_a_description(tmp_path: Path) -> None:
    row = pd.DataFrame({"image_id": ["i"], "patient_id": ["p"], "study_id": ["s"], "path": ["x.png"]})
    found = describe(Cohort(row, root=tmp_path, findings=[], source="table"))
    assert found["age"] == {"known": 0, **dict.fromkeys(("mean", "sd", "min", "q1", "median", "q3", "max"))}
    assert found["study_intervals"]["known"] == 0
    write_page(found, tmp_path / "page.html")
    _, text = _parsed((tmp_path / "page.html").read_text())
    assert "1 radiograph of 1 patient in 1 study." in text


def test_what_only_some_cohorts_know_is_shown_where_it_is_there(cohort: Cohort) -> None:
    assert not {"laterality_evidence", "scaling", "exposed_fraction", "pixels_checked"} & set(describe(cohort))
    table = cohort.table
    table["laterality_evidence"] = ["ViewPosition"] * 5 + ["", None, "Doe^Jane, born 1950"]
    table["scaling"] = ["window"] * 8
    table["exposed_fraction"] = [0.5, 0.7, 0.9, 1.0, None, None, None, None]
    table["pixel_hash"] = ["abc"] * 6 + ["", None]
    found = describe(Cohort(table, root=Path("x"), findings=cohort.findings, source="dicom"))
    assert found["laterality_evidence"] == {"ViewPosition": 5, "none": 2, "other": 1}
    assert found["scaling"] == {"window": 8}
    assert found["exposed_fraction"]["known"] == 4
    assert found["exposed_fraction"]["median"] == 0.8
    assert found["pixels_checked"] == {"pixel_hash": 6}
    assert "abc" not in json.dumps(found)


@pytest.mark.parametrize(
    ("number", "total", "digits", "shown"),
    [(0, 9, 1, "0.0"), (1, 10_000, 1, "<0.1"), (1, 3, 1, "33.3"), (9_999, 10_000, 1, ">99.9"), (9, 9, 1, "100.0"),
     (1, 1_000, 0, "<1"), (999, 1_000, 0, ">99"), (0, 0, 1, "0.0")],
)  # fmt: skip
def test_a_percentage_is_0_or_100_only_where_it_is_exactly_that(
    number: int, total: int, digits: int, shown: str
) -> None:
    assert percent(number, total, digits) == shown


def test_every_line_of_table_one_has_a_cell_for_each_column(cohort: Cohort) -> None:
    columns = describe(cohort)["table_one"]["columns"]
    laid_out = {line.label: line.cells for line in lines(columns, digits=1)}
    assert {len(cells) for cells in laid_out.values()} == {0, 4}
    assert laid_out["Patients, n"] == ["3", "1", "3", "2"]
    assert laid_out["mean (SD)"] == ["64.0 (26.2)", "61.0", "76.0 (22.6)", "50.5 (14.8)"]
    assert laid_out["female"] == ["1 (33.3)", "1 (100.0)", "1 (33.3)", "2 (100.0)"]
    assert median_iqr({"known": 2, "median": 1234.5, "q1": 1.0, "q3": 2.25}) == "1,234.5 [1–2.2]"


def _runs(file: Path, *arguments: str) -> str:
    result = CliRunner().invoke(cli.app, ["describe", str(file), *arguments], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.stdout


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.classes: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        self.classes += [value or "" for name, value in attrs if name == "class"]
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text.append(" " if tag in ("td", "th", "p", "li", "h2", "h3", "figcaption", "div") else "")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _parsed(page: str) -> tuple[_Page, str]:
    parser = _Page()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser, " ".join("".join(parser.text).split())


def test_no_identifier_is_in_the_text_the_json_or_the_page(cohort_file: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    text = _runs(cohort_file, "--html", str(page)).replace(str(page), "")
    found = json.loads(_runs(cohort_file, "--json").splitlines()[-1])
    assert found.pop("root").endswith("ROOTTOKEN")  # the one exception, of the contract
    written = page.read_text(encoding="utf-8")
    for token in TOKENS:
        assert token not in text
        assert token not in json.dumps(found)
        assert token not in written


def test_the_page_is_for_its_owner_and_loads_nothing(cohort_file: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    _runs(cohort_file, "--html", str(page))
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    parser, text = _parsed(page.read_text(encoding="utf-8"))
    assert all(reference.startswith("data:") for reference in parser.references)
    assert "script" not in parser.tags
    assert "url(" not in page.read_text(encoding="utf-8")
    assert "may have text burned into their pixels" in text
    for reason in ("duplicate", "other modality"):
        assert Reason(reason).description.replace("`", "") in text.replace("`", "")
    assert "8 radiographs of 3 patients in 5 studies." in text
    assert "mean (SD) 64.0 (26.2) 61.0 76.0 (22.6) 50.5 (14.8)" in text


def test_the_sheet_has_a_picture_or_a_reason_for_each_radiograph(cohort_file: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    _runs(cohort_file, "--html", str(page))
    parser, text = _parsed(page.read_text(encoding="utf-8"))
    pictures = [reference for reference in parser.references if reference.startswith("data:image/")]
    assert parser.tags.count("figure") == 8
    assert len(pictures) == 6
    assert parser.classes.count("none") == 2
    assert "the picture is damaged" in text
    assert "the file is not there" in text
    assert "frontal · AP · 90 y or older · pleural effusion not mentioned" in text
    assert "lateral · LL · 61 y · female · pleural effusion not mentioned" in text
    assert "study 2, 9 days later" in text
    for picture in pictures:
        data = base64.b64decode(picture.partition(",")[2])
        assert cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_GRAYSCALE).shape == (320, 229)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("{path}: the pixels cannot be read (ValueError: Doe^Jane)", "the pixels cannot be read (8)"),
        ("no way to open {path}", "cannot be read ("),
        ("no way to open 2.png", "cannot be read (1)"),
    ],
)
def test_a_reason_names_neither_the_file_nor_what_a_decoder_said(
    message: str, shown: str, cohort_file: Path, cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise CxrPairError(message.format(path=path))

    (cohort.root / "PATHTOKEN" / "7.png").touch()
    monkeypatch.setattr("monai_cxrpair.imaging.read_radiograph", fail)
    _runs(cohort_file, "--html", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert shown in _parsed(page)[1]
    assert "Doe" not in page
    assert not any(token in page for token in TOKENS)


def test_a_table_without_its_images_has_no_wall_of_grey_tiles(cohort: Cohort, tmp_path: Path) -> None:
    cohort.write(tmp_path / "c.parquet")
    _runs(tmp_path / "c.parquet", "--html", str(tmp_path / "page.html"))
    parser, text = _parsed((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "figure" not in parser.tags
    assert "None of the radiographs drawn for it could be read: the file is not there (8)." in text


def test_without_pictures_there_is_no_sheet(cohort_file: Path, tmp_path: Path) -> None:
    _runs(cohort_file, "--html", str(tmp_path / "page.html"), "--pictures", "0")
    parser, text = _parsed((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "img" not in parser.tags
    assert "Contact sheet" not in text


def test_moved_images_are_found_with_root(cohort_file: Path, cohort: Cohort, tmp_path: Path) -> None:
    cohort.root.rename(tmp_path / "moved")
    _runs(cohort_file, "--html", str(tmp_path / "page.html"), "--root", str(tmp_path / "moved"))
    parser, _ = _parsed((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert parser.tags.count("img") == 6


def test_names_with_markup_are_shown_as_they_are(tmp_path: Path) -> None:
    table = _table().rename(columns={"pleural_effusion": HOSTILE})
    table["[red]x[/bold]"] = 1.0
    cohort = Cohort(table, root=tmp_path, findings=[HOSTILE, "[red]x[/bold]"], source=HOSTILE)
    cohort.write(tmp_path / "c.parquet")
    text = _runs(tmp_path / "c.parquet", "--by", HOSTILE, "--html", str(tmp_path / "page.html"))
    assert "[red]x[/bold]" in text
    parser, shown = _parsed((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "script" not in parser.tags
    assert HOSTILE in shown


def test_the_text_fits_80_columns(cohort_file: Path) -> None:
    text = _runs(cohort_file)
    assert max(map(len, text.splitlines())) <= 80
    assert "Table 1, by pleural effusion" in text
    assert re.search(r"absent or\s", text)


def test_the_sheet_is_seeded_and_shows_each_radiograph_once() -> None:
    cohort = _random(4)
    first, again = choose(cohort, 24, seed=5), choose(cohort, 24, seed=5)
    assert first == again
    assert len({tile.row for tile in first}) == len(first) == 24
    assert [tile.row for tile in first] != [tile.row for tile in choose(cohort, 24, seed=6)]
    assert len(choose(cohort, 1000, seed=0)) == 400
    assert choose(cohort, 0, seed=0) == []


@pytest.mark.parametrize("seed", range(5))
def test_the_sheet_shows_pairs_later_studies_and_every_state_of_the_finding(seed: int) -> None:
    cohort = _random(seed)
    tiles = choose(cohort, 24, seed=seed, finding="edema")
    shown = cohort.table.iloc[[tile.row for tile in tiles]]
    sides = shown.groupby("study_id")["laterality"].agg(set)
    assert sum({"frontal", "lateral"} <= both for both in sides) >= 3
    assert (shown.groupby("patient_id")["study_id"].nunique() > 1).sum() >= 3
    assert {1.0, -1.0} <= set(shown["edema"])
    assert (~shown["edema"].isin([1.0, -1.0])).any()
    # Tiles of a patient stand together in the order of the studies.
    patients = [tile.patient for tile in tiles]
    assert patients == sorted(patients)
    for _, ranks in shown["study_order"].groupby(patients):
        assert ranks.is_monotonic_increasing


def test_a_rare_finding_is_on_the_sheet_and_a_frontal_stands_beside_its_lateral() -> None:
    table = pd.DataFrame({"study_id": [f"s{n // 2}" for n in range(1000)], "laterality": ["lateral", "frontal"] * 500})
    table = table.assign(patient_id=table["study_id"], image_id=table.index.astype(str), path="x.png")
    table["mass"] = np.where(table["study_id"] == "s123", 1.0, 0.0)
    cohort = Cohort(table, root=Path("x"), findings=["mass"], source="table")
    tiles = choose(cohort, 6, seed=0, finding="sex")
    assert sum("mass present" in tile.caption for tile in tiles) == 2
    assert [tile.caption.partition(" ")[0] for tile in tiles] == ["frontal", "lateral"] * 3


def test_describe_imports_neither_torch_nor_monai_and_without_a_page_no_pictures_either(cohort_file: Path) -> None:
    code = """
import sys
from monai_cxrpair.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = {"torch", "monai", "ignite", "matplotlib", "sklearn"} | (set() if "--html" in sys.argv else {"cv2", "jinja2"})
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    for arguments in ([], ["--json"], ["--html", str(cohort_file.with_suffix(".html"))]):
        command = [sys.executable, "-c", code, "describe", str(cohort_file), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.data
def test_real_dicom_radiographs_stand_on_the_sheet(shared_data: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    source, out = shared_data / "dicom" / "derived" / "mini_pacs", tmp_path / "mini.parquet"
    assert runner.invoke(cli.app, ["index", str(source), "--out", str(out), "--workers", "1"]).exit_code == 0
    _runs(out, "--html", str(tmp_path / "page.html"))
    parser, _ = _parsed((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert parser.tags.count("img") == 24
    assert "none" not in parser.classes
