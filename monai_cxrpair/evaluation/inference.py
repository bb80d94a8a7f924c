"""What inference writes: one row per radiograph, and its heat map where that is asked for."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from torch import nn

from monai_cxrpair.cohort.deidentify import load_key, pseudonyms
from monai_cxrpair.cohort.files import PRIVATE, as_cell, atomic_path, check_folder
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.calibrate import calibrated
from monai_cxrpair.evaluation.heat_map import HeatMaps, as_png, overlay
from monai_cxrpair.evaluation.report.results import write_text

COLUMNS = (
    *("image_id", "study_id", "finding", "probability", "calibrated_probability", "positive", "warning", "error"),
)


class WritePredictions:
    """Handler of an evaluator: writes `predictions.csv` with the columns `COLUMNS`.

    A radiograph that was not scored (see `InferenceDataset`) has no probability but the reason under `error`. The file
    is for its owner only, since the id of a file is its path. The Study Instance UID of a DICOM header never reaches
    it: `study_id` is then a hash under the key `predictions.key` (mode 0600) beside it, which is made where it is not
    there, so that later runs into the same folder give the same studies the same ids. A cohort's `study_id` is the
    cohort's own; of other files it is the folder below `dataset_dir` in which they lie, empty for none.

    Args:
        output_dir: gets the file.
        finding: what is predicted.
        threshold: `positive` is 1 from this probability (not the calibrated one) on; None leaves the column empty.
        calibration: of the classifier's card; None leaves `calibrated_probability` empty.
    """

    def __init__(
        self,
        *,
        output_dir: str | Path,
        finding: str,
        threshold: float | None,
        calibration: dict[str, Any] | None = None,
    ) -> None:
        self.path = Path(output_dir) / "predictions.csv"
        self.finding, self.threshold, self.calibration = finding, threshold, calibration
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Collect after each batch, write at the end."""
        engine.add_event_handler(Events.STARTED, lambda _: self.rows.clear())
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def collect(self, engine: Engine) -> None:
        """Take the predictions of one (decollated) batch."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            row = {name: item[name] for name in ("image_id", "study", "study_from", "warning", "error")}
            row["finding"] = self.finding
            if not item["error"]:
                probability = float(output["pred"].flatten()[0])
                after = calibrated(probability, self.calibration)
                row["probability"] = f"{probability:.6f}"
                row["calibrated_probability"] = "" if after is None else f"{after:.6f}"
                row["positive"] = "" if self.threshold is None else int(probability >= self.threshold)
            self.rows.append(row)

    def write(self, engine: Engine) -> None:
        """Write the file, all or nothing.

        Raises:
            CxrPairError: not one radiograph could be scored.
        """
        failed = sum(bool(row["error"]) for row in self.rows)
        warned = sum(bool(row["warning"]) and not row["error"] for row in self.rows)
        self._name_studies()
        stream = io.StringIO()
        writer = csv.DictWriter(stream, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(stream.getvalue(), self.path, mode=PRIVATE)
        if failed == len(self.rows):
            raise CxrPairError(f"none of {failed} files is a chest radiograph that can be read; see {self.path}")
        engine.logger.info("%d predictions in %s", len(self.rows) - failed, self.path)
        if failed:
            engine.logger.warning("%d files were not scored; see the column error", failed)
        if warned:
            engine.logger.warning("%d radiographs were scored with a warning; see the column warning", warned)

    def _name_studies(self) -> None:
        found = pd.Series(sorted({row["study"] for row in self.rows if row["study_from"] == "uid"}), dtype="str")
        names: dict[str, str] = {}
        if len(found):
            names = dict(zip(found, pseudonyms(found, "study", load_key(self.path.with_suffix(".key"))), strict=True))
        for row in self.rows:
            row["study_id"] = names[row["study"]] if row["study_from"] == "uid" else as_cell(row["study"])
            row["image_id"] = as_cell(row["image_id"])


class WriteOverlays:
    """Handler of an evaluator: writes a radiograph below its Grad-CAM heat map, for each line of `predictions.csv`.

    `000001.png` belongs to its first line below the head; what was not scored has none. No name or id is in a file's
    name, and only the owner can read them.

    Args:
        overlay_dir: gets the pictures; None: none are made.
        network: the classifier, normalised views -> one logit.
        mean, std: what the views were normalised with.

    Raises:
        CxrPairError: the folder cannot be written.
    """

    def __init__(self, *, overlay_dir: str | Path | None, network: nn.Module, mean: float, std: float) -> None:
        self.folder = Path(overlay_dir) if overlay_dir else None
        self.network, self.mean, self.std = network, mean, std
        self.heat_maps = HeatMaps(network)
        self.seen = 0
        if self.folder:
            check_folder(self.folder, what=f"to overlay_dir {self.folder}")

    def attach(self, engine: Engine) -> None:
        """Write after each batch."""
        if self.folder:
            engine.add_event_handler(Events.STARTED, self._begin)
            engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self.write)

    def _begin(self, engine: Engine) -> None:
        self.seen = 0

    def write(self, engine: Engine) -> None:
        """Make the pictures of one (decollated) batch.

        Raises:
            CxrPairError: the network has no layer that Grad-CAM can be made at, or a picture cannot be written.
        """
        items = engine.state.batch
        numbers = [number for number, item in enumerate(items) if not item["error"]]
        if self.folder and numbers:
            device = next(self.network.parameters()).device
            views = torch.stack([torch.as_tensor(np.asarray(items[number]["image"])) for number in numbers]).to(device)
            pixels = (views[:, 0] * self.std + self.mean).cpu().numpy()
            for number, grey, field in zip(numbers, pixels, self.heat_maps(views), strict=True):
                with atomic_path(self.folder / f"{self.seen + number + 1:06d}.png") as temporary:
                    temporary.write_bytes(as_png(overlay(grey, field)))
        self.seen += len(items)
