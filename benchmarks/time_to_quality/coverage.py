"""How often the two intervals of docs/time_to_quality.md enclose the true ratio of medians: simulated studies.

    python -m benchmarks.time_to_quality.coverage [STUDIES]     # 2000 studies a line

A seed's two times are 400 s and 100 s times exp(spread x z), z being of the shape named and median 0; the spreads
differ by arm, so that a seed that is slow in both is not equally slow.  The true ratio is one quarter.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.evidence.stats.censored import WaitedTime, ratio_of_medians

Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]
SHAPES: dict[str, Draw] = {
    "log-normal": lambda rng, shape: rng.normal(size=shape),
    "heavy tails (t, 3 degrees)": lambda rng, shape: rng.standard_t(3, size=shape),
    "skewed (exponential, less its median)": lambda rng, shape: rng.exponential(size=shape) - np.log(2),
}
SPREADS = (0.25, 0.35)  # of the logarithm: about a quarter and a third of the time
NUM_SEEDS = (5, 6, 8)
TRUTH = 100.0 / 400.0


def main(num_studies: int) -> None:
    """Print the table."""
    print("| seeds | logarithms of the times | shared | bootstrap, in pairs | t on logarithms |\n|---|---|---|---|---|")
    for num_seeds in NUM_SEEDS:
        for name, draw in SHAPES.items():
            for shared in (0.0, 0.5):
                shares = enclosed(draw, num_seeds, shared, num_studies)
                print(f"| {num_seeds} | {name} | {shared} | {shares[0]:.1%} | {shares[1]:.1%} |", flush=True)


def enclosed(draw: Draw, num_seeds: int, shared: float, num_studies: int) -> NDArray[np.float64]:
    """Share of studies in which each interval holds the truth, (2,); `shared` of a seed's deviation is in both arms.

    A part is shared by giving the seed one deviation instead of two, with that probability, which keeps each arm's
    median where it is whatever the shape.
    """
    rng = np.random.default_rng(0)
    own = draw(rng, (num_studies, num_seeds, 2))
    own[..., 1] = np.where(rng.random((num_studies, num_seeds)) < shared, own[..., 0], own[..., 1])
    times = np.array([400.0, 100.0]) * np.exp(own * np.array(SPREADS))
    hits = np.zeros(2)
    for study in times:
        found = ratio_of_medians([WaitedTime(s) for s in study[:, 0]], [WaitedTime(s) for s in study[:, 1]])
        hits += [found.low <= TRUTH <= found.high, found.geometric_low <= TRUTH <= found.geometric_high]
    return hits / num_studies


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
