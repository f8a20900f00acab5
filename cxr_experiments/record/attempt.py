"""Who works on a run, and whether that process is still there.

On the same machine its pid tells, together with when it was started; both count in one kernel and one pid namespace
alone (`machine`).  Of a process elsewhere, on another node of a cluster or in another container, only its signs of
life are seen: it touches a file in the run's folder every 20 s, and is taken for gone when it has not for 3 minutes.
"""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil

BEAT_S, SILENT_S = 20.0, 180.0

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True)
class Attempt:
    """A process that works, or has worked, on a run.

    Attributes:
        machine: where its pid counts.
        host: what that machine is called, for people.
        pid: its number there.
        started: when it was started there, by a clock that nobody can set; "" when that is not known.
    """

    machine: str
    host: str
    pid: int
    started: str

    @property
    def is_here(self) -> bool:
        """Whether its pid counts in this process too."""
        return self.machine == machine()

    def is_at_work(self, sign: Path) -> bool:
        """Whether the process is still there: by its pid here, by its last sign of life elsewhere."""
        if self.is_here:
            return bool(self.started) and started(self.pid) == self.started
        return silence_s(sign) < SILENT_S

    def told(self, sign: Path) -> str:
        """`process 4711`; elsewhere also where, and for how long it has been silent."""
        if self.is_here:
            return f"process {self.pid}"
        return f"process {self.pid} on {self.host} (last sign of life {silence_s(sign):.0f} s ago)"


def own_attempt() -> Attempt:
    """This process: the same at every call, whatever becomes of the host's name or the clock meanwhile."""
    return _attempt(os.getpid())


@cache
def _attempt(pid: int) -> Attempt:
    return Attempt(machine(), platform.node(), pid, started(pid))


def attempt_of(event: Mapping[str, Any]) -> Attempt:
    """The process that wrote an event.

    Raises:
        KeyError, TypeError, ValueError: the event does not name one.
    """
    return Attempt(str(event["machine"]), str(event["host"]), int(event["pid"]), str(event["started"]))


def machine() -> str:
    """Where pids count: boot and pid namespace on Linux, the host's name elsewhere.

    The host's name alone would not do: containers have random ones, and share it with others on clusters of clones.
    """
    if not _BOOT_ID.is_file():
        return platform.node()
    return f"{_BOOT_ID.read_text(encoding='ascii').strip()}/{_PID_NAMESPACE.stat().st_ino}"


def started(pid: int) -> str:
    """When a process of this machine was started; "" when it is gone.

    On Linux in ticks since boot: psutil counts from the wall clock, by which a live process has another start once
    somebody sets the clock.
    """
    try:
        if _BOOT_ID.is_file():
            told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            return "" if told[0] in "ZX" else told[19]  # a zombie is gone, though nobody has asked after it yet
        return f"{psutil.Process(pid).create_time():.0f}"
    except (OSError, psutil.Error):
        return ""


@contextmanager
def signs_of_life(sign: Path) -> Iterator[None]:
    """Touch the file now and every 20 s, from a thread, while the block runs.

    It stays: by the end the run, and the file with it, may be another process's.
    """
    over = Event()

    def beat() -> None:
        while not over.wait(BEAT_S):
            with contextlib.suppress(OSError):  # a full disk is told by those who write
                sign.touch()

    sign.touch()
    thread = Thread(target=beat, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def silence_s(sign: Path) -> float:
    """Seconds since the last sign of life, by the clock of the disk that it lies on; infinite without one."""
    try:
        with tempfile.TemporaryFile(dir=sign.parent) as now:
            return max(os.fstat(now.fileno()).st_mtime - sign.stat().st_mtime, 0.0)
    except OSError:
        return float("inf")
