"""The display: quiet off a terminal; on one, epoch, metrics, speed, and the mark of synthetic images."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cxr_experiments.learning.progress import Progress
from cxr_experiments.learning.trainer import EpochRecord, StepRecord

METRICS = {"loss": 0.5, "accuracy": 0.75, "val_loss": 0.25, "val_accuracy": 0.875, "learning_rate": 0.001}


def shown(*, synthetic: bool, terminal: bool) -> str:
    """What three steps and the end of an epoch write."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=160)
    with Progress(40, synthetic=synthetic, console=console) as display:
        for step in range(3):
            display.batch(StepRecord(epoch=1, step=step, steps_per_epoch=3, loss=0.5, images_per_s=31.6))
        display.epoch(EpochRecord(epoch=1, metrics=METRICS, duration_s=12.3, images_per_s=31.6))
    return written.getvalue()


def test_nothing_is_written_when_the_output_is_no_terminal() -> None:
    assert shown(synthetic=False, terminal=False) == ""


def test_stderr_of_a_script_stays_empty_even_when_colour_is_forced(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Progress(1, synthetic=False) as display:
        display.batch(StepRecord(0, 0, 1, 0.5, 30.0))
        display.epoch(EpochRecord(0, METRICS, 1.0, 30.0))
    assert capfd.readouterr() == ("", "")


def test_each_epoch_leaves_one_line_with_metrics_and_speed() -> None:
    lines = [line for line in shown(synthetic=False, terminal=True).split("\n") if "val_loss" in line]
    assert len(lines) == 1
    expected = "epoch 2/40  loss 0.5000  accuracy 0.7500  val_loss 0.2500  val_accuracy 0.8750  32 images/s  12 s"
    assert expected in lines[0]


def test_bar_counts_steps_over_all_epochs_and_shows_speed() -> None:
    text = shown(synthetic=False, terminal=True)
    assert "epoch 2/40" in text
    assert "6/120" in text  # the second epoch of three steps is over
    assert "32 images/s" in text


def test_lines_with_metrics_of_phantoms_begin_with_synthetic() -> None:
    text = shown(synthetic=True, terminal=True)
    assert "SYNTHETIC epoch 2/40  loss 0.5000" in text
    assert text.count("val_loss") == text.count("SYNTHETIC epoch")
