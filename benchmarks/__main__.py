"""All measurements of speed and memory, in one table: `python -m benchmarks [quick] [NAME ...]`.

    python -m benchmarks                     # every module of this folder that has `rows`; `make benchmark`
    python -m benchmarks quick               # the same with few repetitions: the figures are rough
    python -m benchmarks training_step       # one of them

Progress goes to stderr and the table, with hardware, versions and commit, to stdout.  A part that cannot be measured is
a line that says so.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.interleaved import Row, say, surroundings, table

FOLDER = Path(__file__).resolve().parent


def names() -> list[str]:
    """The modules of this folder that define `rows`, read from their syntax so that none is imported for it."""
    return [path.stem for path in sorted(FOLDER.glob("[!_]*.py")) if _has_rows(path)]


def _has_rows(path: Path) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "rows" for node in ast.parse(path.read_text()).body)


def rows_of(name: str, quick: bool) -> Sequence[Row]:
    """The lines of one module; when it fails, one line with the error."""
    began = time.perf_counter()
    try:
        # bound to one name: the rest of the table must come out whatever a module does
        measured = tuple(importlib.import_module(f"benchmarks.{name}").rows(quick))
    except Exception as error:
        measured = (Row(name, "-", "-", note=f"failed: {type(error).__name__}: {error}"),)
    say(f"{name} took {time.perf_counter() - began:.0f} s")
    return measured


def main(words: list[str]) -> None:
    """Measure what is asked for, print one table."""
    quick, asked = "quick" in words, [word for word in words if word != "quick"]
    known = names()
    if unknown := [word for word in asked if word not in known]:
        raise SystemExit(f"no benchmark is called {unknown[0]}: {', '.join(known)}, or quick")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    told, began = surroundings(" ".join(["python -m benchmarks", *words])), time.perf_counter()
    lines = [line for name in (asked or known) for line in rows_of(name, quick)]
    print(f"{told}  \n{time.perf_counter() - began:.0f} s in all\n\n{table(lines)}")


if __name__ == "__main__":
    main(sys.argv[1:])
