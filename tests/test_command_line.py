"""What a newcomer mistypes: one line with the nearest match, status 2, before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Command
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cxr_experiments.config.command_line import as_text, words_as_images
from cxr_experiments.config.flags import flags_last
from cxr_experiments.config.hydra_repeats import jobs_checked_once
from cxr_experiments.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train trainng.epochs=3", "trainng.epochs: no such key; did you mean training.epochs?"),
        ("train modle=gap", "modle: no such key; did you mean model?"),
        (
            "train augmentation=noflip",
            "augmentation=noflip: no such option; did you mean no_flip? (allowed: crop, flip",
        ),
        ("train experiment=seedstudy", "did you mean seed_study?"),
        (
            "train training.epochs=abc",
            "training.epochs=abc: Value 'abc' of type 'str' could not be converted to Integer",
        ),
        ("train training.epochs=null", "training.epochs: needs a value, got null"),
        ("train training.epochs", "cannot read the override 'training.epochs': expected key=value"),
        ("train training.epochs=3(", "quote the value, training.epochs=\"'3('\""),
        ("train +colour=red", "colour: no such key"),
        ("train augmentation=null", "a group was given null"),
        ("train seed=0,1", "seed=0,1: one run takes one value; -m makes a run of each"),
        ("train -m seed=0,1 augmentation=none,crp", "augmentation=crp: no such option; did you mean crop?"),
        ("train -m seed=0,1 training.epochs=1,0", "training.epochs=0: expected 1 to 10000 epochs"),
        ("evaluate", "give run=ID or experiment_name=NAME; finished runs: none yet"),
        ("evaluate run=123456789012", "no run 123456789012 under"),
        ("evaluate run=12e456789012", "no run 12e456789012 under"),
        ("evaluate threshold=youdn run=123456", "threshold=youdn: no such option; did you mean youden?"),
        ("predict film.jpg", "no run is named: run=ID, or run=best experiment_name=NAME"),
        ("predict run=123456", "no image is named"),
        ("predict a.jpg images=[b.jpg] run=123456", "both as words and as images=[...]"),
        ("preview augmentation=non", "did you mean none?"),
    ],
)
def test_mistake_is_one_line_with_status_2(words: str, message: str, tmp_path: Path, command: Command) -> None:
    said = command(*words.split(), home=tmp_path)
    assert message in said.err
    assert said.err.startswith(words.split()[0] + ": ")
    assert len(said.err.strip().splitlines()) == 1, said.err
    assert (said.status, said.out) == (2, "")
    assert not list(tmp_path.rglob("*")), "a mistake leaves nothing behind"


@pytest.mark.parametrize(
    "words",
    ["train --help", "train --cfg job", "train augmentation=noflip", "predict --help", "evaluate", "search --help"],
)
def test_light_answers_load_no_heavy_library(words: str, tmp_path: Path) -> None:
    first, *rest = words.split()
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['{first}', *{rest!r}]\n"
        "try:\n"
        f"    runpy.run_module('cxr_experiments.{first}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'tensorflow', 'keras', 'mlflow', 'matplotlib', 'pandas', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert "HEAVY []" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]


def test_help_names_groups_options_and_examples(tmp_path: Path, command: Command) -> None:
    said = command("train", "--help", home=tmp_path)
    assert said.status == 0
    for text in ("augmentation: crop, flip, no_flip, none, strong", "image_size_px: 200", "data=kaggle data.root=DIR"):
        assert text in said.out


def test_commands_compose_from_another_folder(tmp_path: Path, command: Command) -> None:
    said = command("train", "--cfg", "job", "model=flatten", "seed=4", home=tmp_path, cwd=Path("/"))
    assert said.status == 0
    assert "kind: flatten" in said.out
    assert "seed: 4" in said.out


@example(["${oops}", "it's", "back\\", "\\'", "\\${x}", "a,b", "[c]"])
@given(
    st.lists(st.text(st.characters(exclude_characters="=\x00\n\r", exclude_categories=["Cs"]), min_size=1), min_size=1)
)
def test_any_path_without_equals_reaches_the_images_list(words: list[str]) -> None:
    words = [word for word in words if not word.startswith("-")] or ["x.png"]
    (override,) = words_as_images(words)
    images = OverridesParser.create().parse_override(override).value()
    assert list(OmegaConf.create({"images": images}).images) == words


def test_words_and_flags_are_told_apart() -> None:
    assert words_as_images(["--help", "run=1", "a b.jpg"]) == ["run=1", "images=['a b.jpg']", "--help"]
    assert words_as_images(["run=1", "--cfg", "job", "a.jpg"]) == ["run=1", "images=['a.jpg']", "--cfg", "job"]
    assert words_as_images(["--cfg", "job"]) == ["--cfg", "job"]
    with pytest.raises(ConfigError, match="use one of the two"):
        words_as_images(["a.jpg", "images=[b.jpg]"])


def test_sweep_over_text_keeps_its_commas() -> None:
    assert as_text(["-m", "data.root=a b,c"]) == ["-m", "data.root='a b','c'"]
    assert as_text(["data.root=a b,c"]) == ["data.root='a b,c'"]
    assert as_text(["-m", "data.patient_regex=(a{1,2})"]) == ["-m", "data.patient_regex='(a{1,2})'"]


def test_hydras_own_sweeper_leaves_its_check_out_of_checked_sweeps_alone() -> None:
    # asked from Hydra: it loads the module of its sweeper anew, and that class is another one than an import gives
    (own,) = [kind for kind in Plugins.instance().discover(Sweeper) if kind.__name__ == "BasicSweeper"]
    sweeper = own(max_batch_size=None)  # type: ignore[call-arg]
    with jobs_checked_once():
        sweeper.validate_batch_is_legal([["seed=1"]])
    with pytest.raises(AttributeError):  # it would compose, and has nothing to compose with
        sweeper.validate_batch_is_legal([["seed=1"]])


def test_run_ids_that_look_like_numbers_stay_text() -> None:
    assert as_text(["run=12e456789012", "run='x'", "seed=1"]) == ["run='12e456789012'", "run='x'", "seed=1"]


@pytest.mark.parametrize(
    "value", [r"^(p\d+)_[a-z]{2}\.png$", "C:\\films (1)", "it's", "/a/${b}", "[x]", "12e4", "a,b", "null "]
)
def test_text_reaches_the_config_as_typed(value: str) -> None:
    (quoted,) = as_text([f"data.root={value}"])
    parsed = OverridesParser.create().parse_override(quoted).value()
    assert OmegaConf.create({"root": parsed}).root == value


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["seed=0,1", "-m", "depth=deep"], ["seed=0,1", "depth=deep", "-m"]),
        (["seed=0", "--cfg", "job", "depth=deep"], ["seed=0", "depth=deep", "--cfg", "job"]),
        (["a.jpg", "run=1", "-c", "job", "b.jpg"], ["a.jpg", "run=1", "b.jpg", "-c", "job"]),
        (["seed=0"], ["seed=0"]),
        ([], []),
    ],
)
def test_flags_may_stand_anywhere(typed: list[str], read: list[str]) -> None:
    assert flags_last(typed) == read
    assert flags_last(read) == read


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--epochs", "3"], "--epochs: no such flag; what a run varies is given as key=value"),
        (["seed=1", "-x"], "-x: no such flag"),
        (["--cfg"], "expected one argument"),
        (["--cfg", "jobs"], "invalid choice: 'jobs'"),
    ],
)
def test_a_flag_that_is_none_is_one_line(typed: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        flags_last(typed)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
