"""The same choices are the same run however they are spelt; whatever changes a result changes the id."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from cxr_experiments.config.compose import PACKAGE_DIR
from cxr_experiments.config.identity import (
    PATHS,
    RESULT_AFFECTING,
    Identity,
    builder_digest,
    identify,
    run_name,
    source_digest,
    told_params,
)
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.config.seeds import Seeds, derive, resolve_seeds
from cxr_experiments.errors import ConfigError

USUAL = ExperimentConfig()


def named(config: ExperimentConfig = USUAL, **more: Any) -> Identity:
    return identify(config, "d" * 64, "s" * 64, **more)


def test_id_is_12_hex_digits_and_repeats() -> None:
    assert named().run_id == named().run_id
    assert len(named().run_id) == 12
    assert int(named().run_id, 16) >= 0


def test_names_paths_tracking_and_presets_are_no_part_of_it() -> None:
    for changed in (
        replace(USUAL, experiment_name="other", rerun=True, choices={"model": "gap"}),
        replace(USUAL, tracking=replace(USUAL.tracking, kind="disabled")),
        replace(USUAL, data=replace(USUAL.data, root="/elsewhere")),
        replace(USUAL, seeds=replace(USUAL.seeds, init=resolve_seeds(USUAL).init)),
    ):
        assert named(changed).run_id == named().run_id


def test_every_result_affecting_leaf_changes_it() -> None:
    for group in RESULT_AFFECTING:
        section = getattr(USUAL, group)
        for field in fields(section):
            if field.name in PATHS.get(group, ()):
                continue
            changed = replace(USUAL, **{group: replace(section, **{field.name: "something else"})})
            assert named(changed).run_id != named().run_id, f"{group}.{field.name}"


def test_values_that_came_later_do_not_enter_until_they_are_chosen() -> None:
    late = {"training.strategy", "training.num_devices", "batch_norm.kind", "batch_norm.num_images"}
    assert not late & set(named().config)
    chosen = named(replace(USUAL, batch_norm=replace(USUAL.batch_norm, kind="precise"))).config
    assert late & set(chosen) == {"batch_norm.kind"}


def test_seed_data_split_and_replicate_change_it() -> None:
    others = [
        named(replace(USUAL, seed=1)),
        named(replace(USUAL, seeds=replace(USUAL.seeds, dropout=5))),
        named(replicate=1),
        identify(USUAL, "e" * 64, "s" * 64),
        identify(USUAL, "d" * 64, "t" * 64),
    ]
    assert len({one.run_id for one in [named(), *others]}) == 6


def test_own_network_enters_with_its_content(tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text("def build(inputs, seed): ...\n")
    first = builder_digest(f"{net}:build")
    assert builder_digest(f"{net}:other") != first
    net.write_text("def build(inputs, seed): return inputs\n")
    assert builder_digest(f"{net}:build") != first
    with pytest.raises(ConfigError, match="no file"):
        builder_digest(str(tmp_path / "absent.py:build"))


def test_code_counts_and_its_comments_do_not(tmp_path: Path) -> None:
    package = tmp_path / "cxr_experiments"
    shutil.copytree(PACKAGE_DIR, package)
    before = source_digest(package)
    assert before == source_digest()
    augmentation = package / "learning" / "augmentation.py"
    augmentation.write_text("# a remark\n" + augmentation.read_text().replace("\n\n\n", "\n\n\n\n"))
    (package / "evidence" / "metrics.py").write_text("")
    assert source_digest(package) == before
    augmentation.write_text(augmentation.read_text() + "\nMORE = 1\n")
    assert source_digest(package) != before


def test_seeds_derive_apart_and_stay_where_they_are() -> None:
    seeds = resolve_seeds(USUAL)
    values = [getattr(seeds, field.name) for field in fields(Seeds)]
    assert len(set(values)) == 5
    assert all(0 <= value < 2**31 for value in values)
    # Pinned: another derivation would silently make every published seed another one.
    assert derive(0, "split") == 302893680
    assert resolve_seeds(replace(USUAL, seeds=replace(USUAL.seeds, order=7))).order == 7


@pytest.mark.parametrize(
    ("choices", "seed", "replicate", "name"),
    [
        (
            {"augmentation": "no_flip", "depth": "standard", "pooling": "gap", "optimizer": "adam"},
            0,
            0,
            "no_flip-gap-adam-s0",
        ),
        (
            {
                **{"augmentation": "crop", "depth": "deep", "pooling": "flatten", "optimizer": "sgd"},
                **{"imbalance": "class_weight", "schedule": "constant", "training": "smoke", "threshold": "youden"},
            },
            3,
            1,
            "crop-deep-flatten-sgd-class_weight-youden-s3-r1",
        ),
        (
            {
                **{"augmentation": "no_flip", "depth": "standard", "pooling": "gap", "optimizer": "adamw"},
                **{"resolution": "progressive", "averaging": "ema", "batch_norm": "precise", "imbalance": "none"},
            },
            0,
            0,
            "no_flip-gap-adamw-progressive-ema-precise-s0",
        ),
    ],
)
def test_runs_are_named_by_what_they_are(choices: dict[str, str], seed: int, replicate: int, name: str) -> None:
    assert run_name(replace(USUAL, choices=choices, seed=seed), replicate) == name


def test_told_params_are_choices_seed_and_differences() -> None:
    config = replace(USUAL, choices={"depth": "standard"}, seed=2, training=replace(USUAL.training, epochs=3))
    assert told_params(config) == {"depth": "standard", "seed": 2, "training.epochs": 3}
