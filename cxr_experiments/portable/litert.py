"""An exported network as a plain NumPy function, by LiteRT."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.errors import RunError
from cxr_experiments.images.manifest import num_cores

LogitFunction = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


def portable_logits(path: Path) -> LogitFunction:
    """The network in a .tflite file: images (k, size, size, 1) uint8 -> logits (k,) float64, on all cores.

    Raises:
        RunError: LiteRT is not installed, or the file is missing or none that it reads.
    """
    try:
        with _quiet():
            from ai_edge_litert.interpreter import Interpreter

            network = Interpreter(str(path), num_threads=num_cores())
            network.allocate_tensors()
    except ImportError as error:
        raise RunError("engine=litert needs LiteRT: pip install 'cxr_experiments[export]'") from error
    except (ValueError, RuntimeError, OSError) as error:
        raise RunError(f"{path} is no network that LiteRT reads: {' '.join(str(error).split())[:200]}") from error
    (images,), (logit,) = network.get_input_details(), network.get_output_details()

    def predict(batch: NDArray[np.uint8]) -> NDArray[np.float64]:
        if tuple(network.get_input_details()[0]["shape"]) != batch.shape:
            network.resize_tensor_input(images["index"], batch.shape)
            network.allocate_tensors()
        network.set_tensor(images["index"], batch)
        network.invoke()
        return np.asarray(network.get_tensor(logit["index"]), dtype=np.float64)[:, 0]

    return predict


@contextmanager
def _quiet() -> Iterator[None]:
    """LiteRT's C++ part announces its delegate on stderr; that is held back, unless something fails."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as notes:
        stderr = os.dup(2)
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except BaseException:
            notes.seek(0)
            os.write(stderr, notes.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
