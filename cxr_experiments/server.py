"""python -m cxr_experiments.server: an MLflow server on PostgreSQL, for runs of several processes or people."""

from __future__ import annotations

import signal

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import run_command, run_job
from cxr_experiments.config.commands import ServerConfig
from cxr_experiments.config.compose import CONF_DIR, home, register

register("server_schema", ServerConfig)


@hydra.main(config_path=str(CONF_DIR), config_name="server", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, serve."""
    run_job(composed, ServerConfig, serve)


def serve(config: ServerConfig) -> None:
    """Serve until Ctrl-C, which is how it is meant to end."""
    from cxr_experiments.record.tracking.server import ADMIN, PASSWORD_FILE, server, server_folder, watch

    folder = server_folder(home())
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # the terminal is closed; nohup has it ignored
        signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
    print(f"starting MLflow on the data in {folder}", flush=True)
    with server(home(), config.port, login=config.login, permission=config.permission) as running:
        print(
            f"MLflow is on {running.uri} (Ctrl-C ends it): train tracking=server tracking.uri={running.uri}", flush=True
        )
        if config.login and (password := folder / PASSWORD_FILE).is_file():
            print(f"log in as {ADMIN}; its first password stands in {password}", flush=True)
        try:
            watch(running)
        except KeyboardInterrupt:
            print("ending", flush=True)


if __name__ == "__main__":
    run_command(main, "server", ServerConfig)
