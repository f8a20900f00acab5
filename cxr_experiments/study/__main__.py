"""The command: `python -m cxr_experiments.study study=NAME`, on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import run_command, run_job
from cxr_experiments.config.compose import CONF_DIR, register
from cxr_experiments.config.study_spec import StudyConfig, arms_of, check_spec, on_images
from cxr_experiments.errors import ConfigError, RunError
from cxr_experiments.study.words import lists_as_text

if TYPE_CHECKING:
    from cxr_experiments.evidence.comparison import Comparison

register("study_schema", StudyConfig)


@hydra.main(config_path=str(CONF_DIR), config_name="study", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, run."""
    run_job(composed, StudyConfig, run_study)


def run_study(config: StudyConfig) -> None:
    """Plan, prove that the factors take effect, train what is missing, compare, report; confirm when asked to.

    Raises:
        ConfigError: the study cannot be planned, or cannot reach a verdict.
        RunError: cells failed; what could be compared was.
    """
    name, config = study_name(config), on_images(config)
    check_spec(config.study)
    from cxr_experiments.record import console
    from cxr_experiments.record.places import Places
    from cxr_experiments.study.confirm import confirm
    from cxr_experiments.study.dry_run import plan_lines, refuse_hopeless
    from cxr_experiments.study.judge import Trained
    from cxr_experiments.study.launch import train_missing, unanswered
    from cxr_experiments.study.noise import train_noise_floor
    from cxr_experiments.study.plan import compose_arms, make_plan
    from cxr_experiments.study.proof import prove_effects
    from cxr_experiments.study.reporting import report
    from cxr_experiments.study.tune import Tuning, tuned_arms

    places = Places()
    tuned = tuned_arms(Tuning(name, config, places if config.trains else None), arms_of(config.study))
    arms = compose_arms(name, config, tuned.arms)
    if config.report_only:
        if tuned.pending:
            raise RunError(f"there is nothing to report yet; {tuned.pending}")
        return say_comparison(name, report(name, config, arms, "test" if config.confirm else "val", tuned.told))
    plan = make_plan(name, config, arms, places)
    if config.dry_run:
        console.say("\n".join([*plan_lines(plan), *filter(None, [tuned.pending]), *prove_effects(plan)]))
        return refuse_hopeless(plan, config)
    if len(missing := unanswered(plan)) == len(plan.cells):  # what was begun may be finished
        refuse_hopeless(plan, config)
    if missing:
        console.say("\n".join(prove_effects(plan)))
    failed = train_missing(plan)
    if config.noise_floor and not failed:
        train_noise_floor(plan, config)
    trained = Trained({cell.identity.run_id for cell in plan.cells}, failed)
    say_comparison(name, report(name, config, arms, "val", tuned.told, trained))
    if failed:
        raise RunError(f"{len(failed)} of {len(plan.cells)} cells failed, see FAILED above; the same command goes on")
    if config.confirm:
        confirm(plan)
        say_comparison(name, report(name, config, arms, "test", tuned.told, trained))


def say_comparison(name: str, comparison: Comparison) -> None:
    """The verdicts, one sentence each, and where the report lies."""
    from cxr_experiments.record import console
    from cxr_experiments.study.reporting import report_folder

    for one in comparison.differences:
        console.say(one.sentence, synthetic=comparison.synthetic)
    console.say(f"report: {report_folder(name, comparison.split) / 'report.html'}")


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
    run_command(main, "study", StudyConfig, read_words=lists_as_text)
