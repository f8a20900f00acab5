"""The command: `python -m cxr_experiments.app`, or with run=ID."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import run_command, run_job
from cxr_experiments.config.commands import AppConfig
from cxr_experiments.config.compose import CONF_DIR, home, register
from cxr_experiments.errors import RunError

if TYPE_CHECKING:
    from cxr_experiments.record.run_folder import RunFolder

register("app_schema", AppConfig)


@hydra.main(config_path=str(CONF_DIR), config_name="app", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, serve."""
    run_job(composed, AppConfig, serve_page)


def serve_page(config: AppConfig) -> None:
    """Answer on 127.0.0.1 until Ctrl-C.

    Raises:
        ConfigError: the port is taken or not allowed.
        RunError: no such run, none that is finished, or one that cannot be read.
    """
    from cxr_experiments.app.server import free_socket, serve

    with free_socket(config.port) as listening:
        first = first_run(config)
        from cxr_experiments.app.asking import Desk  # TensorFlow, once there is something to ask
        from cxr_experiments.app.site import build_site

        desk = Desk(home().resolve(), first)
        asked = desk.open(first)  # a run that cannot be read is told here, not on the page
        mark = "SYNTHETIC " if asked.synthetic else ""
        host, port = listening.getsockname()
        told = f"run {first.run_id} ({first.experiment_name}) answers on http://{host}:{port}/ until Ctrl-C"
        print(f"{mark}{told}", flush=True)
        serve(listening, build_site(desk, max_upload_mb=config.max_upload_mb))


def first_run(config: AppConfig) -> RunFolder:
    """The run that is named, else the one that was finished last.

    Raises:
        ConfigError: run=best without experiment_name.
        RunError: there is none.
    """
    from cxr_experiments.app.finished import newest_runs
    from cxr_experiments.record.answers import chosen_run

    runs = home() / "runs"
    if config.run:
        return chosen_run(runs, config.run, config.experiment_name)
    newest = newest_runs(runs, config.experiment_name)
    if not newest:
        of = f" of experiment_name={config.experiment_name}" if config.experiment_name else ""
        raise RunError(f"no finished run{of} under {runs}: `make demo` or `train` makes one")
    return newest[0]


if __name__ == "__main__":
    run_command(main, "app", AppConfig)
