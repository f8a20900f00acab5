"""The words of the study command: lists of overrides may be typed as they are, without quotes inside."""

from __future__ import annotations

from cxr_experiments.config.command_line import escaped

LISTS = ("study.baseline", "images")
OPENING, CLOSING, QUOTES = "[{(", "]})", "'\""


def lists_as_text(words: list[str]) -> list[str]:
    """Quote the entries of `study.baseline=[...]` and `images=[...]`: Hydra stops at an equals sign inside a list.

    Example:
        >>> lists_as_text(["study.baseline=[data=phantom,depth.filters=[8,16]]", "study.seeds=[0,1]"])
        ["study.baseline=['data=phantom','depth.filters=[8,16]']", 'study.seeds=[0,1]']
    """
    return [_quoted(word) for word in words]


def _quoted(word: str) -> str:
    key, _, value = word.partition("=")
    value = value.strip()
    if key.lstrip("+") not in LISTS or not (value.startswith("[") and value.endswith("]")):
        return word
    entries = (entry.strip() for entry in _entries(value[1:-1]))
    return f"{key}=[{','.join(entry if entry[0] in QUOTES else escaped(entry) for entry in entries if entry)}]"


def _entries(text: str) -> list[str]:
    """The text cut at the commas that no bracket and no quote holds."""
    entries, quote, open_ones = [""], "", 0
    for letter in text:
        if letter == "," and not quote and not open_ones:
            entries.append("")
            continue
        if letter in QUOTES and quote in ("", letter):
            quote = "" if quote else letter
        open_ones += 0 if quote else (letter in OPENING) - (letter in CLOSING)
        entries[-1] += letter
    return entries
