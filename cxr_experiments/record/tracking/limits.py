"""A tracking server is waited for only so long: one that hangs must not hold a training up.

The project's own database is on the disk that the run's folder is on: it fails, or it answers.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from cxr_experiments.errors import TrackingError

Answer = TypeVar("Answer")

OPEN_S, EPOCH_S, RESULTS_S, CLOSE_S = 30.0, 8.0, 120.0, 4.0  # CLOSE_S: after Ctrl-C, when 10 s are all there is


def within(limit_s: float | None, call: Callable[[], Answer]) -> Answer:
    """What `call` returns or raises.  After `limit_s` it is left to itself, in a thread that ends with the process.

    Args:
        limit_s: None waits as long as it takes, in this thread.
        call: what to do.

    Raises:
        TrackingError: no answer within `limit_s`.
    """
    if limit_s is None:
        return call()
    answers: SimpleQueue[tuple[Answer | None, BaseException | None]] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:  # it is raised where it was asked
            answers.put((None, error))

    try:
        Thread(target=ask, name="MLflow", daemon=True).start()
    except RuntimeError:  # the machine has no room for another thread
        return call()
    try:
        answer, error = answers.get(timeout=limit_s)
    except Empty:
        raise TrackingError(f"MLflow has not answered for {limit_s:g} s") from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]  # None where that is the answer
