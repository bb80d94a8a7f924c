"""The whole report, panels and all, in a real browser: silent, offline, and as narrow as a telephone."""

import json
import sys
from pathlib import Path

import chromium
import pytest
import torch
from monai.bundle import ConfigWorkflow
from report_page import numbers_without_a_source, read

from monai_cxrpair.cohort import Cohort, split_patients
from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.contrast import build_encoder, save_encoder
from monai_cxrpair.phantom import write_phantom

ROOT = Path(__file__).resolve().parents[2]
MOST = 10_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("browser")
    write_phantom(place / "pacs", patients=60, file_format="png", seed=3)
    index_source(place / "pacs" / "truth.csv", out=place / "cohort.parquet", root=place / "pacs")
    cohort = Cohort.read(place / "cohort.parquet")
    card = {
        "format": "cxrpair-encoder/1", "encoder": "resnet18", "in_channels": 1,
        "preprocessing": {"image_size": 32, "mean": 0.5, "std": 0.25},
        "cohort": {"fingerprint": cohort.fingerprint(), "test_fraction": 0.4, "split_seed": 0, "near_duplicates":
                   split_patients(cohort, test_fraction=0.4).near_duplicates},
    }  # fmt: skip
    torch.manual_seed(0)
    save_encoder(build_encoder("resnet18", in_channels=1, image_size=32), place / "encoder.pt", card)
    hook = sys.excepthook
    workflow = ConfigWorkflow(
        config_file=str(ROOT / "bundle" / "configs" / "evaluate.yaml"), run_id="evaluating", logging_file=False,
        bundle_root=str(ROOT / "bundle"), workflow_type="infer", cohort_file=str(place / "cohort.parquet"),
        encoder_file={"an encoder with a name that is far too long for any table of a telephone": str(
            place / "encoder.pt")},
        output_dir=str(place / "out"), label_fraction=[0.4, 0.7, 1.0], draws=2, calibrate=True, test_fraction=0.4,
        protocols=["linear", "knn"],
    )  # fmt: skip
    workflow.initialize()
    sys.excepthook = hook
    workflow.run()
    return place / "out"


def test_every_number_of_the_whole_page_stands_in_the_results(folder):
    results = json.loads((folder / "results.json").read_text())
    assert numbers_without_a_source((folder / "report.html").read_text(encoding="utf-8"), results) == set()


def test_every_heading_is_in_the_contents_and_every_link_arrives(folder):
    parser, _ = read((folder / "report.html").read_text(encoding="utf-8"))
    links = [link.removeprefix("#") for link in parser.references if link.startswith("#")]
    assert set(links) == set(parser.ids)
    assert len(parser.ids) == len(set(parser.ids)) > 10


def test_the_file_is_small_enough_for_a_mail(folder):
    assert (folder / "report.html").stat().st_size < MOST


@pytest.mark.skipif(chromium.PROGRAM is None, reason="no chromium here (Debian: apt-get install chromium)")
def test_a_browser_logs_nothing_asks_for_nothing_and_never_scrolls_sideways(folder):
    address = (folder / "report.html").as_uri()
    with chromium.Chromium() as browser:
        for width in (1280, 390):
            browser.open(address, width=width)
            assert browser.value("window.innerWidth") == width
            for opened in (False, True):
                browser.value(f"document.querySelectorAll('details').forEach(one => one.open = {str(opened).lower()})")
                inside = "[...document.querySelectorAll('main *')].filter(one => !one.closest('.scroll'))"
                wide = f"{inside}.filter(one => one.getBoundingClientRect().right > {width} + 1)"
                assert browser.value(f"{wide}.map(one => one.outerHTML.slice(0, 200))") == []
                assert browser.value("document.documentElement.scrollWidth") <= width
            assert browser.value("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
            said = [e for e in browser.events if e["method"] in ("Log.entryAdded", "Runtime.consoleAPICalled",
                                                                 "Runtime.exceptionThrown")]  # fmt: skip
            assert said == []
            asked = [
                e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"
            ]
            assert [url for url in asked if not url.startswith("data:")] == [address]


@pytest.mark.skipif(chromium.PROGRAM is None, reason="no chromium here (Debian: apt-get install chromium)")
def test_the_browser_of_these_tests_does_notice_what_they_look_for(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        "<meta name=viewport content='width=device-width'><p style='width:2000px'>wide</p>"
        "<img src='http://127.0.0.1:9/none.png'><script>console.log('said')</script>"
    )
    with chromium.Chromium() as browser:
        browser.open(page.as_uri(), width=390)
        assert browser.value("document.documentElement.scrollWidth") >= 2000
        methods = {event["method"] for event in browser.events}
        assert {"Log.entryAdded", "Runtime.consoleAPICalled", "Network.requestWillBeSent"} <= methods
        assert any("127.0.0.1" in json.dumps(event) for event in browser.events)
