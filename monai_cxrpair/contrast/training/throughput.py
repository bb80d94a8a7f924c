"""How fast a run is: pairs per second, time left, and the share of the time that went into waiting for batches."""

from __future__ import annotations

import logging
import sys
import time
from datetime import timedelta
from typing import Any

from ignite.engine import Events
from monai.utils import CommonKeys
from tqdm import tqdm  # type: ignore[import-untyped]

from monai_cxrpair.contrast.distributed import rank

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 1.0  # of the bar; to show the loss, it waits for an accelerator to catch up


class Throughput:
    """Handler: writes `data_wait` into the epoch's metrics, logs a line per epoch, and shows a bar on a terminal.

    `data_wait` is the share of the epoch's time in [0, 1] in which the trainer waited for the next batch, or made it
    itself where there are no workers. An accelerator may still be busy in that time.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._shown = 0.0
        self._waited = self._asked = self._epoch_began = self._began = 0.0
        self._first_step = 0

    def attach(self, engine: Any) -> None:
        """Attach it before the handlers that read the metrics; see also `log` and `close`."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._ask)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._receive)
        if sys.stderr.isatty() and rank() == 0:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._show)

    def data_wait(self) -> float:
        """Of the epoch so far."""
        return min(1.0, self._waited / max(time.perf_counter() - self._epoch_began, 1e-9))

    def log(self, engine: Any) -> None:
        """The line of the epoch that has just ended."""
        state = engine.state
        spent = time.perf_counter() - self._began
        left = (state.max_epochs * state.epoch_length - state.iteration) * spent / (state.iteration - self._first_step)
        logger.info(
            "epoch %d of %d: loss %.4f%s, %.0f pairs/s, %.0f %% of the time spent waiting for batches%s",
            state.epoch, state.max_epochs, state.metrics["loss"],
            f", accuracy {state.metrics['accuracy']:.3f}" if "accuracy" in state.metrics else "",
            state.metrics["pairs_per_second"], 100 * state.metrics["data_wait"],
            f", {timedelta(seconds=round(left))} left" if state.epoch < state.max_epochs else "",
        )  # fmt: skip

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _start(self, engine: Any) -> None:
        self._began, self._first_step = time.perf_counter(), engine.state.iteration

    def _start_epoch(self) -> None:
        self._waited, self._epoch_began = 0.0, time.perf_counter()

    def _ask(self) -> None:
        self._asked = time.perf_counter()

    def _receive(self) -> None:
        self._waited += time.perf_counter() - self._asked

    def _show(self, engine: Any) -> None:
        state, pairs = engine.state, engine.state.output["pairs"]
        if self._bar is None:
            self._bar = tqdm(
                total=state.max_epochs * state.epoch_length * pairs, initial=self._first_step * pairs, unit="pair",
                leave=False, dynamic_ncols=True, mininterval=REFRESH_SECONDS,
            )  # fmt: skip
        if (now := time.perf_counter()) - self._shown > REFRESH_SECONDS:
            self._shown = now
            self._bar.set_description(f"epoch {state.epoch} of {state.max_epochs}", refresh=False)
            self._bar.set_postfix(loss=f"{float(state.output[CommonKeys.LOSS]):.4f}", refresh=False)
        self._bar.update(pairs)
