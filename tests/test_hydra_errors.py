"""What Hydra and OmegaConf must not swallow; their translated messages are tested where commands are."""

from __future__ import annotations

import random
import signal
from types import FrameType

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException

from cxr_experiments.config.compose import CONF_DIR
from cxr_experiments.config.hydra_errors import interruptions_kept
from cxr_experiments.errors import ConfigError, Terminated
from cxr_experiments.train import main

assert main  # importing train registers the schema


def buried(interruption: type[BaseException]) -> None:
    """As OmegaConf and Hydra do it: a clean-up fails, and its error is wrapped."""
    try:
        try:
            raise interruption
        finally:
            raise AttributeError("a flag that is half set")
    except AttributeError as error:
        raise ConfigCompositionException("") from error


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, Terminated])
def test_an_interruption_behind_other_errors_comes_out_as_itself(interruption: type[BaseException]) -> None:
    with pytest.raises(interruption), interruptions_kept():
        buried(interruption)


def test_other_errors_pass() -> None:
    wrong = ConfigError("training.epochs=0")
    with pytest.raises(ConfigError) as passed, interruptions_kept():
        raise wrong
    assert passed.value is wrong


def test_a_signal_at_any_moment_of_composing_is_an_interruption() -> None:
    """Without the guard about 1 in 18 comes out as another error, so that 100 would all come out right in 1 of 300."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    draw, num_interrupted = random.Random(0), 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            compose("config", return_hydra_config=True)
            while num_interrupted < 100:
                try:
                    with interruptions_kept():
                        signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.001, 0.06))
                        compose("config", return_hydra_config=True)
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    num_interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
