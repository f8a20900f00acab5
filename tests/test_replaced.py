"""What stands for a library's own function: for as long as asked, and only where the library still has one."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.plugins.sweeper import Sweeper

from cxr_experiments.config import hydra_repeats
from cxr_experiments.config.replaced import replaced

LOGS_A_MODEL = """
import tempfile, pathlib, keras, numpy
from mlflow.utils import requirements_utils
from cxr_experiments.record.tracking import runs
from cxr_experiments.record.tracking.place import TrackingPlace, client_of

uri = "sqlite:///" + tempfile.mkdtemp() + "/m.db"
client = client_of(uri)
experiment = client.create_experiment("e", pathlib.Path(tempfile.mkdtemp()).as_uri())
run = client.create_run(experiment).info.run_id
image = keras.Input((8, 8, 1), dtype="uint8")
logit = keras.layers.Dense(1)(keras.layers.Flatten()(keras.layers.Rescaling(1.0)(image)))
place = TrackingPlace(uri, experiment)
runs.log_model(place, run, keras.Model(image, logit), numpy.zeros((1, 8, 8, 1), numpy.uint8), ["numpy"])
[kept] = client.search_logged_models([experiment])
print(kept.status, requirements_utils._MODULES_TO_PACKAGES)
"""


def test_function_is_replaced_until_the_block_is_left_also_by_an_error() -> None:
    library = SimpleNamespace(count=len)

    def fail() -> None:
        with replaced(library, "count", lambda rows: 7):
            assert library.count([]) == 7
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert library.count is len


def test_library_without_the_function_is_left_as_it_is() -> None:
    library = SimpleNamespace()
    with replaced(library, "count", len):
        assert not hasattr(library, "count")
    assert not hasattr(library, "count")


@pytest.mark.parametrize(
    ("owner", "name"), [(ConfigLoaderImpl, hydra_repeats._PARSE), (Sweeper, hydra_repeats._VALIDATE)]
)
def test_this_hydra_has_what_is_replaced(owner: type, name: str) -> None:
    assert callable(getattr(owner, name))


def test_model_reaches_mlflow_without_a_scan_of_all_packages() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOGS_A_MODEL], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "READY None", done.stderr[-2000:]
