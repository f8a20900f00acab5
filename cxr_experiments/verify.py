"""python -m cxr_experiments.verify: look at a data set before anything is learnt from it."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import Found, run_command, run_job
from cxr_experiments.config.commands import VerifyConfig
from cxr_experiments.config.compose import CONF_DIR, home, register
from cxr_experiments.errors import ConfigError

if TYPE_CHECKING:
    from cxr_experiments.images.manifest import Manifest
    from cxr_experiments.record.data_report import DataReport

register("verify_schema", VerifyConfig)


@hydra.main(config_path=str(CONF_DIR), config_name="verify", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, look."""
    run_job(composed, VerifyConfig, verify_data)


def verify_data(config: VerifyConfig) -> str:
    """Look at the data set once, tell what was found, and return its digest; a kept report is told again.

    Raises:
        CxrError: the images or the targets of the report cannot be reached.
        Found: an error was found in the data set.
    """
    from cxr_experiments.images.manifest import read_manifest
    from cxr_experiments.record import console, data_report

    check_target("json", config.json)
    check_target("html", config.html)
    manifest = read_manifest(config.data)
    report = data_report.find_report(home(), manifest.digest)
    if report is None or config.again or report.check != data_report.report_key(manifest, config):
        report = look_anew(config, manifest)
    folder = data_report.data_folder(home(), report.digest)
    tell(config, report, folder)
    link = data_report.tell_mlflow(config.tracking, home(), report, folder)
    if link and config.json != "-":
        console.say(f"in MLflow, beside the runs on these images: make ui, then http://127.0.0.1:5000/{link}")
    if report.count(data_report.ERROR):
        raise Found(f"{report.told} in this data set")
    return report.digest


def look_anew(config: VerifyConfig, manifest: Manifest) -> DataReport:
    """One pass over the images, the report made of it, and both kept."""
    from functools import partial

    from cxr_experiments.images.fingerprints import take_fingerprints
    from cxr_experiments.images.manifest import load_pixels
    from cxr_experiments.record import console, data_report

    started_s = time.time()
    folder = data_report.data_folder(home(), manifest.digest)
    with console.counter("looking at images") as on_progress:
        prints = take_fingerprints(manifest, config.data, folder=folder, again=config.again, on_progress=on_progress)
    looked = data_report.look(manifest, prints, config.shortcuts)
    report = data_report.build_report(looked, config, started_s=started_s)
    load = partial(load_pixels, manifest=manifest, data=config.data)
    data_report.keep_report(home(), report, data_report.write_page(report, looked, load))
    return report


def tell(config: VerifyConfig, report: DataReport, folder: Path) -> None:
    """The report on the terminal, or as JSON, and as files where they were asked for."""
    from cxr_experiments.record import console, data_report

    try:  # before the terminal, whose reader may have read enough (`| head`)
        if config.json not in (None, "-"):
            Path(config.json).write_text(data_report.to_json(report), encoding="utf-8")
        if config.html:
            shutil.copyfile(folder / "report.html", config.html)
    except OSError as error:
        raise ConfigError(f"the report cannot be written to {error.filename}: {error.strerror}") from error
    if config.json == "-":
        sys.stdout.write(data_report.to_json(report))
    else:
        console.say("\n".join(data_report.terminal_lines(report)), synthetic=report.synthetic)
        console.say(f"\nreport: {folder / 'report.html'} (again=true looks anew)")


def check_target(key: str, target: str | None) -> None:
    """Whether a file can stand there, before the long look.

    Raises:
        ConfigError: its folder is missing, or it is a folder itself.
    """
    if target in (None, "-" if key == "json" else None):
        return
    path = Path(str(target))
    if path.is_dir() or not path.absolute().parent.is_dir():
        wrong = "is a folder" if path.is_dir() else f"has no folder {path.absolute().parent} to stand in"
        raise ConfigError(f"{key}={target} {wrong}: expected the name of a file in a folder that exists")


if __name__ == "__main__":
    run_command(main, "verify", VerifyConfig)
