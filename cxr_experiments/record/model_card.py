"""The card of a registered network, in Markdown: what it is, what it was judged at, and what it must not be used for.

Everything in it is read from the run folders; no number stands there without its interval and its n.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cxr_experiments.config.compose import load_config
from cxr_experiments.config.identity import told_params
from cxr_experiments.errors import one_line
from cxr_experiments.evidence.ensemble import told_origin
from cxr_experiments.evidence.evaluation import Score, read_scores
from cxr_experiments.record.console import SHOWN
from cxr_experiments.record.registered import Answering
from cxr_experiments.record.run_folder import RunFolder, read_json, read_told
from cxr_experiments.record.shortcut_gate import read_gate, told_alarms

UNTOLD = ("seed", "seeds.split", "tracking")
CALIBRATION = ("log_loss_as_trained", "log_loss_tempered", "calibration_slope_as_trained")


@dataclass(frozen=True)
class Judged:
    """What is known of how good the network is: its scores, its calibration, and the threshold of its test scores."""

    scores: tuple[Score, ...] = ()
    calibration: tuple[Score, ...] = ()
    test_threshold: float | None = None


def judged_in(place: RunFolder) -> Judged:
    """What stands in the folder of a run or of an ensemble; nothing where there is none."""
    scores, calibration = (
        read_scores(place.file(name)) if place.file(name).is_file() else ()
        for name in ("scores.csv", "calibration.csv")
    )
    tested = place.file("threshold_test.json")
    return Judged(scores, calibration, float(read_json(tested)["value"]) if tested.is_file() else None)


def model_card(called: str, one: Answering, judged: Judged) -> str:
    """The whole card.

    Args:
        called: the name in the registry.
        one: the network.
        judged: its scores; of an ensemble without a validation split of its own there may be none.
    """
    parts = [
        [f"# {called}: {one.name}", *_warning(one), *_what(one)],
        ["## Intended use", *_use(one)],
        ["## Data", *_data(one)],
        ["## Scores", *_scores(one, judged)],
        ["## Threshold", _threshold(one)],
        ["## Calibration", *_calibration(one, judged)],
        ["## Shortcut gate", *_gate(one)],
        ["## Limits", *_limits(one)],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _warning(one: Answering) -> Iterator[str]:
    yield "\n**Not a medical device.**"
    if one.synthetic:
        yield "**SYNTHETIC: trained on phantoms alone. Its answers on real films mean nothing.**"


def _what(one: Answering) -> Iterator[str]:
    config, size = load_config(one.members[0].file("config.yaml")), one.data.image_size_px
    params = {name: value for name, value in told_params(config).items() if name not in UNTOLD}
    num_parameters = int(read_json(one.members[0].file("costs.json"))["num_parameters"])
    many = f"The mean of the probabilities of {len(one.members)} networks" if len(one.members) > 1 else "One network"
    negative, positive = one.data.classes
    yield f"\n{many} of {num_parameters:,} parameters that tells {negative} (0) from {positive} (1)."
    yield f"It takes images ({size}, {size}, 1) uint8, gray, prepared by data.resize={one.data.resize}."
    yield "\n- runs: " + ", ".join(f"{one.run_id} (seed {_seed(one)})" for one in one.members)
    yield f"- experiment: {one.members[0].experiment_name}"
    yield "- choices: " + one_line(", ".join(f"{name}={value}" for name, value in params.items()), limit=600)


def _seed(folder: RunFolder) -> int:
    return load_config(folder.file("config.yaml")).seed


def _use(one: Answering) -> Iterator[str]:
    yield "Research: to compare with other classifiers, and to look at how and where it fails."
    yield "The probability is that of the second class for films like those below, at their prevalence."


def _data(one: Answering) -> Iterator[str]:
    first = one.members[0]
    identity, costs = read_json(first.file("identity.json")), read_json(first.file("costs.json"))
    split = load_config(first.file("config.yaml")).split.kind
    yield f"- data={one.data.source}, digest `{one_line(identity['dataset_digest'])}`"
    counts = f"{int(costs['num_train']):,} training and {int(costs['num_val']):,} validation images"
    yield f"- split={split}: {counts}{' of the first run' if len(one.members) > 1 else ''}"
    for what, name in (("verify", "data_report.json"), ("leakage", "leakage.json")):
        if told := read_told(first, name):
            yield f"- {what}: {one_line(told, limit=400)}"


def _scores(one: Answering, judged: Judged) -> Iterator[str]:
    mark = "SYNTHETIC " if one.synthetic else ""
    shown = [score for score in judged.scores if score.name in SHOWN]
    if not shown:
        yield "The ensemble has no scores: each member has a validation split of its own, and the test split was not"
        yield "opened for it (`evaluate ensemble=true`). Those of its members:"
        for member in one.members:
            own = read_scores(member.file("scores.csv"))
            yield from _table([score for score in own if score.name == "val_auroc"], f"{mark}run {member.run_id} ")
        return
    yield from _table(shown, mark)
    if not any(score.name.startswith("test_") for score in shown):
        yield "\nThe test split was not opened."
    elif judged.test_threshold not in (None, one.threshold.value):
        yield f"\nTest scores at_frozen are at the threshold {judged.test_threshold:.4f}."


def _table(shown: Sequence[Score], mark: str) -> Iterator[str]:
    over = "patients" if all(score.num_patients for score in shown) else "images (patients not verifiable)"
    yield f"\n| metric | value | 95 % interval over {over} | images | patients |"
    yield "|---|---|---|---|---|"
    for score in shown:
        interval = "not defined" if math.isnan(score.low) else f"[{score.low:.4f}, {score.high:.4f}]"
        counts = f"{score.num_images} | {score.num_patients or '-'}"
        yield f"| {mark}{score.name} | {score.value:.4f} | {interval} | {counts} |"


def _threshold(one: Answering) -> str:
    frozen = one.threshold
    return f"{one.data.classes[1]} from a probability of {frozen.value:.6f} on: {told_origin(frozen)}."


def _calibration(one: Answering, judged: Judged) -> Iterator[str]:
    named, mark = {score.name: score for score in judged.calibration}, "SYNTHETIC " if one.synthetic else ""
    wanted = [f"{split}_{name}" for split in ("val", "test") for name in CALIBRATION]
    found = [named[name] for name in wanted if name in named and not math.isnan(named[name].value)]
    for score in found:
        interval = f"[{score.low:.4f}, {score.high:.4f}], {score.num_images} images"
        note = f" ({one_line(score.note)})" if score.note else ""
        yield f"- {mark}{score.name.replace('_', ' ')}: {score.value:.4f} {interval}{note}"
    yield "Probabilities are given as trained: no temperature is applied." if found else "Not judged."


def _gate(one: Answering) -> Iterator[str]:
    for member in one.members:
        yield f"- run {member.run_id}: {one_line(told_alarms(read_gate(member)), limit=600)}"


def _limits(one: Answering) -> Iterator[str]:
    yield "- Not a medical device: not for diagnosis, triage, or any decision about a patient."
    yield "- It knows two classes. Other findings, ages, devices and views get a probability that means nothing."
    yield "- The scores are those of the data set named above; how it does elsewhere was not measured."
    yield "- The threshold is frozen; at another prevalence the same threshold has another predictive value."
