"""What public data sets are known to hold: their files with checksums, and how many images and patients of each kind.

`download` fetches and checks by it, `verify` counts by it.  Nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_ZENODO = "https://zenodo.org/records/10519652/files"  # MedMNIST v2.2.3, Yang et al. 2023, CC BY 4.0


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file of a public data set: its name, where it is to be had, and the MD5 that its publisher states."""

    name: str
    url: str
    md5: str


@dataclass(frozen=True)
class Known:
    """What a complete copy of a public data set holds.

    Attributes:
        counts: (official split, label) -> images.
        num_patients: official split -> patient keys under the strict rule; empty where patients are not verifiable.
    """

    counts: Mapping[tuple[str, int], int]
    num_patients: Mapping[str, int]


def _npz(name: str, md5: str) -> PublishedFile:
    return PublishedFile(name=name, url=f"{_ZENODO}/{name}?download=1", md5=md5)


# Side of the images in px -> file.
PNEUMONIAMNIST: Mapping[int, PublishedFile] = MappingProxyType(
    {
        28: _npz("pneumoniamnist.npz", "28209eda62fecd6e6a2d98b1501bb15f"),
        64: _npz("pneumoniamnist_64.npz", "8f4eceb4ccffa70c672198ea285246c6"),
        128: _npz("pneumoniamnist_128.npz", "05b46931834c231683c68f40c47b2971"),
        224: _npz("pneumoniamnist_224.npz", "d6a3c71de1b945ea11211b03746c1fe1"),
    }
)

# Kermany, Zhang, Goldbaum 2018: counts as Kaggle's page and the archive have them, keys counted from the file names.
# Official train and val are pooled and cut anew by `splits`; the official test is kept.
_KAGGLE = Known(
    counts=MappingProxyType(
        {
            ("train", 0): 1341,
            ("train", 1): 3875,
            ("val", 0): 8,
            ("val", 1): 8,
            ("test", 0): 234,
            ("test", 1): 390,
        }
    ),
    num_patients=MappingProxyType({"train": 3654, "val": 15, "test": 428}),
)

# The same 5,856 films, train divided anew by MedMNIST into train and val, file names lost.
_PNEUMONIAMNIST = Known(
    counts=MappingProxyType(
        {
            ("train", 0): 1214,
            ("train", 1): 3494,
            ("val", 0): 135,
            ("val", 1): 389,
            ("test", 0): 234,
            ("test", 1): 390,
        }
    ),
    num_patients=MappingProxyType({}),
)


def known(source: str) -> Known | None:
    """What the public set behind `data.source` holds; None for sources that are the user's own.

    Example:
        >>> known("kaggle").num_patients["test"]
        428
        >>> known("folder") is None
        True
    """
    return {"kaggle": _KAGGLE, "pneumoniamnist": _PNEUMONIAMNIST}.get(source)
