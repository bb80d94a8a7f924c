"""Writes the DICOM answers of an inference run: a report for each study, an overlay for each radiograph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from monai_cxrpair.cohort.files import atomic_path, check_folder, write_csv
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.read import read_radiograph_with_info
from monai_cxrpair.reporting.answer import Algorithm, Answer, highdicom, read_algorithm
from monai_cxrpair.reporting.secondary_capture import build_overlay
from monai_cxrpair.reporting.source import read_source
from monai_cxrpair.reporting.structured_report import build_report
from monai_cxrpair.reporting.validate import check_object

if TYPE_CHECKING:
    from torch import nn

NOT_WRITTEN = "not-written.csv"


class WriteDicom:
    """Handler of an evaluator: writes what the classifier says as DICOM objects, which `cxrpair send` gives to a PACS.

    The objects bear the patients' names and numbers, since the archive files them by these; only their owner may read
    them. Radiographs that are no DICOM (JPEG, PNG, NIfTI) have no patient to file them under: they, and those that
    cannot be read or referred to, stand with the reason in `not-written.csv` (`image_id,reason`). An object that is
    there already is kept: its UID says that it says the same.

    Args:
        output_dir: Gets the files, `sr-<uid>.dcm` and `sc-<uid>.dcm`; None: the handler does nothing.
        model_file: `model.pt`, with `model.json` beside it.
        data: The run's data list, `{"image": path, "image_id": id}`.
        overlays: Write secondary captures too, with Grad-CAM heat maps.
        network: The classifier, normalised views -> one logit; for overlays.

    Raises:
        CxrPairError: highdicom is missing, the folder cannot be written, or there is no classifier.
    """

    def __init__(
        self,
        *,
        output_dir: str | Path | None,
        model_file: str | Path,
        data: Sequence[Mapping[str, Any]],
        overlays: bool = False,
        network: Any = None,
    ) -> None:
        self.folder = Path(output_dir) if output_dir else None
        self.network = network if overlays else None
        self.not_written: list[tuple[str, str]] = []
        self._studies: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self._counts = {"report": 0, "overlay": 0}
        self._heat_maps: Any = None
        if self.folder is not None:
            if overlays and network is None:
                raise CxrPairError("overlays need the network: give WriteDicom the classifier as `network`")
            highdicom()
            check_folder(self.folder, what=f"to {self.folder}")
            self.algorithm: Algorithm = read_algorithm(model_file)
            self._calibrated = _calibration(model_file)
            self._paths = {str(item["image_id"]): str(item["image"]) for item in data}

    def attach(self, engine: Any) -> None:
        """Collect after each batch, write the reports at the end."""
        if self.folder is None:
            return
        from ignite.engine import Events
        from monai.engines import IterationEvents

        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def collect(self, engine: Any) -> None:
        """Take the answers of one (decollated) batch, and write their overlays."""
        pairs = list(zip(engine.state.batch, engine.state.output, strict=True))
        self.not_written += [(str(item["image_id"]), str(item["error"])) for item, _ in pairs if item["error"]]
        pairs = [(item, output) for item, output in pairs if not item["error"]]
        maps = self._maps(self.network, [item["image"] for item, _ in pairs]) if self.network and pairs else []
        for number, (item, output) in enumerate(pairs):
            name, probability = str(item["image_id"]), float(output["pred"].flatten()[0])
            after, remark = self._calibrated(probability), str(item.get("warning") or "")
            said = {"probability": probability, "calibrated": after, "remark": remark}
            heat = maps[number] if len(maps) else None
            self._guarded([name], partial(self._collect, name, said, heat))

    def write(self, engine: Any) -> None:
        """Write the reports, and what could not be written."""
        for radiographs in self._studies.values():
            self._guarded([name for name, _ in radiographs], partial(self._report, radiographs))
        assert self.folder is not None
        counts = self._counts
        engine.logger.info("%d reports and %d overlays in %s", counts["report"], counts["overlay"], self.folder)
        (self.folder / NOT_WRITTEN).unlink(missing_ok=True)  # of an earlier run
        if self.not_written:
            write_csv(pd.DataFrame(self.not_written, columns=["image_id", "reason"]), self.folder / NOT_WRITTEN)
            engine.logger.warning("%d radiographs without DICOM objects; see %s", len(self.not_written), NOT_WRITTEN)

    def _begin(self, _: Any) -> None:
        self.not_written.clear()
        self._studies.clear()
        self._counts = {"report": 0, "overlay": 0}

    def _collect(self, name: str, said: dict[str, Any], heat: Any) -> None:
        source = read_source(self._paths[name])
        if source is None:
            raise CxrPairError("not DICOM: it has no patient and no study")
        if heat is not None:
            pixels, info = read_radiograph_with_info(self._paths[name])
            picture = build_overlay(Answer(source=source, **said), self.algorithm, pixels, heat, info=info)
            self._save(picture, [source])
        # The header is read again for the report: 100,000 of them would not fit into memory.
        self._studies.setdefault(str(source.StudyInstanceUID).strip(), []).append((name, said))

    def _maps(self, network: nn.Module, views: list[Any]) -> Any:
        """Where the classifier looked: (B, S, S) in [0, 1], of normalised views (1, S, S)."""
        import torch

        from monai_cxrpair.evaluation.heat_map import HeatMaps

        self._heat_maps = self._heat_maps or HeatMaps(network)
        device = next(network.parameters()).device
        return self._heat_maps(torch.stack([torch.as_tensor(np.asarray(view)) for view in views]).to(device))

    def _report(self, radiographs: list[tuple[str, dict[str, Any]]]) -> None:
        answers = []
        for name, said in radiographs:
            source = read_source(self._paths[name])
            if source is not None:
                answers.append(Answer(source=source, **said))
        self._save(build_report(answers, self.algorithm), [answer.source for answer in answers])

    def _save(self, data: Any, sources: list[Any]) -> None:
        assert self.folder is not None
        self._counts[check_object(save_object(data, self.folder), sources=sources, tools=False)] += 1

    def _guarded(self, names: list[str], action: Callable[[], None]) -> None:
        """One radiograph that is odd must not end the run; a disk that is full must."""
        try:
            action()
        except CxrPairError as error:
            if str(error).startswith("cannot write"):
                raise
            self.not_written += [(name, str(error)) for name in names]
        except (ValueError, TypeError, AttributeError) as error:  # highdicom, of values that no object may have
            self.not_written += [(name, f"no object can be made of it ({type(error).__name__})") for name in names]


def _calibration(model_file: str | Path) -> Callable[[float], float | None]:
    """What turns a probability into a calibrated one, as the card says; evaluation needs torch, so imported late."""
    from monai_cxrpair.evaluation.calibrate import calibrated
    from monai_cxrpair.evaluation.cards import read_classifier_card

    return partial(calibrated, calibration=read_classifier_card(model_file).get("calibration"))


def save_object(data: Any, folder: Path) -> Path:
    """Write a report or an overlay, readable by its owner only; one that is there already is kept.

    Args:
        data: From `build_report` or `build_overlay`.
        folder: Gets `sr-<uid>.dcm` or `sc-<uid>.dcm`.

    Returns:
        The file.
    """
    path = folder / f"{'sr' if data.Modality == 'SR' else 'sc'}-{data.SOPInstanceUID}.dcm"
    if not path.exists():
        with atomic_path(path) as temporary:
            data.save_as(temporary, enforce_file_format=True)
    return path
