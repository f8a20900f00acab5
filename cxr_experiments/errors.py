"""The errors that a user can mend.  Commands catch these alone: one line on stderr, exit status 2.

    CxrError
    |-- ConfigError        an option: unknown, mistyped, out of range, or at odds with another
    |-- DataError          the images: missing, unreadable, wrongly laid out
    |   |-- BadImageError    one file that cannot be decoded
    |   `-- LeakageError     a patient or a duplicate stands on both sides of a split
    |-- RunError           a run: not found, being trained elsewhere, not finished, not readable
    |-- ComparisonError    runs that cannot be compared: other images, other data, more than the factor changed
    |-- ReproductionError  a reported number did not come out again
    |-- TrainingError      training itself broke: a non-finite loss
    |-- PrunedError        a search has given the run up before its last epoch
    |-- MachineError       the machine refuses: a full disk, a folder that cannot be written, no memory
    `-- TrackingError      MLflow's store could not be reached or written

Anything else that reaches the top is a bug and keeps its traceback.
"""

from __future__ import annotations


class CxrError(Exception):
    """A problem the user can mend; its text says what happened, what was expected and what to do."""


class ConfigError(CxrError):
    """An option is unknown, mistyped, out of range, or at odds with another."""


class DataError(CxrError):
    """The images are missing, unreadable or wrongly laid out."""


class BadImageError(DataError):
    """One file cannot be decoded; the text is the reason without the path."""


class LeakageError(DataError):
    """A patient or an exact duplicate stands on both sides of a split."""


class RunError(CxrError):
    """A run cannot be found, read, or is being trained by another process."""


class ComparisonError(CxrError):
    """Runs cannot be compared; the text names what differs, and in which runs."""


class ReproductionError(CxrError):
    """A reported number or verdict did not come out again within its tolerance."""


class TrainingError(CxrError):
    """Training broke; the text names epoch and step."""


class PrunedError(CxrError):
    """A search gives a run up: others did better after as many epochs.  The run can be taken up again."""


class MachineError(CxrError):
    """The machine refuses room on the disk, a folder to write into, or memory."""


class TrackingError(CxrError):
    """MLflow's store could not be reached or written."""


def reason_of(error: Exception) -> str:
    """Why something failed, in a line: our own words as they are, a bug's with its kind."""
    return str(error) if isinstance(error, CxrError) else f"{type(error).__name__}: {error}"


def one_line(text: object, *, limit: int = 300) -> str:
    """A text that may come from anyone's file, as a message shows it: one line, printable, not endless.

    Example:
        >>> one_line("a\\nb \\x1b[31m", limit=20)
        'a b \\\\x1b[31m'
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(str(text).split()))
    return shown if len(shown) <= limit else f"{shown[:limit]}..."


class Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt it passes through `except Exception`, and is nobody's mistake."""
