"""What makes two runs the same run: a hash over everything that can change a result, and over nothing else.

In: the resolved config, the digests of data and split, a replicate number.  Out: `Identity`, whose components are kept
in the run folder so that a difference can be named.  Git commit, paths, names and display options are no part of it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from cxr_experiments.config.compose import PACKAGE_DIR, leaf_values
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.config.seeds import resolve_seeds
from cxr_experiments.errors import ConfigError

# The groups whose every leaf enters; `tracking`, names, `rerun` and `choices` do not change a result.
RESULT_AFFECTING = (
    *("data", "split", "augmentation", "depth", "pooling", "optimizer"),
    *("schedule", "resolution", "averaging", "batch_norm", "imbalance", "training", "pipeline", "threshold"),
)
# Where the files lie does not change them: their digest is in.
PATHS = {"data": ("root", "csv_file")}
# What came later.  At the value which says what all runs before did, a key does not enter: their ids stay as they are.
CAME_LATER = {
    **{"training.strategy": "none", "training.num_devices": 0},
    **{"batch_norm.kind": "running", "batch_norm.num_images": 1024},
}
# What training executes.  Editing any of these makes new runs; editing docs, figures or statistics does not.
EXECUTED = (
    *("images/**/*.py", "learning/**/*.py", "config/seeds.py"),
    *("evidence/calibration.py", "evidence/evaluation/predictions.py", "evidence/evaluation/stressed.py"),
)
# Stands in those folders and changes no run: what a person sees, and what is looked at before training.
NOT_EXECUTED = (
    *(f"learning/{name}.py" for name in ("contact_sheet", "progress", "effect", "heatmap", "test_time", "model_file")),
    *("images/fingerprints.py", "images/duplicates/near.py", "images/published.py", "images/download/*.py"),
)


@dataclass(frozen=True)
class Identity:
    """The components of a run's identity, each plain JSON, and the id they hash to."""

    config: dict[str, Any]
    seeds: dict[str, int]
    dataset_digest: str
    split_digest: str
    versions: dict[str, str]
    source_digest: str
    builder_digest: str
    replicate: int

    @property
    def run_id(self) -> str:
        """12 hex digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


def identify(config: ExperimentConfig, dataset_digest: str, split_digest: str, *, replicate: int = 0) -> Identity:
    """The identity of the run that `config` describes on this data, split and software."""
    unread = ("depth", "pooling") if config.model.builder else ()  # a network of one's own has neither
    groups = {name: asdict(getattr(config, name)) for name in RESULT_AFFECTING if name not in unread}
    leaves = {
        f"{group}.{key}": value
        for group, values in groups.items()
        for key, value in values.items()
        if key not in PATHS.get(group, ())
    }
    told = {name: value for name, value in leaves.items() if name not in CAME_LATER or value != CAME_LATER[name]}
    return Identity(
        config=json.loads(json.dumps(told)),
        seeds=asdict(resolve_seeds(config)),
        dataset_digest=dataset_digest,
        split_digest=split_digest,
        versions={name: package_version(name) for name in ("tensorflow", "keras", "numpy")},
        source_digest=_running_code(),
        builder_digest=builder_digest(config.model.builder),
        replicate=replicate,
    )


def package_version(name: str) -> str:
    """The installed version, without importing the package; tensorflow may be there as tensorflow-cpu.

    Raises:
        ConfigError: it is not installed.
    """
    for candidate in (name, f"{name}-cpu"):
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    raise ConfigError(f"{name} is not installed: `make install`, or pip install 'cxr-experiments[cpu]'")


def source_digest(package: Path = PACKAGE_DIR) -> str:
    """SHA-256 over the code that training executes, wherever it lies: comments, docstrings and layout do not count."""
    digest = hashlib.sha256()
    executed, shown = ({path for one in each for path in package.glob(one)} for each in (EXECUTED, NOT_EXECUTED))
    for path in sorted(executed - shown):
        tree = ast.parse(path.read_bytes())
        digest.update(f"{path.relative_to(package).as_posix()} {_syntax(tree)}\n".encode())
    return digest.hexdigest()


@functools.cache
def _running_code() -> str:
    """Read once per process: an edit during a sweep changes the runs of the next process, not of this one."""
    return source_digest()


def _syntax(node: Any) -> str:
    """A syntax tree as text without positions, docstrings, error messages and fields that only some Pythons have."""
    if isinstance(node, ast.Raise):
        return "Raise"
    if isinstance(node, list):
        return f"[{','.join(_syntax(item) for item in node if not _is_docstring(item))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    told = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
    return f"{type(node).__name__}({','.join(f'{name}={_syntax(value)}' for name, value in told)})"


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def builder_digest(builder: str | None) -> str:
    """SHA-256 of the user's own network file and its function's name; empty without one.

    Raises:
        ConfigError: the file is not there.
    """
    if builder is None:
        return ""
    file, _, function = builder.rpartition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise ConfigError(f"model.builder={builder}: no file {path.resolve()}; expected FILE.py:FUNCTION")
    return hashlib.sha256(path.read_bytes() + function.encode()).hexdigest()


# Options that a run's name leaves out; anything else is worth a word.
UNSAID = {
    "split": ("official",),
    "depth": ("standard",),
    "schedule": ("constant",),
    "resolution": ("full",),
    "averaging": ("none",),
    "batch_norm": ("running",),
    "imbalance": ("none",),
    "training": ("default", "smoke"),
    "pipeline": ("store",),
    "threshold": ("sensitivity_at",),
}


def run_name(config: ExperimentConfig, replicate: int) -> str:
    """What a run is, in a few words: `no_flip-gap-adam-s0`, `crop-deep-flatten-sgd-class_weight-s3-r1`."""
    chosen = config.choices
    own_net = Path(config.model.builder.rpartition(":")[0]).stem if config.model.builder else ""
    words = [chosen.get("augmentation", "")]
    words += [own_net] if own_net else [chosen.get("depth", ""), chosen.get("pooling", "")]
    words += [
        chosen.get(group, "")
        for group in (
            *("split", "optimizer", "schedule", "resolution", "averaging", "batch_norm"),
            *("imbalance", "training", "pipeline", "threshold"),
        )
    ]
    said = [word for word in words if word and not any(word in unsaid for unsaid in UNSAID.values())]
    return "-".join([*said, f"s{config.seed}", *([f"r{replicate}"] if replicate else [])])


def told_params(config: ExperimentConfig) -> dict[str, Any]:
    """What MLflow's table shows: group choices, seed, and leaves that differ from the default composition."""
    here, usual = leaf_values(config), leaf_values(type(config)())
    skipped = {"tags", "choices", "experiment_name", "seed", "rerun", "tracking.kind", "tracking.uri"}
    differing = {name: value for name, value in here.items() if name not in skipped and value != usual[name]}
    unread = ("depth", "pooling") if config.model.builder else ()
    told = {**config.choices, "seed": config.seed, **differing}
    return {name: value for name, value in told.items() if name.partition(".")[0] not in unread}
