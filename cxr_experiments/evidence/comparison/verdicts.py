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
        interval: value, low, high of the difference, option less baseline.
        margin: the smallest difference of interest.
        basis: what it rests on, as `AUROC on test, 8 seeds, 428 patient keys`.

    Example:
        >>> sentence("flip", "worse", (-0.021, -0.033, -0.009), 0.005, "AUROC on test, 8 seeds, 428 patient keys")
        'flip: worse by .021 [.009, .033] (AUROC on test, 8 seeds, 428 patient keys)'
    """
    value, low, high = interval
    if math.isnan(low):
        return f"{name}: {word} ({basis})"
    if word.startswith((BETTER, WORSE)) and value < 0:  # the word tells the direction
        value, low, high = -value, -high, -low
    digits = digits_of(low, high, margin)
    told = f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"
    if word.startswith((BETTER, WORSE)):
        head, _, tail = word.partition(" but ") if " but " in word else word.partition(", ")
        rest = f" but {tail}" if " but " in word else f", {tail}" if tail else ""
        return f"{name}: {head} by {told}{rest} ({basis})"
    margin_told = number(margin, max(3, len(f"{margin:.6f}".rstrip("0").partition(".")[2])))
    return f"{name}: {word}, difference {told} against a margin of {margin_told} ({basis})"


def number(value: float, digits: int = 3) -> str:
    """A number below 1 without its zero: .021, -.004; NaN is `-`."""
    if math.isnan(value):
        return "-"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def places(low: float, high: float) -> int:
    """Places that show an interval: three, or as many, up to five, as make it four units of the last one wide.

    Example:
        >>> places(0.939, 0.970), places(0.9970, 0.9983), places(0.5, 0.5), places(float("nan"), float("nan"))
        (3, 4, 3, 3)
    """
    return max(3, min(5, math.ceil(math.log10(4 / (high - low))))) if high - low > 1e-12 else 3


def digits_of(low: float, high: float, margin: float) -> int:
    """Places that show a difference: also as many, up to six, as keep its ends on their side of 0 and the margin.

    Example:
        >>> digits_of(-0.02, 0.01, 0.05), digits_of(0.0003, 0.02, 0.01), digits_of(0.002, 0.02, 0.0005)
        (3, 4, 4)
    """
    if math.isnan(low) or math.isnan(high):
        return 3
    fewest = max(places(low, high), min(6, -math.floor(math.log10(margin))))
    return next((digits for digits in range(fewest, 7) if _shows(low, high, margin, digits)), fewest)


def _shows(low: float, high: float, margin: float, digits: int) -> bool:
    pairs = [(end, edge) for end in (low, high) for edge in (-margin, 0.0, margin)]
    return all(_side(end - edge) == _side(round(end, digits) - round(edge, digits)) for end, edge in pairs)


def _side(value: float) -> int:
    return (value > 1e-12) - (value < -1e-12)
