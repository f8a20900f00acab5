"""A function of a library, replaced for a while where the library does more than it has to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: Any, name: str, function: Any) -> Iterator[None]:
    """`function` stands as the attribute `name` of a class or module until this is left.

    A version of the library that has nothing of this name is left as it is: it then takes its time.
    """
    before = getattr(owner, name, None)
    if before is None:
        yield
        return
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, before)
