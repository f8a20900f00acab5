"""How every tf.data pipeline of this package runs: in order, with threads and buffers that are set, not searched for.

tf.data's autotuning looks at the pipeline ever more rarely, after 10 ms, 20 ms, 40 ms ... up to a minute, and whoever
takes the iterator down waits for its thread, which now and then misses the call: after 12 s of reading 8 s were lost so
(python -m benchmarks.iterator_end).  Every epoch's validation ends an iterator.  Input takes too little of a step for a
search to find anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import tensorflow as tf

from cxr_experiments.images.manifest import num_cores

NUM_BATCHES = min(4, num_cores())  # that are augmented at once; each is held whole, so not one for every core
NUM_AHEAD = 2  # batches that wait for the model

Function = TypeVar("Function", bound=Callable[..., Any])


def ready_ahead(batches: tf.data.Dataset) -> tf.data.Dataset:
    """The same batches in the same order whatever the number of threads, prepared while the model computes."""
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    return batches.prefetch(NUM_AHEAD).with_options(options)


def without_autograph(function: Function) -> Function:
    """The same function, traced as it is: rewriting what has no loop or branch over tensors only takes time."""
    return cast(Function, tf.autograph.experimental.do_not_convert(function))
