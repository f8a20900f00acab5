"""Everything that is known of a run before it is trained: its name, its identity, and what its folder opens with."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cxr_experiments.config.compose import write_config
from cxr_experiments.config.credentials import without_credentials
from cxr_experiments.config.identity import Identity, identify, run_name, told_params
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.errors import ConfigError, LeakageError
from cxr_experiments.images.manifest import Manifest
from cxr_experiments.images.splits import Split, leaking_sentence, leaks_of, write_split
from cxr_experiments.images.store import BadFile, Store
from cxr_experiments.record.data_report.kept import STATE_TAG, data_tags, known_leak
from cxr_experiments.record.provenance import collect_provenance, uncommitted_change
from cxr_experiments.record.run_folder import RunFolder, begun, finished, write_json
from cxr_experiments.record.tracking import RunCard


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


def begin_folder(folder: RunFolder, plan: RunPlan, home: Path) -> RunCard:
    """Write all that is known of the run into its folder, and return what MLflow shows of it.

    Config (images where they really lie, no credentials), split, provenance, what was skipped, the file of a network
    of one's own.  `card.json` is there for `runs sync`, should MLflow be lost.
    """
    uncommitted = uncommitted_change()
    provenance = collect_provenance(uncommitted)
    tags = data_tags(home, plan.manifest.digest)
    _write_config(folder, plan)
    write_json(folder.file("data_report.json"), {"dataset_digest": plan.manifest.digest, "told": tags[STATE_TAG]})
    write_split(folder.file("split.csv"), plan.manifest, plan.split)
    write_json(folder.file("provenance.json"), asdict(provenance))
    folder.file("uncommitted.diff").write_text(uncommitted, encoding="utf-8")
    folder.file("metrics.jsonl").unlink(missing_ok=True)  # a training that goes on tells its earlier epochs again
    card = _card(plan, provenance.commit, {**tags, "cxr.begun": begun(folder)})
    write_json(folder.file("card.json"), asdict(card))
    return card


def _write_config(folder: RunFolder, plan: RunPlan) -> None:
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


def _card(plan: RunPlan, commit: str, other_tags: Mapping[str, str]) -> RunCard:
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
            **other_tags,
            "mlflow.source.name": "cxr_experiments.train",
            "mlflow.source.git.commit": commit,
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
