"""Patients told by paths: a regular expression whose first group is the patient."""

from __future__ import annotations

import re

from cxr_experiments.errors import ConfigError, DataError


def compile_regex(expression: str | None) -> re.Pattern[str] | None:
    """`data.patient_regex`, compiled; None when none is given.

    Raises:
        ConfigError: it is no regular expression.
        DataError: it has no group.
    """
    if expression is None:
        return None
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise ConfigError(f"data.patient_regex={expression} is not a regular expression: {error}") from error
    if pattern.groups == 0:
        raise DataError(
            f"data.patient_regex={expression} has no group; put the part of the path that names the patient in "
            f"parentheses, as in 'data.patient_regex=patient([0-9]+)_'"
        )
    return pattern


def patient_in(image_id: str, pattern: re.Pattern[str]) -> str:
    """The patient that a path below the root names.

    Raises:
        DataError: it names none.
    """
    match = pattern.search(image_id)
    if match is None or not match[1]:
        raise DataError(
            f"data.patient_regex={pattern.pattern} finds no patient in {image_id}; "
            f"its first group must match part of every path below data.root"
        )
    return match[1]
