"""python -m cxr_experiments.reproduce: run again what README and results/ report, and say what moved.

In: results/reproduce.yaml (commands, and the committed tables that they must give again, each with its tolerance).
Out: the same commands run in a home of their own under runs/.reproduce/, a table of what moved, and an exit status.
Interrupted, it goes on where it stopped: runs that are finished there are not trained again.
"""

from __future__ import annotations

import csv
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from cxr_experiments.config.command_line import run_command, run_job
from cxr_experiments.config.commands import ReproduceConfig
from cxr_experiments.config.compose import CONF_DIR, PACKAGE_DIR, from_mapping, home, register
from cxr_experiments.config.schema import choice, free
from cxr_experiments.errors import ConfigError, ReproductionError, RunError

register("reproduce_schema", ReproduceConfig)

CHECKOUT = PACKAGE_DIR.parent


@dataclass(frozen=True)
class ExpectedTable:
    """A CSV file that a reproduction writes, and the committed one it is held against.

    Both may hold `*`: the folders are then paired by the seeds that their identity.json names.
    """

    file: str = free("", "path under the reproduction's home")
    expected: str = free("", "path of the committed table in the checkout")
    key: str = free("", "column that names a row")
    rows: tuple[str, ...] = free((), "rows to compare; all of the committed table where empty")
    within: dict[str, Any] = field(default_factory=dict)  # column -> largest difference that may be
    equal: tuple[str, ...] = free((), "columns that must be the same text")


@dataclass(frozen=True)
class Reproduction:
    """Commands without their `python -m cxr_experiments.`, how long they take, and the tables they must give again."""

    what: str = choice("full", ("quick", "full"), "the set it belongs to")
    minutes: float = 0.0
    reason: str = free("", "where the tolerances come from")
    commands: tuple[str, ...] = free((), "run in order; each must end with status 0")
    tables: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Moved:
    """One number or word, as committed and as it came out now."""

    table: str
    row: str
    column: str
    expected: str
    found: str
    tolerance: str
    held: bool


@hydra.main(config_path=str(CONF_DIR), config_name="reproduce", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, run again."""
    run_job(composed, ReproduceConfig, reproduce)


def reproduce(config: ReproduceConfig) -> None:
    """Run every reproduction of the chosen set, then print what moved.

    Raises:
        ConfigError: there is no results/reproduce.yaml here, or it is wrong.
        RunError: a command failed.
        ReproductionError: a number or a verdict moved by more than its tolerance.
    """
    from cxr_experiments.record import console

    listed = read_list(CHECKOUT / "results" / "reproduce.yaml")
    chosen = {name: one for name, one in listed.items() if config.what in ("full", one.what)}
    found: list[Moved] = []
    for name, one in chosen.items():
        console.say(f"reproducing {name}: about {one.minutes:g} minutes on 2 cores")
        place = home() / "runs" / ".reproduce" / name
        for words in one.commands:
            run_again(words, place)
        found += [moved for table in one.tables for moved in compare_table(table, place)]
    console.say("\n".join(table_lines(found)))
    away = [one for one in found if not one.held]
    if away:
        raise ReproductionError(f"{len(away)} of {len(found)} values moved by more than their tolerance, see above")
    console.say(f"all {len(found)} values of {', '.join(chosen)} came out again within their tolerance")


def read_list(path: Path) -> dict[str, Reproduction]:
    """Name -> reproduction.

    Raises:
        ConfigError: the file is missing, unreadable or wrong; the text names the key.
    """
    try:
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no {path}: reproducing needs a checkout of the project, with its results/"
        ) from error
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected names with commands and tables")
    return {str(name): _reproduction(str(name), said) for name, said in values.items()}


def run_again(words: str, place: Path) -> None:
    """One command in the reproduction's own home; what it prints is seen.

    Raises:
        RunError: it ended with another status than 0.
    """
    place.mkdir(parents=True, exist_ok=True)
    command, *rest = shlex.split(words)
    print(f"$ python -m cxr_experiments.{words}", flush=True)
    ran = subprocess.run(
        [sys.executable, "-m", f"cxr_experiments.{command}", *rest],
        env={**os.environ, "CXR_HOME": str(place)},
        check=False,
    )
    if ran.returncode:
        raise RunError(f"`{words}` ended with status {ran.returncode}: see above, mend it, and run the same again")


def compare_table(table: ExpectedTable, place: Path) -> Iterator[Moved]:
    """Every watched value of a table, as committed and as found.

    Raises:
        RunError: a file, row or column is missing.
    """
    for expected, found in _paired(table, place):
        before, after = _rows(expected, table.key), _rows(found, table.key)
        name = expected.relative_to(CHECKOUT).as_posix()
        for row in table.rows or tuple(before):
            for column in (*table.within, *table.equal):
                was, now = _value(before, row, column, expected), _value(after, row, column, found)
                yield _held_against(Moved(name, row, column, was, now, "same", was == now), table.within.get(column))


def _held_against(one: Moved, tolerance: float | None) -> Moved:
    """A number is judged by how far it moved, a word by being the same."""
    if tolerance is None:
        return one
    was, now = (float(text) if text else math.nan for text in (one.expected, one.found))
    near = abs(was - now) <= tolerance
    return replace(one, expected=f"{was:.4f}", found=f"{now:.4f}", tolerance=f"{tolerance:g}", held=near)


def table_lines(found: Sequence[Moved]) -> list[str]:
    """Aligned lines, those that moved marked."""
    rows = [("", "table", "row", "column", "committed", "now", "tolerance")]
    rows += [
        ("" if one.held else "MOVED", one.table, one.row, one.column, one.expected, one.found, one.tolerance)
        for one in found
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _reproduction(name: str, said: Any) -> Reproduction:
    one = from_mapping(said, Reproduction, f"{name}.")
    tables = tuple(from_mapping(table, ExpectedTable, f"{name}.tables.") for table in one.tables)
    for table in tables:
        for column, tolerance in table.within.items():
            if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not tolerance >= 0:
                raise ConfigError(f"{name}.tables.within.{column}={tolerance}: expected a number of at least 0")
    return Reproduction(one.what, one.minutes, one.reason, one.commands, tables)


def _paired(table: ExpectedTable, place: Path) -> list[tuple[Path, Path]]:
    committed, found = sorted(CHECKOUT.glob(table.expected)), sorted(place.glob(table.file))
    if not committed:
        raise RunError(f"there is no {CHECKOUT / table.expected}")
    if not found:
        raise RunError(f"there is no {place / table.file}: the commands above did not write it")
    if len(committed) == 1 and len(found) == 1:
        return [(committed[0], found[0])]
    by_seeds = {_seeds(path): path for path in found}
    missing = [path for path in committed if _seeds(path) not in by_seeds]
    if missing:
        raise RunError(f"nothing under {place} has the seeds of {missing[0]} ({table.file})")
    return [(path, by_seeds[_seeds(path)]) for path in committed]


def _seeds(path: Path) -> str:
    from cxr_experiments.record.run_folder import read_json

    return str(sorted(read_json(path.with_name("identity.json"))["seeds"].items()))


def _rows(path: Path, key: str) -> dict[str, dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return {row.get(key, ""): row for row in csv.DictReader(file)}


def _value(rows: dict[str, dict[str, str]], row: str, column: str, path: Path) -> str:
    if row not in rows or column not in rows[row]:
        raise RunError(f"{path} has no {column} of {row}")
    return rows[row][column]


if __name__ == "__main__":
    run_command(main, "reproduce", ReproduceConfig)
