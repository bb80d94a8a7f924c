"""What keeps foreign bytes from taking forever, and pydicom from printing what they say."""

import logging
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pydicom


class _TooLong(BaseException):
    """Raised by the clock into whatever is running; no parser catches it by mistake."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt the block after some time; only in the main thread of a process, where Python takes signals.

    Raises:
        TimeoutError: The time was over.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    start = time.monotonic()
    try:
        yield
    except _TooLong:
        raise TimeoutError(f"took longer than {seconds:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # somebody else's clock goes on
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - start), 1e-3), interval)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from printing: its warnings quote values, which may be a patient's."""
    settings = pydicom.config.settings
    logger = logging.getLogger("pydicom")
    before, disabled = settings.reading_validation_mode, logger.disabled
    settings.reading_validation_mode, logger.disabled = pydicom.config.IGNORE, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        settings.reading_validation_mode, logger.disabled = before, disabled
