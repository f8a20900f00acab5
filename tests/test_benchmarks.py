"""The benchmarks measure what they say: order, ratios, table, graphs; and the plain twin stays plain."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as suite
from benchmarks import memory
from benchmarks.export_latency import require_tensorflow_is_absent
from benchmarks.films import phantom_films, write_folder
from benchmarks.interleaved import ROOT, Missing, Row, Series, child, interleave, row, surroundings, table
from benchmarks.training_step import (
    BATCH_SIZE,
    GRAY,
    NUM_PARAMETERS,
    OURS,
    PLAIN,
    RGB_PARAMETERS,
    SIZE_PX,
    TORCH,
    StepClock,
    counts_of,
    gray_model,
    require_equal_graphs,
    torch_child,
)

FOLDER = Path(suite.__file__).parent
PLAIN_FILE = FOLDER / "plain_keras.py"


def test_surroundings_name_command_commit_and_processor() -> None:
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    command, machine, packages = surroundings("python -m benchmarks memory").split("  \n")
    assert command.startswith(f"`python -m benchmarks memory`, commit {head.stdout[:12].strip() or 'no checkout'}")
    assert " cores, " in machine
    assert "keras 3." in packages


def test_every_other_repetition_runs_in_reverse() -> None:
    order: list[str] = []

    def measure(name: str) -> dict[str, float]:
        order.append(name)
        return {"s": 1.0}

    interleave({name: lambda name=name: measure(name) for name in "abc"}, 3)
    assert "".join(order) == "abccbaabc"


def test_ratios_are_taken_within_each_repetition() -> None:
    drift = itertools.count(1)  # everything slows down as time goes on; "b" takes twice as long
    series = interleave({"a": lambda: {"s": next(drift)}, "b": lambda: {"s": 2.0 * next(drift)}}, 3)
    line = row("build", series, "b", "s", "s", peer="a")
    assert line.values == (4.0, 6.0, 12.0)
    assert line.ratios == (4 / 1, 6 / 4, 12 / 5)
    assert line.median == 6.0
    assert "| 6.00 [4.00, 12.00] | s | 3 | 2.40 [1.50, 4.00] x a |" in table([line])


def test_variant_that_cannot_be_measured_is_a_line_with_its_reason_and_is_not_tried_again() -> None:
    tried: list[int] = []

    def absent() -> dict[str, float]:
        tried.append(1)
        raise Missing("PyTorch is not installed")

    series = interleave({"torch": absent, "ours": lambda: {"s": 1.0}}, 3)
    assert len(tried) == 1
    assert series["ours"].values("s") == (1.0, 1.0, 1.0)
    line = row("step", series, "ours", "s", "s", peer="torch")
    assert line.ratios == ()
    missing = row("step", series, "torch", "s", "s", peer="ours")
    assert math.isnan(missing.median)
    assert table([missing]).endswith("| step | torch | - | s | 0 | - | - | PyTorch is not installed |")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["-c", "raise SystemExit('no such device')"], "failed: no such device"),
        (["-c", "print('done')"], "printed no figures: 'done'"),
    ],
)
def test_process_that_fails_or_says_nothing_is_missing(words: list[str], reason: str) -> None:
    with pytest.raises(Missing, match=reason):
        child(words)


def test_process_tells_its_figures_on_its_last_line() -> None:
    assert child(["-c", "print('warming up'); print('{\"s\": 1.5}')"]) == {"s": 1.5}


def test_process_that_takes_too_long_is_ended() -> None:
    with pytest.raises(Missing, match="took more than 1 s"):
        child(["-c", "import time; time.sleep(60)"], timeout_s=1)


def test_peer_without_pytorch_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("torch") is not None:
        pytest.skip("PyTorch is installed here")
    monkeypatch.delenv("BENCH_TORCH_PYTHON", raising=False)
    with pytest.raises(Missing, match="PyTorch is not installed, and BENCH_TORCH_PYTHON names no interpreter"):
        torch_child(["step"])


def test_suite_finds_the_modules_that_offer_rows_and_no_others() -> None:
    found = suite.names()
    assert {"training_step", "input_pipeline", "memory", "export_latency"} <= set(found)
    assert not {"plain_keras", "torch_peer", "coverage", "interleaved", "films"} & set(found)


def test_latency_without_tensorflow_is_told_only_when_it_was_absent() -> None:
    absent, imported = (Series(({"ms": 1.0, "tensorflow": flag},)) for flag in (0.0, 1.0))
    require_tensorflow_is_absent({"keras": imported, "litert": absent})
    with pytest.raises(RuntimeError, match="engine=litert imported TensorFlow"):
        require_tensorflow_is_absent({"keras": imported, "litert": imported})


def test_module_that_fails_is_a_line_of_the_table() -> None:
    (line,) = suite.rows_of("of_no_such_name", True)
    assert line.note.startswith("failed: ModuleNotFoundError")


def test_unknown_benchmark_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SystemExit, match=r"no benchmark is called trainingstep: .*training_step"):
        suite.main(["quick", "trainingstep"])


def test_mistyped_word_measures_nothing() -> None:
    words = [sys.executable, "-m", "benchmarks.memory", "lnog"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "benchmarks.memory lnog: expected no word, or quick, long" in done.stderr


def test_growth_is_the_slope_and_its_interval() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 20)
    growing = memory.slope_of({epoch: 500 + 2.0 * epoch + noise[epoch] for epoch in range(20)})
    assert growing.low < 2.0 < growing.high
    assert growing.high - growing.low < 0.1
    still = memory.slope_of({epoch: 500 + noise[epoch] for epoch in range(20)})
    assert still.low < 0 < still.high


def test_clock_times_full_batches_behind_the_first_epoch() -> None:
    clock = StepClock(num_full=2)
    # (epoch, step, seconds): the first epoch, the step behind validation and the short batch are not counted
    clock.ended = [(0, 0, 0.0), (0, 1, 9.0), (0, 2, 9.5), (1, 0, 30.0), (1, 1, 32.0), (1, 2, 32.5)]
    assert clock.images_per_s() == BATCH_SIZE / 2.0


def graphs(**changed: dict[str, float]) -> dict[str, Series]:
    """Series of all variants as they should be, but for those named."""
    model_adds = 725_042_432
    same = {"parameters": NUM_PARAMETERS, "multiply_adds": model_adds}
    rgb = {
        "parameters": NUM_PARAMETERS + RGB_PARAMETERS,
        "multiply_adds": model_adds + RGB_PARAMETERS * SIZE_PX**2,
    }
    found = {name: same for name in (GRAY, *OURS, *TORCH)} | {PLAIN: rgb} | changed
    return {name: Series((one,)) for name, one in found.items()}


def test_figures_of_unequal_graphs_are_refused() -> None:
    assert require_equal_graphs(graphs()) == 725_042_432
    with pytest.raises(RuntimeError, match="the graphs differ"):
        require_equal_graphs(graphs(**{GRAY: {"parameters": NUM_PARAMETERS + 1, "multiply_adds": 725_042_432}}))
    with pytest.raises(RuntimeError, match="the graphs differ"):
        require_equal_graphs(graphs(**{GRAY: {"parameters": NUM_PARAMETERS, "multiply_adds": 1}}))


def test_plain_twin_has_the_graph_of_the_package_but_for_its_colours() -> None:
    from benchmarks.plain_keras import compiled_model

    plain, gray = counts_of(compiled_model(32)), counts_of(gray_model(32))
    assert gray["parameters"] == NUM_PARAMETERS == plain["parameters"] - RGB_PARAMETERS
    assert plain["multiply_adds"] - gray["multiply_adds"] == RGB_PARAMETERS * 32**2


def test_plain_twin_is_short_and_free_of_the_package() -> None:
    source = PLAIN_FILE.read_text()
    assert len(source.splitlines()) < 60
    imported = {node.module if isinstance(node, ast.ImportFrom) else alias.name
                for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)
                for alias in node.names}  # fmt: skip
    assert imported == {"sys", "time", "keras", "tensorflow"}


def test_plain_twin_trains_from_the_command_line_and_tells_each_epoch(tmp_path: Path) -> None:
    folder = write_folder(phantom_films(tmp_path, 32, 24), tmp_path / "films")
    done = subprocess.run(
        [sys.executable, str(PLAIN_FILE), str(folder), "32", "2", "0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("epoch=")]
    assert [dict(word.split("=") for word in line.split()).keys() for line in told] == [
        {"epoch", "val_loss", "val_accuracy", "elapsed_s"}
    ] * 2


def test_table_keeps_its_columns_whatever_a_remark_says() -> None:
    line = table([Row("f", "v", "s", note="a | b\nc")]).splitlines()[-1]
    assert line.count("|") == 9
