"""Which addresses someone has named on a command line of this home, and which have answered.

A run's folder may come from anyone, and its config says where the run was tracked.  Nothing is sent to an address that
stands in such a file alone: it has to be named once by the user and to answer, which is remembered, without
credentials, one a line.
"""

from __future__ import annotations

from pathlib import Path

from cxr_experiments.config.credentials import without_credentials
from cxr_experiments.config.schema import TrackingConfig
from cxr_experiments.errors import TrackingError, one_line


def remember(tracking: TrackingConfig, home: Path) -> None:
    """Keep an address that the user has named and that has answered; the home's own database needs no naming."""
    if tracking.uri and without_credentials(tracking.uri) not in _named(home):
        _list(home).parent.mkdir(parents=True, exist_ok=True)
        with _list(home).open("a", encoding="utf-8") as stream:
            stream.write(without_credentials(tracking.uri) + "\n")


def has_answered(tracking: TrackingConfig, home: Path) -> bool:
    """Whether the place has been reached from this home before."""
    if tracking.uri:
        return without_credentials(tracking.uri) in _named(home)
    return (home / "mlruns" / "mlflow.db").is_file()


def named_before(tracking: TrackingConfig, home: Path) -> TrackingConfig:
    """The place that a run's own config tells, when the user has named it before.

    Raises:
        TrackingError: nobody has named this address here, or it has never answered.
    """
    if tracking.kind == "disabled" or not tracking.uri or without_credentials(tracking.uri) in _named(home):
        return tracking
    shown = one_line(without_credentials(tracking.uri))
    raise TrackingError(
        f"the run's config names {shown}, which no command here has named and reached, so nothing was sent there; to "
        f"send it, name it once while it answers: evaluate run=ID tracking=server tracking.uri={shown}"
    )


def _list(home: Path) -> Path:
    return home / "mlruns" / "servers.txt"


def _named(home: Path) -> list[str]:
    path = _list(home)
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
