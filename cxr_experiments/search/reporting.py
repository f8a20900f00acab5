"""What a search tells: a line per trial, the table of trials, the winner with its interval, and how to confirm it."""

from __future__ import annotations

import csv
import io
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from cxr_experiments.config.compose import home, leaf_values
from cxr_experiments.config.identity import RESULT_AFFECTING
from cxr_experiments.config.study_spec import OWN as STUDYS_OWN
from cxr_experiments.evidence.evaluation import Score, read_scores, score_table
from cxr_experiments.record import console
from cxr_experiments.record.run_folder import RunFolder, read_json, write_json
from cxr_experiments.search.book import FAILED, FINISHED, PRUNED, RUNNING, Row
from cxr_experiments.search.plan import Plan, compose_trial, experiment_of
from cxr_experiments.search.trial import objective_of

NUM_SEEDS = 8  # of the study that confirms: as many as one comparison needs to reach p < 0.05 by sign flips, and some
COLUMNS = ("trial", "state", "run_id", "epochs", "value", "low", "high", "setting", "reason")


def say_begun(plan: Plan, rows: Sequence[Row]) -> None:
    """Which search, how far it is, and what other searches of its name there are."""
    config = plan.config
    done = sum(row.state != RUNNING for row in rows)
    console.say(
        f"search {plan.name} ({plan.search_id}): {config.trials} trials by {config.objective} on validation, "
        f"sampler={config.sampler}, pruner={config.pruner}, {done} done"
    )
    write_json(plan.folder / "search.json", plan.told)
    for other in sorted(plan.folder.parent.glob("*/search.json")):
        if other.parent != plan.folder and not rows:
            told = read_json(other)
            differing = [key for key, value in plan.told.items() if told.get(key) != value]
            console.say(f"search {other.parent.name} of this name is another one: {_differing(differing, told, plan)}")


def say_trial(plan: Plan, row: Row, done: int) -> None:
    """One trial that ended, as one line."""
    score = f"  {_told(objective_of(plan, run_of(plan, row)))}" if row.state == FINISHED else ""
    reason = f"  ({row.reason})" if row.reason else ""
    setting = " ".join(plan.words(row.params))
    line = f"{row.state:<8} trial {row.number}{score}  {setting}{reason}  ({done} of {plan.config.trials} done)"
    console.say(line, synthetic=plan.synthetic and bool(score or row.state == PRUNED))


def report(plan: Plan, rows: Sequence[Row]) -> None:
    """The table of trials in their order, trials.csv, and the winner, if a trial was finished."""
    _write_table(plan, rows)
    counts = {state: sum(row.state == state for row in rows) for state in (FINISHED, PRUNED, FAILED)}
    told = ", ".join(f"{number} {state}" for state, number in counts.items())
    console.say(f"search {plan.name}: {told}; all of them: {plan.folder / 'trials.csv'}")
    best = winner(rows)
    if best is None:
        console.say("no trial was finished: there is no winner")
        return
    settings = {row.run_id for row in rows if row.state == FINISHED}
    scores = _scores(plan, best)
    console.say(
        f"winner: trial {best.number}, run {best.run_id}, best {plan.config.objective} of {len(settings)} settings "
        f"that were trained to their end ({len(rows)} trials): {' '.join(plan.words(best.params))}",
        synthetic=plan.synthetic,
    )
    print(*score_table(scores, synthetic=plan.synthetic), sep="\n", flush=True)
    for line in _confirmation(plan, best):
        console.say(line)


def winner(rows: Sequence[Row]) -> Row | None:
    """The finished trial with the lowest loss, the first of equals; None when none is finished."""
    finished = [row for row in rows if row.loss is not None]
    return min(finished, key=lambda row: (row.loss, row.number), default=None)


def run_of(plan: Plan, row: Row) -> RunFolder:
    """The run of a trial."""
    return RunFolder(home() / "runs" / experiment_of(plan) / row.run_id)


def _confirmation(plan: Plan, best: Row) -> list[str]:
    """Why the winner's value promises too much, and the study that asks again with seeds that chose nothing."""
    told = [
        "the best of many on the images that chose it is optimistic, and its interval knows nothing of the choice;",
        "the official test split was not opened",
    ]
    won = compose_trial(plan.name, plan.config, plan.spec, plan.words(best.params))
    before, after = leaf_values(plan.base), leaf_values(won)
    if not any(before[key] != after[key] for key in after if key.partition(".")[0] in RESULT_AFFECTING):
        return [*told, "the winner is the baseline as it stands: there is nothing to confirm"]
    name = _write_study(plan, best)
    words = [f"study={name}", f"hydra.searchpath=[file://{plan.folder}]", "study.margin=0.01"]
    command = " ".join(["python -m cxr_experiments.study", *map(shlex.quote, words)])
    return [
        *told,
        f"to confirm it against the baseline, with {NUM_SEEDS} fresh seeds and splits:",
        f"  {command}",
        "margin: the smallest difference that matters to you; dry_run=true shows the plan, confirm=true opens the test",
    ]


def _write_study(plan: Plan, best: Row) -> str:
    """A study of baseline and winner in the search's folder; its name."""
    name, seed = f"{plan.name}_winner", plan.base.seed
    baseline = [word for word in plan.spec.baseline if not _is_studys(word)]
    study = {
        "question": f"Is the winner of search {plan.name} ({plan.search_id}) better than its baseline?",
        "baseline": baseline,
        "factors": {"search": [{"winner": list(plan.words(best.params))}]},
        "seeds": list(range(seed + 1, seed + 1 + NUM_SEEDS)),
        "primary_metric": "auroc",
    }
    path = plan.folder / "study" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    _write(path, OmegaConf.to_yaml(OmegaConf.create(study)))
    return name


def _is_studys(word: str) -> bool:
    """What a study gives to its cells itself."""
    key = word.lstrip("+~").partition("=")[0]
    return any(key == own or key.startswith((f"{own}.", f"{own}/")) for own in (*STUDYS_OWN, "threshold"))


def _scores(plan: Plan, row: Row) -> list[Score]:
    """The objective, then AUROC and log loss whatever the objective is."""
    names = dict.fromkeys((plan.config.objective, "val_auroc", "val_log_loss"))
    found = {one.name: one for one in read_scores(run_of(plan, row).file("scores.csv"))}
    return [found[name] for name in names if name in found]


def _write_table(plan: Plan, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in rows:
        score = objective_of(plan, run_of(plan, row)) if row.state == FINISHED else None
        values = [repr(one) for one in (score.value, score.low, score.high)] if score else ["", "", ""]
        setting = " ".join(plan.words(row.params))
        table.writerow([row.number, row.state, row.run_id, row.epochs, *values, setting, row.reason])
    _write(plan.folder / "trials.csv", text.getvalue())


def _write(path: Path, text: str) -> None:
    """Under a temporary name, then renamed: several processes may tell of one search at once."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _told(score: Score) -> str:
    return f"{score.name} {score.value:.4f} [{score.low:.4f}, {score.high:.4f}]"


def _differing(keys: Sequence[str], told: dict[str, object], plan: Plan) -> str:
    """`space, pruner`, and of the baseline's run what differs in it."""
    names = [key for key in keys if key != "baseline_run"]
    if "baseline_run" in keys:
        before, now = told.get("baseline_run"), plan.told["baseline_run"]
        parts = [key for key in now if not isinstance(before, dict) or before.get(key) != now[key]]
        names += [f"baseline ({', '.join(parts)})"]
    return f"{' and '.join(names)} differ"
