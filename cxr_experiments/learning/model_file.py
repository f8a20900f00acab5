"""A .keras file looked at before Keras opens it: what stands in the archive, which classes it names, how much it holds.

Keras' safe mode refuses Python bytecode.  It still builds every class that Keras exports, among them layers that read
files, makes variables of any size that a config asks for, and follows its archive up to gigabytes.  Here stands what a
network of this package is made of; everything else is refused before any of it is built.
"""

from __future__ import annotations

import io
import json
import math
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras

ENTRIES = {"metadata.json", "config.json", "model.weights.h5"}
MAX_CONFIG_BYTES = 8 << 20  # a network of 500 layers has 1 MB
# Families of layers that compute and do nothing else.  Not among them: Lambda and the wrappers of SavedModel, PyTorch
# and JAX (code), StringLookup, IntegerLookup and TextVectorization (they read a vocabulary from any path).
LAYERS = (
    *(f"keras.src.layers.{family}." for family in ("activations", "attention", "convolutional", "merging")),
    *(f"keras.src.layers.{family}." for family in ("normalization", "pooling", "regularization", "reshaping", "rnn")),
    *(f"keras.src.layers.core.{name}" for name in ("dense", "einsum_dense", "identity", "input_layer", "masking")),
    *(f"keras.src.layers.preprocessing.{name}" for name in ("rescaling", "normalization", "image_preprocessing.")),
)
PARTS = (
    *("keras.src.initializers.", "keras.src.regularizers.", "keras.src.constraints.", "keras.src.dtype_policies."),
    *(f"keras.src.ops.{name}" for name in ("numpy", "nn", "math", "image", "linalg")),
    *("keras.src.random.seed_generator", "keras.src.models.functional", "keras.src.models.sequential"),
)
PLAIN = ("__keras_tensor__", "__numpy__", "__tensor__", "__slice__", "__ellipsis__")


def check_model_file(path: Path) -> int:
    """Refuse what `save_model` does not write; returns how many numbers the weights are.

    Raises:
        ValueError, KeyError, OSError, zipfile.BadZipFile, ...: whatever is odd; nothing of it has been built.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [one.filename for one in entries]
        if sorted(names) != sorted(ENTRIES):
            raise ValueError(f"it holds {names[:9]}, expected {sorted(ENTRIES)}")
        if any(one.compress_type != zipfile.ZIP_STORED for one in entries):
            raise ValueError("a compressed entry: Keras stores them plainly")
        if sum(one.file_size for one in entries) > path.stat().st_size:
            raise ValueError("its entries are larger than the file")
        if archive.getinfo("config.json").file_size > MAX_CONFIG_BYTES:
            raise ValueError(f"a config of more than {MAX_CONFIG_BYTES >> 20} MiB")
        for strange in strange_objects(json.loads(archive.read("config.json"))):
            raise ValueError(f"it names {strange}, which no network of this package is made of")
        return _num_weights(archive.read("model.weights.h5"))


def strange_objects(config: Any) -> Iterator[str]:
    """What a serialized network names beside the layers and parts above: `module.class`, in no order."""
    left = [config]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left.extend(one.values())
            if "class_name" in one and (told := _strange(one)):
                yield told
        elif isinstance(one, list):
            left.extend(one)


def _strange(named: dict[str, Any]) -> str:
    """What is wrong with a class that is named; "" for one that may be built.  Nothing is imported to find out."""
    module, name, registered = (named.get(key) for key in ("module", "class_name", "registered_name"))
    told = f"{module}.{name}" if registered in (None, name) else f"{module}.{name} ({registered})"
    if module is None and name in PLAIN:
        return ""
    if not isinstance(module, str) or not isinstance(name, str) or registered not in (None, name):
        return told
    if name == "function":  # an activation: Keras looks its name up among its own
        return "" if module == "builtins" and registered in (None, "function") else f"{module}.{named.get('config')}"
    found = vars(sys.modules[module]).get(name) if module in sys.modules else None
    known = isinstance(found, type) and f"{found.__module__}.".startswith((*LAYERS, *PARTS))
    return "" if known else told


def _num_weights(content: bytes) -> int:
    """Numbers in a weights file that lies whole in itself: no link, no other file, nothing packed or promised."""
    arrays: list[h5py.Dataset] = []

    def keep(name: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset):
            arrays.append(found)

    with h5py.File(io.BytesIO(content), "r") as weights:
        # an error raised within a visit does not come out of it whole: what is returned ends the visit
        if link := weights.visititems_links(lambda name, link: None if isinstance(link, h5py.HardLink) else name):
            raise ValueError(f"{link} is a link to elsewhere")
        weights.visititems(keep)
        for one in arrays:
            if one.external or one.is_virtual or one.chunks is not None or one.dtype.kind not in "fiub":
                raise ValueError(f"{one.name} is no plain array of numbers within the file")
            if one.nbytes != one.id.get_storage_size() or one.nbytes > len(content):
                raise ValueError(f"{one.name} says that it has {one.nbytes} bytes, and it has others")
        return int(sum(one.size for one in arrays))


@contextmanager
def weights_up_to(count: int) -> Iterator[None]:
    """Have Keras make no more weights than `count` numbers: it makes them before it looks for them in the file.

    Raises:
        ValueError: within the context, when a layer asks for more.
    """
    plain, left = keras.layers.Layer.add_weight, count

    def add_weight(self: Any, shape: Any = None, *args: Any, **options: Any) -> Any:
        nonlocal left
        left -= math.prod(shape or ())
        if left < 0:
            raise ValueError(f"layer {self.name} asks for weights of the shape {shape}, more than the file holds")
        return plain(self, shape, *args, **options)

    keras.layers.Layer.add_weight = add_weight
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = plain
