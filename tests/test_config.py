"""The schema, conf/ and composition hold together: every option composes, defaults agree, ranges are kept."""

from __future__ import annotations

import ast
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cxr_experiments.config.commands import (
    AppConfig,
    CompareConfig,
    DownloadConfig,
    EvaluateConfig,
    PredictConfig,
    PreviewConfig,
    RegisterConfig,
    RunsConfig,
    VerifyConfig,
)
from cxr_experiments.config.compose import (
    CONF_DIR,
    from_mapping,
    home,
    leaf_keys,
    load_config,
    nearest,
    read_config,
    write_config,
)
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.config.search_spec import SearchConfig
from cxr_experiments.config.study_spec import StudyConfig, arms_of, check_spec
from cxr_experiments.errors import ConfigError
from cxr_experiments.study import __main__ as study_command
from cxr_experiments.study.plan import compose_arms
from cxr_experiments.train import main

assert main  # importing a command registers its schema
assert study_command

GROUPS = sorted(path.name for path in CONF_DIR.iterdir() if path.is_dir() and path.name != "hydra")
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF_DIR / group).glob("*.yaml"))]
NEEDS = {
    ("data", "csv"): ["data.csv_file=films.csv"],
    ("model", "custom"): ["model.builder=my_net.py:build"],
    ("tracking", "server"): ["tracking.uri=http://localhost:5000"],
}


def composed(*overrides: str) -> ExperimentConfig:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return read_config(compose("config", list(overrides), return_hydra_config=True), ExperimentConfig)


def test_default_composition_is_the_schemas_defaults() -> None:
    assert replace(composed(), choices={}) == ExperimentConfig()


def test_seed_study_is_the_default_composition_under_a_name() -> None:
    named = composed("experiment=seed_study")
    assert named.choices.pop("experiment") == "seed_study"
    assert named == composed()


@pytest.mark.parametrize(("group", "option"), [pair for pair in OPTIONS if pair[0] not in ("study", "search")])
def test_every_option_composes_and_validates(group: str, option: str) -> None:
    config = composed(f"{group}={option}", *NEEDS.get((group, option), []))
    assert config.choices[group] == option


@pytest.mark.parametrize("name", [option for group, option in OPTIONS if group == "study"])
def test_every_study_composes_and_its_arms_compose(name: str) -> None:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = read_config(compose("study", [f"study={name}"], return_hydra_config=True), StudyConfig)
        check_spec(config.study)
        arms = compose_arms(name, config, arms_of(config.study))
    assert config.study.question
    assert len(arms) > 1


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_says_its_purpose_and_holds_only_what_differs(group: str, option: str) -> None:
    lines = (CONF_DIR / group / f"{option}.yaml").read_text().splitlines()
    told = [line for line in lines if line.startswith("# ") and "@package" not in line]
    assert told, "the first line says what the option is for"
    longest = 30 if group in ("study", "search") else 15  # a whole protocol, not a difference
    assert sum(not line.startswith("#") for line in lines) <= longest


def test_groups_fields_and_folders_share_one_word() -> None:
    sections = {field.name for field in fields(ExperimentConfig) if "Config" in str(field.type)}
    assert sections - {"seeds"} == set(GROUPS) - {"experiment", "study", "search"}


def test_groups_are_those_that_users_were_promised() -> None:
    promised = (
        "data augmentation depth pooling model optimizer schedule training imbalance pipeline tracking experiment"
    )
    assert set(promised.split()) <= set(GROUPS)


def test_model_preset_gives_way_to_explicit_depth_and_pooling() -> None:
    flat = composed("model=flatten")
    assert flat.pooling.kind == "flatten"
    assert flat.choices["pooling"] == "flatten"
    mixed = composed("model=flatten", "depth=deep", "pooling=gap")
    assert mixed.pooling.kind == "gap"
    assert mixed.depth.convolutions == (3, 3, 3, 3, 4)


def test_experiment_deltas_of_plain_keys_take_effect(tmp_path: Path) -> None:
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "mine.yaml").write_text("# @package _global_\nseed: 7\nexperiment_name: mine\n")
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        extra = [f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine"]
        config = read_config(compose("config", extra, return_hydra_config=True), ExperimentConfig)
        typed = read_config(compose("config", [*extra, "seed=3"], return_hydra_config=True), ExperimentConfig)
    assert (config.seed, config.experiment_name) == (7, "mine")
    assert typed.seed == 3, "the command line wins over an experiment"


def test_mission_sweep_composes() -> None:
    for augmentation in ("none", "no_flip", "flip"):
        for depth in ("shallow", "standard", "deep"):
            config = composed(
                f"augmentation={augmentation}", f"depth={depth}", "pooling=flatten", "optimizer=sgd", "seed=2"
            )
            assert (config.choices["augmentation"], config.choices["depth"]) == (augmentation, depth)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs=0", "training.epochs=0: expected 1 to 10000 epochs"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate=nan: expected 1e-08 to 10.0"),
        (
            "data.resize=squish",
            r"data.resize=squish: no such option; did you mean squash\? \(allowed: squash, pad, crop\)",
        ),
        ("depth.filters=[16,32]", "depth.filters has 2 blocks and depth.convolutions 5"),
        ("depth.filters=[16,32,64,128,9999]", "expected 1 to 4096 filters"),
        ("augmentation.crop_area=[0.9,0.3]", "the first number may not exceed the second"),
        ("model=custom", "model=custom: expected model.builder=FILE.py:FUNCTION"),
        ("model.builder=net.py:build", "needs model=custom"),
        ("data.root=films", "no effect with data=phantom: add data=kaggle or data=folder"),
        ("data.patient_regex=x", "it is for data=folder"),
        ("data.csv_patient=PatientNr", "data.csv_patient=PatientNr has no effect with data=phantom"),
        ("tracking=server", "expected tracking.uri=http://host:port"),
        ("experiment_name=../outside", "expected a plain folder name"),
        ("data.classes=[A,A]", "the two classes must differ"),
        ("schedule.warmup_epochs=40", "leaves nothing of training.epochs=40"),
        ("resolution=progressive model=flatten", "resolution=progressive is not possible with pooling=flatten"),
        ("resolution=progressive pipeline=keras_directory", "resolution=progressive needs pipeline=store"),
        ("batch_norm.num_images=256", "batch_norm.num_images=256 has no effect with batch_norm=running"),
        ("batch_norm=precise pipeline=keras_directory", "batch_norm=precise needs pipeline=store"),
        ("batch_norm=precise training.strategy=mirrored", "batch_norm=precise needs training.strategy=none"),
        ("data=[kaggle,folder]", "expected one option of the group data"),
    ],
)
def test_wrong_value_is_one_line_that_names_it(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        composed(*override.split(" "))
    assert "\n" not in str(caught.value)


def test_depth_beside_a_network_of_ones_own_is_refused() -> None:
    own = ("model=custom", "model.builder=my_net.py:build")
    for unread in ("depth=deep", "pooling=gmp", "pooling.dropout=0.1"):
        with pytest.raises(ConfigError, match="has no effect with model=custom"):
            composed(*own, unread)


def test_builder_from_a_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "sly.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: custom\nmodel: {builder: evil.py:build}\n"
    )
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        sly = compose("config", [f"hydra.searchpath=[file://{tmp_path}]", "experiment=sly"], return_hydra_config=True)
    with pytest.raises(ConfigError, match="comes from a file"):
        read_config(sly, ExperimentConfig)


def test_stored_config_reads_back_equal(tmp_path: Path) -> None:
    config = composed("augmentation=crop", "seed=5", "data=kaggle", "seeds.init=9")
    write_config(tmp_path / "config.yaml", config)
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    "text",
    ["", "- a\n- b\n", "seed: [1", "seed: x\n", "sede: 1\n", "data: 3\n", "a: !!python/object:os.system {}\n", "\x00"],
)
def test_broken_stored_config_is_our_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load_config(tmp_path / "config.yaml")


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(leaf_keys(ExperimentConfig))), inner)
    ),
    max_leaves=5,
)


@given(st.sampled_from([field.name for field in fields(ExperimentConfig)]), json_like)
def test_any_mapping_is_a_config_or_our_error(key: str, value: Any) -> None:
    try:
        config = from_mapping({key: value}, ExperimentConfig)
    except ConfigError:
        return
    assert isinstance(config, ExperimentConfig)


def test_every_number_has_a_range_and_the_default_lies_inside() -> None:
    def visit(section: Any) -> None:
        for field in fields(section):
            value = getattr(section, field.name)
            if hasattr(value, "__dataclass_fields__"):
                visit(value)
                continue
            numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
            if numeric or (isinstance(value, tuple) and value and not isinstance(value[0], str)):
                low, high = field.metadata["low"], field.metadata["high"]
                entries = value if isinstance(value, tuple) else (value,)
                assert all(low <= entry <= high for entry in entries), field.name

    visit(ExperimentConfig())


def owners_of() -> dict[str, set[str]]:
    """Attribute -> what it is read from, anywhere outside config/: `config.data.root` gives root -> data.

    A module of a section's own name may call that section `config`.
    """
    package, found = CONF_DIR.parent / "cxr_experiments", dict[str, set[str]]()
    for path in package.rglob("*.py"):
        if path.parent.name == "config" and path.name not in ("study_spec.py", "search_spec.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                owner = node.value.attr if isinstance(node.value, ast.Attribute) else ast.unparse(node.value)
                found.setdefault(node.attr, set()).update({owner, path.stem if owner == "config" else owner})
    return found


def test_every_leaf_of_every_command_is_read_outside_config() -> None:
    owners = owners_of()
    named = {"study": {"study", "spec"}, "search": {"spec"}}
    looking = (
        *(EvaluateConfig, PredictConfig, RegisterConfig, PreviewConfig, VerifyConfig, DownloadConfig),
        *(CompareConfig, RunsConfig),
    )
    for schema in (ExperimentConfig, StudyConfig, SearchConfig, AppConfig, *looking):
        for leaf in leaf_keys(schema):
            section, name = ["config", *leaf.split(".")][-2:]
            assert named.get(section, {section}) & owners.get(name, set()), f"nothing reads {schema.__name__}.{leaf}"


def test_nearest_names_the_closest_word() -> None:
    assert nearest("noflip", ["crop", "flip", "no_flip"]) == "; did you mean no_flip? (allowed: crop, flip, no_flip)"
    assert nearest("zzz", ["crop"]) == " (allowed: crop)"


def test_yaml_holds_no_option_that_reads_as_a_boolean() -> None:
    for group, option in OPTIONS:
        assert isinstance(OmegaConf.create(f"x: {option}").x, str), f"{group}={option}"


def test_home_is_named_or_the_checkout_or_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXR_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert home() == tmp_path
    monkeypatch.chdir(CONF_DIR / "data")
    assert home() == CONF_DIR.parent
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "elsewhere"))
    assert home() == tmp_path / "elsewhere"
