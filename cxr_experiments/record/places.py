"""Images and splits of many runs in one process: each is read once, however many runs see it."""

from __future__ import annotations

from dataclasses import replace

from cxr_experiments.config.compose import home
from cxr_experiments.config.schema import DataConfig, ExperimentConfig
from cxr_experiments.config.seeds import resolve_seeds
from cxr_experiments.images.manifest import Manifest
from cxr_experiments.images.splits import Split, make_split
from cxr_experiments.images.store import Store
from cxr_experiments.record import console


class Places:
    """Images and splits by what they depend on: most cells share them, and reading images takes seconds."""

    def __init__(self) -> None:
        self._stores: dict[DataConfig, Store] = {}
        self._splits: dict[tuple[DataConfig, str, int], Split] = {}

    def store(self, config: ExperimentConfig) -> Store:
        """The prepared images of a run with this config."""
        plain = replace(config.data, fold=0, num_folds=0)
        if plain not in self._stores:
            self._stores[plain] = console.open_counted(config.data, home() / "runs")
        return self._stores[plain]

    def look_up(self, config: ExperimentConfig) -> tuple[Manifest, Split]:
        """The images and the split that a run with this config sees."""
        manifest, seed = self.store(config).manifest, resolve_seeds(config).split
        key = (config.data, config.split.kind, seed)
        if key not in self._splits:
            self._splits[key] = make_split(manifest, config.data, seed=seed, kind=config.split.kind)
        return manifest, self._splits[key]
