import dataclasses
import logging

import pytest
from small_evaluation import evaluated_on, make_cohort, page_of

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.panels import FILES, PANELS, Panel, make_panels
from monai_cxrpair.evaluation.panels.panel import PanelError

PATH = "/pacs/DOE^JANE/1.dcm"


def only(monkeypatch, **panels):
    monkeypatch.setattr("monai_cxrpair.evaluation.panels.PANELS", panels)


def failing(error):
    def make(evaluated, out_dir):
        raise error

    return make


@pytest.fixture(scope="module")
def done():
    return evaluated_on(make_cohort(), cards={"same study": {}})


@pytest.mark.parametrize("error", [CxrPairError, RuntimeError, KeyError, OSError, MemoryError])
def test_whatever_a_panel_fails_with_the_others_are_made_and_no_path_is_published(
    tmp_path, monkeypatch, caplog, done, error
):
    only(
        monkeypatch,
        gallery=failing(error(f"{PATH}: cannot be read")),
        pairing=lambda *_: Panel(figures={"encoders": 1}),
    )
    with caplog.at_level(logging.WARNING):
        panels = make_panels(done, out_dir=tmp_path)
    assert panels["gallery"].figures["not_made"].startswith(error.__name__ + ";")
    assert panels["pairing"].figures == {"encoders": 1}
    assert PATH in caplog.text
    assert "Traceback" in caplog.text
    page = page_of(done, "gallery", lambda *_: panels["gallery"], tmp_path)
    assert error.__name__ in page
    assert "DOE^JANE" not in page + (tmp_path / "results.json").read_text()


def test_a_reason_written_for_the_page_is_on_it_and_what_it_came_from_is_not(tmp_path, monkeypatch, caplog, done):
    reason = PanelError("there are too few radiographs")
    reason.__cause__ = OSError(PATH)
    only(monkeypatch, gallery=failing(reason))
    panel = make_panels(done, out_dir=tmp_path)["gallery"]
    assert panel.figures == {"not_made": "there are too few radiographs"}
    assert PATH in caplog.text


def test_a_keyboard_interrupt_ends_the_evaluation(tmp_path, monkeypatch, done):
    only(monkeypatch, gallery=failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        make_panels(done, out_dir=tmp_path)


def test_pictures_of_an_earlier_evaluation_do_not_outlive_it(tmp_path, monkeypatch, done):
    names = ["gallery_missed_0.jpg", "neighbours_1.jpg", "grad_cam_absent_2.jpg", "grad_cam_scale.png"]

    def make(evaluated, out_dir):
        for name in names if evaluated.show_radiographs else ():
            (out_dir / name).write_bytes(b"a chest")

    only(monkeypatch, **dict.fromkeys(FILES, make))
    make_panels(done, out_dir=tmp_path)
    mine = [tmp_path / "gallery_notes.jpg", tmp_path / "neighbours.csv"]
    for file in mine:
        file.write_text("the user's own")
    make_panels(dataclasses.replace(done, show_radiographs=False), out_dir=tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(mine)


def test_pictures_of_a_panel_that_failed_half_way_are_not_left_behind(tmp_path, monkeypatch, done):
    def make(evaluated, out_dir):
        (out_dir / "gallery_missed_0.jpg").write_bytes(b"a chest")
        raise RuntimeError("disk full")

    only(monkeypatch, gallery=make)
    assert "not_made" in make_panels(done, out_dir=tmp_path)["gallery"].figures
    assert not list(tmp_path.iterdir())


def test_every_panel_whose_files_are_deleted_is_there():
    assert set(FILES) <= set(PANELS)
