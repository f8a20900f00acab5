"""First build of the store from originals beside Keras' own folder reader, and the bound that entropy decoding sets.

    python -m benchmarks.store_build [quick]      # CXR_ORIGINALS=DIR with two class folders of JPEG files

Every variant reads the same files once, to 200 px, with all cores, in a fresh process; imports are not timed.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.interleaved import Missing, Row, child, interleave, row, show

SIZE_PX = 200
PEER = "image_dataset_from_directory"
VARIANTS = {"ours, store": "store", "ours, listed, hashed and stored": "both", PEER: "keras", "1/8 decoding": "bound"}
NOTES = {
    "1/8 decoding": "the bound: scaled decoding alone, files in memory",
    PEER: "its defaults, read to the end once",
}


def rows(quick: bool) -> Sequence[Row]:
    """Images/s of each variant, its ratio to Keras, and its peak memory."""
    measures = {name: partial(_measure, word) for name, word in VARIANTS.items()}
    series = interleave(measures, repetitions=3 if quick else 9)
    speed = [
        row("store build, originals", series, name, "images_per_s", "images/s", peer=PEER, note=NOTES.get(name, ""))
        for name in series
    ]
    return [*speed, *(row("peak memory of the same", series, name, "peak_mib", "MiB", peer=PEER) for name in series)]


def originals() -> Path:
    """The folder of originals.

    Raises:
        Missing: it is not there.
    """
    root = os.environ.get("CXR_ORIGINALS", "")
    if not root or not Path(root).is_dir():
        raise Missing(f"no originals in {root!r}: set CXR_ORIGINALS=DIR, a folder with two class folders of JPEG files")
    return Path(root)


def _measure(word: str) -> dict[str, float]:
    return child(("-m", "benchmarks.store_build", word, str(originals())))


def _store(root: Path, *, listing_too: bool) -> Callable[[], int]:
    from cxr_experiments.config.schema import DataConfig
    from cxr_experiments.images.manifest import read_manifest
    from cxr_experiments.images.store import open_store

    data = DataConfig(source="folder", root=str(root), image_size_px=SIZE_PX)
    listed = None if listing_too else read_manifest(data)

    def build() -> int:
        with tempfile.TemporaryDirectory() as folder:
            return len(open_store(listed or read_manifest(data), data, folder=Path(folder)).images)

    return build


def _keras(root: Path) -> Callable[[], int]:
    import keras

    def read() -> int:
        size = (SIZE_PX, SIZE_PX)
        return sum(
            len(images) for images, _ in keras.utils.image_dataset_from_directory(root, image_size=size, verbose=False)
        )

    return read


def _bound(root: Path) -> Callable[[], int]:
    from io import BytesIO

    from PIL.JpegImagePlugin import JpegImageFile

    from cxr_experiments.images.manifest import num_cores
    from cxr_experiments.images.threads import in_order

    files = [path.read_bytes() for path in sorted(root.rglob("*.jp*g"))]

    def decode(data: bytes) -> None:
        image = JpegImageFile(BytesIO(data))
        image.draft("L", (image.width // 8, image.height // 8))
        image.decodermaxblock = len(data)
        image.load()

    return lambda: sum(1 for _ in in_order(decode, files, num_threads=num_cores()))


def _once(word: str, root: Path) -> dict[str, float]:
    if word == "keras":
        work = _keras(root)
    elif word == "bound":
        work = _bound(root)
    else:
        work = _store(root, listing_too=word == "both")
    began, used = time.perf_counter(), time.process_time()
    num_images = work()
    took, cpu = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images_per_s": num_images / took, "cpu_ms": 1e3 * cpu / num_images, "peak_mib": peak}


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(_once(sys.argv[1], Path(sys.argv[2]))))
    else:
        show(rows)
