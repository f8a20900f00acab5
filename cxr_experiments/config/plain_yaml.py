"""A YAML file that someone else may have written, as plain values: bounded, without references, nothing resolved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

MAX_BYTES = 1 << 20  # a run's config has 2 KB


def read_plain(path: Path) -> Any:
    """What the file holds; `${...}` stays text.

    A reference (`*name`) is refused: nine lines of them unfold to a billion values.

    Raises:
        ValueError: too large, no YAML, nested too deeply, or with references.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
    text = content.decode("utf-8")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise ValueError("it holds a reference to another of its values")
        return OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except AssertionError as error:  # OmegaConf's, at one value alone
        raise ValueError("it holds no keys with values") from error
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError, TypeError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
