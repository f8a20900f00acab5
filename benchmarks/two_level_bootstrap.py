"""How long do two-level bootstrap draws take?

    python benchmarks/two_level_bootstrap.py            # 10,000 draws, 2 arms x 8 seeds x 624 images
    python benchmarks/two_level_bootstrap.py 1000       # so many draws

Patients and seeds are drawn anew in each draw and the difference in mean AUROC is taken.  428 patients share the 624
images, 390 of them positive, as in the official test split of the Kermany set; every score is distinct.  Prints the
seconds of one call and the peak of the process's memory.
"""

from __future__ import annotations

import os
import resource
import sys
import time

import numpy as np

from cxr_experiments.evidence.stats import two_level_bootstrap

ARMS, SEEDS, IMAGES, POSITIVE, PATIENTS = 2, 8, 624, 390, 428
LIMIT_S = 10.0  # on 2 cores


def study(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (images,), scores (arms, seeds, images) and patients (images,)."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(IMAGES) < POSITIVE).astype(np.int8)
    number = np.arange(IMAGES)
    patients = np.where(labels == 1, number % 267, 267 + number % (PATIENTS - 267)).astype(str)
    scores = 2.0 * labels + rng.normal(0, 0.8, IMAGES) + rng.normal(0, 0.3, (ARMS, SEEDS, IMAGES))
    return labels, scores, patients


def main(num_draws: int) -> None:
    """Time one call and print it."""
    labels, scores, patients = study()
    started, used = time.perf_counter(), time.process_time()
    found = two_level_bootstrap(labels, scores, patients, num_draws=num_draws, seed=0)
    took_s, cpu_s = time.perf_counter() - started, time.process_time() - used
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{num_draws:,} draws, {ARMS} arms x {SEEDS} seeds x {IMAGES} images: {took_s:.1f} s, {cpu_s:.1f} s of CPU")
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f}, peak {peak_mib:.0f} MiB; [{found.low:.4f}, {found.high:.4f}]")
    print(f"wanted for 10,000 draws: under {LIMIT_S:g} s on 2 cores")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
