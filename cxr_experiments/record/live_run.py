"""A run while it is being made: its folder first, MLflow second, and how it ended, whatever happens.

`plan_run` says what the run is; `live_run` is a context: it claims the folder, opens the MLflow run,
and on the way out writes FINISHED, FAILED or KILLED with
the reason into both.  When MLflow fails on the way, the run goes on and the loss is said once.
"""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cxr_experiments.config.collector import leave_out_imports
from cxr_experiments.config.compose import write_config
from cxr_experiments.config.credentials import without_credentials
from cxr_experiments.config.identity import Identity, identify, package_version, run_name, told_params
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.errors import ConfigError, LeakageError, Terminated, TrackingError
from cxr_experiments.images.manifest import Manifest
from cxr_experiments.images.splits import Split, leaking_sentence, leaks_of, write_split
from cxr_experiments.images.store import BadFile, Store
from cxr_experiments.record import tracking
from cxr_experiments.record.data_report.kept import STATE_TAG, data_tags, known_leak
from cxr_experiments.record.epoch import Epoch
from cxr_experiments.record.provenance import Provenance, collect_provenance, uncommitted_change
from cxr_experiments.record.run_folder import (
    FAILED,
    FINISHED,
    KILLED,
    RECORDS,
    RESULTS,
    RunFolder,
    append_json_line,
    claim,
    finished,
    is_taken_up,
    mlflow_link,
    mlflow_run_id,
    record_event,
    write_json,
)
from cxr_experiments.record.tracking import RunCard, TrackingPlace


@dataclass
class LiveRun:
    """The folder of a run in the making, and its twin in MLflow ("" when there is none)."""

    folder: RunFolder
    place: TrackingPlace | None
    mlflow_id: str
    told_epochs: frozenset[int] = frozenset()  # that MLflow has from an attempt before this one
    lost: list[str] = field(default_factory=list)
    completed: bool = False

    @property
    def link(self) -> str:
        """Path of the run in MLflow's UI, behind http://HOST:PORT/."""
        return mlflow_link(self.folder)

    @property
    def states(self) -> Path:
        """Where the training keeps its state; taken away once the run is finished."""
        return self.folder.states

    @property
    def run_id(self) -> str:
        """Our id, 12 hex digits."""
        return self.folder.run_id

    def epoch(self, record: Epoch) -> None:
        """One epoch: a line of metrics.jsonl, then one step in MLflow under Keras' names."""
        speed = {"duration_s": record.duration_s, "images_per_s": record.images_per_s}
        append_json_line(self.folder.file("metrics.jsonl"), {"epoch": record.epoch, **record.metrics, **speed})
        if record.epoch not in self.told_epochs:
            self._tell(tracking.log_epoch, record.epoch, record.metrics)

    def tell_results(self, values: Mapping[str, float]) -> None:
        """To MLflow: the headlines among `values`, and the folder's small files and figures."""
        record_files = [self.folder.file(name) for name in (*RECORDS, *RESULTS)]
        self._tell(tracking.log_final, values, record_files)

    def tell_model(self, model: Any, example: Any) -> None:
        """To MLflow: the Keras model, and the packages that load it."""
        packages = [f"{name}=={package_version(name)}" for name in ("tensorflow", "keras", "numpy")]
        self._tell(tracking.log_model, model, example, packages)

    def complete(self) -> None:
        """The folder has everything: from here on the run is FINISHED, whatever MLflow does."""
        if not self.completed:
            record_event(self.folder, FINISHED)
            self.completed = True
            shutil.rmtree(self.folder.states, ignore_errors=True)

    def end(self, status: str, reason: str = "") -> None:
        """Close the run in MLflow."""
        self._tell(tracking.end_run, status, reason)

    def _tell(self, call: Callable[..., None], *arguments: Any) -> None:
        if self.lost:
            return
        try:
            call(self.place, self.mlflow_id, *arguments)
        except TrackingError as error:
            self.lost.append(str(error))
            print(f"warning: {error}; the run goes on and {self.folder.path} has everything", file=sys.stderr)


@dataclass(frozen=True)
class RunPlan:
    """Everything that is known of a run before it is trained."""

    config: ExperimentConfig
    manifest: Manifest
    skipped: tuple[BadFile, ...]
    split: Split
    experiment_name: str
    identity: Identity

    @property
    def leaking(self) -> str:
        """What to say beside every number of a run whose split leaks on purpose; "" for all others."""
        kind = self.config.split.kind
        return leaking_sentence(leaks_of(self.manifest, self.split), kind) if kind == "image_level" else ""

    @property
    def divided_anew(self) -> str:
        """What to say when official test images stand among those that were divided anew; "" otherwise."""
        num_official = sum(row.split == "test" for row in self.manifest.rows)
        if self.config.split.kind == "official" or not num_official:
            return ""
        return (
            f"split={self.config.split.kind} divides all images anew, {num_official} official test images among them: "
            f"not comparable with results on the official test split"
        )


def plan_run(config: ExperimentConfig, store: Store, split: Split, runs: Path) -> RunPlan:
    """Name and identify a run; with `rerun=true` it is the first replicate that has not finished yet.

    Runs on phantoms go to experiments named phantom-*, so that nobody compares them with real ones by accident.

    Raises:
        ConfigError: real images under a name that begins with phantom-.
        LeakageError: `verify` found a film in training and in the official test, though in other bytes.
    """
    if config.split.kind == "official" and (leak := known_leak(runs.parent, store.manifest.digest)):
        raise LeakageError(f"verify found in these images: {leak}. Remove one side; verify names all of them")
    manifest, name = store.manifest, config.experiment_name
    if name.startswith("phantom-") and not manifest.synthetic:
        raise ConfigError(f"experiment_name={name}: names that begin with phantom- are for synthetic images")
    if manifest.synthetic and not name.startswith("phantom-"):
        name = f"phantom-{name}"
    identities = (identify(config, manifest.digest, split.digest, replicate=number) for number in itertools.count())
    open_ones = (one for one in identities if not config.rerun or finished(runs, name, one) is None)
    return RunPlan(config, manifest, store.bad_files, split, name, next(open_ones))


def find_finished(plan: RunPlan, runs: Path) -> RunFolder | None:
    """The finished run with the plan's identity, or None."""
    return finished(runs, plan.experiment_name, plan.identity)


@contextmanager
def live_run(home: Path, plan: RunPlan) -> Iterator[LiveRun]:
    """Claim the run's folder, open its MLflow run, hand both out, and close them as what the run became.

    Raises:
        RunError: another process trains this very run.
        TrackingError: MLflow does not answer at the start.
    """
    provenance = collect_provenance()
    place = tracking.open_place(plan.config.tracking, home, plan.experiment_name)
    folder = claim(home / "runs", plan.experiment_name, plan.identity)
    try:
        tags = data_tags(home, plan.manifest.digest)
        _write_plan(folder, plan)
        write_json(folder.file("data_report.json"), {"dataset_digest": plan.manifest.digest, "told": tags[STATE_TAG]})
        write_split(folder.file("split.csv"), plan.manifest, plan.split)
        write_json(folder.file("provenance.json"), asdict(provenance))
        folder.file("uncommitted.diff").write_text(uncommitted_change(), encoding="utf-8")
        folder.file("metrics.jsonl").unlink(missing_ok=True)  # a training that goes on tells its earlier epochs again
        card = _card(plan, provenance, tags)
        write_json(folder.file("card.json"), asdict(card))  # for `runs sync`, should MLflow be lost
        mlflow_id, told_epochs = _open_in_mlflow(place, folder, card)
    except BaseException as error:
        record_event(folder, FAILED, f"{type(error).__name__}: {error}")
        raise
    if place is not None:
        write_json(folder.file("mlflow.json"), {"run_id": mlflow_id, "experiment_id": place.experiment_id})
    run = LiveRun(folder, place, mlflow_id, told_epochs)
    leave_out_imports()
    try:
        yield run
        run.complete()
    except BaseException as error:
        if not run.completed:
            _close(run, *_ending(error))
        raise
    finally:
        if run.completed:
            run.end(FINISHED)


def _open_in_mlflow(place: TrackingPlace | None, folder: RunFolder, card: RunCard) -> tuple[str, frozenset[int]]:
    """MLflow's id of the run, that of an earlier attempt where it is still there, and the epochs that it has."""
    if is_taken_up(folder) and (earlier := tracking.reopen_run(place, mlflow_run_id(folder), folder.run_id)):
        return earlier
    return tracking.start_run(place, card), frozenset()


def _ending(error: BaseException) -> tuple[str, str]:
    """Status and reason of a run that this error ended."""
    if isinstance(error, KeyboardInterrupt):
        return KILLED, "Ctrl-C"
    return (KILLED, "SIGTERM") if isinstance(error, Terminated) else (FAILED, f"{type(error).__name__}: {error}")


def _write_plan(folder: RunFolder, plan: RunPlan) -> None:
    """Config (images where they really lie, no credentials), what was skipped, the file of a network of one's own."""
    config = plan.config
    data = replace(config.data, root=plan.manifest.root or None)
    shown = replace(config, data=data, tracking=replace(config.tracking, uri=_bare(config.tracking.uri)))
    write_config(folder.file("config.yaml"), shown)
    if plan.leaking:
        write_json(folder.file("leakage.json"), {"split": config.split.kind, "told": plan.leaking})
    if plan.skipped:
        skipped = {"num_skipped": len(plan.skipped), "files": [asdict(one) for one in plan.skipped]}
        write_json(folder.file("skipped_files.json"), skipped)
    if config.model.builder is not None:
        own = Path(config.model.builder.rpartition(":")[0]).expanduser()
        shutil.copyfile(own, folder.file("own_network.py"))


def _close(run: LiveRun, status: str, reason: str) -> None:
    record_event(run.folder, status, reason)
    run.tell_results({})
    run.end(status, reason)


def _card(plan: RunPlan, provenance: Provenance, data_tags: Mapping[str, str]) -> RunCard:
    """What MLflow shows of the run; the whole digests are tags, since MLflow cuts its own at 36 characters."""
    manifest, identity = plan.manifest, plan.identity
    return RunCard(
        name=run_name(plan.config, identity.replicate),
        params=told_params(plan.config),
        tags={
            **plan.config.tags,
            "cxr.run_id": identity.run_id,
            "cxr.replicate": str(identity.replicate),
            "cxr.synthetic": str(manifest.synthetic).lower(),
            "cxr.data_source": manifest.source,
            "cxr.dataset_digest": manifest.digest,
            "cxr.split_digest": plan.split.digest,
            "cxr.patients": _patients_told(plan),
            "cxr.split": plan.config.split.kind,
            "cxr.num_skipped": str(len(plan.skipped)),
            **data_tags,
            "mlflow.source.name": "cxr_experiments.train",
            "mlflow.source.git.commit": provenance.commit,
        },
        dataset_source=manifest.source,
        dataset_digest=manifest.digest,
    )


def _patients_told(plan: RunPlan) -> str:
    """How far patients are known to be apart."""
    if plan.leaking:
        return plan.leaking
    if not plan.manifest.patients_verifiable:
        return "not verifiable"
    rule = f"patient_rule={plan.config.data.patient_rule}"
    return f"disjoint (official test split by {rule})" if plan.config.split.kind == "official" else f"disjoint ({rule})"


def _bare(uri: str | None) -> str | None:
    return uri and without_credentials(uri)
