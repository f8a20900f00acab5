"""`--help` in half the time: Hydra copies all of its configs anew for each group that it lists, 135 times here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl

_PARSE = "_parse_overrides_and_create_caching_repo"


def asks_for_help() -> bool:
    """Whether the command line does."""
    return bool({"--help", "-h", "--hydra-help"} & set(sys.argv[1:]))


@contextmanager
def configs_copied_once() -> Iterator[None]:
    """While help is written nothing is composed that could change a copy, so that one does for all groups."""
    parse = getattr(ConfigLoaderImpl, _PARSE)
    kept: dict[tuple[Any, ...], Any] = {}

    def once(self: ConfigLoaderImpl, config_name: str | None, overrides: list[str]) -> Any:
        key = (id(self), config_name, *overrides)
        if key not in kept:
            kept[key] = parse(self, config_name, overrides)
        return kept[key]

    setattr(ConfigLoaderImpl, _PARSE, once)
    try:
        yield
    finally:
        setattr(ConfigLoaderImpl, _PARSE, parse)
