"""A model file from a stranger: refused in one line, before Keras opens it, whatever is hidden in it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from cxr_experiments.config.schema import ExperimentConfig, ModelConfig
from cxr_experiments.config.seeds import resolve_seeds
from cxr_experiments.errors import ConfigError, RunError
from cxr_experiments.learning.model import build_model
from cxr_experiments.learning.model_file import strange_objects
from cxr_experiments.learning.trainer import load_model, save_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The entries of a small model's file, as `save_model` writes it."""
    path = tmp_path_factory.mktemp("model") / "model.keras"
    inputs = keras.Input((8, 8, 1), dtype="uint8")
    features = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255, dtype="float32")(inputs))
    logit = keras.layers.Dense(1, name="logit")(features)
    save_model(keras.Model(inputs, keras.layers.Activation("sigmoid")(logit)), path)
    assert load_model(path).count_params() == 65
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The one line that refuses the file, which Keras never saw."""
    monkeypatch.setattr(keras.models, "load_model", lambda *_, **__: pytest.fail("Keras opened the file"))
    with pytest.raises(RunError) as caught:
        load_model(path)
    text = str(caught.value)
    assert text.startswith(f"{path} is not a readable Keras model: ")
    assert text.isprintable()
    assert len(text) < 600
    return text


def object_of(module: Any, name: str, config: Any = None, registered: str | None = None) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config or {}, "registered_name": registered}


# What the advisories on Keras of 2024 to 2026 are about, and what else a class name could do.
STRANGE = {
    "system call": object_of("os", "system", "touch MARKER"),
    "process": object_of("subprocess", "Popen", {"args": ["touch", "MARKER"]}),
    "builtin": object_of("builtins", "eval", "open('MARKER', 'w')"),
    "builtin as a function": object_of("os", "function", "system"),
    "bytecode": object_of(
        "keras.layers", "Lambda", {"function": object_of("builtins", "__lambda__", {"value": "4w=="})}
    ),
    "bytecode by the old format": {"class_name": "Lambda", "config": {"function": ["4w==", None, None]}},
    "lambda without a layer": {"class_name": "__lambda__", "config": {"value": "4w=="}},
    "SavedModel": object_of("keras.layers", "TFSMLayer", {"filepath": "/tmp/evil"}),
    "pickle": object_of("keras.layers", "TorchModuleWrapper", {"module": "gASV"}),
    "vocabulary from a file": object_of("keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}),
    "text from a file": object_of("keras.layers", "TextVectorization", {"vocabulary": "/etc/passwd"}),
    "download": object_of("keras.utils", "function", "get_file"),
    "safe mode off": object_of("keras.config", "function", "enable_unsafe_deserialization"),
    "another model": object_of("keras.models", "function", "load_model"),
    "name that someone registered": object_of("keras.layers", "Dense", {"units": 1}, "mine>Dense"),
    "custom class": object_of(None, "MyLayer", {}, "mine>MyLayer"),
    "another package": object_of("keras_hub.models", "Backbone"),
    "optimizer": object_of("keras.optimizers", "Adam"),
    "module that is no text": object_of(["os"], "system"),
}


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
def test_strange_class_is_refused_wherever_it_stands(
    strange: dict[str, Any], whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = json.loads(whole["config.json"])
    as_layer, as_option = json.loads(whole["config.json"]), json.loads(whole["config.json"])
    as_layer["config"]["layers"][1] = {**config["config"]["layers"][1], **strange}
    as_option["config"]["layers"][3]["config"]["kernel_initializer"] = strange
    for broken in (as_layer, as_option, strange):
        if broken is as_layer and "module" not in strange:
            broken["config"]["layers"][1].pop("module")
        path = zipped(tmp_path / "model.keras", {**whole, "config.json": json.dumps(broken).encode()})
        assert "which no network of this package is made of" in refused(path, monkeypatch)
    assert [one.name for one in tmp_path.iterdir()] == ["model.keras"]


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "assets/../../evil", "C:\\evil", "_meta.txt", "config.json"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entry_of_another_name_is_refused(
    name: str, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "model.keras", whole)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"{}")
    assert "it holds [" in refused(path, monkeypatch)


def test_small_file_of_much_is_refused(
    whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = zipped(tmp_path / "model.keras", {**whole, "model.weights.h5": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    assert packed.stat().st_size < 100_000
    assert "a compressed entry" in refused(packed, monkeypatch)
    content = bytearray(zipped(packed, whole).read_bytes())
    place = content.rindex(b"PK\x01\x02")  # the last entry of the directory, the weights
    content[place + 20 : place + 28] = (0xF0000000).to_bytes(4, "little") * 2
    packed.write_bytes(content)
    assert "larger than the file" in refused(packed, monkeypatch)
    nested = b"[" * 100_000 + b"]" * 100_000
    refused(zipped(packed, {**whole, "config.json": nested}), monkeypatch)


def external_file(weights: h5py.File, shape: tuple[int, ...]) -> None:
    weights.create_dataset("layers/dense/vars/0", shape, "u1", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def virtual(weights: h5py.File, shape: tuple[int, ...]) -> None:
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "secret", shape=shape)
    weights.create_virtual_dataset("layers/dense/vars/0", layout)


def put(name: str, value: Any) -> Callable[[h5py.File, tuple[int, ...]], None]:
    return lambda weights, _: weights.__setitem__(name, value)


HDF5: dict[str, Callable[[h5py.File, tuple[int, ...]], Any]] = {
    "link to another file": put("layers", h5py.ExternalLink("/etc/other.h5", "/secret")),
    "link within the file": put("layers", h5py.SoftLink("/vars")),
    "numbers in another file": external_file,
    "numbers of another file": virtual,
    "packed": lambda weights, shape: weights.create_dataset("a", (5000, 5000), "f4", compression="gzip"),
    "promised": lambda weights, shape: weights.create_dataset("a", (100_000, 100_000), "f4"),
    "text of any length": lambda weights, shape: weights.create_dataset("a", (1,), h5py.string_dtype()),
}


@pytest.mark.parametrize("hide", HDF5.values(), ids=HDF5)
def test_weights_that_do_not_lie_in_the_file_are_refused(
    hide: Callable[..., Any], whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = io.BytesIO()
    with h5py.File(content, "w") as weights:
        hide(weights, (64, 1))
    path = zipped(tmp_path / "model.keras", {**whole, "model.weights.h5": content.getvalue()})
    told = refused(path, monkeypatch)
    assert any(word in told for word in ("link to elsewhere", "no plain array", "says that it has")), told


def test_layer_that_is_larger_than_its_weights_is_never_made(whole: dict[str, bytes], tmp_path: Path) -> None:
    config = json.loads(whole["config.json"])
    dense = config["config"]["layers"][3]
    dense["config"]["units"], dense["build_config"]["input_shape"] = 2_000_000_000, [None, 100_000]  # 800 TB
    path = zipped(tmp_path / "model.keras", {**whole, "config.json": json.dumps(config).encode()})
    plain = keras.layers.Layer.add_weight
    with pytest.raises(RunError, match=r"layer logit asks for weights of the shape .* more than the file holds"):
        load_model(path)
    assert keras.layers.Layer.add_weight is plain


def test_network_that_does_not_take_gray_squares_is_not_ours(tmp_path: Path) -> None:
    for shape, dtype, units in (((8, 9, 1), "uint8", 1), ((8, 8, 3), "uint8", 1), ((8, 8, 1), "float32", 1)):
        inputs = keras.Input(shape, dtype=dtype)
        features = keras.layers.Flatten()(keras.layers.Rescaling(1.0, dtype="float32")(inputs))
        keras.Model(inputs, keras.layers.Dense(units, name="logit")(features)).save(tmp_path / "model.keras")
        with pytest.raises(RunError, match="not written by this package"):
            load_model(tmp_path / "model.keras")


def test_builder_may_use_what_a_model_file_may_hold_and_no_more(tmp_path: Path) -> None:
    inputs = keras.Input((16, 16, 1))
    layers = keras.layers
    plain = layers.SeparableConv2D(4, 3, activation=keras.activations.gelu, pointwise_regularizer="l2")(inputs)
    plain = layers.SpectralNormalization(layers.Conv2D(4, 1))(keras.ops.relu(plain)[:, 1:, :, :] * 2.0)
    plain = layers.MultiHeadAttention(2, 4)(*[layers.Reshape((-1, 4))(plain)] * 2)
    plain = layers.Bidirectional(layers.LSTM(3))(layers.GaussianDropout(0.1)(plain))
    served = json.loads(json.dumps(keras.saving.serialize_keras_object(keras.Model(inputs, plain))))
    assert list(strange_objects(served)) == []
    file = tmp_path / "net.py"
    file.write_text(
        "import keras\n\ndef build(inputs, seed):\n    flat = keras.layers.Flatten()(inputs)\n"
        "    return keras.layers.CategoryEncoding(num_tokens=9, output_mode='multi_hot')(flat)\n"
    )
    config = ExperimentConfig(model=ModelConfig(builder=f"{file}:build"))
    with pytest.raises(ConfigError, match=r"uses keras\.layers\.CategoryEncoding, which a saved model cannot carry"):
        build_model(config, resolve_seeds(config))


def test_file_that_was_written_is_read_the_same(whole: dict[str, bytes], tmp_path: Path) -> None:
    path = zipped(tmp_path / "model.keras", whole)
    first, second = load_model(path), load_model(path)
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))
