"""A study finds an effect that was planted, and calls a change that does next to nothing equivalent.

The worse arm learns at a thousandth of the rate, so that five epochs leave it where it began; the null decays weights
by a hundredth over the whole training, which moves every prediction and no ranking to speak of.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from conftest import Command, Said

pytestmark = pytest.mark.long

PLANTED = """\
question: Is a planted effect found, and a planted null left alone?
baseline:
  - data=phantom
  - data.num_patients=300
  - data.image_size_px=32
  - data.difficulty=0
  - augmentation=none
  - depth.filters=[16,32]
  - depth.convolutions=[2,2]
  - pooling=flatten
  - pooling.dense_units=64
  - schedule=cosine
  - training.epochs=5
  - training.batch_size=16
  - training.patience=0
factors:
  optimizer.learning_rate: [{slow: [optimizer.learning_rate=1e-6]}]
  optimizer: [{decay: [optimizer=adamw, optimizer.weight_decay=0.05]}]
seeds: [0, 1, 2, 3]
margin: 0.05
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, command: Command) -> tuple[Path, Said]:
    home = tmp_path_factory.mktemp("planted")
    (home / "conf" / "study").mkdir(parents=True)
    (home / "conf" / "study" / "planted.yaml").write_text(PLANTED)
    words = ("study", "study=planted", f"hydra.searchpath=[file://{home / 'conf'}]", "tracking=disabled")
    return home, command(*words, home=home)


def sentence(said: Said, arm: str) -> str:
    (line,) = [line for line in said.out.splitlines() if line.startswith(f"SYNTHETIC {arm}: ")]
    return line


def row(home: Path, arm: str) -> dict[str, str]:
    with open(home / "results" / "planted" / "validation" / "comparison.csv", newline="") as file:
        (found,) = [one for one in csv.DictReader(file) if one["arm"] == arm]
    return found


def test_planted_effect_is_worse_beyond_the_margin(planted: tuple[Path, Said]) -> None:
    home, said = planted
    assert said.status == 0, said.err
    assert sentence(said, "slow").startswith("SYNTHETIC slow: worse by .")
    assert float(row(home, "slow")["difference_high"]) < -0.05


def test_planted_null_is_equivalent_though_its_predictions_differ(planted: tuple[Path, Said]) -> None:
    home, said = planted
    assert sentence(said, "decay").startswith("SYNTHETIC decay: equivalent, difference ")
    found = row(home, "decay")
    assert -0.05 < float(found["difference_low"]) < float(found["difference_high"]) < 0.05
    cells = [path.read_text() for path in sorted((home / "results" / "planted" / "cells").glob("*.csv"))]
    assert len(set(cells)) == len(cells) == 12
