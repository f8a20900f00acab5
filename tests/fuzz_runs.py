"""Broken files of a run by number: `python fuzz_runs.py FOLDER` is the child that reads them with the real readers.

FOLDER is that of a finished run, with a state of its training in it.
"""

from __future__ import annotations

import random
import re
import sys
import zipfile
from collections.abc import Callable
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path

from fuzz_inputs import (
    _cut_out,
    _flip_bits,
    _huge_number,
    _insert_noise,
    _overwrite,
    _repeat,
    _truncate,
    serve,
)

ZIPS = ("model.keras", "epoch-00002.state")
RECORDS = ("events.jsonl", "threshold.json", "identity.json", "mlflow.json", "scores.csv", "stress.csv")
KINDS = ("config.yaml", "split.csv", "predictions_val.csv", *ZIPS, "records")
_SOURCE = 0xC0DE


def kind_of(number: int) -> str:
    """Kinds take turns."""
    return KINDS[number % len(KINDS)]


def name_of(number: int) -> str:
    """The file of the run that is broken."""
    kind = kind_of(number)
    return RECORDS[number // len(KINDS) % len(RECORDS)] if kind == "records" else kind


@cache
def whole(name: str) -> bytes:
    return Path(sys.argv[1], name).read_bytes()


@lru_cache(maxsize=2)
def broken(number: int) -> bytes:
    """The file after one to three kinds of damage; half of the archives are damaged within an entry and zipped anew."""
    draw, name = random.Random(_SOURCE * 1_000_003 + number), name_of(number)
    if name in ZIPS and draw.random() < 0.6:
        return _broken_within(whole(name), draw)
    return _damaged(whole(name), draw, is_text=name not in ZIPS)


def _broken_within(content: bytes, draw: random.Random) -> bytes:
    with zipfile.ZipFile(BytesIO(content)) as archive:
        entries = {one: archive.read(one) for one in archive.namelist()}
    chosen = draw.choice([name for name in entries if name.endswith((".json", ".h5"))] + [draw.choice(list(entries))])
    entries[chosen] = _damaged(entries[chosen], draw, is_text=chosen.endswith(".json"))
    file = BytesIO()
    with zipfile.ZipFile(file, "w", draw.choice((zipfile.ZIP_STORED,) * 4 + (zipfile.ZIP_DEFLATED,))) as archive:
        for name, value in entries.items():
            archive.writestr(name, value)
    return file.getvalue()


def _damaged(content: bytes, draw: random.Random, *, is_text: bool) -> bytes:
    data, damages = bytearray(content), (*BYTES, *(TEXT if is_text else ()))
    for _ in range(draw.choice((1, 1, 1, 1, 2, 3))):
        draw.choice(damages)(data, draw)
        if not data:
            break
    return bytes(data)


def _another_value(data: bytearray, draw: random.Random) -> None:
    """A number, a word or a truth value becomes something that nobody expects there."""
    found = list(re.finditer(rb"-?[0-9][0-9.e+-]*|null|true|false|[A-Za-z_]{3,}", bytes(data)))
    if found:
        place = draw.choice(found)
        data[place.start() : place.end()] = draw.choice(VALUES)


def _inserted(*choices: bytes) -> Callable[[bytearray, random.Random], None]:
    def insert(data: bytearray, draw: random.Random) -> None:
        ends = [0, len(data), *(match.end() for match in re.finditer(rb"[\n:,]", bytes(data)))]
        place = draw.choice(ends)
        data[place:place] = draw.choice(choices)

    return insert


def _in_utf16(data: bytearray, draw: random.Random) -> None:
    data[:] = bytes(data).decode("latin-1").encode("utf-16")


VALUES = (
    *(b"NaN", b".nan", b"Infinity", b"-inf", b"1e999", b"-1", b"0", b"9" * 400, b"9" * 6000, b"0x7fffffffffffffff"),
    *(b"null", b"[]", b"{}", b"''", b"[[[]]]", b"true", b"${oc.env:HOME}", b"!!python/object/apply:os.getcwd []"),
    *(b"2020-13-45", b"2020-02-02", b"\xff", b"../../../etc/passwd", b"1.5", b"\x1b[31m", b"!!binary aGk=", b"&a [*a]"),
)
LAUGHS = b"\n" + b"".join(b"x%d: &x%d [%s]\n" % (n, n, b",".join([b"*x%d" % (n - 1)] * 9)) for n in range(1, 12))
BYTES = (_flip_bits, _overwrite, _huge_number, _truncate, _cut_out, _repeat, _insert_noise)
TEXT = (
    *(_another_value,) * 8,
    _inserted(b"[" * 100_000, b"{" * 5_000, b"(" * 100_000, b'{"a":' * 50_000, b"- " * 3_000),
    _inserted(b"x" * 2_000_000, b'"' + b"y" * 200_000),
    _inserted(b"\0", b"\r", b"\t", b"\xef\xbb\xbf", b"\n\n", b"\n---\n", b"\nx0: &x0 [1]" + LAUGHS),
    _in_utf16,
)


def read(number: int, folder: Path) -> str:
    """ "decoded", or "refused" with our own error's text; any other error is the caller's to see."""
    from cxr_experiments.errors import CxrError

    path = folder / name_of(number)
    path.write_bytes(broken(number))
    try:
        _reader(path.name)(path)
    except CxrError as error:
        text = str(error).replace(str(folder), "")
        assert text.isprintable(), f"more than one line, or control characters: {text!r}"
        assert len(text) < 700, text
        return f"refused: {text}"
    return "decoded"


def _reader(name: str) -> Callable[[Path], object]:
    from cxr_experiments.config.compose import load_config
    from cxr_experiments.evidence.comparison.files import read_cell_file
    from cxr_experiments.evidence.evaluation import read_predictions, read_scores, read_stressed
    from cxr_experiments.images.splits import read_split
    from cxr_experiments.learning.trainer import load_model
    from cxr_experiments.learning.trainer.states import read_state
    from cxr_experiments.record import results, run_folder
    from cxr_experiments.record.run_folder import RunFolder

    readers: dict[str, Callable[[Path], object]] = {
        "config.yaml": load_config,
        "split.csv": lambda path: read_split(path, _manifest()),
        "predictions_val.csv": lambda path: (read_cell_file if len(path.read_bytes()) % 2 else read_predictions)(path),
        "model.keras": load_model,
        "epoch-00002.state": read_state,
        "events.jsonl": lambda path: (run_folder.is_at_work(RunFolder(path.parent)), run_folder._started(path)),
        "threshold.json": lambda path: results.read_threshold(RunFolder(path.parent)),
        "identity.json": run_folder.read_json,
        "mlflow.json": lambda path: run_folder.mlflow_link(RunFolder(path.parent)),
        "scores.csv": read_scores,
        "stress.csv": read_stressed,
    }
    return readers[name]


@cache
def _manifest():  # type: ignore[no-untyped-def]
    from cxr_experiments.config.compose import load_config
    from cxr_experiments.images.manifest import read_manifest

    return read_manifest(load_config(Path(sys.argv[1], "config.yaml")).data)


if __name__ == "__main__":
    for each in (*KINDS[:-1], *RECORDS):  # everything is imported before the first clock starts
        _reader(each)(Path(sys.argv[1], each))
    serve(broken, read)
