"""What the cycle collector is told: cycles are collected all the same, imports are left out once."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, weakref
from cxr_experiments.config import collector

class Cycle:
    pass

collector.begin()
collector.leave_out_imports()
frozen = gc.get_freeze_count()
cycle = Cycle()
cycle.itself = cycle
gone = weakref.ref(cycle)
del cycle
collector.leave_out_imports()
assert gc.get_freeze_count() <= frozen, "what a run left was kept for ever"
gc.collect()
assert gone() is None, "a cycle was not collected"
assert gc.isenabled()
print("frozen", frozen > 1000)
"""


def test_imports_are_left_out_once_and_cycles_of_a_run_are_collected() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.returncode) == ("frozen True", 0), done.stderr
