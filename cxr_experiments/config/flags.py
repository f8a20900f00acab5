"""The flags that Hydra knows, wherever they stand among the words of a command line."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from cxr_experiments.errors import ConfigError


def flags_last(arguments: list[str]) -> list[str]:
    """The same command line with its flags behind its words: argparse stops at `seed=0,1 -m depth=deep`.

    Example:
        >>> flags_last(["seed=0,1", "-m", "depth=deep"])
        ['seed=0,1', 'depth=deep', '-m']

    Raises:
        ConfigError: a flag that is none, or one without its value.
    """
    parsed, rest = _parser().parse_known_args(arguments)
    if unknown := [word for word in rest if word.startswith("-")]:
        raise ConfigError(
            f"{unknown[0]}: no such flag; what a run varies is given as key=value, and --help lists the keys"
        )
    words = [*parsed.overrides, *rest]
    return [*words, *(word for word in arguments if word not in words)]


def _parser() -> ArgumentParser:
    """Hydra's own, which says what is wrong by our error instead of eight lines."""
    parser: ArgumentParser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"{message} (see --help)")

    parser.error = refuse  # type: ignore[method-assign]
    return parser
