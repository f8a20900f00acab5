"""The command: `python -m cxr_experiments.study study=NAME`, on one page."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import FailedJob, run_command, run_job
from cxr_experiments.config.compose import CONF_DIR, register
from cxr_experiments.config.study_spec import StudyConfig, arms_of, check_spec
from cxr_experiments.errors import ConfigError

register("study_schema", StudyConfig)


@hydra.main(config_path=str(CONF_DIR), config_name="study", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, run."""
    run_job(composed, StudyConfig, run_study)


def run_study(config: StudyConfig) -> None:
    """Plan, train what is missing, compare."""
    from cxr_experiments.study.launch import train_missing
    from cxr_experiments.study.plan import compose_arms, make_plan

    name = study_name(config)
    check_spec(config.study)
    arms = compose_arms(name, config, arms_of(config.study))
    plan = make_plan(name, config, arms)
    if failed := train_missing(plan):
        raise FailedJob(f"{len(failed)} of {len(plan.cells)} cells failed")


def study_name(config: StudyConfig) -> str:
    """The chosen study.

    Raises:
        ConfigError: none was.
    """
    if name := config.choices.get("study"):
        return name
    known = sorted(path.stem for path in (CONF_DIR / "study").glob("*.yaml"))
    raise ConfigError(f"give study=NAME; there are: {', '.join(known)}")


if __name__ == "__main__":
    run_command(main, "study", StudyConfig)
