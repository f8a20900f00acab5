"""The rule that turns an interval and a margin into a word, and the word into a sentence."""

from __future__ import annotations

import math

BETTER, WORSE = "better", "worse"
EQUIVALENT, NOT_RESOLVED = "equivalent", "not resolved"
UNRESOLVED, WITHIN = "relevance unresolved", "within the margin"


def verdict(low: float, high: float, margin: float) -> str:
    """What the interval of a difference says, positive being better.

    Args:
        low: lower limit L.
        high: upper limit U.
        margin: m > 0, the smallest difference of interest.

    Returns:
        L > m: better.  0 < L <= m: better, relevance unresolved (U > m) or better but within the margin (U <= m).
        The mirror image: worse.  L <= 0 <= U inside (-m, m): equivalent.  Anything else, NaN too: not resolved.

    Example:
        >>> verdict(0.012, 0.03, 0.01), verdict(0.002, 0.03, 0.01)
        ('better', 'better, relevance unresolved')
        >>> verdict(-0.004, 0.006, 0.01), verdict(-0.02, 0.01, 0.01)
        ('equivalent', 'not resolved')
    """
    if math.isnan(low) or math.isnan(high):
        return NOT_RESOLVED
    if low > 0:
        return _directed(BETTER, low, high, margin)
    if high < 0:
        return _directed(WORSE, -high, -low, margin)
    return EQUIVALENT if -margin < low and high < margin else NOT_RESOLVED


def _directed(word: str, near: float, far: float, margin: float) -> str:
    """`near` and `far` are the ends of the interval, both positive."""
    if near > margin:
        return word
    return f"{word}, {UNRESOLVED}" if far > margin else f"{word} but {WITHIN}"


def sentence(name: str, word: str, interval: tuple[float, float, float], margin: float, basis: str) -> str:
    """A verdict as one reads it out.

    Args:
        name: of the option.
        word: the verdict.
        interval: value, low, high of the difference, positive being better.
        margin: the smallest difference of interest.
        basis: what it rests on, as `AUROC on test, 8 seeds, 428 patient keys`.

    Example:
        >>> sentence("flip", "worse", (-0.021, -0.033, -0.009), 0.005, "AUROC on test, 8 seeds, 428 patient keys")
        'flip: worse by .021 [.009, .033] (AUROC on test, 8 seeds, 428 patient keys)'
    """
    value, low, high = interval
    if math.isnan(low):
        return f"{name}: {word} ({basis})"
    if word.startswith(WORSE):
        value, low, high = -value, -high, -low
    digits = _digits(interval, margin)
    told = f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"
    if word.startswith((BETTER, WORSE)):
        head, _, tail = word.partition(" but ") if " but " in word else word.partition(", ")
        rest = f" but {tail}" if " but " in word else f", {tail}" if tail else ""
        return f"{name}: {head} by {told}{rest} ({basis})"
    margin_told = number(margin, digits)
    return f"{name}: {word}, difference {told} against a margin of {margin_told} ({basis})"


def number(value: float, digits: int = 3) -> str:
    """A number below 1 without its zero: .021, -.004; NaN is `-`."""
    if math.isnan(value):
        return "-"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def _digits(interval: tuple[float, float, float], margin: float) -> int:
    """Three, or as many as the margin and the width of the interval need to show."""
    smallest = min(margin, max(interval[2] - interval[1], 1e-5))
    return max(3, min(6, -math.floor(math.log10(smallest))))
