"""Steps in series of sessions: where they are, and how rarely one is seen that is none."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from pytest_espperf.gate.change_points import LEVEL, SIDE, ChangePoint, find_change_points

MEDIUM = 0.0225
"""Standard deviation of a session at medium noise: 2 % between sessions, 1 % of its six rounds' median."""


def levels(rng: random.Random, *stretches: tuple[int, float], sigma: float = MEDIUM) -> list[float]:
    return [level + rng.gauss(0, sigma) for count, level in stretches for _ in range(count)]


def heavy(rng: random.Random) -> float:
    return rng.gauss(0, 1) / math.sqrt(rng.gammavariate(1.5, 2.0) / 3) / math.sqrt(3)


def odd_ones(rng: random.Random) -> float:
    return rng.gauss(0, 1) + (rng.uniform(2, 20) if rng.random() < 0.05 else 0)


def skewed(rng: random.Random) -> float:
    return rng.expovariate(1.0) - 1.0


@pytest.mark.parametrize("draw", [lambda rng: rng.gauss(0, 1), heavy, odd_ones, skewed])
@pytest.mark.parametrize("count", [8, 20, 60])
def test_series_without_a_step_have_none(draw: Callable[[random.Random], float], count: int) -> None:
    rng = random.Random(21)
    marked = sum(bool(find_change_points([MEDIUM * draw(rng) for _ in range(count)])) for _ in range(300))
    assert marked <= 15  # 5 %


def test_sessions_that_are_like_the_one_before_are_no_step() -> None:
    rng, marked = random.Random(22), 0
    for _ in range(300):
        value, series = 0.0, []
        for _ in range(60):
            value = 0.7 * value + math.sqrt(0.51) * rng.gauss(0, MEDIUM)
            series.append(value)
        marked += bool(find_change_points(series))
    assert marked <= 24  # 4 % as measured, and three standard deviations


@pytest.mark.parametrize("factor", [1.1, 1 / 1.1])
def test_a_step_of_10_percent_is_found_with_three_sessions_behind_it(factor: float) -> None:
    rng, found, exact = random.Random(23), 0, 0
    for _ in range(200):
        steps = find_change_points(levels(rng, (20, 4.0), (3, 4.0 + math.log(factor))))
        near = [step for step in steps if abs(step.index - 20) <= 1]
        found += bool(near)
        exact += any(step.index == 20 for step in near)
        assert all(step.change * math.log(factor) > 0 for step in near)
    assert found >= 180
    assert exact >= 170


def test_two_steps_and_what_they_say() -> None:
    steps = find_change_points(levels(random.Random(24), (15, 1.0), (12, 1.15), (18, 1.05), sigma=0.01))
    assert [step.index for step in steps] == [15, 27]
    first, second = steps
    assert first.before == pytest.approx(1.0, abs=0.01)
    assert first.after == pytest.approx(1.15, abs=0.01)
    assert first.after == second.before
    assert second.change == pytest.approx(-0.1, abs=0.015)
    assert all(1 - LEVEL < step.confidence <= 1 for step in steps)


def test_up_and_down_again_is_seen_though_the_ends_are_alike() -> None:
    steps = find_change_points(levels(random.Random(25), (20, 0.0), (8, 0.12), (20, 0.0)))
    assert [step.index for step in steps] == [20, 28]


def test_one_odd_session_is_no_step_and_hides_none() -> None:
    series = levels(random.Random(26), (20, 0.0), (20, 0.1), sigma=0.01)
    series[9] += 0.8
    series[30] -= 0.8
    assert [step.index for step in find_change_points(series)] == [20]


def test_a_small_step_is_none_however_certain() -> None:
    assert find_change_points([0.0] * 30 + [0.02] * 30) == []
    assert [step.index for step in find_change_points([0.0] * 30 + [0.04] * 30)] == [30]


def test_of_two_places_that_fit_the_first_failed_session_is_the_step() -> None:
    middle = 0.05  # of a session between the two levels: either may have it
    series = [0.001 * (-1) ** i for i in range(20)] + [middle] + [0.1 + 0.001 * (-1) ** i for i in range(20)]
    for failed_from in (20, 21):
        accepted = [i < failed_from for i in range(len(series))]
        assert [step.index for step in find_change_points(series, accepted)] == [failed_from]


@pytest.mark.parametrize("count", range(2 * SIDE))
def test_short_series_have_no_step(count: int) -> None:
    assert find_change_points([float(i) for i in range(count)]) == []


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="2 values, but 1"):
        find_change_points([0.0, 1.0], [True])
    with pytest.raises(ValueError, match="not a number"):
        find_change_points([0.0, math.nan])


SERIES = st.lists(st.floats(-1, 1, allow_nan=False), max_size=40)


@seed(1)
@given(SERIES, st.floats(-5, 5))
def test_level_and_sign_change_nothing_else(values: list[float], level: float) -> None:
    def places(found: list[ChangePoint]) -> list[int]:
        return [step.index for step in found]

    base = find_change_points(values)
    assert places(find_change_points([-value for value in values])) == places(base)
    for step in base:
        assert SIDE <= step.index <= len(values) - SIDE
        assert step.change == pytest.approx(step.after - step.before)


def test_the_best_split_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(27)
    for _ in range(50):
        values = rng.normal(0, 0.01, 24)
        at = int(rng.integers(5, 19))
        values[at:] += 0.08
        squares = {
            k: ((values[:k] - values[:k].mean()) ** 2).sum() + ((values[k:] - values[k:].mean()) ** 2).sum()
            for k in range(SIDE, 24 - SIDE + 1)
        }
        (step,) = find_change_points(values.tolist())
        assert step.index == min(squares, key=squares.__getitem__)


def test_long_series_take_no_time_that_matters() -> None:
    rng = random.Random(28)
    series = levels(rng, *((50, 0.1 * (i % 2)) for i in range(40)), sigma=0.01)
    assert len(find_change_points(series)) == 39
