"""python -m cxr_experiments.runs why run=ID | mend | sync: why runs differ, what was left behind, what MLflow lacks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import run_command, run_job
from cxr_experiments.config.commands import RunsConfig
from cxr_experiments.config.compose import CONF_DIR, home, register
from cxr_experiments.errors import ConfigError

register("runs_schema", RunsConfig)


@hydra.main(config_path=str(CONF_DIR), config_name="runs", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, look after the runs."""
    run_job(composed, RunsConfig, look_after)


def look_after(config: RunsConfig) -> None:
    """Do what the first word asks for.

    Raises:
        ConfigError: `why` without a run, or `sync` to nowhere.
        RunError: no such run, or more than one.
    """
    from cxr_experiments.record import tracking
    from cxr_experiments.record.mending import mend
    from cxr_experiments.record.syncing import sync

    if config.what == "why":
        tell_why(config)
    elif config.what == "mend":
        say_each("mend", mend(home()))
    elif config.tracking and config.tracking.kind == "disabled":
        raise ConfigError(
            "runs sync tracking=disabled: expected tracking=server tracking.uri=http://host:port, or local"
        )
    else:
        tracking.wait_longer()
        say_each("send to MLflow", sync(home(), model_and_example, config.tracking))


def tell_why(config: RunsConfig) -> None:
    """Print the components in which a run differs from the nearest other one."""
    from cxr_experiments.record import differences
    from cxr_experiments.record.run_folder import all_runs, find_run, read_state

    runs = home() / "runs"
    if not config.run:
        raise ConfigError("why which run? runs why run=ID")
    run = find_run(runs, config.run, config.experiment_name)
    found = differences.nearest(run, all_runs(runs))
    if found is None:
        print(f"run {run.run_id} is the only one under {runs}")
        return
    names = [f"{one.run_id} ({one.experiment_name}, {read_state(one).status})" for one in (run, found.other)]
    if not found.components:
        print(f"run {names[0]} is {names[1]} under another name")
        return
    print(f"run {names[0]} differs from the nearest, {names[1]}, in:")
    for line in differences.told(found):
        print(f"  {line}")


def say_each(what: str, lines: Iterable[str]) -> None:
    """Print what is done as it is done."""
    number = 0
    for number, line in enumerate(lines, start=1):  # noqa: B007
        print(line, flush=True)
    if not number:
        print(f"nothing to {what} under {home() / 'runs'}")


def model_and_example(path: Path) -> tuple[Any, Any]:
    """A run's model, and an input for its signature."""
    from cxr_experiments.learning import contact_sheet, trainer  # TensorFlow now

    model = trainer.load_model(path)
    return model, contact_sheet.gray_ramp(int(model.input.shape[1]))


def verb_first(words: list[str]) -> list[str]:
    """`why run=ID` -> `what=why run=ID`; flags stand behind."""
    if words and "=" not in words[0] and not words[0].startswith("-"):
        return [f"what={words[0]}", *words[1:]]
    return words


if __name__ == "__main__":
    run_command(main, "runs", RunsConfig, read_words=verb_first)
