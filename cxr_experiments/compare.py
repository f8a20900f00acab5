"""python -m cxr_experiments.compare: two sets of prediction files, of any framework, and a verdict.

Neither TensorFlow nor MLflow is needed: every statistic comes from the files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import run_command, run_job
from cxr_experiments.config.commands import CompareConfig
from cxr_experiments.config.compose import CONF_DIR, register
from cxr_experiments.errors import ConfigError

if TYPE_CHECKING:
    from cxr_experiments.evidence.comparison import Arm, Comparison

register("compare_schema", CompareConfig)


@hydra.main(config_path=str(CONF_DIR), config_name="compare", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, compare."""
    run_job(composed, CompareConfig, compare)


def compare(config: CompareConfig) -> None:
    """Read both sides, compare b with a, and say what was found.

    Raises:
        ConfigError: a side or the margin is not given.
        ComparisonError: the files may not be compared.
        RunError: a file cannot be read.
    """
    from cxr_experiments.evidence.comparison import compare_arms, read_arm
    from cxr_experiments.record import console
    from cxr_experiments.record.report.terminal import terminal_lines

    if not config.a or not config.b:
        raise ConfigError("give both sides: a='FOLDER/*.csv' b='FOLDER/*.csv', one file per trained network")
    if config.margin is None:
        raise ConfigError(
            f"margin has no value: give the smallest difference in {config.metric} that matters, as margin=0.01"
        )
    before = read_arm(config.name_a, config.a, split=config.split)
    after = read_arm(config.name_b, config.b, split=config.split)
    found = compare_arms(before, [after], metric=config.metric, margin=config.margin)
    console.say("\n".join(terminal_lines(found)), synthetic=found.synthetic)
    console.say(paired_by(before, after))
    if config.output:
        console.say(f"written: {write_comparison(Path(config.output), found)}")


def paired_by(before: Arm, after: Arm) -> str:
    """Which files were taken as one repetition; where no seed is told, that is their order."""
    pairs = [f"{one.run_id} with {two.run_id}" for one, two in zip(before.cells, after.cells, strict=True)]
    more = f", and {len(pairs) - 4} more" if len(pairs) > 4 else ""
    return f"{before.name} and {after.name}, paired by seed or else by file order: {', '.join(pairs[:4])}{more}"


def write_comparison(folder: Path, found: Comparison) -> Path:
    """comparison.csv at full precision, and the forest plot beside it.

    Raises:
        ConfigError: the folder cannot be written.
    """
    from cxr_experiments.record.figures import draw_forest
    from cxr_experiments.record.report.writing import csv_text

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "comparison.csv").write_text(csv_text(found), encoding="utf-8", errors="surrogateescape")
        draw_forest(folder / "forest.png", found)
    except OSError as error:
        raise ConfigError(f"output={folder} cannot be written: {error.strerror}; give another folder") from error
    return folder / "comparison.csv"


if __name__ == "__main__":
    run_command(main, "compare", CompareConfig)
