"""python -m cxr_experiments.preview: draw what an augmentation does to a few training images, without training."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import run_command, run_job
from cxr_experiments.config.commands import PreviewConfig
from cxr_experiments.config.compose import CONF_DIR, home, register
from cxr_experiments.config.schema import ExperimentConfig

register("schema", ExperimentConfig)
register("preview_schema", PreviewConfig)


@hydra.main(config_path=str(CONF_DIR), config_name="preview", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, draw."""
    run_job(composed, PreviewConfig, draw_preview)


def draw_preview(config: PreviewConfig) -> Path:
    """Write the contact sheet of the config's augmentation and print where it is."""
    from cxr_experiments.config.seeds import resolve_seeds
    from cxr_experiments.images.splits import make_split
    from cxr_experiments.learning.contact_sheet import augmented_examples
    from cxr_experiments.record import console
    from cxr_experiments.record.figures import draw_contact_sheet

    seeds = resolve_seeds(config)
    store = console.open_counted(config.data, home() / "runs")
    train = make_split(store.manifest, config.data, seed=seeds.split, kind=config.split.kind).train
    rows = train[:: max(1, len(train) // 4)][:4]
    sheet = augmented_examples(store.images[rows], config.augmentation, seed=seeds.augmentation)
    name = f"{config.data.source}-{config.choices.get('augmentation', 'augmentation')}"
    path = Path(config.output) if config.output else home() / "runs" / "previews" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = [store.manifest.classes[store.manifest.rows[row].label] for row in rows]
    draw_contact_sheet(
        path,
        sheet,
        labels,
        f"augmentation={config.choices.get('augmentation', '')}",
        synthetic=store.manifest.synthetic,
    )
    console.say(str(path))
    return path


if __name__ == "__main__":
    run_command(main, "preview", PreviewConfig)
