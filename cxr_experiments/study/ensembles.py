"""A study that says `ensemble: true`: the networks of each arm as one, from the test rows that its cells hold."""

from __future__ import annotations

import math
from pathlib import Path

from cxr_experiments.evidence.arm_ensembles import ArmEnsemble, EnsembleScore, arm_ensemble, ensemble_scores
from cxr_experiments.evidence.calibration import Threshold
from cxr_experiments.evidence.comparison import Comparison
from cxr_experiments.evidence.ensemble import EACH_VALIDATION
from cxr_experiments.record import console
from cxr_experiments.record.report import StudyFacts, write_ensembles
from cxr_experiments.record.report.tables import interval
from cxr_experiments.study.judge import Judged


def report_ensembles(folder: Path, facts: StudyFacts, comparison: Comparison, judged: Judged) -> None:
    """Write ensembles.csv and ensembles.md beside the report, and print one line per arm.

    Raises:
        ComparisonError: cells of one arm were judged on different images.
    """
    arms = [_ensemble(name, judged) for name in judged.stored]
    scores = ensemble_scores(arms)
    path = write_ensembles(folder, facts, comparison, scores, _origin(arms[0]))
    for one in scores:
        if one.measure in (comparison.metric, f"{comparison.metric}_at_frozen"):
            console.say(_line(one, comparison.label), synthetic=comparison.synthetic)
    console.say(f"ensembles: {path}")


def _ensemble(name: str, judged: Judged) -> ArmEnsemble:
    cells = judged.stored[name]
    test, val = ([cell.predictions[split] for cell in cells] for split in ("test", "val"))
    return arm_ensemble(name, test, val, [Threshold(**cell.facts["threshold"]) for cell in cells])


def _origin(arm: ArmEnsemble) -> str:
    frozen = arm.threshold
    if frozen.rule == "fixed":
        return f"{frozen.value:g}, given beforehand"
    rule = f"{frozen.rule} {frozen.target:g}"
    if frozen.set_on == EACH_VALIDATION:
        return f"mean of the members' thresholds, {rule}, each frozen on its own validation images"
    return f"{rule}, set on the ensemble's own predictions of {frozen.num_images} validation images"


def _line(one: EnsembleScore, label: str) -> str:
    told = f"ensemble of {one.arm}: {label} {interval(one.ensemble)}, mean of its {one.num_members} networks "
    told += interval(one.members)
    base = one.difference
    return told + ("" if math.isnan(base.value) else f"; less the baseline's ensemble {interval(base)}")
