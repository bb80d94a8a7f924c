"""The handler, on an engine that does what MONAI's evaluator does with it."""

import json
import logging
from types import SimpleNamespace

import pandas as pd
import pydicom
import pytest
import torch
from ignite.engine import Engine
from monai.engines import IterationEvents
from torch import nn

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.reporting import WriteDicom, check_object

CARD = {
    "format": "cxrpair-classifier/1",
    "finding": "pleural_effusion",
    "operating_point": {"threshold": 0.5, "rule": "youden"},
    "encoder_card": {"encoder": "resnet18", "preprocessing": {"image_size": 32, "mean": 0.5, "std": 0.25}},
}


BRIGHT_BELOW = torch.cat([torch.zeros(1, 16, 32), torch.ones(1, 16, 32)], dim=1)


class Bright(nn.Module):
    """Looks where the picture is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.features.weight)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.features(image).mean(dim=(2, 3))


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights")
    path.with_suffix(".json").write_text(json.dumps(CARD))
    return path


@pytest.fixture
def run(tmp_path, model):
    """Let a handler see radiographs: (path, probability, warning, error) each."""

    def go(seen, **settings):
        data = [{"image": str(path), "image_id": f"id {number}"} for number, (path, *_) in enumerate(seen)]
        handler = WriteDicom(**{"output_dir": tmp_path / "out", "model_file": model, "data": data} | settings)

        def step(engine, batch):
            engine.state.batch = [
                {"image_id": f"id {number}", "image": BRIGHT_BELOW, "warning": warning, "error": error}
                for number, (_, _, warning, error) in batch
            ]
            engine.state.output = [{"pred": torch.tensor([probability])} for _, (_, probability, _, _) in batch]
            engine.fire_event(IterationEvents.MODEL_COMPLETED)
            return engine.state.output

        engine = Engine(step)
        engine.register_events(*IterationEvents)
        engine.logger = logging.getLogger("test")
        handler.attach(engine)
        numbered = list(enumerate(seen))
        engine.run([numbered[:2], numbered[2:]] if len(seen) > 2 else [numbered], max_epochs=1)
        return sorted((tmp_path / "out").glob("*.dcm"))

    return go


def test_each_study_gets_a_report_and_each_radiograph_an_overlay(run, radiograph, tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\nrest")
    seen = [
        (radiograph("1.2.3.4"), 0.9, "unlike the training", ""),
        (picture, 0.9, "", ""),
        (radiograph("1.2.3.5"), 0.2, "", ""),
        (radiograph("1.8.3", StudyInstanceUID="1.8"), 0.4, "", ""),
        (radiograph("1.7.3", Modality="CT"), 0.0, "", "CT: not a radiograph"),
    ]
    files = run(seen, overlays=True, network=Bright().eval())
    kinds = [check_object(path) for path in files]
    assert (kinds.count("report"), kinds.count("overlay")) == (2, 3)
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    studies = {data.StudyInstanceUID: data for data in map(pydicom.dcmread, files) if data.Modality == "SR"}
    assert set(studies) == {"1.2", "1.8"}
    assert "unlike the training" in studies["1.2"].to_json()
    assert "unlike the training" not in studies["1.8"].to_json()
    left_out = pd.read_csv(tmp_path / "out" / "not-written.csv", dtype="str")
    assert dict(zip(left_out["image_id"], left_out["reason"], strict=True)) == {
        "id 1": "not DICOM: it has no patient and no study",
        "id 4": "CT: not a radiograph",
    }
    overlay = next(data for data in map(pydicom.dcmread, files) if data.Modality == "OT")
    pixels = overlay.pixel_array[-600:].astype(int)  # 96 x 160 becomes 614 x 1024, its central square is 614 wide
    colour = (pixels.max(axis=2) - pixels.min(axis=2))[:, 512]
    assert colour[:200].max() < 10 < colour[400:].min()


def test_a_second_run_keeps_the_objects_of_the_first(run, radiograph, tmp_path):
    seen = [(radiograph(), 0.9, "", "")]
    (first,) = run(seen)
    content = first.read_bytes()
    (again,) = run(seen)
    assert (again, again.read_bytes()) == (first, content)
    assert not (tmp_path / "out" / "not-written.csv").exists()
    assert len(run([(seen[0][0], 0.8, "", "")])) == 2


def test_without_a_folder_nothing_is_done_or_needed(tmp_path):
    handler = WriteDicom(output_dir=None, model_file=tmp_path / "none.pt", data=[])
    handler.attach(SimpleNamespace())


def test_a_calibrated_probability_is_said_beside_the_other(run, radiograph, model):
    model.with_suffix(".json").write_text(json.dumps(CARD | {"calibration": {"slope": 1.0, "intercept": -1.0}}))
    (path,) = run([(radiograph(), 0.5, "", "")])
    data = pydicom.dcmread(path)
    items = data.ContentSequence[-1].ContentSequence[0].ContentSequence
    numbers = {
        item.ConceptNameCodeSequence[0].CodeValue: float(item.MeasuredValueSequence[0].NumericValue)
        for item in items
        if item.ValueType == "NUM"
    }
    assert numbers == {"111012": 50.0, "THRESHOLD": 50.0, "CALIBRATED": 26.89}  # 1 / (1 + e)
    assert check_object(path) == "report"


def test_a_radiograph_without_uids_is_left_out_with_its_reason(run, radiograph, tmp_path):
    assert (
        len(run([(radiograph("1.2.3.4"), 0.9, "", ""), (radiograph("1.2.3.5", StudyInstanceUID=None), 0.9, "", "")]))
        == 1
    )
    assert "StudyInstanceUID is missing" in (tmp_path / "out" / "not-written.csv").read_text()


def test_overlays_without_the_network_are_an_error_before_anything_runs(run, radiograph):
    with pytest.raises(CxrPairError, match="network"):
        run([(radiograph(), 0.9, "", "")], overlays=True)
