"""The rim of every command: a mistake becomes one line on stderr and exit status 2; a bug keeps its traceback.

A sweep's jobs are all composed and range-checked
before the first one starts.  The words for Hydra's own errors are those of `hydra_errors`.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cxr_experiments.config import collector
from cxr_experiments.config.compose import CONF_DIR, read_config
from cxr_experiments.config.credentials import WHERE_THEY_BELONG, holds_credentials, without_credentials
from cxr_experiments.config.flags import flags_last
from cxr_experiments.config.hydra_errors import interruptions_kept, translate
from cxr_experiments.config.hydra_repeats import asks_for_help, configs_copied_once, jobs_checked_once
from cxr_experiments.config.job import run_requested
from cxr_experiments.config.machine import refusals_told
from cxr_experiments.config.processes import is_child
from cxr_experiments.config.sweep import FailedJob, JobEnd, failures_told, keep_job, new_folder, read_jobs
from cxr_experiments.errors import ConfigError, CxrError, Terminated

Config = TypeVar("Config")
TEXT_KEYS = (
    *("run", "experiment_name", "output", "data.root", "data.patient_regex", "model.builder", "tracking.uri"),
    *("a", "b", "name_a", "name_b", "html", "heatmap", "mirror", "csv", "name", "alias"),
    *(f"data.csv_{part}" for part in ("file", "path", "label", "patient", "split", "separator")),
)
EXIT_FOUND, EXIT_MISTAKE, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 130, 143
_SAME_KEY_S = 0.3  # a program around this one may hand on what the terminal has sent already


class Found(CxrError):
    """A command did its work and found something wrong, which its exit status tells: 1."""


class Mistake(BaseException):
    """A CxrError on its way out of a single job, past Hydra's `except Exception`."""

    def __init__(self, message: str, status: int = EXIT_MISTAKE) -> None:
        super().__init__(message)
        self.status = status


def run_command(
    main: Callable[[], Any],
    config_name: str,
    schema: type[Any],
    *,
    read_words: Callable[[list[str]], list[str]] = list,
    after_sweep: Callable[[Path, Any], None] | None = None,
) -> None:
    """Run a command's Hydra `main` and exit: 0, 1 for what was found wrong, 2 for a mistake of the user's, 130 for
    Ctrl-C, 143 for SIGTERM.  In a process that the process launcher started, `main` is run as that job.

    Args:
        main: the function under `@hydra.main`.
        config_name: its primary config in conf/.
        schema: the dataclass behind that config, for the nearest match.
        read_words: the command's own reading of its words, before Hydra sees them.
        after_sweep: called with the sweep's folder and its first config when a sweep has ended, failed jobs or not.
    """
    with _ends_well(schema):
        if is_child():
            sys.exit(run_requested(main))
        sys.argv[1:] = as_text(read_words(flags_last(sys.argv[1:])))
        with interruptions_kept(), _full_errors():
            sweep = check_sweep(config_name, schema)
            is_checked = sweep is not None and sweep.is_checked
            spared = jobs_checked_once if is_checked else configs_copied_once if asks_for_help() else nullcontext
            with _followed_by(after_sweep, sweep), spared():
                main()


def run_launched(function: Callable[[DictConfig], Any], schema: type[Any]) -> None:
    """Run a launcher's function that is no command's `main`, in the process that was started for it, and exit."""
    with _ends_well(schema):
        sys.exit(run_requested(function))


@contextmanager
def _ends_well(schema: type[Any]) -> Iterator[None]:
    """Signals, mistakes and what the machine refuses become one line and an exit status."""
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # in the background of a shell it is ignored
        signal.signal(signal.SIGINT, _interrupt)
    collector.begin()
    try:
        with refusals_told():
            yield
    except (HydraException, OmegaConfBaseException) as error:
        _fail(translate(error, schema), EXIT_MISTAKE)
    except ValueError as error:
        if "Config group override must be" not in str(error):  # Hydra's answer to group=null is a bare ValueError
            raise
        _fail("a group was given null: expected one of its options (see --help)", EXIT_MISTAKE)
    except Mistake as error:
        _fail(str(error), error.status)
    except CxrError as error:
        _fail(str(error), EXIT_MISTAKE)
    except KeyboardInterrupt:
        _fail("interrupted", EXIT_INTERRUPTED)
    except Terminated:
        _fail("terminated", EXIT_TERMINATED)


def run_job(composed: DictConfig, schema: type[Config], job: Callable[[Config], Any]) -> None:
    """One job of a command: check its config, run it, and say at once when it fails.

    Alone, a mistake leaves past Hydra, which would print a second line.  In a sweep it is raised inside Hydra, so that
    the other jobs go on, and told when it happens.
    """
    if HydraConfig.get().mode is not RunMode.MULTIRUN:
        try:
            with refusals_told():
                job(read_config(composed, schema))
        except CxrError as error:
            raise Mistake(str(error), EXIT_FOUND if isinstance(error, Found) else EXIT_MISTAKE) from error
        except BrokenPipeError as error:  # `| head` has read enough
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # what is left in the buffer goes there
            raise Mistake("the output was closed before its end") from error
        return
    settings, words = HydraConfig.get(), tuple(HydraConfig.get().overrides.task)
    end = JobEnd(settings.job.num, words, str(composed.get("experiment_name") or ""), "", "")
    try:
        with refusals_told():
            returned = job(read_config(composed, schema))
    except Exception as error:
        print(without_credentials(f"FAILED {' '.join(words)}: {error}"), file=sys.stderr, flush=True)
        keep_job(Path(settings.sweep.dir), replace(end, failure=f"{type(error).__name__}: {error}"))
        if isinstance(error, CxrError):
            raise FailedJob(" ".join(words)) from error
        raise
    keep_job(Path(settings.sweep.dir), replace(end, returned="" if returned is None else str(returned)))


@contextmanager
def _followed_by(after_sweep: Callable[[Path, Any], None] | None, sweep: Sweep | None) -> Iterator[None]:
    """A failed job ends a sweep with an error, after all others: what finished is worth telling then too.

    Ctrl-C and SIGTERM are no `Exception`: who stops a sweep wants it to stop.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if after_sweep and sweep:
        after_sweep(sweep.folder, sweep.config)
    if sweep and isinstance(failure, FailedJob):
        raise FailedJob(failures_told(read_jobs(sweep.folder))) from failure
    if failure:
        raise failure


def _fail(message: str, status: int) -> None:
    path = Path(sys.argv[0])
    command = path.parent.name if path.name == "__main__.py" else path.stem
    print(f"{command}: {without_credentials(message)}", file=sys.stderr)
    sys.exit(status)


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """The first Ctrl-C ends the work in order; the next one leaves at once, without a word to MLflow."""
    began = time.monotonic()

    def leave(signum: int, frame: FrameType | None) -> None:
        if time.monotonic() - began > _SAME_KEY_S:
            os.write(2, b"interrupted twice: left at once\n")
            os._exit(EXIT_INTERRUPTED)

    signal.signal(signal.SIGINT, leave)
    raise KeyboardInterrupt


@contextmanager
def _full_errors() -> Iterator[None]:
    """Hydra raises instead of printing and exiting; children get the environment as it was."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


@dataclass(frozen=True)
class Sweep:
    """A sweep before its first job: the folder that all its jobs will name, the first job's config, and whether all
    that Hydra will launch has been composed and checked."""

    folder: Path
    config: Any
    is_checked: bool


def check_sweep(config_name: str, schema: type[Any]) -> Sweep | None:
    """Compose and range-check every job of a sweep: the last one's typing error is told before the first runs.

    Its folder is written into the command line, since its default holds the time: so every job names the same one,
    in whichever process it runs, and it is known here when they have ended.  None without -m.
    """
    args = get_args_parser().parse_args()
    if not args.multirun or args.help or args.cfg or args.info:
        return None
    overrides = OverridesParser.create().parse_overrides(args.overrides)
    if any(holds_credentials(word) for word in args.overrides):  # Hydra keeps them in the sweep's folder
        raise ConfigError(f"an override holds a user name or a password: they belong into {WHERE_THEY_BELONG}")
    jobs = BasicSweeper.split_arguments([o for o in overrides if not o.is_hydra_override()], None)[0]
    typed = [word for word in args.overrides if word.startswith("hydra.sweep.dir=")]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = [compose(args.config_name or config_name, [*job, *typed], return_hydra_config=True) for job in jobs]
        configs = [read_config(one, schema) for one in composed]
        folder = Path(composed[0].hydra.sweep.dir).absolute()
    GlobalHydra.instance().clear()
    if not typed:
        folder = new_folder(folder)
        place = sys.argv.index(args.overrides[0]) if args.overrides else len(sys.argv)
        sys.argv.insert(place, f"hydra.sweep.dir={escaped(str(folder))}")
    sweeper = composed[0].hydra.sweeper
    own = sweeper._target_.endswith(".BasicSweeper")  # another one makes jobs of its own
    is_checked = own and not (sweeper.params or args.config_path or args.config_dir)
    return Sweep(folder, configs[0], is_checked)


def as_text(arguments: list[str]) -> list[str]:
    """Quote values that are text whatever they look like: Hydra would read the run id `12e345678901` as a number, and
    stop at the brackets of a regular expression or of a folder name.

    Example:
        >>> as_text(["run=12e345678901", "data.patient_regex=(p[0-9]+)", "data.root='a b'", "seed=1"])
        ["run='12e345678901'", "data.patient_regex='(p[0-9]+)'", "data.root='a b'", 'seed=1']
    """
    sweeps = {"-m", "--multirun"} & set(arguments)
    return [_quoted(word, sweeps=bool(sweeps)) if word.partition("=")[0] in TEXT_KEYS else word for word in arguments]


def _quoted(word: str, *, sweeps: bool) -> str:
    """The word with its value in quotes; in a sweep a comma separates values, except in a regular expression."""
    key, _, value = word.partition("=")
    if value in ("", "null") or (len(value) > 1 and value[0] == value[-1] and value[0] in "'\""):
        return word
    parts = value.split(",") if sweeps and key != "data.patient_regex" else [value]
    return f"{key}={','.join(map(escaped, parts))}"


def words_as_images(arguments: list[str]) -> list[str]:
    """Words without `=` (and not flags) become one `images=[...]` override, whatever characters the paths hold.

    Raises:
        ConfigError: both words and `images=` are given.
    """
    parsed, unknown = get_args_parser().parse_known_args(arguments)  # tells `--cfg job` from an image named job
    positional = [*parsed.overrides, *(word for word in unknown if not word.startswith("-"))]
    words = [word for word in positional if "=" not in word]
    if not words:
        return arguments
    overrides = [word for word in positional if "=" in word]
    if any(word.startswith("images=") for word in overrides):
        raise ConfigError("images are given both as words and as images=[...]: use one of the two")
    flags = [word for word in arguments if word not in positional]
    return [*overrides, f"images=[{','.join(map(escaped, words))}]", *flags]


def escaped(word: str) -> str:
    """A word in Hydra's single quotes: backslashes count before a quote only, and ${ would be an interpolation."""
    word = re.sub(r"(\\*)\$\{", lambda match: match.group(1) * 2 + "\\${", word)
    word = re.sub(r"(\\*)'", lambda match: match.group(1) * 2 + "\\'", word)
    return "'" + re.sub(r"(\\+)$", lambda match: match.group(1) * 2, word) + "'"
