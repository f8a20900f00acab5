"""Copies in other bytes: re-encoded, resized, made brighter.  A perceptual hash proposes, pixels decide.

The hash is the block of lowest frequencies of a film's cosine transform that is usually cut down to 64 signs.  It is
compared as it is, before the cut: signs near zero turn with every change of brightness, and since all chest films look
alike at this scale, equal signs are no evidence.  What decides is the detail, in which two films of one chest differ
and two copies of one film do not.  A mirrored copy, or one cropped or turned by more than a hundredth, is not found.

References:
    Zauner (2010), Implementation and Benchmarking of Perceptual Image Hash Functions (the cosine transform's).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.images.fingerprints import FILM_PX, Fingerprints

Floats = NDArray[np.float32]

# Of 200 Kermany films, those changed by JPEG quality 10, size / 4, brightness -40 to +60, contrast x 0.6 to 1.5 or
# gamma 0.7 to 1.5 stay within 0.195 of the original's hash.  So do 1,347 of the set's 17 million pairs, by looks alone.
HASH_DISTANCE = 0.20
# The details of those changed films correlate with the original's at 0.847 or more; those of the most alike two films
# out of 89,000 pairs that share their looks at 0.644.  Shifts and turns by a hundredth and copies of 28 px lie between.
DETAIL_CORRELATION = 0.75

_HASH_PX, _FREQUENCIES = FILM_PX // 2, 8
_TILE = 2048  # films compared at once: a tile of distances takes 16 MB
_BATCH = 512  # films made into hashes, or pairs looked at, at once: 8 MB for each step of the arithmetic
_SMOOTH = 5  # px of the 64: what is wider than this is looks, the rest is detail
_LEAST_DETAIL = 0.5  # gray values: below this a film is blank, and its detail is the noise of its encoding


@dataclass(frozen=True)
class NearDuplicates:
    """Groups of rows whose pixels differ and show one film, and how many pairs were looked at.

    Attributes:
        groups: row numbers, rising within a group; groups in the order of their first row.
        num_candidates: pairs that the hash proposed.
        num_confirmed: pairs of these that the details confirmed and that no earlier pair had joined.
    """

    groups: tuple[tuple[int, ...], ...]
    num_candidates: int
    num_confirmed: int


def pixel_duplicates(fingerprints: Fingerprints) -> tuple[tuple[int, ...], ...]:
    """Groups of two or more rows with equal height, width and gray pixels, in the order of their first row."""
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    for number in np.flatnonzero(fingerprints.readable):
        groups[fingerprints.pixels[number].tobytes()].append(int(number))
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def find_near_duplicates(fingerprints: Fingerprints) -> NearDuplicates:
    """Groups of rows that show one film in different pixels; equal pixels count once, with their first row.

    Every pair is compared whose hashes can be near: films are put in the order of the direction in which hashes vary
    most, and two tiles that lie further apart in it than `HASH_DISTANCE` are passed over.  No list of pairs is kept.
    """
    first: dict[bytes, int] = {}
    for number in np.flatnonzero(fingerprints.readable):
        first.setdefault(fingerprints.pixels[number].tobytes(), int(number))
    numbers = np.array(list(first.values()), dtype=np.int64)
    if len(numbers) < 2:
        return NearDuplicates((), 0, 0)
    hashes = np.concatenate([_hashes(fingerprints.film[part]) for part in _parts(numbers)])
    position = hashes @ _main_direction(hashes)
    order = np.argsort(position, kind="stable")
    hashes = hashes[order]  # the unsorted ones are not kept beside them
    return _joined(fingerprints.film, numbers[order], hashes, position[order])


def _joined(film: NDArray[np.uint8], numbers: NDArray[np.int64], hashes: Floats, position: Floats) -> NearDuplicates:
    """Compare tile by tile along `position`, and join what is confirmed."""
    parent = np.arange(len(numbers))
    num_candidates = num_confirmed = 0
    for start in range(0, len(numbers), _TILE):
        stop = min(start + _TILE, len(numbers))
        last = int(np.searchsorted(position, position[stop - 1] + HASH_DISTANCE, side="right"))
        for begin in range(start, last, _TILE):
            left, right = _close_pairs(hashes, (start, stop), (begin, min(begin + _TILE, last)))
            num_candidates += len(left)
            for part in range(0, len(left), _BATCH):
                chosen = slice(part, part + _BATCH)
                num_confirmed += _confirm(parent, film, numbers, left[chosen], right[chosen])
    roots = np.array([_root(parent, place) for place in range(len(numbers))])
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for place in np.flatnonzero(np.bincount(roots, minlength=len(roots))[roots] > 1):
        groups[int(roots[place])].append(int(numbers[place]))
    found = sorted(tuple(sorted(group)) for group in groups.values())
    return NearDuplicates(tuple(found), num_candidates, num_confirmed)


def _close_pairs(
    hashes: Floats, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the pairs of two tiles whose hashes are near; of vectors of length one a product tells the distance."""
    products = hashes[rows[0] : rows[1]] @ hashes[columns[0] : columns[1]].T
    left, right = np.nonzero(products > 1 - HASH_DISTANCE**2 / 2)
    left, right = left + rows[0], right + columns[0]
    once = left < right
    return left[once], right[once]


def _confirm(
    parent: NDArray[np.int64],
    film: NDArray[np.uint8],
    numbers: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> int:
    """Join the pairs whose details agree; pairs that are joined already are not looked at again."""
    apart = np.array([_root(parent, int(a)) != _root(parent, int(b)) for a, b in zip(left, right, strict=True)], bool)
    left, right = left[apart], right[apart]
    if not len(left):
        return 0
    places, where = np.unique(np.stack([left, right]), return_inverse=True)  # a film of many pairs is looked at once
    details = details_of(film[numbers[places]])
    first, second = where.reshape(2, -1)
    alike = np.einsum("kij,kij->k", details[first], details[second]) >= DETAIL_CORRELATION
    num_joined = 0
    for a, b in zip(left[alike], right[alike], strict=True):
        one, other = _root(parent, int(a)), _root(parent, int(b))
        if one != other:
            parent[max(one, other)] = min(one, other)
            num_joined += 1
    return num_joined


def _root(parent: NDArray[np.int64], place: int) -> int:
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = int(parent[place])
    return place


def _hashes(film: NDArray[np.uint8]) -> Floats:
    """(k, 63) float32 of length one: the lowest 8 x 8 frequencies without the mean, so that contrast does not count."""
    small = film.reshape(len(film), _HASH_PX, 2, _HASH_PX, 2).mean(axis=(2, 4), dtype=np.float32)
    basis = _cosines()
    waves = (basis @ small @ basis.T).reshape(len(film), -1)[:, 1:]
    length = np.linalg.norm(waves, axis=1, keepdims=True)
    return np.asarray(waves / np.maximum(length, 1e-6), dtype=np.float32)


def _cosines() -> Floats:
    """(8, 32): the first rows of the orthonormal cosine transform."""
    place = np.arange(_HASH_PX)
    basis = np.cos(np.pi * (2 * place[None] + 1) * place[:_FREQUENCIES, None] / (2 * _HASH_PX))
    basis[0] *= np.sqrt(0.5)
    return np.asarray(basis * np.sqrt(2 / _HASH_PX), dtype=np.float32)


def details_of(film: NDArray[np.uint8]) -> Floats:
    """(k, 64, 64) float32 of length one, or 0 where a film is blank: the film less the mean around each pixel."""
    gray = film.astype(np.float32)
    edge = _SMOOTH // 2
    sums = np.pad(gray, ((0, 0), (edge + 1, edge), (edge + 1, edge)), mode="edge")
    sums[:, 0, :] = 0
    sums[:, :, 0] = 0
    sums = sums.cumsum(axis=1, dtype=np.float32).cumsum(axis=2, dtype=np.float32)
    window = sums[:, _SMOOTH:, _SMOOTH:] - sums[:, :-_SMOOTH, _SMOOTH:] - sums[:, _SMOOTH:, :-_SMOOTH]
    window = window + sums[:, :-_SMOOTH, :-_SMOOTH]
    detail = gray - window / _SMOOTH**2
    detail -= detail.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt((detail**2).sum(axis=(1, 2), keepdims=True))
    detail[length[:, 0, 0] < _LEAST_DETAIL * FILM_PX] = 0
    return np.asarray(detail / np.maximum(length, 1e-6), dtype=np.float32)


def _main_direction(hashes: Floats) -> Floats:
    """(63,) float32 of length one: the direction in which the hashes vary most."""
    moved = hashes - hashes.mean(axis=0)
    _, vectors = np.linalg.eigh(moved.T.astype(np.float64) @ moved)
    return np.asarray(vectors[:, -1], dtype=np.float32)


def _parts(numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH)]
