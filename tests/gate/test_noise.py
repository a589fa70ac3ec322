"""The threshold as a function of the history: what it does where it is short, or too noisy."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.noise import Noise, alpha_shares, gate_error, gate_noises, history_noise
from pytest_espperf.gate.pairs import compare_pairs
from pytest_espperf.gate.series import Series


def sessions(count: int, *, rounds: int = 6, sigma: float = 0.02, seed: int = 20261124) -> list[list[float]]:
    rng = random.Random(seed)
    return [[rng.gauss(0, sigma) for _ in range(rounds)] for _ in range(count)]


def noise(past: list[list[float]], within_now: float | None) -> Noise:
    history = history_noise(past)
    error = gate_error(history, factor=1.0, rounds=6, within_now=within_now)
    return gate_noises([gate("a", "rps_ok")], [history], [error], p.ALPHA / 6)[0]


def gate(profile: str, metric: str, *, paced: bool = False) -> Series:
    return Series(profile=profile, metric=metric, past=(), epoch=(), pins=(), now=(0.0,), paced=paced)


def test_the_bar_grows_evenly_where_a_session_gets_blunt() -> None:
    some = noise(sessions(20), 0.0004)
    thresholds = [math.log(1 + pct / 1000) for pct in range(50, 500)]
    called = [replace(some, threshold=threshold).smallest for threshold in thresholds]
    for threshold, smallest in zip(thresholds, called, strict=True):
        assert threshold <= smallest <= p.BLUNT_FACTOR * threshold
        if threshold <= p.BLUNT:
            assert smallest == threshold
        if threshold >= p.BLUNT_FULL:
            assert smallest == pytest.approx(p.BLUNT_FACTOR * threshold)
    steps = [after - before for before, after in pairwise(called)]
    assert min(steps) > 0
    assert max(steps) < 0.01, "no hair's breadth of noise moves the limit by a percent"


@pytest.mark.parametrize("count", [1, 3, 9])
def test_a_young_history_learns_from_the_rounds_of_the_session_itself(count: int) -> None:
    """One calm session says little: where this one is restless, so may be the days between them."""
    past = sessions(count, sigma=0.01)
    calm, restless = noise(past, 0.01**2), noise(past, 0.06**2)
    assert restless.threshold > 1.25 * calm.threshold


def test_a_calm_session_does_not_lower_the_threshold_of_an_old_baseline() -> None:
    for count in (10, 20):
        past = sessions(count)
        within = history_noise(past).within
        assert noise(past, 0.0).threshold == pytest.approx(noise(past, within).threshold)


class TestShares:
    """Which gate has which part of the alarms that all are allowed."""

    def test_a_quiet_gate_has_the_larger_part_of_its_profile(self) -> None:
        gates = [gate(name, metric) for name in ("a", "b") for metric in ("rps_ok", "p95_ms")]
        shares = alpha_shares(gates, [0.01, 0.04, 0.3, 0.1])
        own = 0.25 / 4  # a quarter of an equal part of four, then as 1 / sigma
        wanted = [own + 0.75 * part for part in (0.4, 0.1, 0.125, 0.375)]
        assert shares == pytest.approx(wanted)
        assert sum(shares) == pytest.approx(1)

    def test_an_open_loop_keeps_its_p95_as_sharp(self) -> None:
        gates = [gate("a", "rps_ok", paced=True), gate("a", "p95_ms", paced=True)]
        assert alpha_shares(gates, [0.005, 0.1]) == [0.5, 0.5]

    def test_thresholds_hold_alpha(self) -> None:
        """Together the gates raise no more false alarms than alpha: on normal noise that is known."""
        rng = random.Random(20261125)
        histories = [history_noise(sessions(400, sigma=s, seed=int(1e4 * s))) for s in (0.02, 0.1)]
        errors = [gate_error(one, factor=1.0, rounds=6, within_now=None) for one in histories]
        found = gate_noises([gate("a", "rps_ok"), gate("a", "p95_ms")], histories, errors, 0.05)
        calm = [s**2 * 0.21473 + p.SESSION_SIGMA_FLOOR**2 for s in (0.02, 0.1)]
        alarms = sum(
            any(rng.gauss(0, math.sqrt(v)) > one.threshold for v, one in zip(calm, found, strict=True))
            for _ in range(4000)
        )
        assert alarms / 4000 <= 0.06


class TestPairs:
    """The statistic of A/B pairs."""

    KNOWN = ((8, 2 * 0.02**2), (5, 2 * 0.02**2))

    def alarms(self, disturbed: float, slower: float, today: float = 1.0) -> float:
        rng = random.Random(20261125)
        called = 0
        known = ((8, 2 * 0.02**2), (5, 2 * (0.02 * today) ** 2))
        for _ in range(2000):
            found = [
                rng.gauss(slower, math.sqrt(2) * 0.02 * today)
                + (rng.random() < disturbed) * rng.choice((-1, 1)) * rng.uniform(0.05, 0.5)
                for _ in range(6)
            ]
            called += compare_pairs(found, known, 0.01).slower
        return called / 2000

    def test_noise_alone_is_called_no_more_often_than_alpha(self) -> None:
        assert self.alarms(0.0, 0.0) <= 0.012
        assert self.alarms(0.1, 0.0) <= 0.015
        assert self.alarms(0.0, 0.0, today=1.5) <= 0.03

    def test_a_disturbed_pair_hides_no_slowdown(self) -> None:
        clean, disturbed = self.alarms(0.0, math.log(1.06)), self.alarms(0.1, math.log(1.06))
        assert clean > 0.95
        assert disturbed > clean - 0.15

    def test_one_wild_pair_of_six_is_no_slowdown(self) -> None:
        assert not compare_pairs([0.0, 0.01, -0.01, 0.005, -0.005, 2.0], self.KNOWN, 0.01).slower

    def test_pairs_that_know_nothing_else_stand_by_themselves(self) -> None:
        result = compare_pairs([0.1, 0.11, 0.09], [(0, 0.0)], 0.01)
        assert result.change == pytest.approx(0.1, abs=0.001)
        assert 0.035 < result.threshold < 0.1
        assert not compare_pairs([0.0345, 0.0346, 0.9], [(0, 0.0), (0, 0.0)], 0.01).slower

    def test_two_heaps_of_pairs_are_no_slowdown(self) -> None:
        """No pair shows what their middle would say."""
        assert not compare_pairs([0.0, 0.0, 0.0, 0.3, 0.3, 0.3], self.KNOWN, 0.01).slower

    @pytest.mark.parametrize("boots", [0.02, 0.04, 0.08])
    def test_boots_that_differ_raise_no_flood_of_alarms(self, boots: float) -> None:
        """The real order is AB BA AB ...: one boot of a firmware serves two neighbouring pairs."""
        rng = random.Random(20261125)
        called = 0
        for _ in range(2000):
            new = [rng.gauss(0, boots) for _ in range(3)]
            old = [rng.gauss(0, boots) for _ in range(4)]
            found = [
                new[pair // 2] - old[(pair + 1) // 2] + rng.gauss(0, math.sqrt(2) * 0.02) for pair in range(6)
            ]
            called += compare_pairs(found, self.KNOWN, 0.01).slower
        assert called / 2000 <= 0.12, "rounds alone would raise up to 23 %"
