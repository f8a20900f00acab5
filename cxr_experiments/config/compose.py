"""Hydra in, frozen values out: where conf/ and the project's home lie, and what every config must keep to.

A value that is unknown, mistyped or out of range becomes a ConfigError of one line that names the nearest match;
nothing heavy is imported before.  How such a line reaches the terminal is `command_line`'s business.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cxr_experiments.config.credentials import WHERE_THEY_BELONG, holds_credentials
from cxr_experiments.config.plain_yaml import read_plain
from cxr_experiments.config.schema import DataConfig, ExperimentConfig, TrackingConfig
from cxr_experiments.config.together import check_data, check_together
from cxr_experiments.errors import ConfigError, one_line

PACKAGE_DIR = Path(__file__).resolve().parents[1]
CONF_DIR = PACKAGE_DIR / "conf" if (PACKAGE_DIR / "conf").is_dir() else PACKAGE_DIR.parent / "conf"
Config = TypeVar("Config")


def home() -> Path:
    """Where runs/ and mlruns/ lie: CXR_HOME, else the checkout around the current directory, else that directory."""
    named = os.environ.get("CXR_HOME")
    if named:
        return Path(named).expanduser().resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "conf" / "config.yaml").is_file() and (folder / "cxr_experiments" / "__init__.py").is_file():
            return folder
    return here


def datasets() -> Path:
    """Where `download` puts public data sets, one folder per source, and where sources look when no root is given."""
    return home() / "datasets"


def register(name: str, schema: type[Any]) -> None:
    """Make a dataclass known to Hydra as the config `name`; the frozen flag is lifted while overrides are merged."""
    OmegaConf.register_new_resolver("cxr_home", lambda: str(home()), replace=True)
    ConfigStore.instance().store(name=name, node=_thawed(OmegaConf.structured(schema)))


def _thawed(node: DictConfig) -> DictConfig:
    OmegaConf.set_readonly(node, None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig):
            _thawed(child)
    return node


def read_config(composed: DictConfig, schema: type[Config]) -> Config:
    """The composed config as a frozen, range-checked `schema`, with the group choices beside it.

    Raises:
        ConfigError: a value is missing, of the wrong type or out of range, or a builder comes from a file.
    """
    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    values = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    hydra: Any = composed.get("hydra") or (HydraConfig.get() if HydraConfig.initialized() else None)
    if hydra is not None and isinstance(values, dict) and "choices" in values:
        values["choices"] = _choices(hydra)
    config = from_mapping(values, schema)
    _check_tracking(getattr(config, "tracking", None))
    if isinstance(config, ExperimentConfig):
        if hydra is not None:
            _refuse_stored_builder(config, hydra)
        check_together(config)
    elif isinstance(data := getattr(config, "data", None), DataConfig):
        check_data(data)
    return config


def _check_tracking(tracking: TrackingConfig | None) -> None:
    """A server has an address, and no address holds a password: overrides are kept with sweeps, shown, and logged."""
    uri = (tracking and tracking.uri) or ""
    if holds_credentials(uri):
        raise ConfigError(f"tracking.uri holds a user name or a password: they belong into {WHERE_THEY_BELONG}")
    if tracking and tracking.kind == "server" and not uri.startswith(("http://", "https://")):
        raise ConfigError("tracking=server: expected tracking.uri=http://host:port or https://host:port")


def from_mapping(values: Any, schema: type[Config], where: str = "") -> Config:
    """Build a frozen dataclass from nested plain values, as Hydra or a stored config.yaml gives them.

    Raises:
        ConfigError: an unknown key, a wrong type, a value out of range.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where or 'the config'} is {type(values).__name__}, expected keys with values")
    known = {field.name: field for field in fields(schema)}  # type: ignore[arg-type]
    hints = get_type_hints(schema)
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}{key}: no such key{nearest(str(key), list(known))}")
    filled: dict[str, Any] = {}
    for name, value in values.items():
        section = _section(hints[name])
        if section is not None and (value is not None or hints[name] is section):
            filled[name] = from_mapping(value, section, f"{where}{name}.")
        else:
            filled[name] = _checked(f"{where}{name}", value, hints[name], dict(known[name].metadata))
    return schema(**filled)


def _section(hint: Any) -> type[Any] | None:
    """The dataclass that a field holds, also as `Section | None`; None for a leaf."""
    for part in (hint, *getattr(hint, "__args__", ())):
        if isinstance(part, type) and is_dataclass(part):
            return part
    return None


def _checked(name: str, value: Any, hint: Any, rule: dict[str, Any]) -> Any:
    """One leaf with its type made exact (lists to tuples) and its range looked at."""
    value = tuple(value) if isinstance(value, list) else value
    if not _fits(value, hint):
        raise ConfigError(f"{name}={value}: expected {_words(hint)}, got {type(value).__name__}")
    if "of" in rule and value not in rule["of"]:
        raise ConfigError(f"{name}={value}: no such option{nearest(str(value), list(rule['of']))}")
    if "low" in rule and value is not None:
        for entry in value if isinstance(value, tuple) else (value,):
            if not rule["low"] <= entry <= rule["high"]:  # also refuses NaN
                unit = f" {rule['unit']}" if rule["unit"] else ""
                raise ConfigError(f"{name}={value}: expected {rule['low']} to {rule['high']}{unit}")
    try:
        return float(value) if hint is float else value
    except OverflowError as error:
        raise ConfigError(f"{name}: a whole number of so many digits is none that can be computed with") from error


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    arguments = getattr(hint, "__args__", ())
    if arguments and type(None) in arguments:
        return value is None or any(_fits(value, inner) for inner in arguments if inner is not type(None))
    if getattr(hint, "__origin__", None) is tuple:
        inner = arguments[:1] * len(value) if isinstance(value, tuple) and Ellipsis in arguments else arguments
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(_fits, value, inner))
    if getattr(hint, "__origin__", None) is dict:
        free_values = Any in arguments
        pairs = value.items() if isinstance(value, dict) else ()
        fitting = (isinstance(key, str) and (free_values or isinstance(inner, str)) for key, inner in pairs)
        return isinstance(value, dict) and all(fitting)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _words(hint: Any) -> str:
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return plain.get(hint, str(hint).replace("typing.", ""))


def _choices(hydra: DictConfig) -> dict[str, str]:
    """Group -> option, as Hydra chose them; Hydra's own groups and absent presets left out.

    Raises:
        ConfigError: a group was given a list or removed; a run takes one option of each.
    """
    chosen = {str(group): option for group, option in hydra.runtime.choices.items() if "/" not in group}
    groups = sorted(path.name for path in CONF_DIR.iterdir() if path.is_dir() and path.name != "hydra")
    typed = [str(override).lstrip("~") for override in hydra.overrides.task]
    for group in groups:
        named = [override for override in typed if override.partition("=")[0] == group]
        if named and not isinstance(chosen.get(group), str) and group != "experiment":
            raise ConfigError(f"{named[-1]}: expected one option of the group {group}; -m takes several, one run each")
    return {group: option for group, option in chosen.items() if isinstance(option, str)}


def _refuse_stored_builder(config: ExperimentConfig, hydra: DictConfig) -> None:
    """Code may be named by the person at the keyboard only, never by a file that came from elsewhere.

    Nor may depth and pooling stand beside it: an ablation of what the network does not read would compare twins.
    """
    typed = [str(override) for override in hydra.overrides.task]
    unread = [word for word in typed if word.startswith(("depth=", "depth.", "pooling=", "pooling."))]
    if config.model.builder is not None and unread:
        raise ConfigError(f"{unread[0]} has no effect with model=custom, whose file is the whole network: leave it out")
    if config.model.builder is not None and not any(word.startswith("model.builder=") for word in typed):
        raise ConfigError(f"model.builder={config.model.builder} comes from a file: give it on the command line")


def searchpath() -> list[str]:
    """The user's own folders of options, where the command line named some, for every run that this one starts."""
    typed = HydraConfig.get().overrides.hydra if HydraConfig.initialized() else []
    return [word for word in typed if word.startswith("hydra.searchpath=")]


def leaf_keys(schema: type[Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all leaves of a schema."""
    hints = get_type_hints(schema)
    for field in fields(schema):
        section = _section(hints[field.name])
        if section is not None:
            yield from leaf_keys(section, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def nearest(word: str, allowed: list[str]) -> str:
    """The tail of a message: `; did you mean X? (allowed: ...)`."""
    close = difflib.get_close_matches(word, allowed, n=1, cutoff=0.5)
    if not close:  # `sede` where study.seeds is meant
        last = {name.rpartition(".")[2]: name for name in allowed}
        close = [last[found] for found in difflib.get_close_matches(word, list(last), n=1)]
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{hint} (allowed: {', '.join(allowed)})" if len(allowed) <= 20 else hint


def leaf_values(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of every leaf of a config."""
    values: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        name = f"{prefix}{field.name}"
        values |= leaf_values(value, f"{name}.") if is_dataclass(value) else {name: value}
    return values


def write_config(path: Path, config: Any) -> None:
    """The resolved config as YAML."""
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(asdict(config))), encoding="utf-8")


def load_config(path: Path) -> ExperimentConfig:
    """A stored config, checked as strictly as a typed one.  It is read as data: no class, no code is named in it.

    Raises:
        ConfigError: it cannot be read, or holds a wrong key, type or value.
    """
    try:
        values = read_plain(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the config {path}: {one_line(error)}") from error
    if not isinstance(values, dict) or "data" not in values:
        raise ConfigError(f"{path} is not the config of a run: it has no section `data`")
    try:
        config = from_mapping(values, ExperimentConfig)
        check_together(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {one_line(error)}") from error
    return config
