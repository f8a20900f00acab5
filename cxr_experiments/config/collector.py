"""Python's cycle collector, kept from walking again and again through what imports leave behind.

TensorFlow, Keras and MLflow leave 700,000 objects that live as long as the process.  Python's own settings walk through
all of them eleven times in a short run, at every `clear_session` of Keras, and once more when the interpreter ends: 4 s
together.  Nothing here changes what is freed by reference count, nor that cycles are collected.
"""

from __future__ import annotations

import atexit
import functools
import gc

# New containers until the youngest are looked at, and how many such looks until older ones are: importing everything
# makes three looks and not one through all; a step of training leaves some hundred.
THRESHOLDS = (50_000, 20, 50)


def begin() -> None:
    """At the start of a command: rare looks, and none at the exit, where the operating system takes everything back."""
    gc.set_threshold(*THRESHOLDS)
    atexit.register(gc.freeze)


@functools.cache  # `gc.get_freeze_count` would tell too, but it counts one object after the other, for 40 ms
def leave_out_imports() -> None:
    """Once a process, when the imports are done: what is there now is left out of all later looks.

    Only once, since a later call would keep what an earlier run of a sweep has left for the collector.
    """
    gc.freeze()
