"""What must be known to repeat a run: command, commit, uncommitted change, package versions, processor.

Nothing here enters the run's identity: it says where a number came from, not what it is.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from cxr_experiments.config.compose import PACKAGE_DIR
from cxr_experiments.config.credentials import without_credentials
from cxr_experiments.config.identity import package_version

PACKAGES = (
    *("tensorflow", "keras", "numpy", "scipy", "pandas", "pillow"),
    *("scikit-learn", "mlflow", "hydra-core", "omegaconf", "matplotlib"),
)

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Provenance:
    """Command, commit ("" outside a checkout), whether anything was uncommitted, versions, hardware."""

    command: list[str]
    commit: str
    dirty: bool
    python: str
    packages: dict[str, str]
    processor: str
    num_cores: int
    memory_gib: float
    platform: str


def collect_provenance(uncommitted: str | None = None) -> Provenance:
    """Look around once; a missing git is an empty commit, never an error.

    Args:
        uncommitted: what `uncommitted_change` told; asked for without.
    """
    return Provenance(
        command=[Path(sys.argv[0]).stem, *map(without_credentials, sys.argv[1:])],
        commit=_git("rev-parse", "HEAD"),
        dirty=bool(uncommitted_change() if uncommitted is None else uncommitted),
        python=platform.python_version(),
        packages={name: _version(name) for name in PACKAGES},
        processor=_processor(),
        num_cores=len(psutil.Process().cpu_affinity())
        if hasattr(psutil.Process, "cpu_affinity")
        else os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        platform=platform.platform(),
    )


def uncommitted_change() -> str:
    """The diff of the checkout against its commit, and the names of new Python and YAML files; "" when clean."""
    diff = _git("diff", "HEAD", "--no-color", "--", ".")
    untracked = _git("ls-files", "--others", "--exclude-standard", "--", "*.py", "*.yaml")
    return diff + "".join(f"\nuntracked: {name}" for name in untracked.splitlines())


def _version(name: str) -> str:
    if name == "tensorflow":
        return package_version(name)
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _git(*arguments: str) -> str:
    """A git answer about the checkout that this package runs from; empty when there is none."""
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE_DIR.parent), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    """The processor's name and the instruction sets that change floating-point results or speed."""
    named = _cpuinfo(_CPUINFO)
    sets = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in named.get("flags", "").split()]
    return " ".join([named.get("model name", platform.processor()), *sets])


def _cpuinfo(path: Path) -> dict[str, str]:
    """What Linux says of the last of its processors, by key; empty on other systems."""
    text = path.read_text(errors="replace") if path.is_file() else ""
    lines = [line.split(":", 1) for line in text.splitlines() if ":" in line]
    return {key.strip(): value.strip() for key, value in lines}


def slow_precision(precision: str, cpuinfo: Path = _CPUINFO) -> str:
    """What to say ahead of a training in bfloat16 on a processor that has no instructions for it; else an empty string.

    Args:
        precision: `training.precision`.
        cpuinfo: Linux' list of what the processor can do; where there is none, nothing is said.
    """
    named = _cpuinfo(cpuinfo)
    able = named.get("flags", named.get("Features", "")).split()  # on x86, on ARM
    if precision != "mixed_bfloat16" or not able or {"avx512_bf16", "amx_bf16", "bf16"} & set(able):
        return ""
    return (
        "this processor has no bfloat16 instructions: without a GPU, training.precision=float32 is about 4 times faster"
    )
