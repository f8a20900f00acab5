"""A run's network for LiteRT: kept beside the run, and asked without TensorFlow.

export/model.tflite   images (k, size, size, 1) uint8 -> (k, 1) float32, the logit
export/export.json    its digest, how an image is prepared for it, threshold and classes, how it agrees with Keras
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.config.quiet import stderr_held_back
from cxr_experiments.errors import RunError, one_line
from cxr_experiments.images.manifest import num_cores
from cxr_experiments.record.network import LogitFunction, Network
from cxr_experiments.record.run_folder import RunFolder, read_json, write_json


def network_file(folder: RunFolder) -> Path:
    """Where the exported network lies."""
    return folder.file("export") / "model.tflite"


def keep_export(folder: RunFolder, content: bytes, told: Mapping[str, Any]) -> None:
    """Write the network, and what is told of it; until the second is there the first is not used."""
    path = network_file(folder)
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
    write_json(path.with_name("export.json"), {**told, "sha256": hashlib.sha256(content).hexdigest()})


def read_export(folder: RunFolder) -> Network:
    """The network that `export` wrote; neither TensorFlow nor SciPy is imported.

    Raises:
        RunError: there is none, its files do not belong together, or LiteRT is not installed.
    """
    path = network_file(folder)
    if not path.is_file():
        raise RunError(f"run {folder.run_id} was not exported: python -m cxr_experiments.export run={folder.run_id}")
    told, content = read_json(path.with_name("export.json")), path.read_bytes()
    try:
        first, second = map(str, told["classes"])
        about = int(told["image_size_px"]), str(told["resize"]), (first, second), float(told["threshold"])
        synthetic = bool(told["synthetic"])
        same = told["sha256"] == hashlib.sha256(content).hexdigest()
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path.with_name('export.json')} is not what export writes: {one_line(repr(error))}") from error
    if not same:
        raise RunError(f"{path} is not the file that export.json beside it describes: export the run again")
    return Network(litert_logits(content), *about, folder.run_id, synthetic)


def litert_logits(content: bytes) -> LogitFunction:
    """The network in a .tflite file as a plain function, on all cores.

    Raises:
        RunError: LiteRT is not installed, or does not read the file.
    """
    try:
        with stderr_held_back():
            from ai_edge_litert.interpreter import Interpreter

            network = Interpreter(model_content=content, num_threads=num_cores())
            network.allocate_tensors()
    except ImportError as error:
        raise RunError("LiteRT is not installed: pip install 'cxr_experiments[export]'") from error
    except (ValueError, RuntimeError) as error:
        raise RunError(f"this is no network that LiteRT reads: {one_line(error)}") from error
    (images,), (logit,) = network.get_input_details(), network.get_output_details()

    def predict(batch: NDArray[np.uint8]) -> NDArray[np.float64]:
        if tuple(network.get_input_details()[0]["shape"]) != batch.shape:
            network.resize_tensor_input(images["index"], batch.shape)
            network.allocate_tensors()
        network.set_tensor(images["index"], batch)
        network.invoke()
        return np.asarray(network.get_tensor(logit["index"]), dtype=np.float64)[:, 0]

    return predict
