"""What is compared, composed and checked before anything runs; the division of each seed as folders for the twin.

Comes in: names of arms, seeds, words about the data.  Goes out: checked configs, a store that is ready, and for each
seed a tree train|val/CLASS of links.  The official test images are in neither.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from benchmarks.time_to_quality.records import PLAIN
from cxr_experiments.config.command_line import as_text
from cxr_experiments.config.compose import CONF_DIR, read_config
from cxr_experiments.config.hydra_errors import translate
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.config.seeds import resolve_seeds
from cxr_experiments.errors import ConfigError
from cxr_experiments.images.manifest import read_manifest
from cxr_experiments.images.splits import make_split
from cxr_experiments.images.store import open_store
from cxr_experiments.train import main

assert main  # importing train registers the schema

ARMS_FILE = Path(__file__).with_name("arms.yaml")
SEED_STUDY = ("experiment=seed_study",)


@dataclass(frozen=True)
class Division:
    """One seed's images: the twin's folder, how many, and the digest that our run must have too."""

    folder: Path
    num_train: int
    num_val: int
    digest: str


@dataclass(frozen=True)
class Prepared:
    """What is ready before the first clock starts: seed -> division; how long the store took, 0.0 where it stood."""

    divisions: dict[int, Division]
    store_build_s: float
    synthetic: bool


def read_arms(path: Path = ARMS_FILE) -> dict[str, tuple[str, ...]]:
    """Arm -> its overrides, in the file's order.

    Raises:
        ConfigError: not a mapping from names to lists of words, or an arm called `plain`.
    """
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    words_only = isinstance(values, dict) and all(
        isinstance(name, str) and isinstance(words, list) and all(isinstance(word, str) for word in words)
        for name, words in values.items()
    )
    if not words_only or PLAIN in values:
        raise ConfigError(f"{path}: expected NAME: [override, ...] for each arm, and none called {PLAIN}")
    return {name: tuple(words) for name, words in values.items()}


def compose_arm(words: Sequence[str]) -> ExperimentConfig:
    """The checked config of a list of overrides.

    Raises:
        ConfigError: a wrong key or value, or smoothed labels, under which val_loss is no log loss.
    """
    try:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            composed = compose("config", as_text(list(words)), return_hydra_config=True)
            config = read_config(composed, ExperimentConfig)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(translate(error, ExperimentConfig)) from error
    if config.training.label_smoothing:
        raise ConfigError(
            f"training.label_smoothing={config.training.label_smoothing}: val_loss is then no log loss, and cannot be "
            "held against the plain twin's"
        )
    return config


def prepare(data_words: Sequence[str], seeds: Sequence[int], home: Path) -> Prepared:
    """Store and folders, made in a process of their own, so that the one that holds the clock stays small."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_prepare, tuple(data_words), tuple(seeds), home).result()


def _prepare(data_words: Sequence[str], seeds: Sequence[int], home: Path) -> Prepared:
    from cxr_experiments.learning.keras_directory import link_split  # TensorFlow now

    config = compose_arm([*SEED_STUDY, *data_words])
    stores = home / "runs" / ".stores"
    before, began = _names(stores), time.perf_counter()
    store = open_store(read_manifest(config.data), config.data, folder=stores)
    took_s = time.perf_counter() - began if _names(stores) != before else 0.0
    divisions = {}
    for seed in seeds:
        own = compose_arm([*SEED_STUDY, *data_words, f"seed={seed}"])
        split = make_split(store.manifest, own.data, seed=resolve_seeds(own).split, kind=own.split.kind)
        folder = link_split(store.manifest, split, own.data, home / "runs" / ".links")
        divisions[seed] = Division(folder, len(split.train), len(split.val), split.digest)
    return Prepared(divisions, took_s, store.manifest.synthetic)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
