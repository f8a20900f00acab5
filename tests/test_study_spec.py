"""A study's file becomes its arms, or one line that says what is wrong with it; nothing heavy is imported."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_experiments.config.compose import from_mapping
from cxr_experiments.config.study_spec import (
    ON_TEST,
    ON_VALIDATION,
    VARIED,
    StudyConfig,
    StudySpec,
    arms_of,
    check_spec,
    on_images,
)
from cxr_experiments.errors import ConfigError
from cxr_experiments.study.words import lists_as_text

FLIP = {"augmentation": ["flip"]}


def spec_of(**said: Any) -> StudySpec:
    """A study as its file would be read, with a factor and a margin unless told."""
    return from_mapping({"factors": FLIP, "margin": 0.01, **said}, StudySpec, "study.")


def names_of(**said: Any) -> list[str]:
    return [arm.name for arm in arms_of(spec_of(**said))]


def refusal_of(**said: Any) -> str:
    """The one line that a wrong study is answered with."""
    with pytest.raises(ConfigError) as caught:
        check_spec(spec_of(**said))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_baseline_comes_first_then_one_arm_per_option_in_the_files_order() -> None:
    factors = {"pooling": ["flatten", "gmp"], "augmentation": ["none"]}
    arms = arms_of(spec_of(factors=factors))
    assert [(arm.name, arm.factor, arm.option, arm.overrides) for arm in arms] == [
        ("baseline", "", "", ()),
        ("flatten", "pooling", "flatten", ("pooling=flatten",)),
        ("gmp", "pooling", "gmp", ("pooling=gmp",)),
        ("none", "augmentation", "none", ("augmentation=none",)),
    ]


def test_grid_takes_every_combination_and_the_baseline_once() -> None:
    factors = {"pooling": ["flatten", "gmp"], "optimizer": ["sgd"]}
    arms = arms_of(spec_of(factors=factors, grid=True))
    assert [arm.name for arm in arms] == ["baseline", "sgd", "flatten", "flatten+sgd", "gmp", "gmp+sgd"]
    assert arms[3].overrides == ("pooling=flatten", "optimizer=sgd")
    assert arms[3].factor == "pooling+optimizer"


@pytest.mark.parametrize(
    ("factors", "names"),
    [
        ({"pooling.dropout": [0, 0.25]}, ["dropout=0", "dropout=0.25"]),
        ({"optimizer.learning_rate": [1e-5, 1e22]}, ["learning_rate=1e-05", "learning_rate=1e+22"]),
        ({"augmentation.horizontal_flip": [True]}, ["horizontal_flip=true"]),
        ({"data.patient_regex": [None]}, ["patient_regex=null"]),
        ({"depth.filters": [[16, 32], [32, 64]]}, ["filters=[16,32]", "filters=[32,64]"]),
        ({"augmentation": ["none"], "imbalance": ["none"]}, ["augmentation=none", "imbalance=none"]),
        ({"augmentation": ["baseline"]}, ["augmentation=baseline"]),
        ({"size": [{"small": ["data.image_size_px=32"]}]}, ["small"]),
        ({"a.x": [{"y": ["a=1"]}], "b.x": [{"y": ["b=1"]}]}, ["a.x=y", "b.x=y"]),
        ({"a": [{"x+y": ["c=1"]}], "b": [{"x+y": ["d=1"]}]}, ["a=x+y", "b=x+y"]),
    ],
)
def test_labels_tell_arms_apart(factors: dict[str, Any], names: list[str]) -> None:
    assert names_of(factors=factors) == ["baseline", *names]


def test_numbers_of_a_grid_keep_their_keys() -> None:
    factors = {"pooling.dropout": [0.25], "pooling": ["gmp"]}
    assert names_of(factors=factors, grid=True) == ["baseline", "gmp", "dropout=0.25", "dropout=0.25+pooling=gmp"]


def test_options_are_typed_as_on_the_command_line() -> None:
    factors = {"data.patient_regex": [None], "augmentation.horizontal_flip": [True], "depth.filters": [[8, 16]]}
    overrides = [arm.overrides for arm in arms_of(spec_of(factors=factors))[1:]]
    assert overrides == [
        ("data.patient_regex=null",),
        ("augmentation.horizontal_flip=true",),
        ("depth.filters=[8,16]",),
    ]


def test_tuned_keys_give_every_combination_of_their_values() -> None:
    tune = {"optimizer.learning_rate": [0.1, 0.01], "optimizer.momentum": [0, 0.9]}
    (_, arm) = arms_of(spec_of(factors={"optimizer": {"options": ["sgd"], "tune": tune}}))
    (factor,) = arm.factors
    assert list(factor.candidates()) == [
        ("optimizer.learning_rate=0.1", "optimizer.momentum=0"),
        ("optimizer.learning_rate=0.1", "optimizer.momentum=0.9"),
        ("optimizer.learning_rate=0.01", "optimizer.momentum=0"),
        ("optimizer.learning_rate=0.01", "optimizer.momentum=0.9"),
    ]
    (_, plain) = arms_of(spec_of())
    assert list(plain.factors[0].candidates()) == [()]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"margin": None}, "study.margin has no value: give the smallest difference of interest, in units of"),
        ({"factors": {}}, "study.factors is empty: give at least one"),
        ({"seeds": [0, 1, 1]}, "study.seeds=[0, 1, 1]: expected whole numbers, each once"),
        ({"seeds": []}, "study.seeds=[]: expected whole numbers, each once"),
        ({"seeds": [3]}, "study.seeds=[3] is one repetition: how much training alone moves the metric cannot be known"),
        ({"seeds": [-1]}, "study.seeds=(-1,): expected 0 to 2147483647"),
        ({"vary": ["splt"]}, "study.vary: splt is nothing that a seed changes; did you mean split?"),
        ({"folds": 1}, "study.folds=1: expected 0 (one cut per seed) or 2 and more"),
        ({"folds": 21}, "study.folds=21: expected 0 to 20 folds"),
        ({"margin": 0}, "study.margin=0: expected 1e-06 to 1.0"),
        ({"margin": "small"}, "study.margin=small: expected "),
        ({"primary_metric": "test_auroc"}, "study.primary_metric=test_auroc: no such option; did you mean auroc?"),
        ({"primary_metric": "stress_auroc"}, "did you mean stress_auroc_"),
        ({"fatcors": FLIP}, "study.fatcors: no such key; did you mean factors?"),
        ({"factors": {"augmentation": "flip"}}, "study.factors.augmentation: expected a list of options, as [flip"),
        ({"factors": {"augmentation": []}}, "study.factors.augmentation: expected a list of options"),
        ({"factors": {"augmentation": ["flip", "flip"]}}, "study.factors.augmentation: an option stands there twice"),
        (
            {"factors": {"augmentation": {"option": ["flip"]}}},
            "augmentation.option: no such key; did you mean options?",
        ),
        ({"factors": {"augmentation": {"options": ["flip"], 3: 4}}}, "study.factors.augmentation.3: no such key"),
        ({"factors": {3: ["flip"]}}, "study.factors={3: "),
        ({"factors": {"size": [{"small": "x=1"}]}}, "study.factors.size: expected {label: [override, ...]}, got "),
        ({"factors": {"size": [{"small": []}]}}, "study.factors.size: small has no override"),
        ({"factors": {"size": [{"": ["x=1"]}]}}, "study.factors.size: '' names no option"),
        ({"factors": {"size": [{"a": ["x=1"]}, {"a": ["x=2"]}]}}, "two arms would be called size=a"),
        (
            {"factors": {"optimizer": {"options": ["sgd"], "tune": {"optimizer.learning_rate": []}}}},
            "study.factors.optimizer.tune: expected keys with lists of values, as {optimizer.learning_rate: [0.001]}",
        ),
        (
            {"factors": {"optimizer": {"options": ["sgd"], "tune": ["optimizer.learning_rate"]}}},
            "study.factors.optimizer.tune: expected keys with lists of values",
        ),
    ],
)
def test_wrong_study_is_one_line_that_names_it(said: dict[str, Any], message: str) -> None:
    assert message in refusal_of(**said)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.builder=net.py:build", "names code: a network of one's own stands on train's command line only"),
        ("+model.builder=net.py:build", "names code"),
        ("seed=3", "belongs to the study as a whole: say it by study.seeds"),
        ("seeds.init=3", "say it by study.seeds and study.vary"),
        ("data.num_folds=5", "say it by study.folds"),
        ("experiment_name=mine", "say it by the study's own file name"),
        ("tracking=disabled", "say it by tracking=... beside study=NAME"),
        ("rerun=true", "say it by noise_floor=true"),
        ("+tags.x=1", "belongs to the study as a whole"),
        ("hydra/launcher=joblib", "say it by hydra... beside study=NAME"),
    ],
)
def test_what_belongs_to_the_whole_study_is_no_override_of_a_cell(override: str, message: str) -> None:
    assert f"study.baseline: {override}" in refusal_of(baseline=[override])
    assert message in refusal_of(baseline=[override])
    assert message in refusal_of(factors={"change": [{"mine": [override]}]})


def test_images_of_ones_own_stand_behind_the_baseline() -> None:
    config = StudyConfig(study=spec_of(baseline=["data=kaggle"]), images=("data=folder", "data.root=films"))
    assert on_images(config).study.baseline == ("data=kaggle", "data=folder", "data.root=films")
    assert on_images(on_images(config)) == on_images(config)


@pytest.mark.parametrize(
    "override", ["training.epochs=3", "datum=folder", "model.builder=net.py:build", "+data=folder"]
)
def test_images_are_no_way_to_say_anything_else(override: str) -> None:
    with pytest.raises(ConfigError, match="is not about images"):
        on_images(StudyConfig(study=spec_of(), images=(override,)))


def test_lists_of_overrides_need_no_quotes_inside() -> None:
    typed = ["study=demo", "images=[data=folder,data.classes=[no,yes]]", "study.seeds=[0,1]"]
    assert lists_as_text(typed) == ["study=demo", "images=['data=folder','data.classes=[no,yes]']", "study.seeds=[0,1]"]


def test_factor_or_tuning_over_seeds_is_refused() -> None:
    assert "say it by study.seeds" in refusal_of(factors={"seed": [1, 2]})
    tuned = {"augmentation": {"options": ["flip"], "tune": {"seed": [1, 2]}}}
    assert "say it by study.seeds" in refusal_of(factors=tuned)


def test_threshold_may_be_a_factor_and_no_part_of_the_baseline() -> None:
    check_spec(spec_of(factors={"threshold": ["youden"]}))
    assert "say it by study.threshold" in refusal_of(baseline=["threshold=youden"])


def test_one_seed_with_folds_is_several_repetitions() -> None:
    check_spec(spec_of(seeds=[3], folds=2))


def test_defaults_are_as_promised() -> None:
    spec = StudySpec()
    assert spec.margin is None, "no margin fits every question"
    assert spec.vary == VARIED == ("split", "init", "order", "augmentation")
    assert not set(ON_TEST) & set(ON_VALIDATION)
    assert not any(name.startswith("test_") for name in (*ON_TEST, *ON_VALIDATION))


yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["options", "tune", "a", "b.c"]) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["augmentation", "pooling.dropout", "a+b", "x"]), yaml_values), st.booleans())
def test_any_factors_are_arms_with_names_of_their_own_or_our_error(factors: dict[str, Any], grid: bool) -> None:
    refused = ""
    try:
        spec = from_mapping({"factors": factors, "grid": grid, "margin": 0.1}, StudySpec, "study.")
        check_spec(spec)
    except ConfigError as error:
        refused = str(error)
    assert "\n" not in refused
    if refused:
        return
    names = [arm.name for arm in arms_of(spec)]
    assert len(set(names)) == len(names) > 1
    assert all(name.strip() and name.isprintable() for name in names)


@given(st.sampled_from([*StudySpec.__dataclass_fields__, "fatcors"]), yaml_values)
def test_any_key_of_a_study_is_a_spec_or_our_error(key: str, value: Any) -> None:
    try:
        config = from_mapping({"study": {key: value}}, StudyConfig)
    except ConfigError:
        return
    assert isinstance(config, StudyConfig)
