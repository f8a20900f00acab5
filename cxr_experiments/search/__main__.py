"""The command: `python -m cxr_experiments.search search=NAME`, on one page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import run_command, run_job
from cxr_experiments.config.compose import CONF_DIR, register
from cxr_experiments.config.hydra_errors import interruptions_kept
from cxr_experiments.config.search_spec import SearchConfig
from cxr_experiments.errors import Terminated
from cxr_experiments.search.words import trials_words_as_list

if TYPE_CHECKING:
    from cxr_experiments.search.book import Book

register("search_schema", SearchConfig)


@hydra.main(config_path=str(CONF_DIR), config_name="search", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, run."""
    run_job(composed, SearchConfig, run_search)


def run_search(config: SearchConfig) -> None:
    """Plan, work on trials until as many as were asked for are done, wherever they are done, and name the winner.

    Raises:
        ConfigError: the search cannot be planned, or Optuna is not installed.
        CxrError: something that would strike every trial; the same command goes on.
    """
    from cxr_experiments.search.book import RUNNING, at_work, open_book, require_optuna, rows_of
    from cxr_experiments.search.plan import make_plan
    from cxr_experiments.search.reporting import report, say_begun

    require_optuna()
    plan = make_plan(config)
    book = open_book(plan)
    say_begun(plan, rows_of(book))
    try:
        with interruptions_kept(), at_work(book):
            work(book)
    except (KeyboardInterrupt, Terminated):
        done = sum(row.state != RUNNING for row in rows_of(book))
        print(f"{plan.name}: stopped with {done} of {config.trials} trials done; the same command goes on", flush=True)
        raise
    report(plan, rows_of(book))


def work(book: Book) -> None:
    """Take trials and run them; where others work on the last ones, wait: one of them may be handed back."""
    from cxr_experiments.record import console
    from cxr_experiments.search.book import RUNNING, finish_trial, rows_of, take_trial
    from cxr_experiments.search.reporting import say_trial
    from cxr_experiments.search.trial import LOOK_S, run_trial

    waiting = False
    while True:
        if (trial := take_trial(book)) is not None:
            outcome = run_trial(book.plan, trial)
            finish_trial(book, trial, outcome.state, loss=outcome.loss, reason=outcome.reason)
            rows = rows_of(book)
            (own,) = [row for row in rows if row.number == trial.number]
            say_trial(book.plan, own, sum(row.state != RUNNING for row in rows))
            continue
        elsewhere = sum(row.state == RUNNING for row in rows_of(book))
        if not elsewhere:
            return
        if not waiting:
            console.say(f"all trials are taken, {elsewhere} at work in other processes: waiting for them")
        waiting = True
        time.sleep(LOOK_S)


if __name__ == "__main__":
    run_command(main, "search", SearchConfig, read_words=trials_words_as_list)
