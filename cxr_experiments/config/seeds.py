"""One `seed` becomes five: split, initialisation, order, dropout, augmentation; the same on every machine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

from cxr_experiments.config.schema import ExperimentConfig


@dataclass(frozen=True)
class Seeds:
    """The five seeds of a run, each in [0, 2**31)."""

    split: int
    init: int
    order: int
    dropout: int
    augmentation: int


def derive(seed: int, purpose: str) -> int:
    """A seed in [0, 2**31) for one purpose; different purposes give unrelated streams (SHA-256 of both)."""
    return int.from_bytes(hashlib.sha256(f"{purpose}:{seed}".encode()).digest()[:4], "big") >> 1


def resolve_seeds(config: ExperimentConfig) -> Seeds:
    """The run's seeds: `seeds.X` where it is given, else derived from `seed`."""
    given = {name.name: getattr(config.seeds, name.name) for name in fields(Seeds)}
    return Seeds(**{name: derive(config.seed, name) if value is None else value for name, value in given.items()})
