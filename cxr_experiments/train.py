"""python -m cxr_experiments.train: one run, from config to record, on one page.  The test split stays closed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import run_command, run_job
from cxr_experiments.config.compose import CONF_DIR, home, register
from cxr_experiments.config.schema import ExperimentConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cxr_experiments.learning.pipeline import Pipeline
    from cxr_experiments.learning.trainer import Trained
    from cxr_experiments.record.epoch import Epoch
    from cxr_experiments.record.results import Costs

register("schema", ExperimentConfig)


@hydra.main(config_path=str(CONF_DIR), config_name="config", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, run."""
    run_job(composed, ExperimentConfig, run_experiment)


def run_experiment(config: ExperimentConfig, on_epoch_end: Callable[[Epoch], None] | None = None) -> str:
    """Train one network, keep everything that it leaves, and return the run's id.

    A finished run with the same identity is named instead of being trained again; `rerun=true` trains a replicate.
    `on_epoch_end` hears of each epoch, those before a resumption included, and may end the run by an error.

    Raises:
        CxrError: one of its kinds, by the stage that failed; the run folder, once there is one, says so too.
    """
    from cxr_experiments.config.seeds import resolve_seeds
    from cxr_experiments.images.splits import make_split
    from cxr_experiments.record import console, heatmaps, results, run_plan
    from cxr_experiments.record.live_run import live_run

    runs, seeds = home() / "runs", resolve_seeds(config)
    store = console.open_counted(config.data, runs)
    split = make_split(store.manifest, config.data, seed=seeds.split, kind=config.split.kind)
    plan = run_plan.plan_run(config, store, split, runs)
    if (finished := run_plan.find_finished(plan, runs)) is not None:
        console.say_finished_before(finished)
        return finished.run_id
    from cxr_experiments.evidence.evaluation import predict_split, predict_stressed, train_sample
    from cxr_experiments.learning import contact_sheet, heatmap, model, pipeline, progress, trainer  # TensorFlow now

    console.say_started(plan)
    display = progress.Progress(config.training.epochs, synthetic=store.manifest.synthetic)
    with live_run(home(), plan, on_epoch_end) as run, display:
        console.say_devices(config.training, trainer.start_tensorflow(config))
        batches = pipeline.make_pipeline(config, store, split, seeds, runs / ".links")
        network = model.build_model(config, seeds)
        trained = trainer.train_model(network, batches, config, [run.epoch, display.epoch], display.batch, run.states)
        predict = trainer.logit_function(network, config)
        ask = partial(predict_split, predict, store.images, store.manifest, run_id=run.run_id)
        predictions, fitted = ask(split.val, split="val"), ask(train_sample(split), split="train")
        stressed = predict_stressed(predict, store.images, split.val, predictions)
        evidence = results.judge_validation(predictions, config.threshold, store.manifest)
        robustness = results.judge_robustness(evidence, stressed, fitted)
        costs = costs_of(trained, batches, config, network.count_params())
        sheet = contact_sheet.of_training(store.images, split.train, config.augmentation, seed=seeds.augmentation)
        trainer.save_model(network, run.folder.file("model.keras"))
        results.keep_validation(run.folder, evidence, robustness, costs)
        results.draw_training(run.folder, trained.history, costs, sheet, synthetic=evidence.synthetic)
        heatmaps.keep_heatmaps(run.folder, heatmap.explainer(network, config), store, evidence, config, costs)
        run.complete()
        run.tell_results(results.final_values((*evidence.scores, *robustness.scores), images_per_s=costs.images_per_s))
        run.tell_model(network, contact_sheet.gray_ramp(config.data.image_size_px))
    console.say_trained(run, evidence, robustness, costs)
    return run.run_id


def costs_of(trained: Trained, batches: Pipeline, config: ExperimentConfig, num_parameters: int) -> Costs:
    """What the training took, as the run folder keeps it."""
    from cxr_experiments.record.results import Costs

    return Costs(
        num_train=batches.num_train,
        num_val=batches.num_val,
        epochs_run=len(trained.history),
        epoch_limit=config.training.epochs,
        best_epoch=trained.best_epoch,
        stopped_early=trained.stopped_early,
        images_per_s=trained.images_per_s,
        duration_s=trained.duration_s,
        num_parameters=num_parameters,
        num_devices=trained.num_devices,
    )


def tell_cells(sweep: Path, config: ExperimentConfig) -> None:
    """After a sweep: its runs by cell on the terminal, and a summary of each cell in MLflow."""
    from cxr_experiments.record.sweep import tell_sweep

    tell_sweep(sweep, home() / "runs", config.tracking)


if __name__ == "__main__":
    run_command(main, "config", ExperimentConfig, after_sweep=tell_cells)
