"""Films -> answers: prepared on all cores, some batches ahead of the network that is asked about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_experiments.errors import BadImageError, RunError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cxr_experiments.record.network import Network

BATCH_SIZE = 32  # half of what `in_order` prepares ahead: the next batch is ready when the network is


def answers(network: Network, films: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One answer per film, in order: probability, label, threshold and run, or the reason why there is none.

    Reading and decoding free the interpreter lock, and so does the network: both use all cores at the same time.

    Raises:
        RunError: the network gives a logit that is not finite.
    """
    from cxr_experiments.images.manifest import num_cores
    from cxr_experiments.images.threads import in_order

    prepare = partial(_prepared, size_px=network.size_px, resize=network.resize)
    with closing(in_order(prepare, films, num_threads=num_cores())) as squares:
        named = zip(films, squares, strict=True)
        while batch := list(islice(named, BATCH_SIZE)):
            yield from _answered(network, batch)


def _prepared(film: str, *, size_px: int, resize: str) -> NDArray[np.uint8] | str:
    """(size, size, 1) uint8, or why the file is no film."""
    from cxr_experiments.images.prepare import prepare_file

    try:
        return prepare_file(Path(film), size_px=size_px, resize=resize)
    except BadImageError as error:
        return str(error)


def _answered(network: Network, batch: Sequence[tuple[str, NDArray[np.uint8] | str]]) -> Iterator[dict[str, Any]]:
    import numpy as np

    from cxr_experiments.evidence.metrics import sigmoid

    squares = [square for _, square in batch if not isinstance(square, str)]
    logits = network.predict(np.stack(squares)) if squares else np.zeros(0)
    if not np.isfinite(logits).all():
        raise RunError(f"run {network.run_id} gives a logit that is not finite: its weights are not usable")
    probabilities = iter(sigmoid(logits).tolist())
    for film, square in batch:
        if isinstance(square, str):
            yield {"image": film, "error": square}
            continue
        probability = next(probabilities)
        yield {
            "image": film,
            "probability": probability,
            "label": network.label_of(probability),
            "threshold": network.threshold,
            "run": network.run_id,
        }
