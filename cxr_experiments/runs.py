"""python -m cxr_experiments.runs why run=ID | mend: why a run is not another one, and what killed processes left."""

from __future__ import annotations

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
        ConfigError: `why` without a run.
        RunError: no such run, or more than one.
    """
    if config.what == "why":
        tell_why(config)
    else:
        mend_all()


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


def mend_all() -> None:
    """Print what was put right."""
    from cxr_experiments.record.mending import mend

    done = 0
    for line in mend(home()):
        print(line, flush=True)
        done += 1
    if not done:
        print(f"nothing to mend under {home() / 'runs'}")


def verb_first(words: list[str]) -> list[str]:
    """`why run=ID` -> `what=why run=ID`."""
    if words and "=" not in words[0] and not words[0].startswith("-"):
        return [f"what={words[0]}", *words[1:]]
    return words


if __name__ == "__main__":
    run_command(main, "runs", RunsConfig, read_words=verb_first)
