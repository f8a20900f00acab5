"""Why two runs are not one: the components of their identities that differ, and which other run is nearest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cxr_experiments.config.compose import load_config
from cxr_experiments.errors import ConfigError, RunError
from cxr_experiments.record.run_folder import RunFolder, read_json

ABSENT = "-"
# What a digest stands for, in words.
WORDS = {
    "source_digest": "the code that training executes",
    "dataset_digest": "the images",
    "split_digest": "who trains and who validates",
    "builder_digest": "the file of the network of one's own",
}
NUM_DIGITS = 12  # of a digest that are shown


@dataclass(frozen=True)
class Difference:
    """Another run and, of each component that differs, its value there and here."""

    other: RunFolder
    components: Mapping[str, tuple[str, str]]


def nearest(run: RunFolder, others: Iterable[RunFolder]) -> Difference | None:
    """The run with the fewest components that differ, the latest of several; None without another run.

    Raises:
        RunError: the run's own identity.json cannot be read; runs whose identity cannot are left out.
    """
    own, best = components(run), None
    for other in others:
        if other.path == run.path:
            continue
        try:
            found = Difference(other, differing(components(other), own))
        except RunError:
            continue
        if best is None or len(found.components) <= len(best.components):
            best = found
    return best


def components(run: RunFolder) -> dict[str, str]:
    """Name -> value of everything that makes the run this one; all derived seeds as the one `seed` they come from.

    Raises:
        RunError: identity.json is missing or no identity.
    """
    identity = read_json(run.file("identity.json"))
    found: dict[str, str] = {}
    for name, value in identity.items():
        if isinstance(value, dict):
            prefix = "" if name == "config" else f"{name}."
            found |= {f"{prefix}{key}": str(one) for key, one in value.items()}
        else:
            found[name] = str(value)
    if not found:
        raise RunError(f"{run.file('identity.json')} names no component")
    with contextlib.suppress(ConfigError, RunError, OSError):  # without it the derived seeds stand for themselves
        found["seed"] = str(load_config(run.file("config.yaml")).seed)
    return found


def differing(there: Mapping[str, str], here: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Component -> (there, here) where they differ; seeds and divisions that follow from another `seed` are left out.

    Example:
        >>> differing({"seed": "0", "seeds.init": "7", "depth": "a"}, {"seed": "1", "seeds.init": "8", "depth": "a"})
        {'seed': ('0', '1')}
    """
    names = sorted({*there, *here})
    pairs = {name: (there.get(name, ABSENT), here.get(name, ABSENT)) for name in names}
    found = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if "seed" in found:
        follows = [name for name in found if name.startswith("seeds.") or name == "split_digest"]
        found = {name: pair for name, pair in found.items() if name not in follows}
    return found


def told(difference: Difference) -> list[str]:
    """A line per component."""
    lines = []
    for name, (there, here) in difference.components.items():
        if name in WORDS:
            lines.append(f"{WORDS[name]} ({name} {there[:NUM_DIGITS] or ABSENT} -> {here[:NUM_DIGITS] or ABSENT})")
        else:
            lines.append(f"{name}: {there} -> {here}")
    return lines
