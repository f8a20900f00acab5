"""What Hydra does more often than it has to, while a command runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.plugins.sweeper import Sweeper

from cxr_experiments.config.replaced import replaced

_PARSE, _VALIDATE = "_parse_overrides_and_create_caching_repo", "validate_batch_is_legal"


def asks_for_help() -> bool:
    """Whether the command line does."""
    return bool({"--help", "-h", "--hydra-help"} & set(sys.argv[1:]))


@contextmanager
def configs_copied_once() -> Iterator[None]:
    """`--help` in half the time: Hydra copies all of its configs anew for each group that it lists, 135 times here.

    While help is written nothing is composed that could change a copy, so that one does for all groups.
    """
    parse: Any = getattr(ConfigLoaderImpl, _PARSE, None)
    kept: dict[tuple[Any, ...], Any] = {}

    def once(self: ConfigLoaderImpl, config_name: str | None, overrides: list[str]) -> Any:
        key = (id(self), config_name, *overrides)
        if key not in kept:
            kept[key] = parse(self, config_name, overrides)
        return kept[key]

    with replaced(ConfigLoaderImpl, _PARSE, once):
        yield


@contextmanager
def jobs_checked_once() -> Iterator[None]:
    """The sweeper composes no job that has been composed and checked before: a tenth of a second for each."""
    # of the base class, for Hydra loads the module of its own sweeper anew; it divides by the time that this takes
    with replaced(Sweeper, _VALIDATE, lambda self, batch: time.sleep(0.001)):
        yield
