"""Does memory grow with the number of images?  Phantom files by the hundred thousand: verified, stored, trained on.

    python benchmarks/scale.py SCRATCH              # 5,856 and 100,000 files, every stage; about 9 GB of disk
    python benchmarks/scale.py SCRATCH build train  # these stages alone
    CXR_DATA=DIR python benchmarks/scale.py SCRATCH # Kermany's 5,856 films beside them
    python benchmarks/scale.py rows 1000000         # names, digest and split of so many images, without files

Each stage is a process of its own, watched every 20 ms: the peak of its anonymous memory (RssAnon, children included)
is what cannot be dropped when memory is short, unlike pages of the store.  `train` is 300 steps of 32 images of a small
network (three blocks of one convolution) without augmentation, one validation, and its predictions; since the
configuration counts epochs and not steps, the benchmark asks the package's own trainer for one epoch of 300 steps.

Files are 200 px gray JPEG in NORMAL/ and PNEUMONIA/, two of each patient.  Each is a mixture of two of 8,000 rendered
phantoms, cut, scaled and with noise of its own, for rendering each would take 8.5 ms.  SCRATCH keeps them for the next
time; delete it.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from cxr_experiments.config.schema import DataConfig, ExperimentConfig
from cxr_experiments.images.phantom import PHANTOM_SIZE_PX, phantom_rows, render

NUM_IMAGES = (5_856, 100_000)
NUM_RENDERED = 8_000
SIZE_PX = 200
STAGES = ("verify", "build", "train")
STEPS, BATCH_SIZE = 300, 32
EPOCHS = 3  # that the pipeline spans: 5,856 images are 138 steps
MIB = 2**20


@dataclass(frozen=True)
class Figure:
    """What one stage cost."""

    stage: str
    images: str
    num_images: int
    duration_s: float
    peak_bytes: int


def main(scratch: Path, stages: tuple[str, ...]) -> None:
    """Make what is missing, measure, print the table."""
    figures: list[Figure] = []
    for num_images in NUM_IMAGES:
        figures += measured(f"{num_images:,} phantom files", phantom_files(scratch, num_images), num_images, stages)
    if root := os.environ.get("CXR_DATA"):
        figures += measured("Kermany's 5,856 films", Path(root), NUM_IMAGES[0], stages)
    print(table(figures))


def phantom_files(scratch: Path, num_images: int) -> Path:
    """The folder with so many files, written by all cores unless an earlier call has."""
    root = scratch / f"films-{num_images}"
    whole = scratch / f"films-{num_images}.whole"
    if not whole.exists():
        began = time.perf_counter()
        for name in ("NORMAL", "PNEUMONIA"):
            (root / name).mkdir(parents=True, exist_ok=True)
        with multiprocessing.Pool() as workers:
            pool = rendered(scratch, workers)
            workers.map(partial(write_file, root, pool), range(num_images), chunksize=200)
        whole.touch()
        say(f"{num_images:,} files written in {time.perf_counter() - began:.0f} s")
    return root


def rendered(scratch: Path, workers: multiprocessing.pool.Pool) -> Path:
    """(8000, 256, 256) uint8 phantoms on disk, for every process to map."""
    path = scratch / "rendered.npy"
    if not path.exists():
        rows = phantom_rows(NUM_RENDERED, 0)[:NUM_RENDERED]
        shape = (NUM_RENDERED, PHANTOM_SIZE_PX, PHANTOM_SIZE_PX)
        unfinished = path.with_suffix(".partial.npy")
        films = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
        for number, film in enumerate(workers.imap(draw, rows, chunksize=50)):
            films[number] = film
        films.flush()
        unfinished.rename(path)
    return path


def draw(row):
    """One phantom, (256, 256) uint8."""
    return render(row, seed=0, difficulty=0.5).image


def write_file(root: Path, pool: Path, number: int) -> None:
    """File `number`, a pure function of it."""
    rng = np.random.default_rng([1, number])
    films = np.load(pool, mmap_mode="r")
    share = rng.uniform(0.5, 0.8)
    one, other = (cut(films[rng.integers(NUM_RENDERED)], rng) for _ in range(2))
    noise = rng.standard_normal((SIZE_PX, SIZE_PX), dtype=np.float32)
    mixed = share * one + (1 - share) * other + rng.uniform(1, 4) * noise
    patient = number // 2
    label = ("NORMAL", "PNEUMONIA")[patient % 4 > 0]
    image = Image.fromarray(mixed.clip(0, 255).astype(np.uint8))
    image.save(root / label / f"patient{patient:06d}_{number % 2}.jpeg", quality=90)


def cut(film, rng: np.random.Generator):
    """A random square of at least 80 % of the side, scaled to (200, 200) float32."""
    side = rng.uniform(0.8, 1.0) * PHANTOM_SIZE_PX
    left, top = rng.uniform(0, PHANTOM_SIZE_PX - side, size=2)
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(film).resize((SIZE_PX, SIZE_PX), Image.Resampling.BILINEAR, box), np.float32)


def measured(images: str, root: Path, num_images: int, stages: tuple[str, ...]) -> Iterator[Figure]:
    """The stages one after the other, in a home that is deleted afterwards."""
    kaggle = (root / "train").is_dir()
    with tempfile.TemporaryDirectory(dir=root.parent if not kaggle else None, prefix="home-") as home:
        for stage in stages:
            figure = watched(stage, images, num_images, command_of(stage, root, kaggle), home)
            say(row_of(figure, ""))
            yield figure


def command_of(stage: str, root: Path, kaggle: bool) -> list[str]:
    """The words of a stage's process."""
    if stage == "verify":
        data = ["data=kaggle"] if kaggle else ["data=folder", "data.patient_regex=(patient[0-9]+)_"]
        return ["-m", "cxr_experiments.verify", *data, f"data.root={root}", "tracking=disabled"]
    return [__file__, f"--{stage}", str(root), "kaggle" if kaggle else "folder"]


def watched(stage: str, images: str, num_images: int, words: list[str], home: str) -> Figure:
    """Run a stage to its end and keep the peak of its anonymous memory."""
    began, peak = time.perf_counter(), 0
    environment = {**os.environ, "CXR_HOME": home}
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen([sys.executable, *words], env=environment, stdout=told, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, sum(anonymous_bytes(pid) for pid in family(process.pid)))
            time.sleep(0.02)
        told.seek(0)
        text = told.read()
    duration_s = time.perf_counter() - began
    # verify answers 1 when it has found something, which it may
    if process.returncode not in ((0, 1) if stage == "verify" else (0,)):
        raise SystemExit(f"{stage} on {images} ended with status {process.returncode}:\n{text}")
    say(text.strip()[-2000:])
    return Figure(stage, images, num_images, duration_s, peak)


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(other for child in children for other in family(child))]


def anonymous_bytes(pid: int) -> int:
    """RssAnon of one process; 0 when it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def table(figures: list[Figure]) -> str:
    """The figures as Markdown; differences are against the phantom files of the smaller set."""
    small = {figure.stage: figure.peak_bytes for figure in figures if figure.images.startswith(f"{NUM_IMAGES[0]:,} ")}
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; load may vary",
        "",
        "| stage | images | s | images/s | peak RssAnon, MiB | against 5,856 phantom files, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for figure in figures:
        own = figure.images.startswith(f"{NUM_IMAGES[0]:,} ")
        against = "-" if own or figure.stage not in small else f"{(figure.peak_bytes - small[figure.stage]) / MIB:+.0f}"
        lines.append(row_of(figure, against))
    return "\n".join(lines)


def row_of(figure: Figure, against: str) -> str:
    """One line of the table."""
    pace = "-" if figure.stage == "train" else f"{figure.num_images / figure.duration_s:,.0f}"
    cells = (figure.stage, figure.images, f"{figure.duration_s:.0f}", pace, f"{figure.peak_bytes / MIB:.0f}")
    return f"| {' | '.join(cells)} | {against} |"


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how long a part of a stage took."""
    began, began_cpu = time.perf_counter(), time.process_time()
    yield
    took, took_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    now = anonymous_bytes(os.getpid()) / MIB
    say(f"{what}: {took:.1f} s, of all cores {took_cpu:.1f} s, RssAnon now {now:.0f} MiB")


def data_of(root: str, source: str) -> DataConfig:
    """The data choice of every stage."""
    regex = None if source == "kaggle" else "(patient[0-9]+)_"
    return DataConfig(source=source, root=root, image_size_px=SIZE_PX, patient_regex=regex)


def opened(data: DataConfig):
    """Manifest and store."""
    from cxr_experiments.images.manifest import read_manifest
    from cxr_experiments.images.store import open_store

    with timed("manifest"):
        manifest = read_manifest(data)
    with timed("store"):
        return open_store(manifest, data, folder=Path(os.environ["CXR_HOME"]) / "runs/.stores")


def rows_stage(num_images: int) -> None:
    """What is held per image whatever its size: names, keys and digests, and the split over them."""
    from cxr_experiments.images.manifest import ImageRow, Manifest
    from cxr_experiments.images.splits import make_split, write_split

    def row(number: int) -> ImageRow:
        patient = number // 2
        name = f"{('NORMAL', 'PNEUMONIA')[patient % 4 > 0]}/patient{patient:06d}_{number % 2}.jpeg"
        content = hashlib.sha256(name.encode()).hexdigest()
        size = 10_000 + number % 9_973
        path = f"/srv/films/{name}"
        return ImageRow(name, path, int(patient % 4 > 0), f"patient{patient:06d}", "", "", 200, 200, "L", size, content)

    with timed(f"{num_images:,} rows"):
        rows = tuple(map(row, range(num_images)))
        manifest = Manifest("folder", rows, ("NORMAL", "PNEUMONIA"), True, False, "/srv/films")
    with timed("digest"):
        say(manifest.digest[:8])
    with timed("split"):
        split = make_split(manifest, DataConfig(), seed=0)
    with tempfile.TemporaryDirectory() as folder, timed("split.csv"):
        write_split(Path(folder) / "split.csv", manifest, split)
        say(f"{(Path(folder) / 'split.csv').stat().st_size / MIB:.0f} MiB")


def train_stage(data: DataConfig) -> None:
    """What `train` does, with epochs of 100 steps, up to the predictions of the validation images."""
    from cxr_experiments.config.schema import AugmentationConfig, DepthConfig, TrainingConfig
    from cxr_experiments.config.seeds import resolve_seeds
    from cxr_experiments.evidence.evaluation import predict_split
    from cxr_experiments.images.splits import make_split
    from cxr_experiments.learning import model, pipeline, trainer

    still = AugmentationConfig(0.0, 0.0, 0.0, contrast_fraction=0.0)
    small = DepthConfig((8, 16, 32), (1, 1, 1))
    training = TrainingConfig(epochs=EPOCHS, batch_size=BATCH_SIZE)
    config = ExperimentConfig(data=data, augmentation=still, depth=small, training=training)
    seeds, store = resolve_seeds(config), opened(data)
    with timed("split"):
        split = make_split(store.manifest, data, seed=seeds.split)
    trainer.start_tensorflow(config)
    batches = pipeline.make_pipeline(config, store, split, seeds, Path(os.environ["CXR_HOME"]) / "runs/.links")
    network = model.build_model(config, seeds)
    once = replace(config, training=replace(training, epochs=1))
    with timed(f"{STEPS} steps, and validation on {len(split.val):,} images"):
        trained = trainer.train_model(network, replace(batches, steps_per_epoch=STEPS), once)
    with timed("predictions"):
        predict_split(
            trainer.logit_function(network), store.images, store.manifest, split.val, split="val", run_id="scale"
        )
    shortened = STEPS * BATCH_SIZE / len(split.train)  # the trainer takes the epoch for a whole one
    say(f"trained at {trained.images_per_s * shortened:.0f} images/s")


if __name__ == "__main__":
    if sys.argv[1] == "--build":
        opened(data_of(*sys.argv[2:]))
    elif sys.argv[1] == "rows":
        words = [__file__, "--rows", sys.argv[2]]
        print(row_of(watched("rows", f"{int(sys.argv[2]):,} rows", int(sys.argv[2]), words, home=""), ""))
    elif sys.argv[1] == "--rows":
        rows_stage(int(sys.argv[2]))
    elif sys.argv[1] == "--train":
        train_stage(data_of(*sys.argv[2:]))
    else:
        asked = tuple(sys.argv[2:]) or STAGES
        folder = Path(sys.argv[1]).resolve()
        if shutil.disk_usage(folder if folder.is_dir() else folder.parent).free < 10 * 2**30:
            raise SystemExit(f"{folder} needs 10 GB of free disk")
        folder.mkdir(parents=True, exist_ok=True)
        main(folder, asked)
