"""Several options against one baseline at once: the level of each comparison that keeps the family's.

Dunnett's setting with what the data say about how the comparisons hang together: their estimated correlation, and
degrees of freedom of their own each.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from cxr_experiments.evidence.metrics import Floats
from cxr_experiments.evidence.stats.bootstrap import LEVEL

NUM_SIMULATED = 50_000


def simultaneous_p(
    correlation: ArrayLike, degrees_of_freedom: ArrayLike, *, level: float = LEVEL, seed: int = 0
) -> float:
    """The two-sided p at which one comparison of the family is told apart from 0: 1 - level for one, less for more.

    Args:
        correlation: (k, k) of the k differences.
        degrees_of_freedom: (k,) of each, may be infinite.
        level: of the family.
        seed: of the simulation; 50,000 draws.

    References:
        Dunnett (1955), J. Am. Statist. Assoc. 50, 1096-1121; Westfall and Young (1993), Resampling-Based Multiple
        Testing, chapter 2 (the smallest p).
    """
    if len(np.atleast_1d(degrees_of_freedom)) == 1:
        return 1 - level
    return float(np.quantile(_smallest_p(correlation, degrees_of_freedom, seed), 1 - level))


def adjusted_p_values(
    p_values: ArrayLike, correlation: ArrayLike, degrees_of_freedom: ArrayLike, *, seed: int = 0
) -> Floats:
    """Each p as the chance that the smallest of the family would be so small; (k,), one comparison unchanged.

    Args:
        p_values: (k,) two-sided.
        correlation: (k, k).
        degrees_of_freedom: (k,).
        seed: of the simulation.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if len(values) == 1:
        return values
    smallest = np.sort(_smallest_p(correlation, degrees_of_freedom, seed))
    at_most = np.searchsorted(smallest, values, side="right")
    # what lies beyond the simulation's resolution is bounded by the sum of the chances
    return np.minimum(1.0, np.maximum(at_most / len(smallest), values))


def _smallest_p(correlation: ArrayLike, degrees_of_freedom: ArrayLike, seed: int) -> Floats:
    """(draws,) the smallest two-sided p of the family when no comparison has an effect."""
    table, degrees = np.asarray(correlation, dtype=np.float64), np.asarray(degrees_of_freedom, dtype=np.float64)
    return _simulated(table.tobytes(), tuple(degrees.tolist()), seed)


@functools.lru_cache(maxsize=4)  # critical and adjusted p of one family come from the same draws
def _simulated(correlation: bytes, degrees_of_freedom: tuple[float, ...], seed: int) -> Floats:
    degrees = np.array(degrees_of_freedom)
    table = np.frombuffer(correlation).reshape(len(degrees), len(degrees))
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal((NUM_SIMULATED, len(degrees))) @ _root(table).T
    finite = np.where(np.isfinite(degrees), degrees, 1e6)
    scale = np.sqrt(rng.chisquare(finite, size=normal.shape) / finite)
    p_values: Floats = np.asarray(2 * special.stdtr(finite, -np.abs(normal / scale)), dtype=np.float64)
    return np.asarray(p_values.min(axis=1), dtype=np.float64)


def _root(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """A square root of the nearest positive semi-definite matrix with ones on its diagonal."""
    values, vectors = np.linalg.eigh((correlation + correlation.T) / 2)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    return np.asarray(root / np.linalg.norm(root, axis=1, keepdims=True))
