"""The statistics against scipy, numpy and brute force."""

from __future__ import annotations

import math
import random
from itertools import combinations
from statistics import median

import numpy as np
import pytest
from hypothesis import given, seed
from hypothesis import strategies as st
from scipy import stats as oracle

from pytest_espperf.gate import stats

FLOATS = st.lists(st.floats(-1e3, 1e3, allow_nan=False), min_size=2, max_size=25)


@pytest.mark.parametrize("df", [1, 2, 3, 4.5, 6, 9, 13, 23, 100, 1e4])
@pytest.mark.parametrize("tail", [0.5, 0.2, 0.05, 0.01, 0.01 / 6, 1e-4, 1e-6])
def test_t_quantile_is_scipys(tail: float, df: float) -> None:
    assert stats.t_quantile(tail, df) == pytest.approx(oracle.t.isf(tail, df), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("t", [-3.0, -0.2, 0.0, 0.5, 2.0, 40.0])
def test_t_tail_is_scipys(t: float) -> None:
    for df in (1, 2.5, 7, 60):
        assert stats.t_upper_tail(t, df) == pytest.approx(oracle.t.sf(t, df), rel=1e-10)


def test_incomplete_beta_is_scipys() -> None:
    from scipy.special import betainc

    rng = random.Random(3)
    for _ in range(300):
        a, b, x = rng.uniform(0.1, 60), rng.uniform(0.1, 60), rng.random()
        assert stats.incomplete_beta(a, b, x) == pytest.approx(betainc(a, b, x), rel=1e-9, abs=1e-300)
    assert stats.incomplete_beta(2, 3, 0) == 0
    assert stats.incomplete_beta(2, 3, 1) == 1


@pytest.mark.parametrize(("tail", "df"), [(0.0, 3), (0.6, 3), (-1, 3), (0.1, 0)])
def test_t_quantile_refuses(tail: float, df: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        stats.t_quantile(tail, df)


def exact_median_variance(n: int) -> float:
    """By numerical integration of the order statistics' densities and, for even n, their joint one."""
    x = np.linspace(-8, 8, 1601)
    step = x[1] - x[0]
    f, cdf = oracle.norm.pdf(x), oracle.norm.cdf(x)
    if n % 2:
        k = n // 2
        weight = math.factorial(n) / math.factorial(k) ** 2
        return float((x**2 * weight * (cdf * (1 - cdf)) ** k * f).sum() * step)
    k = n // 2 - 1
    weight = math.factorial(n) / math.factorial(k) ** 2
    low, high = x[:, None], x[None, :]
    joint = np.triu(weight * (cdf**k * f)[:, None] * ((1 - cdf) ** k * f)[None, :])
    joint -= np.diag(np.diag(joint)) / 2
    return float((((low + high) / 2) ** 2 * joint).sum() * step**2)


@pytest.mark.parametrize("n", range(1, 25))
def test_median_variance(n: int) -> None:
    assert stats.median_variance(n) == pytest.approx(exact_median_variance(n), rel=5e-3)


def test_variances_refuse_nothing() -> None:
    with pytest.raises(ValueError, match="at least one"):
        stats.median_variance(0)


@seed(1)
@given(FLOATS)
def test_variance_and_mad_are_numpys(values: list[float]) -> None:
    assert stats.variance(values) == pytest.approx(np.var(values, ddof=1), rel=1e-6, abs=1e-6)
    assert stats.mad(values) == pytest.approx(oracle.median_abs_deviation(values), rel=1e-9, abs=1e-9)


@seed(2)
@given(FLOATS)
def test_winsorised_variance_by_hand(values: list[float]) -> None:
    reach = 3 * stats.mad_to_sigma(len(values)) * float(oracle.median_abs_deviation(values))
    pulled = np.clip(values, np.median(values) - reach, np.median(values) + reach)
    assert stats.winsorised_variance(values) == pytest.approx(np.var(pulled, ddof=1), rel=1e-6, abs=1e-6)


@seed(3)
@given(FLOATS, st.floats(-100, 100), st.floats(0.01, 50))
def test_robust_measures_follow_shift_and_scale(values: list[float], shift: float, scale: float) -> None:
    moved = [value * scale + shift for value in values]
    for measure in (stats.mad, lambda v: math.sqrt(stats.winsorised_variance(v))):
        assert measure(moved) == pytest.approx(scale * measure(values), rel=1e-6, abs=1e-6)
    spread = stats.mad(values)
    assert stats.biweight(moved, scale * spread) == pytest.approx(
        scale * stats.biweight(values, spread) + shift, rel=1e-6, abs=1e-5
    )


def test_a_biweight_is_sharp_and_lets_a_disturbed_value_go() -> None:
    rng = np.random.default_rng(20261125)
    for count in (3, 6, 12):
        values = rng.standard_normal((20_000, count))
        found = np.array([stats.biweight(row.tolist(), 1.0) for row in values])
        assert found.var() * count == pytest.approx(stats.BIWEIGHT_VARIANCE, rel=0.06)
        values[:, 0] += 12
        disturbed = np.array([stats.biweight(row.tolist(), 1.0) for row in values])
        assert abs(disturbed.mean()) < 0.05
    assert stats.biweight([1.0, 2.0, 9.0], 0.0) == 2.0
    assert stats.biweight([0.0, 100.0], 1.0) == 50.0, "no value near the centre"


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 8, 12, 20])
def test_the_variance_of_the_nearest_is_unbiased_and_blind_to_a_third(count: int) -> None:
    rng = np.random.default_rng(count)
    values = rng.standard_normal((20_000, count))
    found = np.mean([stats.variance_of_nearest(row.tolist()) for row in values])
    assert found == pytest.approx(1.0, rel=0.06)
    values[:, : max(1, count // 3)] += 50
    disturbed = np.mean([stats.variance_of_nearest(row.tolist()) for row in values])
    assert disturbed < 5 if count > 3 else disturbed > 100


def test_the_mad_of_few_values_tells_their_deviation() -> None:
    """Against simulation: within 2 % for any number of values, where 1.4826 alone is off by up to 49 %."""
    rng = np.random.default_rng(20261124)
    for count in (2, 3, 4, 5, 6, 7, 8, 9, 10, 25):
        values = rng.standard_normal((40_000, count))
        centre = np.median(values, axis=1, keepdims=True)
        mean_mad = float(np.median(np.abs(values - centre), axis=1).mean())
        assert stats.mad_to_sigma(count) * mean_mad == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="at least one"):
        stats.mad_to_sigma(0)


def test_short_lists() -> None:
    assert stats.variance([1.0]) == 0
    assert stats.winsorised_variance([1.0]) == 0
    assert stats.round_variance([[1.0], [2.0]]) is None
    assert stats.theil_sen([[(1.0, 1.0)]]) is None
    assert stats.falling_score([[(1.0, 1.0)], []]) == 0


def test_round_variance_is_the_rounds_own() -> None:
    rng = random.Random(7)
    sessions = [[rng.gauss(i, 0.02) for _ in range(6)] for i in range(400)]
    assert math.sqrt(stats.round_variance(sessions) or 0) == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("rounds", [2, 3, 4, 6, 9])
def test_round_variance_is_unbiased_for_few_rounds(rounds: int) -> None:
    rng = np.random.default_rng(rounds)
    sessions = rng.standard_normal((20_000, rounds)).tolist()
    assert stats.round_variance(sessions) == pytest.approx(1.0, rel=0.03)
    few = [stats.round_variance(sessions[i : i + 20]) or 0.0 for i in range(0, 20_000, 20)]
    assert np.mean(few) == pytest.approx(1.0, rel=0.04)


def test_disturbed_rounds_leave_the_variance_of_the_others() -> None:
    rng = np.random.default_rng(20261125)
    values = rng.standard_normal((4000, 6))
    values += (rng.random(values.shape) < 0.04) * rng.uniform(3, 30, values.shape)
    assert 1.0 < (stats.round_variance(values.tolist()) or 0.0) < 1.25


def test_two_equal_rounds_of_three_are_no_proof_of_calm() -> None:
    assert (stats.round_variance([[0.0, 0.0, 0.5]]) or 0.0) > 0.05


def test_one_disturbed_round_does_not_blow_up_the_variance() -> None:
    rng = random.Random(8)
    sessions = [[rng.gauss(0, 0.01) for _ in range(6)] for _ in range(20)]
    calm = stats.round_variance(sessions) or 0
    sessions[3][2] += 0.5
    assert stats.round_variance(sessions) == pytest.approx(calm, rel=0.15)


@seed(4)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(-99, 99)), min_size=2, max_size=15))
def test_theil_sen_is_brute_force(points: list[tuple[int, int]]) -> None:
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if a[0] != b[0]]
    found = stats.theil_sen([points])
    assert found == (pytest.approx(median(slopes)) if slopes else None)
    x, y = zip(*points, strict=True)
    if len(set(x)) == len(x):
        assert found == pytest.approx(oracle.theilslopes(y, x).slope)


def test_strata_take_level_differences_out() -> None:
    rising = [[(float(i), level + i) for i in range(j, 20, 4)] for j, level in enumerate((0, 500, -300, 90))]
    assert stats.theil_sen(rising) == pytest.approx(1.0)


def test_falling_score_is_kendalls() -> None:
    rng = random.Random(9)
    for _ in range(30):
        points = [(float(i), float(rng.randint(0, 6))) for i in range(14)]
        ours = stats.falling_score([points])
        tau = oracle.kendalltau([x for x, _ in points], [y for _, y in points], method="asymptotic")
        assert abs(ours) <= abs(oracle.norm.isf(tau.pvalue / 2)) + 1e-9
        assert ours * tau.statistic <= 0
