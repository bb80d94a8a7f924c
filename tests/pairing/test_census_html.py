"""The census as a page and as text."""

import re
import stat
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.pairing import PairCriterion
from monai_cxrpair.pairing.census import census
from monai_cxrpair.pairing.census_html import write_page
from monai_cxrpair.pairing.census_text import census_tables, verdict

HOSTILE = "<script>alert(1)</script> [bold]"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text: list[str] = []
        self.bars: list[float] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        if tag == "rect":
            self.bars.append(float(values["height"]))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text.append(" ")

    def handle_data(self, data):
        self.text.append(data)


def parsed(page: Path) -> tuple[_Page, str]:
    parser = _Page()
    parser.feed(page.read_text(encoding="utf-8"))
    parser.close()
    assert parser.open == []
    return parser, " ".join("".join(parser.text).split())


def as_text(found, finding, width=80) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in census_tables(found, finding=finding):
        console.print(part)
    return console.export_text()


@pytest.fixture
def cohort() -> Cohort:
    """Patients of up to 12 radiographs in dated studies of one or two."""
    rng = np.random.default_rng(4)
    study = rng.integers(0, 60, 120)
    table = pd.DataFrame({"study_id": [f"STUDYTOKEN{s}" for s in study], "patient_id": [f"WHO{s % 13}" for s in study]})
    table["image_id"] = table["path"] = [f"IMAGETOKEN{row}" for row in range(120)]
    table["laterality"] = np.where(np.arange(120) % 2, "frontal", "lateral")
    table["study_datetime"] = pd.Timestamp("2019-07-06") + pd.to_timedelta(study * 11, unit="D")
    table["pleural_effusion"] = rng.choice([1.0, 0.0, np.nan], 120)
    return Cohort(table, root=Path("x"), findings=["pleural_effusion"], source="dicom")


def test_the_page_is_one_file_without_scripts_and_names_nobody(cohort, tmp_path):
    write_page(census(cohort, queue_size=30), tmp_path / "page.html", finding="pleural_effusion")
    parser, _ = parsed(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "script" not in parser.tags
    assert all(reference.startswith("data:") for reference in parser.references)
    assert "url(" not in page
    assert not re.search("WHO|STUDYTOKEN|IMAGETOKEN|2019", page)
    # It holds counts alone, so unlike a page with radiographs it is made like any other file.
    other = tmp_path / "other"
    other.touch()
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_the_page_says_the_figures_of_the_census(cohort, tmp_path):
    rule = PairCriterion(study="same", laterality="same", include_self=True)
    found = census(cohort, queue_size=30, further=[("mine", rule)])
    write_page(found, tmp_path / "page.html", finding="pleural_effusion")
    parser, text = parsed(tmp_path / "page.html")
    for entry in [*found["rules"], *found["further"]]:
        assert f"{100 * entry['self_pair_rate']:.1f} %" in text
        assert f"{100 * entry['mismatch_rate']['pleural_effusion']:.1f} %" in text
    for bar in [*found["by_distance"][0]["bins"], *found["by_distance"][1]["bins"]]:
        assert f"{bar['radiographs']:,}" in text
    assert "Days apart" in text
    assert "pairing: {study: same, laterality: same, include_self: true}" in text
    # Three panels of 18 bars; within each the heights are as the counts.
    figure = found["figure_2"]["findings"]["pleural_effusion"]
    counts = [
        figure["all_studies"],
        figure["distinct_studies"],
        found["further"][0]["disagreement"]["pleural_effusion"],
    ]
    assert parser.tags.count("svg") == 3
    for number, panel in enumerate(counts):
        heights = np.array(parser.bars[18 * number : 18 * (number + 1)])
        assert np.allclose(heights / heights.sum(), np.array(panel) / sum(panel), atol=2e-3)


def test_without_findings_the_page_and_the_text_show_the_rest(cohort, tmp_path):
    table = cohort.table.drop(columns="pleural_effusion")
    found = census(Cohort(table, root=Path("x"), findings=[], source="table"), queue_size=30)
    write_page(found, tmp_path / "page.html", finding=None)
    parser, text = parsed(tmp_path / "page.html")
    assert "svg" not in parser.tags
    assert "How many candidates" in text
    assert not re.search("pairs that disagree|disagreement|effusion", text, re.IGNORECASE)
    assert "differ" not in as_text(found, None)


def test_a_cohort_of_one_radiograph_has_a_page(tmp_path):
    row = pd.DataFrame({"image_id": ["i"], "patient_id": ["p"], "study_id": ["s"], "path": ["x"], "effusion": [1.0]})
    found = census(Cohort(row, root=tmp_path, findings=["effusion"], source="table"), queue_size=32)
    write_page(found, tmp_path / "page.html", finding="effusion")
    _, text = parsed(tmp_path / "page.html")
    assert "No study has a second radiograph: this rule is plain MoCo." in text
    assert "training refuses it" in text
    assert "training refuses it" in " ".join(as_text(found, "effusion").split())


def test_names_with_markup_are_shown_as_they_are(cohort, tmp_path):
    table = cohort.table.rename(columns={"pleural_effusion": HOSTILE})
    cohort = Cohort(table, root=tmp_path, findings=[HOSTILE], source=HOSTILE)
    found = census(cohort, queue_size=30, further=[(HOSTILE, None)])
    write_page(found, tmp_path / "page.html", finding=HOSTILE)
    parser, text = parsed(tmp_path / "page.html")
    assert "script" not in parser.tags
    assert HOSTILE in text
    assert "[bold]" in as_text(found, HOSTILE)


def test_the_text_fits_80_columns(cohort):
    text = as_text(census(cohort, queue_size=30, further=[("a_rule_with_a_long_name", None)]), "pleural_effusion")
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


@pytest.mark.parametrize(
    ("itself", "mismatch", "said"),
    [(1.0, None, "plain MoCo"),
     (0.84, 0.0, "84.0 % of the queries are paired with themselves: it is nearly plain MoCo."),
     (0.3, 0.29, "70.0 % of the queries meet another radiograph, 30.0 % themselves. Partners disagree on edema in"),
     (0.0, 0.0, "Every query meets another radiograph. No pair disagrees on edema."), (None, None, "no query")],
)  # fmt: skip
def test_a_rule_is_described_in_plain_words(itself, mismatch, said):
    assert said in verdict({"self_pair_rate": itself, "mismatch_rate": {"edema": mismatch}}, "edema")


def test_a_rule_that_requires_partners_says_how_many_have_none(cohort):
    rule = PairCriterion(study="same", require_partner=True)
    found = census(cohort, queue_size=30, further=[("mine", rule)])["further"][0]
    alone = int((cohort.table.groupby("study_id").size() == 1).sum())
    assert alone > 0
    assert f" {alone} radiographs without a candidate are no queries." in verdict(found, "pleural_effusion")


def test_a_finding_that_is_seldom_mentioned_carries_a_warning(cohort, tmp_path):
    missing = int(cohort.table["pleural_effusion"].isna().sum())
    found = census(cohort, queue_size=30)
    write_page(found, tmp_path / "page.html", finding="pleural_effusion")
    warning = f"{missing} of the 120 radiographs say nothing of pleural effusion"
    assert warning in parsed(tmp_path / "page.html")[1]
    full = Cohort(cohort.table.fillna({"pleural_effusion": 0.0}), root=tmp_path, findings=cohort.findings, source="x")
    write_page(census(full, queue_size=30), tmp_path / "full.html", finding="pleural_effusion")
    assert "say nothing of" not in parsed(tmp_path / "full.html")[1]
