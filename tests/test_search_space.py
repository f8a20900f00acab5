"""The words of a search: Hydra's grammar becomes dimensions, and what is drawn becomes words that train takes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_experiments.config.compose import CONF_DIR, read_config
from cxr_experiments.config.search_space import (
    Numbers,
    Options,
    num_points,
    parse_override,
    read_dimension,
    read_space,
)
from cxr_experiments.config.search_spec import SearchConfig, SearchSpec, check_spec, with_words
from cxr_experiments.errors import ConfigError
from cxr_experiments.search import __main__ as search_command
from cxr_experiments.search.words import trials_words_as_list

assert search_command  # importing a command registers its schema


@pytest.mark.parametrize(
    ("word", "dimension"),
    [
        ("model=gap,flatten", Options("model", ("gap", "flatten"))),
        ("optimizer=choice(adam)", None),
        ("data.image_size_px=choice(32, 64)", Options("data.image_size_px", ("32", "64"))),
        ("depth.filters=[8,16],[16,32]", Options("depth.filters", ("[8,16]", "[16,32]"))),
        ("training.deterministic=true,false", Options("training.deterministic", ("True", "False"))),
        ("training.epochs=range(2, 6)", Numbers("training.epochs", 2, 5, 1)),
        ("training.epochs=range(6, 2, -2)", Numbers("training.epochs", 4, 6, 2)),
        ("pooling.dropout=range(0.0, 0.6, 0.1)", Numbers("pooling.dropout", 0.0, 0.5, 0.1)),
        ("pooling.dropout=range(0.1, 0.4, 0.1)", Numbers("pooling.dropout", 0.1, 0.3, 0.1)),
        ("pooling.dropout=interval(0, 0.5)", Numbers("pooling.dropout", 0.0, 0.5)),
        ("x=tag(log, interval(1e-4, 1e-2))", Numbers("x", 0.0001, 0.01, log=True)),
        ("x=int(interval(8, 64))", Numbers("x", 8, 64, 1)),
        ("x=int(tag(log, interval(8, 64)))", Numbers("x", 8, 64, 1, log=True)),
    ],
)
def test_hydras_sweeps_are_dimensions(word: str, dimension: Numbers | Options | None) -> None:
    if dimension is None:
        with pytest.raises(ConfigError, match="expected two options or more"):
            read_dimension(parse_override(word))
        return
    read = read_dimension(parse_override(word))
    assert read == dimension
    assert [type(end) for end in vars(read).values()] == [type(end) for end in vars(dimension).values()]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("x=3", "x=3 leaves nothing to choose: expected x=a,b or choice"),
        ("x", "cannot read 'x'"),
        ("x=interval(2, 1)", r"interval\(2.0, 1.0\): expected the lower end first"),
        ("x=interval(0, inf)", "expected the lower end first, then a higher one"),
        ("x=tag(log, interval(0, 1))", "on a log scale: expected ends above 0"),
        ("x=tag(lgo, interval(1, 2))", r"tag\(lgo, ...\) is no tag here; did you mean log\?"),
        ("x=tag(log, choice(1, 2))", "only an interval has one, log"),
        ("x=range(1, 2)", r"range\(1, 2, 1\) holds 1 numbers"),
        ("x=range(5, 1)", r"holds 0 numbers"),
        ("x=range(1, 5, 0)", "a step other than 0"),
        ("x=a,a", "expected two options or more, each once"),
        ("+x=a,b", "expected a plain key or group"),
        ("x@y=a,b", "expected a plain key or group"),
        ("model=glob(*)", "leaves nothing to choose"),
    ],
)
def test_what_cannot_be_drawn_from_is_one_line(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_dimension(parse_override(word))
    assert "\n" not in str(caught.value)


finite = st.floats(1e-9, 1e9)


@settings(max_examples=30)  # Hydra's parser takes its time
@given(st.tuples(finite, finite).filter(lambda ends: ends[0] < ends[1]), st.floats(0, 1))
def test_any_number_drawn_becomes_a_word_within_the_ends(ends: tuple[float, float], share: float) -> None:
    dimension = read_dimension(parse_override(f"x=interval({ends[0]!r}, {ends[1]!r})"))
    assert isinstance(dimension, Numbers)
    drawn = min(max(ends[0] + share * (ends[1] - ends[0]), ends[0]), ends[1])
    value = parse_override(dimension.word(drawn)).value()
    assert isinstance(value, float)
    assert ends[0] <= value <= ends[1]
    assert value == pytest.approx(drawn, rel=1e-5)


@settings(max_examples=30)  # Hydra's parser takes its time
@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(-50, 50).filter(bool))
def test_whole_range_is_pythons(start: int, stop: int, step: int) -> None:
    wanted = sorted(range(start, stop, step))
    if len(wanted) < 2:
        with pytest.raises(ConfigError):
            read_dimension(parse_override(f"x=range({start}, {stop}, {step})"))
        return
    found = read_dimension(parse_override(f"x=range({start}, {stop}, {step})"))
    assert isinstance(found, Numbers)
    assert found.step is not None
    assert (found.size, list(range(int(found.low), int(found.high) + 1, int(found.step)))) == (len(wanted), wanted)


@settings(max_examples=30)  # Hydra's parser takes its time
@given(st.lists(st.sampled_from(["a", "b_1", "16", "0.5", "null", "true", "[1,2]", "'x y'"]), min_size=2, unique=True))
def test_every_option_comes_back_as_a_word_of_one_value(options: list[str]) -> None:
    dimension = read_dimension(parse_override(f"x={','.join(options)}"))
    values = [parse_override(word).value() for word in dimension.ends]
    assert values == [parse_override(f"x={option}").value() for option in options]


def test_points_are_counted() -> None:
    grid = read_space({"a": "x,y,z", "b": "range(0.0, 0.6, 0.1)", "c": ["gap", "flatten"]})
    assert num_points(grid) == 36
    assert num_points((*grid, Numbers("d", 0.0, 1.0))) == math.inf


def test_file_says_options_as_text_or_as_a_list() -> None:
    found = read_space({"depth.filters": [[8, 16], [16, 32]], "model": "gap, flatten", "x": [True, None, 0.5]})
    assert [one.ends for one in found] == [
        ("depth.filters=[8,16]", "depth.filters=[16,32]"),
        ("model=gap", "model=flatten"),
        ("x=True", "x=null", "x=0.5"),
    ]
    with pytest.raises(ConfigError, match=r"search\.space\.x=0\.5 leaves nothing to choose"):
        read_space({"x": 0.5})


def test_words_of_the_command_line_stand_over_the_file() -> None:
    spec = SearchSpec(
        ("seed=0", "model=gap", "training.epochs=4"), {"optimizer.learning_rate": "a,b", "pooling": "c,d"}
    )
    merged = with_words(spec, ["seed=3", "optimizer.learning_rate=0.1", "model=gap,flatten", "pooling=gmp,gap"])
    assert merged.baseline == ("training.epochs=4", "seed=3", "optimizer.learning_rate=0.1")
    assert merged.space == {"model": "gap,flatten", "pooling": "gmp,gap"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (SearchSpec(), "nothing to draw"),
        (SearchSpec((), {"seed": "1,2"}), "seed cannot be searched over: a search over seeds finds the luckiest one"),
        (SearchSpec((), {"seeds.init": "1,2"}), "seeds.init cannot be searched over"),
        (SearchSpec((), {"threshold.value": "0.1,0.2"}), "no objective depends on it"),
        (SearchSpec((), {"split": "official,image_level"}), "judged on the same validation images"),
        (SearchSpec(("model.builder=x.py:f",), {"model": "a,b"}), "stands on train's command line only"),
        (SearchSpec(("rerun=true",), {"model": "a,b"}), "rerun=true belongs to no trial"),
    ],
)
def test_what_a_search_may_not_have_is_refused(spec: SearchSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_spec(spec)


def test_search_and_train_words_are_told_apart() -> None:
    words = ["search=demo", "tracking.uri=x", "data.root=a (1)", "model=gap,flatten", "hydra/launcher=basic"]
    *own, overrides, flag, value = trials_words_as_list(["--cfg", "job", *words])
    assert own == ["search=demo", "tracking.uri=x", "hydra/launcher=basic"]
    assert (flag, value) == ("--cfg", "job")
    assert parse_override(overrides).value() == ["data.root='a (1)'", "model=gap,flatten"]
    assert trials_words_as_list(["trials=3"]) == ["trials=3"]
    with pytest.raises(ConfigError, match=r"trails: no such key; did you mean trials\?"):
        trials_words_as_list(["trails=3"])
    with pytest.raises(ConfigError, match="without -m"):
        trials_words_as_list(["-m", "model=gap,flatten"])


@pytest.mark.parametrize("name", sorted(path.stem for path in Path(CONF_DIR, "search").glob("*.yaml")))
def test_every_search_composes_and_has_a_space(name: str) -> None:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = read_config(compose("search", [f"search={name}"], return_hydra_config=True), SearchConfig)
    check_spec(config.search)
    assert num_points(read_space(config.search.space)) >= config.trials
