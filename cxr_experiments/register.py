"""python -m cxr_experiments.register run=ID name=NAME: a finished run, or several as one, in the model registry."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import run_command, run_job
from cxr_experiments.config.commands import EvaluateConfig, RegisterConfig
from cxr_experiments.config.compose import CONF_DIR, home, register
from cxr_experiments.errors import ConfigError, RunError

if TYPE_CHECKING:
    from cxr_experiments.evaluate.together import Together
    from cxr_experiments.record.model_card import Judged
    from cxr_experiments.record.registered import Answering
    from cxr_experiments.record.run_folder import RunFolder
    from cxr_experiments.record.tracking import Entry, Kept, TrackingPlace

register("register_schema", RegisterConfig)
SERVED_BY = ("tensorflow", "keras", "mlflow", "numpy", "scipy", "pandas", "h5py")


@hydra.main(config_path=str(CONF_DIR), config_name="register", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, register."""
    run_job(composed, RegisterConfig, register_network)


def register_network(config: RegisterConfig) -> None:
    """Put the network into the registry under its name, its card with it, and let the alias point at it.

    Raises:
        ConfigError: no run or no name is named, or one that MLflow does not take.
        RunError: a run is not finished, several are no ensemble, or the network does not answer.
        TrackingError: the registry does not answer or cannot be written.
    """
    refuse_names(config)
    folders = named_runs(config)
    from cxr_experiments.record import tracking
    from cxr_experiments.record.model_card import model_card
    from cxr_experiments.record.registered import digest_of, keep_network, network_told
    from cxr_experiments.record.run_folder import mlflow_run_id

    together = frozen_together(folders, config)
    one, judged = answering(together), judged_together(together)
    place, told = registry_place(config, folders[0]), network_told(one)
    card = model_card(str(config.name), one, judged)
    entry = entry_of(config, one, card, digest_of(told), mlflow_run_id(together.place))
    with tempfile.TemporaryDirectory(prefix="cxr-register-") as scratch:
        network = Path(scratch) / "network"
        keep_network(network, one, told)
        if not tracking.find_version(place, entry.name, entry.digest):
            refuse_silent(network, one)
        kept = tracking.keep_version(place, entry, network, home())
    say(entry, kept, place, synthetic=one.synthetic)


def refuse_names(config: RegisterConfig) -> None:
    """Names that MLflow, an address or a command line would stumble over."""
    if not config.name:
        raise ConfigError("no name is given: register run=ID name=pneumonia alias=champion")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", config.name):
        raise ConfigError(f"name={config.name}: expected letters, digits, dots, dashes and underscores, up to 100")
    if config.alias is None:
        return
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,99}", config.alias)
    if not plain or config.alias.lower() == "latest" or re.fullmatch(r"[vV][0-9]+", config.alias):
        raise ConfigError(
            f"alias={config.alias}: expected a word of letters, digits, dashes and underscores as champion; `latest` "
            "and v1, v2, ... mean something else to MLflow"
        )


def named_runs(config: RegisterConfig) -> list[RunFolder]:
    """The finished runs that are to be one network.

    Raises:
        ConfigError, RunError: none is named, or several are and nobody said that they are one.
    """
    if not config.run and not (config.ensemble and config.experiment_name):
        raise ConfigError("no run is named: register run=ID, run=ID1,ID2, or ensemble=true experiment_name=NAME")
    from cxr_experiments.evaluate.__main__ import chosen_runs

    return chosen_runs(EvaluateConfig(run=config.run, experiment_name=config.experiment_name))


def frozen_together(folders: list[RunFolder], config: RegisterConfig) -> Together:
    """The runs as `evaluate` takes them: the same rule for who may be a member, and for the threshold."""
    from cxr_experiments.evaluate.member import member_of
    from cxr_experiments.evaluate.together import freeze, refuse_unlike

    asked = EvaluateConfig(ensemble=config.ensemble or len(folders) > 1)
    if asked.ensemble:
        refuse_unlike(folders)
    return freeze([member_of(folder, asked) for folder in folders], asked)


def answering(together: Together) -> Answering:
    """What is registered of them."""
    from cxr_experiments.record.registered import Answering

    members = tuple(member.folder for member in together.members)
    return Answering(together.name, members, together.members[0].trained.data, together.threshold)


def judged_together(together: Together) -> Judged:
    """The scores that are kept; of an ensemble that was not evaluated, those on a validation split that all share."""
    from cxr_experiments.evidence.evaluation import score
    from cxr_experiments.record.model_card import Judged, judged_in

    kept = judged_in(together.place)
    if kept.scores or together.validation is None:
        return kept
    known = all(together.validation.patient)
    return Judged(score(together.validation, together.threshold, patients_verifiable=known))


def registry_place(config: RegisterConfig, first: RunFolder) -> TrackingPlace:
    """MLflow where it is named, else where the first run was told last.

    Raises:
        ConfigError: nowhere.
        TrackingError: it does not answer, or only the run's own config names it.
    """
    from cxr_experiments.record import tracking
    from cxr_experiments.record.twin_in_mlflow import where_told

    place = tracking.open_place(config.tracking or where_told(first, home()), home(), first.experiment_name)
    if place is None:
        raise ConfigError("tracking=disabled has no registry: name tracking=local or tracking=server tracking.uri=...")
    return place


def entry_of(config: RegisterConfig, one: Answering, card: str, digest: str, mlflow_id: str) -> Entry:
    """All that the registry is told."""
    from cxr_experiments.config.identity import package_version
    from cxr_experiments.record import tracking
    from cxr_experiments.record.run_folder import read_json

    dataset_digest = str(read_json(one.members[0].file("identity.json"))["dataset_digest"])
    tags = {
        "kind": "registered",
        "cxr.run_ids": " ".join(member.run_id for member in one.members),
        "cxr.synthetic": str(one.synthetic).lower(),
        "cxr.dataset_digest": dataset_digest,
        "cxr.threshold": f"{one.threshold.value:.17g}",
    }
    params = {"num_members": len(one.members)}
    source = tracking.RunCard(f"registered {one.name}", params, tags, one.data.source, dataset_digest)
    side = one.data.image_size_px
    requirements = tuple(f"{name}=={package_version(name)}" for name in SERVED_BY)
    return tracking.Entry(
        str(config.name), config.alias or "", digest, card, source, mlflow_id, (side, side, 1), requirements
    )


def refuse_silent(network: Path, one: Answering) -> None:
    """Ask what is about to be registered, as it will be asked, before anybody relies on it.

    Raises:
        RunError: it cannot be read, or its answer is no number.
    """
    import numpy as np

    from cxr_experiments.learning.trainer import load_model, logit_function
    from cxr_experiments.record.registered import read_registered

    found = read_registered(network, lambda path: logit_function(load_model(path)))
    side = one.data.image_size_px
    if not np.isfinite(found.predict(np.zeros((1, side, side, 1), np.uint8))).all():
        raise RunError(f"{one.name} gives a logit that is not finite: its weights are not usable")


def say(entry: Entry, kept: Kept, place: TrackingPlace, *, synthetic: bool) -> None:
    """What was done, and how it is asked."""
    from cxr_experiments.config.credentials import without_credentials
    from cxr_experiments.record import console

    version = f"version {kept.number} of {entry.name}"
    if kept.is_new:
        console.say(f"registered as {version}, with its card", synthetic=synthetic)
    else:
        console.say(f"{version} is this very network already: nothing was registered", synthetic=synthetic)
    if kept.card_changed:
        console.say("its card says what is known by now", synthetic=synthetic)
    if entry.alias and kept.alias_before == kept.number and not kept.is_new:
        console.say(f"{entry.alias} points at it already")
    elif entry.alias:
        before = f", and no longer at version {kept.alias_before}" if kept.alias_before else ""
        console.say(f"{entry.alias} points at version {kept.number}{before}")
    named = f"models:/{entry.name}@{entry.alias}" if entry.alias else f"models:/{entry.name}/{kept.number}"
    console.say(f"ask it: python -m cxr_experiments.predict run={named} film.jpg")
    uri = without_credentials(place.uri)
    console.say(f"serve it: MLFLOW_TRACKING_URI={uri} mlflow models serve -m {named} --env-manager local --port 5001")


if __name__ == "__main__":
    run_command(main, "register", RegisterConfig)
