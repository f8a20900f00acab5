"""Hydra's and OmegaConf's errors: their many lines as one of ours, and what they must not swallow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import MissingMandatoryValue

from cxr_experiments.config.compose import CONF_DIR, leaf_keys, nearest
from cxr_experiments.errors import Terminated


@contextmanager
def interruptions_kept() -> Iterator[None]:
    """Ctrl-C and SIGTERM stay what they are while a config is composed.

    Where they fall into OmegaConf's setting and clearing of flags, its clean-up fails and that error takes their place.
    """
    try:
        yield
    except Exception as error:
        for cause in _chain(error):
            if isinstance(cause, (KeyboardInterrupt, Terminated)):
                raise type(cause) from error
        raise


def translate(error: Exception, schema: type[Any]) -> str:
    """Hydra's five to eleven lines as one: what was typed, what is allowed, the nearest match."""
    causes = list(_chain(error))
    text = "\n".join(str(cause) for cause in causes)
    for cause in causes:
        if isinstance(cause, MissingConfigException) and cause.options:
            group, _, option = (cause.missing_cfg_file or "").rpartition("/")
            options = sorted(name for name in cause.options if "/" not in name)
            return f"{group}={option}: no such option{nearest(option, options)}"
        if isinstance(cause, OverrideParseException):
            if "missing EQUAL" in text or "=" not in cause.override:
                return f"cannot read the override {cause.override!r}: expected key=value"
            typed, _, value = cause.override.partition("=")
            return f"cannot read the override {cause.override!r}: quote the value, {typed}=\"'{value}'\""
        if isinstance(cause, MissingMandatoryValue):
            key = _found(r"full_key: (\S+)", text) or _found(r"Missing mandatory value: (\S+)", text)
            return f"{key} has no value: give {key}=VALUE on the command line"
    if "Ambiguous value for argument" in text:
        return f"{_found('argument .(.+).$', text.splitlines()[0])}: one run takes one value; -m makes a run of each"
    unknown = _found(r"Could not override '([^']+)'", text) or _found(r"Key '([^']+)' not in", text)
    if unknown and unknown.startswith("study.factors"):
        return f"{unknown}: the study has no such factor; +study.factors.NAME=[OPTION] adds one"
    if unknown:
        sections = {name.partition(".")[0] for name in leaf_keys(schema)} | {"experiment"}
        groups = sorted(path.name for path in CONF_DIR.iterdir() if path.is_dir() and path.name in sections)
        return f"{unknown}: no such key{nearest(unknown, sorted({*leaf_keys(schema), *groups}))}"
    if "is not a ListConfig, list or tuple" in text:
        return f"{_found(r'full_key: (.+)', text)}: expected a list, as [0, 1]"
    if "is not Optional" in text:
        return f"{_found(r'full_key: (.+)', text)}: needs a value, got null"
    wrong = _found(r"Error merging override (\S+)", text) or _found(r"full_key: (\S+)", text)
    reason = _found(r"(Value .* could not be converted to \w+)", text) or " ".join(str(causes[-1]).split())
    return f"{wrong}: {reason}" if wrong else reason


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _found(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match.group(1) if match else None
