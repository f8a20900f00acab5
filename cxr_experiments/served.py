"""What `mlflow models serve` asks of a registered network.  No command: MLflow imports it by name and calls the loader.

The name of this module stands in the model's MLmodel in the place where others have a pickled object, so that nothing
is unpickled; the networks themselves are read in Keras' safe mode, after a look at what stands in their files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_experiments.evidence.metrics import sigmoid
from cxr_experiments.learning.trainer import load_model, logit_function
from cxr_experiments.record.network import Network
from cxr_experiments.record.registered import read_registered

BATCH_SIZE = 32


class ServedNetwork:
    """Images in, one row of probability, label and threshold per image out."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def predict(self, images: NDArray[np.uint8]) -> pd.DataFrame:
        """Ask about images that are prepared as `cxr_experiments.images.prepare` does it.

        Args:
            images: (n, size, size, 1) uint8.

        Returns:
            n rows: probability in [0, 1], label, and the frozen threshold that it was cut at.

        Raises:
            ValueError: images that were divided by 255: MLflow cuts the fractions off, and black films get answers too.
        """
        if len(images) and images.max(axis=(1, 2, 3)).min() <= 1:
            raise ValueError("an image holds nothing but 0 and 1: pixels are whole numbers from 0 to 255")
        batches = [images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE)]
        probabilities = [value for batch in batches for value in sigmoid(self.network.predict(batch)).tolist()]
        if not np.isfinite(probabilities).all():
            raise ValueError(f"{self.network.run_id} gives a probability that is not finite")
        labels = [self.network.label_of(one) for one in probabilities]
        columns = {"probability": probabilities, "label": labels, "threshold": self.network.threshold}
        return pd.DataFrame(columns, columns=list(columns), index=range(len(images)))


def _load_pyfunc(data_path: str) -> ServedNetwork:
    """MLflow's entry: the folder that `register` has written."""
    return ServedNetwork(read_registered(Path(data_path), lambda path: logit_function(load_model(path))))
