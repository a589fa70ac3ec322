"""The threshold as a function of the history: what it does where it is short, or too noisy."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.noise import Noise, gate_noise, history_noise


def sessions(count: int, *, rounds: int = 6, sigma: float = 0.02, seed: int = 20261124) -> list[list[float]]:
    rng = random.Random(seed)
    return [[rng.gauss(0, sigma) for _ in range(rounds)] for _ in range(count)]


def noise(past: list[list[float]], within_now: float | None) -> Noise:
    history = history_noise(past)
    return gate_noise(history, factor=1.0, alpha=p.ALPHA, gates=6, rounds=6, within_now=within_now)


def test_the_bar_grows_evenly_where_a_session_gets_blunt() -> None:
    some = noise(sessions(20), 0.0004)
    thresholds = [math.log(1 + pct / 1000) for pct in range(50, 500)]
    bars = [Noise(some.history, some.sigma, threshold).bar for threshold in thresholds]
    for threshold, bar in zip(thresholds, bars, strict=True):
        assert threshold <= bar <= p.BLUNT_FACTOR * threshold
        if threshold <= p.BLUNT:
            assert bar == threshold
        if threshold >= p.BLUNT_FULL:
            assert bar == pytest.approx(p.BLUNT_FACTOR * threshold)
    steps = [after - before for before, after in pairwise(bars)]
    assert min(steps) > 0
    assert max(steps) < 0.01, "no hair's breadth of noise moves the bar by a percent"


@pytest.mark.parametrize("count", [1, 3, 9])
def test_a_young_history_learns_from_the_rounds_of_the_session_itself(count: int) -> None:
    """One calm session says little: where this one is restless, so may be the days between them."""
    past = sessions(count, sigma=0.01)
    calm, restless = noise(past, 0.01**2), noise(past, 0.06**2)
    assert restless.threshold > 1.5 * calm.threshold
    grown = (
        noise(sessions(20, sigma=0.01), 0.06**2).threshold
        / noise(sessions(20, sigma=0.01), 0.01**2).threshold
    )
    assert grown < restless.threshold / calm.threshold


def test_a_calm_session_does_not_lower_the_threshold() -> None:
    for count in (1, 5, 20):
        past = sessions(count)
        within = history_noise(past).within
        assert noise(past, 0.0).threshold == pytest.approx(noise(past, within).threshold)
