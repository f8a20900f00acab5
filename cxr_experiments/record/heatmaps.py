"""The page of heat maps that a run leaves: which validation films are worth a look, and what the maps are worth."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_experiments.errors import RunError
from cxr_experiments.record import explanations, figures
from cxr_experiments.record.figures import Caption, ExplainedFilm
from cxr_experiments.record.run_folder import RunFolder, write_json

if TYPE_CHECKING:
    from cxr_experiments.config.schema import ExperimentConfig
    from cxr_experiments.evidence.evaluation import Predictions
    from cxr_experiments.images.store import Store
    from cxr_experiments.record.explanations import Explainer
    from cxr_experiments.record.results import Costs, Evidence

NUM_SHOWN = 2  # of each kind: eight pairs on a page


def keep_heatmaps(
    folder: RunFolder, explainer: Explainer, store: Store, evidence: Evidence, config: ExperimentConfig, costs: Costs
) -> None:
    """Check the architecture on phantoms where that is due, then draw the heat over telling validation films.

    Writes explanations.json and figures/val_heatmaps.png; of a network that has no heat map the reason alone.
    """
    rows = telling_rows(evidence.predictions, evidence.threshold.value, store.manifest.classes)
    told: dict[str, Any] = {"method": explainer.method, "passed": False, "words": "", "reason": "", "check": None}
    told["films"] = {kind: evidence.predictions.image_id[group].tolist() for kind, group in rows.items()}
    try:
        num_passes = costs.num_train * costs.epochs_run
        if explanations.needs_check(folder, explainer.method, num_passes=num_passes, synthetic=evidence.synthetic):
            found = explanations.check_on_phantoms(explainer, evidence.predictions, store, config.data)
            told["check"] = found and explanations.keep_check(folder, explainer.method, found)
        worth = explanations.read_worth(folder, explainer.method)
        films = explained_films(explainer, store, evidence, rows)
        told |= asdict(worth)
    except RunError as error:
        told["reason"] = str(error)
    else:
        folder.file("figures").mkdir(exist_ok=True)
        caption = Caption(
            worth.words, store.manifest.classes[1], evidence.threshold.value, synthetic=evidence.synthetic
        )
        page = folder.file(f"figures/{evidence.predictions.split}_heatmaps.png")
        figures.draw_heatmaps(page, films, caption)
    write_json(folder.file("explanations.json"), told)


def telling_rows(predictions: Predictions, threshold: float, classes: tuple[str, str]) -> dict[str, list[int]]:
    """Rows worth a look: the most confidently wrong of each class, then right ones of middling confidence.

    Args:
        predictions: of one split.
        threshold: where the probability becomes the positive label.
        classes: names of label 0 and label 1.

    Returns:
        Kind -> up to NUM_SHOWN rows, by confidence and then by image id.
    """
    right = (predictions.probability >= threshold) == (predictions.label == 1)
    groups: dict[str, list[int]] = {}
    for is_right, words in ((False, ("false alarm", "missed")), (True, ("typical", "typical"))):
        for label in (1, 0):
            rows = np.flatnonzero((predictions.label == label) & (right == is_right))
            score = predictions.probability[rows]
            middle = np.sort(score)[len(score) // 2 : len(score) // 2 + 1]  # empty without rows
            rank = np.abs(score - middle) if is_right else score * (2 * label - 1)
            order = np.lexsort((predictions.image_id[rows], rank))
            groups[f"{classes[label]}, {words[label]}"] = rows[order][:NUM_SHOWN].tolist()
    return groups


def explained_films(
    explainer: Explainer, store: Store, evidence: Evidence, rows: dict[str, list[int]]
) -> dict[str, list[ExplainedFilm]]:
    """Kind -> its films with their heat.

    Raises:
        RunError: the network has no heat map.
    """
    predictions, classes = evidence.predictions, store.manifest.classes
    place = {row.image_id: number for number, row in enumerate(store.manifest.rows)}
    wanted = [row for group in rows.values() for row in group]
    images = np.asarray(store.images[[place[str(predictions.image_id[row])] for row in wanted]])
    heat = dict(zip(wanted, explainer.heat(images), strict=True))
    films = dict(zip(wanted, images[..., 0], strict=True))

    def explained(row: int) -> ExplainedFilm:
        probability, patient = float(predictions.probability[row]), str(predictions.patient[row])
        return ExplainedFilm(
            film=films[row],
            heat=heat[row],
            resize="squash",  # what is shown is the prepared square itself
            probability=probability,
            called=classes[int(probability >= evidence.threshold.value)],
            name=f"{predictions.image_id[row]}\n{f'patient {patient}' if patient else 'patient not known'}",
        )

    return {kind: [explained(row) for row in group] for kind, group in rows.items()}
