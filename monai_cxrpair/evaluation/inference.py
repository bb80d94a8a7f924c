"""What inference writes: one row per radiograph."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import IterationEvents

from monai_cxrpair.cohort.files import PRIVATE
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.report.results import write_text


class WritePredictions:
    """Handler of an evaluator: writes `predictions.csv`, columns image_id, finding, probability, positive, error.

    A radiograph that could not be read (see `TolerantDataset`) has no probability but the reason under `error`. The
    file is for its owner only, since the id of a file is its path.

    Args:
        output_dir: gets the file.
        finding: what is predicted.
        threshold: `positive` is 1 from this probability on; None leaves the column empty.
    """

    def __init__(self, *, output_dir: str | Path, finding: str, threshold: float | None) -> None:
        self.path = Path(output_dir) / "predictions.csv"
        self.finding, self.threshold = finding, threshold
        self.rows: list[list[Any]] = []

    def attach(self, engine: Engine) -> None:
        """Collect after each batch, write at the end."""
        engine.add_event_handler(Events.STARTED, lambda _: self.rows.clear())
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def collect(self, engine: Engine) -> None:
        """Take the predictions of one (decollated) batch."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if item["error"]:
                self.rows.append([item["image_id"], self.finding, "", "", item["error"]])
                continue
            probability = float(output["pred"].flatten()[0])
            positive = "" if self.threshold is None else int(probability >= self.threshold)
            self.rows.append([item["image_id"], self.finding, f"{probability:.6f}", positive, ""])

    def write(self, engine: Engine) -> None:
        """Write the file, all or nothing.

        Raises:
            CxrPairError: not one radiograph could be read.
        """
        failed = [row for row in self.rows if row[-1]]
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(
            [["image_id", "finding", "probability", "positive", "error"], *self.rows]
        )
        write_text(stream.getvalue(), self.path, mode=PRIVATE)
        if len(failed) == len(self.rows):
            raise CxrPairError(f"none of {len(failed)} files is a radiograph that can be read; see {self.path}")
        engine.logger.info("%d predictions in %s", len(self.rows) - len(failed), self.path)
        if failed:
            engine.logger.warning("%d files are no radiographs that can be read; see the column error", len(failed))
