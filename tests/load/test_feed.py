"""The schedule is pure: who asks for what, and when."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_espperf.errors import UsageError
from pytest_espperf.load.feed import (
    ClosedFeed,
    OpenFeed,
    backoff_s,
    count_of_starts,
    intended_start_ns,
    rotation,
)
from pytest_espperf.load.outcomes import OutcomeTable
from pytest_espperf.load.requests import PreparedRequest, RequestMaker, prepare_requests
from pytest_espperf.model.workload import RequestSpec, Target


def plans(count: int) -> list[PreparedRequest]:
    target = Target("http", "127.0.0.1", 8080, "x")
    specs = [RequestSpec(f"/{index}") for index in range(count)]
    return prepare_requests(RequestMaker(target, (), own_connection=True), specs, OutcomeTable([]))


def test_equal_weights_take_paths_in_order() -> None:
    assert rotation([1, 1, 1]) == (0, 1, 2)
    assert rotation([7, 7]) == (0, 1)


def test_weights_are_spread_not_clumped() -> None:
    assert rotation([5, 1, 1]) == (0, 0, 1, 0, 2, 0, 0)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_every_path_comes_as_often_as_its_weight(weights: list[int]) -> None:
    turn = rotation(weights)
    divisor = math.gcd(*weights)
    assert Counter(turn) == {index: weight // divisor for index, weight in enumerate(weights)}
    # No prefix strays more than one request from its fair share.
    for length in range(1, len(turn) + 1):
        for index, weight in enumerate(weights):
            fair = Fraction(length * weight, sum(weights))
            assert abs(turn[:length].count(index) - fair) < len(weights)


@pytest.mark.parametrize("weights", [[], [0], [1, -1]])
def test_bad_weights_are_usage_errors(weights: list[int]) -> None:
    with pytest.raises(UsageError):
        rotation(weights)


@given(st.integers(1, 5000), st.integers(0, 600))
def test_starts_fill_the_duration_exactly(rate: int, duration: int) -> None:
    assert count_of_starts(rate, duration) == rate * duration


def test_starts_lie_inside_the_duration() -> None:
    assert count_of_starts(0.1, 30) == 3
    assert count_of_starts(3, 0.5) == 2  # at 0 and 1/3 s
    assert count_of_starts(40, 0) == 0
    assert [intended_start_ns(k, 3) for k in (-1, 0, 1, 3)] == [-333333333, 0, 333333333, 1000000000]


@pytest.mark.parametrize("rate", [0, -1, math.inf, math.nan])
def test_bad_rates_are_usage_errors(rate: float) -> None:
    with pytest.raises(UsageError):
        count_of_starts(rate, 1)


def test_backoff_grows_to_half_a_second() -> None:
    assert [backoff_s(n) for n in range(1, 9)] == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5]
    assert backoff_s(10_000) == 0.5


def test_closed_loop_clients_start_at_their_own_offsets() -> None:
    feed = ClosedFeed(plans(3), begin_ns=0, duration_s=1.0)
    paths = {client: [] for client in range(4)}  # type: dict[int, list[int]]
    for _ in range(4):
        for client, taken in paths.items():
            plan = feed.take(client, 10)
            assert plan is not None
            taken.append(plan[0].index)
    assert paths == {0: [0, 1, 2, 0], 1: [1, 2, 0, 1], 2: [2, 0, 1, 2], 3: [0, 1, 2, 0]}


def test_closed_loop_stops_at_its_duration() -> None:
    feed = ClosedFeed(plans(1), begin_ns=5, duration_s=1e-9)
    assert feed.take(0, 5) is not None
    assert feed.take(0, 6) is None
    assert feed.give_up() == 0


def test_closed_loop_makes_its_first_request_however_late_this_computer_is() -> None:
    feed = ClosedFeed(plans(2), begin_ns=0, duration_s=0.1)
    assert feed.take(0, 10**9) is not None
    assert feed.take(1, 10**9) is None
    given_up = ClosedFeed(plans(2), begin_ns=0, duration_s=0.1)
    given_up.give_up()
    assert given_up.take(0, 10**9) is None


def test_open_loop_hands_out_what_is_due_in_order() -> None:
    feed = OpenFeed(plans(2), begin_ns=1_000_000_000, duration_s=0.3, rate_rps=10, warmup_s=0.1)
    assert feed.next_due_ns() == 900_000_000
    assert feed.take(0, 899_999_999) is None
    taken = [feed.take(client, 1_150_000_000) for client in range(4)]
    assert [None if t is None else (t[0].index, t[1]) for t in taken] == [
        (1, 900_000_000),
        (0, 1_000_000_000),
        (1, 1_100_000_000),
        None,
    ]
    assert feed.give_up() == 1
    assert feed.next_due_ns() is None


def test_open_loop_given_up_in_its_warmup_drops_measured_starts_only() -> None:
    feed = OpenFeed(plans(1), begin_ns=10**9, duration_s=0.5, rate_rps=10, warmup_s=1.0)
    assert feed.give_up() == 5
    assert feed.take(0, 10**12) is None
