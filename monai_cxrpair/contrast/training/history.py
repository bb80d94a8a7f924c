"""The figures of every epoch in a file that other programs read: `history.jsonl`."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.contrast.checkpoints.files import remove_leftovers
from monai_cxrpair.contrast.distributed import rank
from monai_cxrpair.errors import CxrPairError

logger = logging.getLogger(__name__)


class WriteHistory:
    """Handler: one line of JSON per epoch in `history.jsonl`: `epoch`, `iteration`, and every figure of the epoch.

    A figure that is not finite is null; one that is not measured in every epoch, such as `knn_auc`, is absent from the
    others. A resumed run keeps the lines of the epochs that its checkpoint has, and so no epoch stands there twice. A
    new run in the same folder moves the file aside. Of several ranks the first one writes.

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
        """Keep the lines of the epochs that are done."""
        remove_leftovers(self.path.parent, self.path.name)
        done = engine.state.iteration // engine.state.epoch_length if engine.state.iteration else 0
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        self.lines = [line for line in lines if json.loads(line)["epoch"] <= done]
        if lines and not engine.state.iteration:
            number = 1
            while (aside := self.path.with_name(f"history.{number}.jsonl")).exists():
                number += 1
            self.path.rename(aside)
            logger.warning("a new run starts: the history of an earlier one is now in %s", aside)

    def write(self, engine: Engine) -> None:
        """Write all epochs so far, all or nothing; a full disk costs this file, not the run."""
        line: dict[str, Any] = {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        for name, value in engine.state.metrics.items():
            if isinstance(value, (int, float)):
                line[name] = value if math.isfinite(value) else None
        self.lines.append(json.dumps(line, allow_nan=False))
        try:
            with atomic_path(self.path, mode=None) as temporary:
                temporary.write_text("\n".join(self.lines) + "\n", encoding="utf-8")
        except CxrPairError as error:
            logger.warning("%s: training goes on, the next epoch writes all lines again", error)
