"""A search space as a value: one dimension per key, read from Hydra's own override grammar for sweeps.

In: `optimizer.learning_rate` and `tag(log, interval(1e-4, 1e-2))`.  Out: `Numbers` or `Options`, checked.  Nothing is
composed here, and no library of searching is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from cxr_experiments.config.compose import nearest
from cxr_experiments.errors import ConfigError

HOW = "a,b or choice(a, b), range(1, 5), interval(0.1, 0.5), tag(log, interval(1e-4, 1e-2)), int(interval(8, 64))"
DIGITS = 6  # of a drawn number, as it stands in the run's config


@dataclass(frozen=True)
class Numbers:
    """A key that takes numbers from `low` to `high`, both included.

    Attributes:
        key: as on train's command line.
        low, high: int where `whole`, float otherwise.
        step: between neighbours; None where every number in between may be drawn.
        log: drawn evenly over the logarithm.
    """

    key: str
    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether they are whole numbers."""
        return isinstance(self.low, int)

    @property
    def size(self) -> float:
        """How many different values there are; infinite without a step."""
        return math.inf if self.step is None else round((self.high - self.low) / self.step) + 1

    @property
    def ends(self) -> tuple[str, ...]:
        """What is composed before the first trial: if both ends are fine, so is all between."""
        return (self.word(self.low), self.word(self.high))

    def word(self, value: float) -> str:
        """The override that sets a drawn value; a float has six digits there, never beyond the ends.

        Example:
            >>> Numbers("optimizer.learning_rate", 0.0001, 0.01).word(0.00123456789)
            'optimizer.learning_rate=0.00123457'
        """
        if self.whole:
            return f"{self.key}={int(value)}"
        return f"{self.key}={min(max(float(f'{value:.{DIGITS}g}'), self.low), self.high)!r}"


@dataclass(frozen=True)
class Options:
    """A key or a group that takes one of several options; each is text, as one types it."""

    key: str
    options: tuple[str, ...]

    @property
    def size(self) -> float:
        """How many there are."""
        return len(self.options)

    @property
    def ends(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(map(self.word, self.options))

    def word(self, value: str) -> str:
        """The override that sets an option."""
        return f"{self.key}={value}"


Dimension = Numbers | Options


def parse_override(word: str) -> Override:
    """One word of a command line, by Hydra's grammar.

    Raises:
        ConfigError: it has none of its forms.
    """
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        told = " ".join(str(error).splitlines()[0].split())
        raise ConfigError(f"cannot read {word!r} ({told}): expected key=value, or key={HOW}") from error


def read_space(space: Mapping[str, Any]) -> tuple[Dimension, ...]:
    """Key -> what may be drawn, as text in Hydra's grammar or as a list of options; in the same order.

    Raises:
        ConfigError: it cannot be read, or leaves no choice.
    """
    return tuple(read_dimension(parse_override(f"{key}={_text(key, said)}")) for key, said in space.items())


def read_dimension(override: Override) -> Dimension:
    """What an override with several values may draw.

    Raises:
        ConfigError: it has one value, or several that cannot be drawn from.

    Example:
        >>> read_dimension(parse_override("model=gap,flatten"))
        Options(key='model', options=('gap', 'flatten'))
        >>> read_dimension(parse_override("training.batch_size=range(16, 65, 16)"))
        Numbers(key='training.batch_size', low=16, high=64, step=16, log=False)
    """
    key, value = override.get_key_element(), override.value()
    if key[0] in "+~" or override.package:
        raise ConfigError(f"{override.input_line}: expected a plain key or group, without + ~ or @")
    if isinstance(value, ChoiceSweep):
        _only_tags(key, value.tags, ())
        return _options(key, tuple(override.sweep_string_iterator()))
    if isinstance(value, RangeSweep):
        _only_tags(key, value.tags, ())
        return _range(key, value)
    if isinstance(value, IntervalSweep):
        _only_tags(key, value.tags, ("log",))
        return _interval(key, value)
    raise ConfigError(f"{override.input_line} leaves nothing to choose: expected {key}={HOW}")


def num_points(space: Sequence[Dimension]) -> float:
    """How many different settings there are; infinite where a dimension is."""
    return math.prod(dimension.size for dimension in space)


def _options(key: str, options: tuple[str, ...]) -> Options:
    if len(set(options)) != len(options) or len(options) < 2:
        raise ConfigError(f"{key}={','.join(options)}: expected two options or more, each once")
    return Options(key, options)


def _range(key: str, value: RangeSweep) -> Numbers:
    """As Python's range: the stop is left out."""
    start, stop, step = (Decimal(str(number)) for number in (value.start, value.stop, value.step))
    if not all(number.is_finite() for number in (start, stop, step)) or step == 0:
        raise ConfigError(f"{key}: range({start}, {stop}, {step}) has no numbers: expected a step other than 0")
    count = math.ceil((stop - start) / step)
    if count < 2:
        raise ConfigError(f"{key}: range({start}, {stop}, {step}) holds {max(count, 0)} numbers, expected 2 or more")
    low, high = sorted((start, start + (count - 1) * step))
    kind = int if all(isinstance(one, int) for one in (value.start, value.stop, value.step)) else float
    return Numbers(key, kind(low), kind(high), kind(abs(step)))


def _interval(key: str, value: IntervalSweep) -> Numbers:
    low, high, log = value.start, value.end, "log" in value.tags
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"{key}: interval({low}, {high}): expected the lower end first, then a higher one")
    if log and low <= 0:
        raise ConfigError(f"{key}: interval({low}, {high}) on a log scale: expected ends above 0")
    return Numbers(key, low, high, 1 if isinstance(low, int) else None, log)


def _only_tags(key: str, tags: set[str], known: tuple[str, ...]) -> None:
    if unknown := sorted(tags - set(known)):
        allowed = nearest(unknown[0], list(known)) if known else ": only an interval has one, log"
        raise ConfigError(f"{key}: tag({unknown[0]}, ...) is no tag here{allowed}")


def _text(key: str, said: Any) -> str:
    """Of a file: text in Hydra's grammar, or a list of options."""
    if isinstance(said, (list, tuple)):
        return ",".join(map(_typed, said))
    if isinstance(said, str):
        return said
    raise ConfigError(f"search.space.{key}={said!r} leaves nothing to choose: expected {HOW}")


def _typed(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_typed, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
