"""The words of the search command: its own keys stay, what train would take goes into `overrides`."""

from __future__ import annotations

import re
from dataclasses import fields

from hydra._internal.utils import get_args_parser

from cxr_experiments.config.command_line import as_text, escaped
from cxr_experiments.config.compose import nearest
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.config.search_spec import SearchConfig
from cxr_experiments.errors import ConfigError

OWN = {field.name for field in fields(SearchConfig)} - {"overrides", "choices"} | {"hydra"}
TRAINS = {field.name for field in fields(ExperimentConfig)} - {"choices"} | {"experiment"}


def trials_words_as_list(arguments: list[str]) -> list[str]:
    """Words that are no key of the search become one `overrides=[...]`, whatever values they hold.

    Raises:
        ConfigError: -m is given, or a key that neither the search nor train has.

    Example:
        >>> trials_words_as_list(["--cfg", "job", "search=demo", "trials=4", "model=gap,flatten"])
        ['search=demo', 'trials=4', "overrides=['model=gap,flatten']", '--cfg', 'job']
    """
    parsed = get_args_parser().parse_args(arguments)  # tells `--cfg job` from a word
    if parsed.multirun:
        raise ConfigError("search takes several values of a key without -m: each trial draws one of them")
    words = [word for word in parsed.overrides if _section(word) not in OWN]
    if not words:
        return arguments
    if unread := [_section(word) for word in words if _section(word) not in TRAINS]:
        raise ConfigError(f"{unread[0]}: no such key{nearest(unread[0], sorted(OWN | TRAINS))}")
    own = [word for word in parsed.overrides if word not in words]
    flags = [word for word in arguments if word not in parsed.overrides]
    return [*own, f"overrides=[{','.join(escaped(word) for word in as_text(words))}]", *flags]


def _section(word: str) -> str:
    """`tracking` of tracking.uri=..., `hydra` of hydra/launcher=..."""
    return re.split(r"[./@=]", word.lstrip("+~"), maxsplit=1)[0]
