"""Where answers go: a table, JSON lines, or a CSV file with a counter beside it."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cxr_experiments.errors import ConfigError

COLUMNS = ("image", "probability", "label", "threshold", "run", "error")


def tell_lines(asked: Iterator[dict[str, Any]], *, as_json: bool, mark: str) -> int:
    """Print one line per answer as it comes; returns how many films could not be read."""
    num_failed = 0
    for answer in asked:
        num_failed += "error" in answer
        print(json.dumps(answer) if as_json else mark + table_row(answer), flush=True)
    return num_failed


def table_row(answer: dict[str, Any]) -> str:
    """An answer as one line of a table."""
    name = shown(answer["image"])
    if "error" in answer:
        return f"{'-':>8}  {'could not be read':<17}  {name}: {answer['error']}"
    drawn = f"  -> {answer['heatmap']}" if "heatmap" in answer else ""
    return f"{answer['probability']:8.4f}  {answer['label']:<17}  {name}{drawn}"


def shown(name: str) -> str:
    """A file name as one printable line: a folder may hold files that others have named.

    Example:
        >>> shown("films/a  b\\n.png")
        'films/a  b\\\\n.png'
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in name)


def new_file(named: str) -> Path:
    """The CSV file that is to be written.

    Raises:
        ConfigError: there is one of this name, or no folder for it.
    """
    path = Path(named).expanduser().absolute()
    if path.exists():
        raise ConfigError(f"csv={named}: {path} is there already and would be lost; name another")
    if not path.parent.is_dir():
        raise ConfigError(f"csv={named}: there is no folder {path.parent}")
    return path


def tell_csv(asked: Iterator[dict[str, Any]], path: Path, num_films: int, *, mark: str) -> int:
    """Write one row per answer as it comes, and say at the end what it was; returns how many could not be read.

    Until the last answer the rows stand in a file of the name with `.partial`, which stays when the command is stopped.
    Films that could not be read have a row with the reason, and a line on stderr.
    """
    from cxr_experiments.record.console import counter

    partial, counts, began = path.with_name(f"{path.name}.partial"), Counter[str](), time.monotonic()
    # a file name that is not UTF-8 reaches us as surrogates and must be written back as the same
    with (
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        counter("asking") as on_progress,
    ):
        rows = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        rows.writeheader()
        for answer in asked:
            rows.writerow(answer)
            counts[answer.get("label", "")] += 1
            if "error" in answer:
                print(table_row(answer).strip(), file=sys.stderr, flush=True)
            on_progress(counts.total(), num_films)
    partial.replace(path)
    duration_s = time.monotonic() - began
    told = ", ".join(
        f"{count:,} {label or 'could not be read'}" for label, count in sorted(counts.items(), reverse=True)
    )
    print(f"{mark}{num_films:,} films in {duration_s:.1f} s ({num_films / duration_s:.0f} a second): {told}; {path}")
    return counts[""]
