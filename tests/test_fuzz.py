"""Files broken in thousands of ways are decoded or refused by our own error: no crash, no hang, no flood of memory."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from fuzz_inputs import DICOM_FILES, KINDS, NPZ, broken, kind_of, whole

HANG_S = 5.0  # of processor time
SILENT_S = 90.0  # by the clock, on a machine that has other work as well
MAX_MEMORY_MIB = 1024
# What once escaped as an error of pydicom's (an unknown value representation), or in a message of 64 KB.  The numbers
# mean what `fuzz_inputs` makes of them: a change there asks for new ones.
BROKE_ONCE = (1112, 1971, 1993, 2183, 2197, 2672, 2374, 2424, 2624)


@dataclass(frozen=True)
class Outcome:
    """What became of one input: "decoded", "refused: ..." or a fault; seconds of the processor; peak of its process."""

    number: int
    told: str
    seconds: float
    peak_mib: float

    @property
    def is_fault(self) -> bool:
        return not self.told.startswith(("decoded", "refused: ")) or self.peak_mib > MAX_MEMORY_MIB


class Child:
    """A process that reads inputs by number, and may die of one."""

    def __init__(self, script: str, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(Path(__file__).with_name(script)), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()
        assert self.lines.get(timeout=120).strip() == "ready"

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def decode(self, number: int) -> Outcome:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        try:
            line = self.lines.get(timeout=SILENT_S)
        except queue.Empty:
            self.end()
            return Outcome(number, "hangs", SILENT_S, 0)
        if not line:
            return Outcome(number, f"kills the process: status {self.process.wait()}", 0, 0)
        fields = line.rstrip("\n").split("\t")
        if len(fields) != 4:
            self.end()
            return Outcome(number, f"says {line.strip()!r} where nothing should be said", 0, 0)
        told = fields[1] if float(fields[2]) <= HANG_S else f"takes {fields[2]} s"
        return Outcome(number, told, float(fields[2]), float(fields[3]))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.listener.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


def attack(numbers: Iterable[int], script: str = "fuzz_inputs.py", *words: str) -> list[Outcome]:
    """Read every input in a child; after a crash or a flood a new child goes on, so that each is told of its own."""
    outcomes: list[Outcome] = []
    child = Child(script, *words)
    try:
        for number in numbers:
            outcomes.append(child.decode(number))
            if outcomes[-1].peak_mib > MAX_MEMORY_MIB or not child.alive:
                child.end()
                child = Child(script, *words)
    finally:
        child.end()
    return outcomes


def assert_survived(outcomes: list[Outcome], kind_of: Callable[[int], str] = kind_of) -> None:
    faults = [
        f"{kind_of(one.number)} {one.number}: {one.told}, {one.peak_mib:.0f} MiB" for one in outcomes if one.is_fault
    ]
    assert not faults, "\n".join(faults)


def test_a_share_of_broken_files_is_decoded_or_refused() -> None:
    outcomes = attack([*range(6 * len(KINDS)), *BROKE_ONCE])
    assert len(outcomes) >= 150
    assert_survived(outcomes)
    told = Counter(one.told[:7] for one in outcomes)
    assert min(told["decoded"], told["refused"]) >= 15, told  # the damage is neither too mild nor too coarse


def test_every_kind_of_fault_is_noticed_and_told_of_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "HANG_S", 1)
    monkeypatch.setattr(sys.modules[__name__], "MAX_MEMORY_MIB", 300)
    crash, error, memory, toil, word, fine = attack([-1, -2, -3, -6, -5, 3])
    monkeypatch.setattr(sys.modules[__name__], "SILENT_S", 3)
    (hang,) = attack([-4])
    assert crash.told == "kills the process: status -6"
    assert error.told == "escaped: RuntimeError: planted"
    assert memory.peak_mib > 300
    assert hang.told == "hangs"
    assert toil.told.startswith("takes ")
    assert word.told == "says 'a warning' where nothing should be said"
    assert all(one.is_fault for one in (crash, error, memory, hang, toil, word))
    assert not fine.is_fault


@pytest.mark.long
def test_two_thousand_broken_files_are_decoded_or_refused() -> None:
    outcomes = attack(range(1_000, 3_000))
    assert_survived(outcomes)
    print(Counter((kind_of(one.number), one.told[:7]) for one in outcomes))


def test_inputs_are_the_same_every_time_and_differ() -> None:
    assert len({broken(number) for number in range(200)} | {whole(kind) for kind in KINDS}) > 190
    assert broken(17) == broken(17)
    assert {kind_of(number) for number in range(len(KINDS))} == {*KINDS}
    assert len(DICOM_FILES) + 1 < len(KINDS)
    assert NPZ in KINDS
