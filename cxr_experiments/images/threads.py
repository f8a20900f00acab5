"""Work on many images by all cores at once, in order, without holding more than a few of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_NUM_AHEAD = 64  # results that wait to be taken: prepared images of 1024 px are 64 MB


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_threads: int
) -> Generator[Result, None, None]:
    """`map` on threads, for functions that free the interpreter lock (PIL, NumPy, hashlib, reading).

    At most 64 items are at work or waiting, whatever their number: `ThreadPoolExecutor.map` takes all of them at once,
    which for 100,000 items costs 167 MiB before the first result.  When the caller stops, what has not begun is
    dropped.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(max_workers=num_threads)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == _NUM_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
