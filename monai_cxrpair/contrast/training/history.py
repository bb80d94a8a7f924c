"""The figures of every epoch in a file that other programs read: `history.jsonl`."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.contrast.checkpoints.files import move_aside, remove_leftovers
from monai_cxrpair.contrast.distributed import rank
from monai_cxrpair.errors import CxrPairError

logger = logging.getLogger(__name__)


class WriteHistory:
    """Handler: one line of JSON per epoch in `history.jsonl`: `epoch`, `iteration`, and every figure of the epoch.

    A figure that is not finite is null; one that is not measured in every epoch, such as `knn_auc`, is absent from the
    others. A resumed run keeps the lines of the epochs that its checkpoint has, and so no epoch stands there twice. A
    new run in the same folder moves the file aside, and so does one that finds it damaged, which takes what can be
    read of it. Of several ranks the first one writes.

    Attach it after what measures and before `SaveRun`: a run killed between the two does the epoch again.

    Args:
        output_dir: gets the file.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.path = Path(output_dir) / "history.jsonl"
        self.lines: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Write at the end of each epoch."""
        if rank() == 0:
            engine.add_event_handler(Events.STARTED, self.start)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        """Keep the lines of the epochs that are done.

        Raises:
            CxrPairError: the file of an earlier run can neither be read nor moved.
        """
        remove_leftovers(self.path.parent, self.path.name)
        done = engine.state.iteration // engine.state.epoch_length if engine.state.iteration else 0
        lines = self._read()
        epochs = [_epoch(line) for line in lines]
        self.lines = [line for line, epoch in zip(lines, epochs, strict=True) if epoch is not None and epoch <= done]
        if lines and not engine.state.iteration:
            logger.warning("a new run starts: the history of an earlier one is now in %s", move_aside(self.path))
        elif None in epochs:
            logger.warning(
                "%s: damaged, %d of its %d lines cannot be read; it is now %s",
                self.path, epochs.count(None), len(lines), move_aside(self.path),
            )  # fmt: skip
            self._write()

    def write(self, engine: Engine) -> None:
        """Write all epochs so far, all or nothing; a full disk costs this file, not the run."""
        line: dict[str, Any] = {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        for name, value in engine.state.metrics.items():
            if isinstance(value, (int, float)):
                line[name] = value if math.isfinite(value) else None
        self.lines.append(json.dumps(line, allow_nan=False))
        self._write()

    def _read(self) -> list[str]:
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.is_file() else ""
        except OSError as error:
            raise CxrPairError(f"{self.path}: cannot be read ({error.strerror})") from error
        return [line for line in text.splitlines() if line.strip()]

    def _write(self) -> None:
        try:
            with atomic_path(self.path, mode=None) as temporary:
                temporary.write_text("\n".join(self.lines) + "\n", encoding="utf-8")
        except CxrPairError as error:
            logger.warning("%s: training goes on, the next epoch writes all lines again", error)


def _epoch(line: str) -> int | None:
    """Of a line; None where it is damaged."""
    try:
        epoch = json.loads(line)["epoch"]
    except (ValueError, TypeError, KeyError):
        return None
    return epoch if isinstance(epoch, int) else None
