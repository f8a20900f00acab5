"""What is said of runs that are judged as one: who they are, validation beside, scores beside the members' own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cxr_experiments.config.commands import EvaluateConfig
from cxr_experiments.config.compose import home
from cxr_experiments.evaluate.member import Member
from cxr_experiments.evidence.comparison import MEASURES, Cell, Estimate, Rows
from cxr_experiments.evidence.ensemble import mean_estimate, paired_difference
from cxr_experiments.evidence.evaluation import Predictions, read_predictions, score_table
from cxr_experiments.record import console, results, tracking
from cxr_experiments.record.results import Evidence
from cxr_experiments.record.run_folder import RunFolder, write_json
from cxr_experiments.record.tracking import RunCard
from cxr_experiments.record.twin_in_mlflow import where_told

NO_VALIDATION = (
    "no validation score of the ensemble: each member has a validation split of its own, so that an image which "
    "validated one was trained on by another"
)


def say_members(name: str, members: Sequence[Member]) -> None:
    """`ensemble-...: mean probability of 6 runs (...), each over the image and 8 augmented copies`."""
    tta = members[0].tta
    copies = f"the plain image and {tta} augmented copies" if tta else ""
    if len(members) == 1:
        return console.say(f"run {name}: mean probability over {copies}")
    ids = " ".join(member.folder.run_id for member in members)
    console.say(f"{name}: mean probability of {len(members)} runs ({ids}){f', each over {copies}' if copies else ''}")


def say_validation(members: Sequence[Member], validations: Sequence[Predictions], joint: Predictions | None) -> None:
    """Validation AUROC and log loss: with copies against without, and of the ensemble against its members' mean."""
    synthetic = members[0].synthetic
    cells = cells_of(validations)
    if members[0].tta:
        plain = cells_of([read_predictions(member.folder.predictions("val")) for member in members])
        say_pair("with copies", cells, ("plain images", plain), synthetic=synthetic)
    if len(members) > 1 and joint is not None:
        say_pair("ensemble", cells_of([joint] * len(cells)), ("mean of its members", cells), synthetic=synthetic)
    elif len(members) > 1:
        console.say(NO_VALIDATION, synthetic=synthetic)


def say_test(evidence: Evidence, members: Sequence[Predictions]) -> None:
    """The headline metrics, the threshold and where it comes from, and the members' own mean beside."""
    synthetic = evidence.synthetic
    shown = [one for one in evidence.scores if one.name in console.SHOWN]
    print(*score_table(shown, synthetic=synthetic), sep="\n", flush=True)
    console.say(console.told_threshold(evidence), synthetic=synthetic)
    if evidence.calibration:
        console.say(console.told_temperature(evidence), synthetic=synthetic)
    if len(members) > 1:
        joint = cells_of([evidence.predictions] * len(members))
        say_pair("ensemble", joint, ("mean of its members", cells_of(members)), synthetic=synthetic)


def say_pair(name: str, cells: Sequence[Cell], other: tuple[str, Sequence[Cell]], *, synthetic: bool) -> None:
    """Two ways to ask the same networks, side by side, with the difference over patients."""
    what, before = other
    images = {image_id for cell in cells for image_id in cell.rows.image_id.tolist()}
    patients = {patient for cell in cells for patient in cell.rows.patient.tolist()}
    counts = f"{len(images)} images, " + (f"{len(patients)} patients" if "" not in patients else "over images")
    for metric in ("auroc", "log_loss"):
        told = f"{told_estimate(mean_estimate(cells, metric))}; {what} {told_estimate(mean_estimate(before, metric))}"
        difference = told_estimate(paired_difference(before, cells, metric))
        label = f"{cells[0].split} {MEASURES[metric].label}"
        console.say(f"{label}, {name} {told}; difference {difference} ({counts})", synthetic=synthetic)


def told_estimate(one: Estimate) -> str:
    """`0.9512 [0.9301, 0.9688]`; the value alone where there is no interval."""
    return f"{one.value:.4f}" + ("" if np.isnan(one.low) else f" [{one.low:.4f}, {one.high:.4f}]")


def cells_of(predictions: Sequence[Predictions]) -> list[Cell]:
    """Predictions as a comparison takes them, paired by their order."""
    rows = {id(one): Rows.of(one) for one in predictions}
    return [
        Cell(one.run_id, number, one.split, rows[id(one)], one.dataset_digest) for number, one in enumerate(predictions)
    ]


def tell_mlflow(place: RunFolder, members: Sequence[Member], config: EvaluateConfig, evidence: Evidence) -> None:
    """A run of its own, tagged with its kind, beside the members' runs; written once.

    Raises:
        TrackingError: MLflow's store is gone or cannot be written.
    """
    first, kept = members[0], place.file("mlflow.json")
    told_to = config.tracking or where_told(first.folder, home())
    where, _ = tracking.find_place(told_to, home(), first.folder.file("mlflow.json"))
    if where is None or kept.is_file():
        return
    kind, rows = "ensemble" if config.ensemble else "test_time_augmentation", evidence.predictions
    tags = {
        "kind": kind,
        "cxr.run_ids": " ".join(member.folder.run_id for member in members),
        "cxr.synthetic": str(evidence.synthetic).lower(),
        "cxr.dataset_digest": rows.dataset_digest,
    }
    params = {"num_members": len(members), "tta": config.tta}
    card = RunCard(f"{kind} of {len(members)}", params, tags, first.trained.data.source, rows.dataset_digest)
    run_id = tracking.start_run(where, card)
    files = ("members.json", "scores.csv", "predictions_test.csv", "threshold_test.json", "figures")
    tracking.log_final(where, run_id, results.final_values(evidence.scores), [place.file(name) for name in files])
    tracking.end_run(where, run_id, "FINISHED")
    write_json(kept, {"experiment_id": where.experiment_id, "run_id": run_id})
