"""What the record wing asks of an epoch, whoever trains: its number, its metrics, its time and its speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Epoch(Protocol):
    """What a trainer tells of one epoch, counted from 0."""

    @property
    def epoch(self) -> int: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...
    @property
    def duration_s(self) -> float: ...
    @property
    def images_per_s(self) -> float: ...
