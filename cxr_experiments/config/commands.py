"""The options of every command but `train` and `study`, in the same form as those of a run (`schema`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from cxr_experiments.config.schema import (
    DataConfig,
    ExperimentConfig,
    ThresholdConfig,
    TrackingConfig,
    choice,
    free,
    number,
)


@dataclass(frozen=True)
class ShortcutsConfig:
    """Where the alarms of the shortcut gate ring: when the lower end of a 95 % interval passes the level."""

    available_auroc: float = number(0.60, 0.5, 1.0, "AUROC", "a file property (bytes, height, ...) tells the label")
    visible_auroc: float = number(0.60, 0.5, 1.0, "AUROC", "the prepared pixels tell a file property")
    used_auroc: float = number(0.60, 0.5, 1.0, "AUROC", "within a class, the score tells high from low of a property")
    swap_auroc: float = number(0.02, 0.0, 0.5, "AUROC", "lost when borders are swapped between classes, not within")
    border_auroc: float = number(0.60, 0.5, 1.0, "AUROC", "a probe that sees the border alone tells the label")


@dataclass(frozen=True)
class RootConfig:
    """Where the images lie now, when they have moved since training."""

    root: str | None = free(None, "folder of the images; null is where they were at training")


@dataclass(frozen=True)
class EvaluateConfig:
    """Score finished runs on the test split, one by one or as an ensemble."""

    run: str | None = free(None, "run id (or its first 6 digits or more), or MLflow's run id; several as ID1,ID2")
    experiment_name: str | None = free(None, "every finished run of this experiment, or the run's when two share an id")
    ensemble: bool = free(
        False, "judge the mean of these runs' probabilities as one network: runs that differ in seeds"
    )
    tta: int = number(0, 0, 100, "copies", "test-time augmentation: so many augmented copies beside the plain image")
    validation_only: bool = free(False, "judge validation images alone: the test split stays shut")
    threshold: ThresholdConfig | None = None  # null: as validation froze it at training
    data: RootConfig = field(default_factory=RootConfig)
    shortcuts: ShortcutsConfig = field(default_factory=ShortcutsConfig)
    tracking: TrackingConfig | None = None  # null: where the run was tracked at training


@dataclass(frozen=True)
class PredictConfig:
    """Ask a finished run about image files."""

    run: str | None = free(
        None, "run id; best: the lowest validation log loss of experiment_name; models:/NAME@ALIAS: from the registry"
    )
    experiment_name: str | None = free(None, "for run=best")
    images: tuple[str, ...] = free((), "image files, folders of them, patterns; words without = are images too")
    json: bool = free(False, "one JSON line per image instead of a table")
    csv: str | None = free(None, "new CSV file for the answers instead of a table, with a counter: for thousands")
    heatmap: str | None = free(None, "folder for one heat map per image: where the network looked")
    engine: str = choice("keras", ("keras", "litert"), "litert: without TensorFlow, after export run=ID")
    tracking: TrackingConfig | None = None  # null: the registry of this home's own database


@dataclass(frozen=True)
class RegisterConfig:
    """Put a finished run, or several as one network, into MLflow's model registry."""

    run: str | None = free(None, "run id (or its first 6 digits or more); several as ID1,ID2 become one: their mean")
    experiment_name: str | None = free(None, "of the run; with ensemble=true every finished run of it")
    ensemble: bool = free(False, "the mean of these runs' probabilities as one network: runs that differ in seeds")
    name: str | None = free(None, "what the model is called in the registry")
    alias: str | None = free(None, "what shall point at this version, as champion; it leaves the version that has it")
    tracking: TrackingConfig | None = None  # null: where the run was tracked at training


@dataclass(frozen=True)
class AppConfig:
    """A page on this machine: one drops a film and sees what a run answers, and reads the reports of studies."""

    run: str | None = free(None, "run id, or best: the lowest validation log loss of experiment_name; null: the newest")
    experiment_name: str | None = free(None, "for run=best; without run, the newest of this experiment")
    port: int = number(5001, 0, 65_535, "", "on 127.0.0.1; 0 takes a free one")
    max_upload_mb: int = number(48, 1, 512, "MB", "a larger film is refused before it is read")


@dataclass(frozen=True)
class ExportConfig:
    """A finished run's network for LiteRT, held against Keras on the run's validation images."""

    run: str | None = free(None, "run id, or its first 6 digits or more")
    experiment_name: str | None = free(None, "the run's, when two share an id")
    tolerance: float = number(1e-4, 0.0, 1.0, "probability", "largest difference from Keras that is not an error")
    data: RootConfig = field(default_factory=RootConfig)


@dataclass(frozen=True)
class PreviewConfig(ExperimentConfig):
    """Draw what an augmentation does, without training."""

    output: str | None = free(None, "PNG file; null is runs/previews/<data>-<augmentation>.png")


@dataclass(frozen=True)
class VerifyConfig:
    """Look at a data set before anything is learnt from it."""

    data: DataConfig = field(default_factory=DataConfig)
    shortcuts: ShortcutsConfig = field(default_factory=ShortcutsConfig)
    json: str | None = free(None, "file for the whole report as JSON; - writes it to stdout instead of the table")
    html: str | None = free(None, "file for a copy of the report with pictures")
    again: bool = free(False, "look again although this data set has been looked at")
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    choices: dict[str, str] = field(default_factory=dict)  # group -> option chosen, filled by compose; never typed


@dataclass(frozen=True)
class DownloadConfig:
    """Fetch a public data set, checked against its published checksum."""

    data: DataConfig = field(default_factory=DataConfig)
    mirror: str | None = free(None, "http(s) address of a folder with the same files, in place of the publisher's")
    choices: dict[str, str] = field(default_factory=dict)  # group -> option chosen, filled by compose; never typed


@dataclass(frozen=True)
class CompareConfig:
    """Compare two sets of prediction files."""

    a: str | None = free(None, "files of the baseline, as 'preds_a/*.csv'; one per trained network")
    b: str | None = free(None, "files of the other arm")
    name_a: str = free("a", "what to call the baseline")
    name_b: str = free("b", "what to call the other arm")
    metric: str = free("auroc", "what the verdict is about")
    margin: float | None = number(None, 1e-6, 1.0, "", "the smallest difference of interest; no default fits")
    split: str | None = free(None, "which rows, where files hold several splits")
    output: str | None = free(None, "folder for comparison.csv and the forest plot")


@dataclass(frozen=True)
class ReproduceConfig:
    """Run again what README and results/ report, and say what moved."""

    what: str = choice("quick", ("quick", "full"), "quick: phantoms, under 10 minutes; full: real films too, hours")


@dataclass(frozen=True)
class RunsConfig:
    """Look after runs: why one differs from another, what killed processes left behind, what MLflow lacks."""

    what: str = choice(
        "mend", ("why", "mend", "sync"), "why run=ID is not the nearest run; mend what was left; sync MLflow"
    )
    run: str | None = free(None, "run id (or its first 6 digits or more), or MLflow's run id")
    experiment_name: str | None = free(None, "of the run, when two share an id")
    tracking: TrackingConfig | None = None  # sync: where to; null is where each run was told last


@dataclass(frozen=True)
class ServerConfig:
    """Serve MLflow on PostgreSQL, on this machine alone."""

    port: int = number(5000, 1, 65535, "", "of 127.0.0.1")
    login: bool = free(False, "answer only who has a name and a password, by MLflow's own means")
    permission: str = choice(
        "EDIT", ("READ", "EDIT", "MANAGE"), "of a login, on what others have logged; MANAGE may delete it"
    )
