"""Work on threads comes back in order, and never runs far ahead of whoever takes it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from cxr_experiments.images.threads import in_order


def test_results_come_in_the_order_of_the_items() -> None:
    def late(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number

    assert list(in_order(late, range(200), num_threads=8)) == list(range(200))


def test_at_most_64_items_are_taken_before_the_first_result_is() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100_000):
            taken.append(number)
            yield number

    results = in_order(abs, items(), num_threads=2)
    assert [next(results) for _ in range(10)] == list(range(10))
    results.close()
    assert len(taken) <= 64 + 10


def test_an_error_ends_it_and_what_has_not_begun_is_dropped() -> None:
    begun: list[int] = []

    def fail_at_three(number: int) -> int:
        begun.append(number)
        time.sleep(0.005)
        if number == 3:
            raise OSError("disk")
        return number

    with pytest.raises(OSError, match="disk"):
        list(in_order(fail_at_three, range(1000), num_threads=1))
    assert begun[:4] == [0, 1, 2, 3]
    assert len(begun) < 30
