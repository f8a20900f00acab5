"""How far the square of a JPEG that is decoded at a fraction lies from the one that is decoded in full.

    python benchmarks/reduced_decoding.py ROOT      # any folder of JPEG files

Differences are in gray levels of 255.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np

from cxr_experiments.images.decode import decode_bytes, decode_reduced
from cxr_experiments.images.prepare import RESIZES, prepare, prepare_bytes

SIZES_PX = (64, 128, 200, 224)


def compared(files: list[bytes], size_px: int, resize: str) -> str:
    """One row of the table."""
    differences, fractions = [], Counter[int]()
    for data in files:
        side = max if resize == "pad" else min
        reduction = decode_reduced(data, size_px=size_px, side=side).reduction
        fractions[reduction] += 1
        if reduction > 1:
            full = prepare(decode_bytes(data), size_px=size_px, resize=resize).astype(int)
            differences.append(prepare_bytes(data, size_px=size_px, resize=resize) - full)
    absolute = np.abs(np.stack(differences))
    told = " / ".join(str(fractions[reduction]) for reduction in (1, 2, 4, 8))
    brighter = np.stack(differences).mean(axis=(1, 2, 3))
    figures = (absolute.mean(), absolute.mean(axis=(1, 2, 3)).max(), np.percentile(absolute, 99), absolute.max())
    means = " | ".join(f"{figure:.2f}" for figure in figures[:2])
    return (
        f"| {size_px} | {resize} | {told} | {means} | {figures[2]:.0f} | {figures[3]} | {np.abs(brighter).max():.2f} |"
    )


def main(root: Path) -> None:
    """Print the table."""
    files = [path.read_bytes() for path in sorted(root.rglob("*.jp*g"))]
    print("| px | resize | decoded at 1 / ½ / ¼ / ⅛ | mean | mean of the worst film | 99 % | most | brightness, most |")
    print("|---|---|---|---|---|---|---|---|")
    for size_px in SIZES_PX:
        for resize in RESIZES:
            print(compared(files, size_px, resize))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
