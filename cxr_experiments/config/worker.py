"""A job's way to another process or machine: what an engine carries there, what it does there, what it brings back.

An engine (Ray, submitit) carries an Errand: text, nothing else.  On the worker the job runs in a fresh process beside
the engine's own, as it does under `hydra/launcher=process`: an engine's process that dies takes its job with it, and
one that lives on serves no two jobs.  Its lines go into two files of the sweep's folder, which `lines_passed_on`
reads on the launcher's side.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxr_experiments.config.processes import Child, ending, run_all
from cxr_experiments.config.sweep import JobEnd, log_files, read_job

_LOOK_S = 1.0


@dataclass(frozen=True)
class Errand:
    """A job on its way: the sweep's folder, the job's number there, and the process to start."""

    folder: str
    number: int
    child: Child


@dataclass(frozen=True)
class Outcome:
    """What a worker brings back: the job's end, None where it left none, and how its process ended."""

    end: JobEnd | None
    status: int

    @property
    def why(self) -> str:
        """Why it ended, where the job has not said so itself."""
        return ending(self.status)


def do_errand(errand: Errand) -> Outcome:
    """Run the job on this machine, by this interpreter, in the current folder; its lines go to the end of its logs."""
    folder = Path(errand.folder)
    folder.mkdir(parents=True, exist_ok=True)
    child = replace(errand.child, command=(sys.executable, *errand.child.command[1:]), prefix="")
    statuses: list[int] = []
    logs = log_files(folder, errand.number)
    with contextlib.ExitStack() as files:
        out, err = (files.enter_context(logs[name].open("a", encoding="utf-8")) for name in ("stdout", "stderr"))
        files.enter_context(contextlib.redirect_stdout(out))
        files.enter_context(contextlib.redirect_stderr(err))
        run_all([child], num_at_once=1, ended=lambda place, status: statuses.append(status), at_terminal=False)
    return Outcome(read_job(folder, errand.number), statuses[0])


@contextlib.contextmanager
def lines_passed_on(sent: Sequence[Errand]) -> Iterator[None]:
    """While the block runs, print what the jobs print, a second late or so; of several, behind each one's label."""
    over, follower = threading.Event(), _Follower(sent)

    def follow() -> None:
        while not over.wait(_LOOK_S):
            follower.look()

    thread = threading.Thread(target=follow, name="lines of jobs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        follower.look()


class _Follower:
    """How far each log has been read."""

    def __init__(self, sent: Sequence[Errand]) -> None:
        self.read = {
            (path, name, errand.child.prefix if len(sent) > 1 else ""): 0
            for errand in sent
            for name, path in log_files(Path(errand.folder), errand.number).items()
        }

    def look(self) -> None:
        """Print the whole lines that have come since."""
        for (path, name, prefix), begin in self.read.items():
            with contextlib.suppress(OSError, ValueError):  # not there yet; nobody wants our lines any more
                with path.open("rb") as log:
                    log.seek(begin)
                    whole = log.read()
                whole = whole[: whole.rfind(b"\n") + 1]
                self.read[path, name, prefix] = begin + len(whole)
                for line in whole.decode(errors="replace").splitlines():
                    print(prefix + line, file=getattr(sys, name), flush=True)
