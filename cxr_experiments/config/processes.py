"""Processes of a sweep's jobs: a number of them at once, their lines passed on, none left behind.

Each child runs in a session of its own, so that Ctrl-C in the terminal reaches this process alone, which then asks its
children to stop.  A child's standard input is a pipe from here: its end tells the child that this process is gone, on
every system and after SIGKILL too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

# What a job may take, once asked to stop, to mark its run KILLED here and in MLflow.
GRACE_S = 10.0
LAUNCHED = "CXR_LAUNCHED"  # stands in a child's environment until it has read its line
_LOOK_S = 0.05
_LAST_LINES_S = 5.0  # a grandchild may hold the pipe open for ever
_HINTS = {"SIGKILL": " (out of memory?)"}
_HINTS |= dict.fromkeys(("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"), " (a crash in compiled code)")


@dataclass(frozen=True)
class Child:
    """A command, the one line that it reads from its standard input, and what stands before each line it prints."""

    command: tuple[str, ...]
    request: str
    prefix: str


@dataclass(frozen=True)
class _Running:
    process: subprocess.Popen[str]
    pumps: tuple[threading.Thread, ...]


def run_all(
    children: Sequence[Child], *, num_at_once: int, ended: Callable[[int, int], None], at_terminal: bool = True
) -> None:
    """Run the children in order; when this is left early, by an exception or a signal, they are stopped first.

    Args:
        children: what to run.
        num_at_once: how many run at the same time.
        ended: called with a child's position and its status (negative: the signal that killed it), its lines printed.
        at_terminal: a person may see what is said when it is stopped, and press Ctrl-C again.
    """
    waiting, running = list(enumerate(children)), dict[int, _Running]()
    try:
        while waiting or running:
            while waiting and len(running) < num_at_once:
                position, child = waiting.pop(0)
                running[position] = _start(child)
            time.sleep(_LOOK_S)
            for position, one in list(running.items()):
                if (status := one.process.poll()) is not None:
                    del running[position]
                    _finish(one)
                    ended(position, status)
    finally:
        _stop(list(running.values()), at_terminal=at_terminal)


def ending(status: int) -> str:
    """Why a process ended that has not said so itself.

    Example:
        >>> ending(-9)
        'its process was killed by SIGKILL (out of memory?)'
        >>> ending(3)
        'its process ended with status 3 and without a result'
    """
    if status in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        return f"its process was stopped by {signal.Signals(status - 128).name}"
    if status >= 0:
        return f"its process ended with status {status} and without a result"
    name = next((one.name for one in signal.Signals if one == -status), f"signal {-status}")
    return f"its process was killed by {name}{_HINTS.get(name, '')}"


def is_child() -> bool:
    """Whether this process was started by `run_all`, and its line is still to be read."""
    return LAUNCHED in os.environ


def follow_parent() -> str:
    """In a child, once: the line that the parent sent; from then on this process ends soon after its parent.

    It is asked by SIGTERM, as a person would ask it, and after `GRACE_S` it ends at once.
    """
    del os.environ[LAUNCHED]  # what the job starts is no such child
    pipe = os.dup(0)  # not inherited by what the job starts
    request = bytearray()
    while not request.endswith(b"\n") and (byte := os.read(pipe, 1)):
        request += byte
    _to_nowhere(0, os.O_RDONLY)
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    return request.decode()


def _end_with_parent(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    for descriptor in (1, 2):  # nobody reads them any more: a print would fail, and with it the run
        _to_nowhere(descriptor, os.O_WRONLY)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(128 + signal.SIGTERM)


def _to_nowhere(descriptor: int, mode: int) -> None:
    nowhere = os.open(os.devnull, mode)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _start(child: Child) -> _Running:
    process = subprocess.Popen(
        child.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, LAUNCHED: "1"},
        start_new_session=True,
    )
    pairs = ((process.stdout, "stdout"), (process.stderr, "stderr"))
    pumps = tuple(threading.Thread(target=_pump, args=(*pair, child.prefix), daemon=True) for pair in pairs)
    for pump in pumps:
        pump.start()
    if process.stdin:
        with contextlib.suppress(BrokenPipeError):  # it is dead already: its status tells
            process.stdin.write(child.request + "\n")
            process.stdin.flush()
    return _Running(process, pumps)


def _pump(stream: IO[str], name: str, prefix: str) -> None:
    """Pass a child's lines on to what sys.stdout or sys.stderr is at that moment; read on when nobody wants them."""
    with stream:
        for line in stream:
            with contextlib.suppress(OSError, ValueError):
                print(prefix + line.rstrip("\n"), file=getattr(sys, name), flush=True)


def _finish(one: _Running) -> None:
    for pump in one.pumps:
        pump.join(timeout=_LAST_LINES_S)
    if one.process.stdin:
        with contextlib.suppress(BrokenPipeError):
            one.process.stdin.close()


def _stop(left: Sequence[_Running], *, at_terminal: bool) -> None:
    """Ask all to stop, wait, and kill what is left; a second Ctrl-C kills at once."""
    if not left:
        return
    if at_terminal:
        what = "one job" if len(left) == 1 else f"{len(left)} jobs"
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the command's own would leave without them
        print(f"stopping {what}, keeping the last epoch of each; Ctrl-C again kills", file=sys.stderr, flush=True)
    try:
        for one in left:
            one.process.terminate()
        deadline = time.monotonic() + GRACE_S
        while any(one.process.poll() is None for one in left) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
    finally:
        for one in left:
            one.process.kill()  # nothing, where it has ended
            one.process.wait()
            _finish(one)
