"""Which failures are worth another attempt, and how long to wait before it."""

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from monai_cxrpair.errors import CxrPairError

_LONGEST = 60.0  # seconds
_Result = TypeVar("_Result")


class TransientError(Exception):
    """It may work a little later: no answer, a broken connection, a server that is busy.

    Args:
        reason: A few words without any identifier: they end on the user's screen and in logs.
        wait: Seconds that the server asked to wait.
    """

    def __init__(self, reason: str, *, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class UnavailableError(Exception):
    """This object will not come, however often it is asked for; others may. The reason holds no identifier."""


class RefusedError(CxrPairError):
    """Nothing will come: wrong credentials, an unknown AE title, a certificate that is not trusted."""


class StoppedError(Exception):
    """The user or an error elsewhere ended the pull."""


class Retry:
    """Exponential backoff with full jitter, so that many clients do not come back at the same moment.

    The waiting times are uniform in 0 .. min(60 s, first * 2^attempt):
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter ("full jitter").

    Args:
        retries: Attempts after the first one.
        first: Upper end of the first waiting time in seconds.
        stop: When set, waiting ends with StoppedError.
    """

    def __init__(self, retries: int, *, first: float = 1.0, stop: threading.Event | None = None) -> None:
        self.retries = retries
        self.first = first
        self.stop = stop or threading.Event()

    def wait(self, attempt: int, error: TransientError) -> None:
        """Wait before another attempt, at least as long as the server asked for (but never over 60 s)."""
        longest = min(_LONGEST, self.first * 2**attempt)
        seconds = max(random.uniform(0, longest), min(error.wait, _LONGEST))
        if self.stop.wait(seconds):
            raise StoppedError

    def call(self, action: Callable[[], _Result]) -> _Result:
        """Call until it works.

        Raises:
            TransientError: It did not work at the last attempt either.
        """
        for attempt in range(self.retries + 1):
            if self.stop.is_set():
                raise StoppedError
            try:
                return action()
            except TransientError as error:
                if attempt == self.retries:
                    raise
                self.wait(attempt, error)
        raise AssertionError("not reached")
