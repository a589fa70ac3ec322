"""The statistics the gate stands on: pure functions of numbers, no run-time dependency.

Sources: Student's t by the regularised incomplete beta function, continued fraction of Lentz
(Press et al., *Numerical Recipes*, 6.4); the variance of a sample median of normal values by
numerical integration of its order statistics (David and Nagaraja, *Order Statistics*, ch. 3);
winsorising and MAD (Huber, *Robust Statistics*), its small-sample factors (Croux and Rousseeuw 1992);
Theil-Sen slope within strata (Hirsch, Slack and Smith 1982, "seasonal Kendall slope").
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from statistics import median

MAD_TO_SIGMA = 1.4826
"""Factor from the median absolute deviation to the standard deviation of a normal distribution."""

_POOLED_REACH = 2.0
_POOLED = {
    2: (2.097, 0.991),
    3: (1.450, 0.858),
    4: (2.056, 0.898),
    5: (1.459, 0.886),
    6: (1.901, 0.901),
    7: (1.464, 0.896),
    8: (1.779, 0.901),
    9: (1.469, 0.901),
    10: (1.702, 0.907),
    11: (1.471, 0.905),
    12: (1.657, 0.908),
}
"""Rounds -> factor from the median deviation from their median, pooled over sessions, to their standard
deviation, and the share of their squares that stays when they are pulled in to _POOLED_REACH of it; both for
normal values, from simulation."""

_NEAREST = {4: 0.363, 5: 0.474, 6: 0.277, 7: 0.339, 8: 0.386, 9: 0.281, 10: 0.320, 11: 0.354, 12: 0.281}
_MAD_SMALL = (1.0, 1.196, 1.495, 1.363, 1.206, 1.200, 1.140, 1.129, 1.107)

NINE_IN_TEN = 1.2815515655446004
"""90 % quantile of the standard normal distribution."""

_MEDIAN_VARIANCE = (
    1.0,
    0.5,
    0.44867,
    0.29824,
    0.28683,
    0.21473,
    0.21045,
    0.16822,
    0.16610,
    0.13833,
    0.13716,
    0.11748,
)
BIWEIGHT_VARIANCE = 1.053
"""Variance of :func:`biweight` of normal values times their number, as a share of one value's: 1 / 0.95."""

_BIWEIGHT_REACH = 4.685
_BIWEIGHT_STEPS = 50
_CF_STEPS = 300
_CF_EPS = 3e-16
_TINY = 1e-300


def median_variance(count: int) -> float:
    """Variance of the median of ``count`` independent values, as a share of one value's variance.

    Exact (5 digits) for normal values up to 12, from there ``pi / (2 n + a)`` with the offset that
    continues the table (relative error below 0.5 %).

    Raises:
        ValueError: ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"a median needs at least one value, not {count}")
    if count <= len(_MEDIAN_VARIANCE):
        return _MEDIAN_VARIANCE[count - 1]
    offset = 0.9 if count % 2 else 2.75
    return math.pi / (2 * count + offset)


def variance(values: Sequence[float]) -> float:
    """Sample variance (n - 1); 0.0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def biweight(values: Sequence[float], scale: float) -> float:
    """Tukey's biweight: a location that gives no weight to values 4.685 scales or more away.

    Iterated from the median (Beaton and Tukey 1974); 95 % as sharp as the mean for normal values. For a
    scale of 0.0 it is the median.

    Args:
        values: at least one.
        scale: standard deviation of a value, known from elsewhere.
    """
    centre = median(values)
    reach = _BIWEIGHT_REACH * scale
    if reach <= 0:
        return centre
    for _ in range(_BIWEIGHT_STEPS):
        away = [abs(value - centre) / reach for value in values]
        weights = [(1.0 - u * u) ** 2 if u < 1.0 else 0.0 for u in away]
        total = math.fsum(weights)
        if total == 0.0:
            return centre
        moved = math.fsum(w * value for w, value in zip(weights, values, strict=True)) / total
        if abs(moved - centre) < 1e-9 * reach:
            return moved
        centre = moved
    return centre


def variance_of_nearest(values: Sequence[float]) -> float:
    """Sample variance of the values but the third farthest from their median, unbiased for normal values.

    Larger where all values spread, and not where some of them do. For fewer than four values it is
    :func:`variance`: of three nothing can be left out. The factors are from simulation (within 2 %).
    """
    count = len(values)
    if count < 4:
        return variance(values)
    centre = median(values)
    kept = sorted(values, key=lambda value: abs(value - centre))[: count - max(1, count // 3)]
    return variance(kept) / _NEAREST.get(count, 0.3)


def mad_to_sigma(count: int) -> float:
    """Factor from the MAD of ``count`` normal values to their standard deviation, unbiased for few of them.

    Without it three robust standard deviations of six values are two and a half, and winsorising takes from
    the variance what belongs to it.

    Raises:
        ValueError: ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"a deviation needs at least one value, not {count}")
    small = _MAD_SMALL[count - 1] if count <= len(_MAD_SMALL) else count / (count - 0.8)
    return MAD_TO_SIGMA * small


def mad(values: Sequence[float]) -> float:
    """Median absolute deviation from the median, in the unit of the values."""
    centre = median(values)
    return median(abs(value - centre) for value in values)


def variance_within(values: Sequence[float], reach: float) -> float:
    """Sample variance after pulling values in to ``reach`` of their median; 0.0 for fewer than two."""
    if len(values) < 2:
        return 0.0
    centre = median(values)
    return variance([min(max(value, centre - reach), centre + reach) for value in values])


def winsorised_variance(values: Sequence[float], limit: float = 3.0) -> float:
    """Sample variance after pulling values in to ``limit`` robust standard deviations (MAD) of the median."""
    if len(values) < 2:
        return 0.0
    return variance_within(values, limit * mad_to_sigma(len(values)) * mad(values))


def round_variance(sessions: Sequence[Sequence[float]]) -> float | None:
    """Variance between the rounds of a session, pooled over sessions; None where none has two rounds.

    Deviations are from each session's median, pulled in to two robust standard deviations (MAD of all of
    them) and the loss made up for: a session's value is a median, which a disturbed round does not move,
    and so its variance must not be blown up by one either (at three, 4 % of disturbed rounds add a third).
    Squares about the median of n values add up to ``n - 2 + n C_n`` variances, more than the n - 1 of those
    about the mean (C_n: :func:`median_variance`).
    """
    several = [sorted(rounds) for rounds in sessions if len(rounds) > 1]
    if not several:
        return None
    off = [[value - median(one) for value in one] for one in several]
    # The median round of an odd number is 0 from itself, and says nothing of how far others are. Sessions may
    # have different numbers of rounds: each deviation is scaled by the factor of its own session's number.
    pooled = [_POOLED.get(len(one), (1.56, 0.91)) for one in several]
    scaled = [
        abs(value) * factor
        for one, (factor, _) in zip(off, pooled, strict=True)
        for i, value in enumerate(one)
        if len(one) % 2 == 0 or i != len(one) // 2
    ]
    reach = _POOLED_REACH * median(scaled)
    freedom = math.fsum(
        kept * (len(one) * (1 + median_variance(len(one))) - 2)
        for one, (_, kept) in zip(several, pooled, strict=True)
    )
    return math.fsum(min(abs(value), reach) ** 2 for one in off for value in one) / freedom


def quiet_variance(sessions: Iterable[Sequence[float]], prior: float, prior_df: float) -> float:
    """Variance between rounds from the rounds *below* their session's median alone, pooled with a prior.

    What disturbs a round makes it slower, so that the lower half does not see it. Half of the squares about
    the median of n normal values add up to ``(n - 2 + n C_n) / 2`` variances.

    Args:
        sessions: the rounds' values (log, slower larger) of each session.
        prior: a variance.
        prior_df: how many degrees of freedom it is worth, above 0.
    """
    squares, freedom = prior_df * prior, prior_df
    for rounds in sessions:
        if len(rounds) > 1:
            centre = median(rounds)
            squares += math.fsum((centre - value) ** 2 for value in rounds if value < centre)
            freedom += (len(rounds) * (1 + median_variance(len(rounds))) - 2) / 2
    return squares / freedom


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Continued fraction of the incomplete beta function (modified Lentz)."""
    c = 1.0
    d = 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > _TINY else _TINY)
    h = d
    for m in range(1, _CF_STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        step = 1.0
        for term in (even, odd):
            d = 1.0 + term * d
            d = 1.0 / (d if abs(d) > _TINY else _TINY)
            c = 1.0 + term / c
            c = c if abs(c) > _TINY else _TINY
            step = c * d
            h *= step
        if abs(step - 1.0) < _CF_EPS:
            break
    return h


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function ``I_x(a, b)`` for ``a, b > 0`` and ``0 <= x <= 1``."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    front = math.exp(log_front)
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _beta_fraction(a, b, x) / a
    return 1.0 - front * _beta_fraction(b, a, 1.0 - x) / b


def t_upper_tail(t: float, df: float) -> float:
    """Probability that Student's t with ``df`` degrees of freedom exceeds ``t``."""
    tail = 0.5 * incomplete_beta(df / 2.0, 0.5, df / (df + t * t))
    return tail if t >= 0 else 1.0 - tail


@lru_cache(maxsize=8192)
def t_quantile(tail: float, df: float) -> float:
    """Return the value that Student's t with ``df`` degrees of freedom exceeds with probability ``tail``.

    Raises:
        ValueError: ``tail`` is not in (0, 0.5], or ``df`` is not positive.
    """
    if not 0.0 < tail <= 0.5:
        raise ValueError(f"the tail probability must be in (0, 0.5], not {tail}")
    if df <= 0:
        raise ValueError(f"degrees of freedom must be positive, not {df}")
    low, high = 0.0, 1.0
    while t_upper_tail(high, df) > tail:
        low, high = high, high * 2.0
    while high - low > 1e-12 * max(1.0, high):
        middle = 0.5 * (low + high)
        if t_upper_tail(middle, df) > tail:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def pair_slopes(points: Sequence[tuple[float, float]]) -> list[float]:
    """Slopes of all pairs of points ``(x, y)`` with different x."""
    return [
        (y2 - y1) / (x2 - x1) for i, (x1, y1) in enumerate(points) for x2, y2 in points[i + 1 :] if x2 != x1
    ]


def theil_sen(strata: Iterable[Sequence[tuple[float, float]]]) -> float | None:
    """Median slope of all pairs of points of the same stratum; None where no stratum has a pair.

    One stratum is the plain Theil-Sen slope; several take differences in level between them out.
    """
    slopes = [slope for points in strata for slope in pair_slopes(points)]
    return median(slopes) if slopes else None


def falling_score(strata: Iterable[Sequence[tuple[float, float]]]) -> float:
    """Seasonal Kendall z of a falling trend: ``(S - 1) / sqrt(var S)``, large where y falls with x.

    Strata are independent; ties of y are taken out of the variance as in Hirsch, Slack and Smith.
    0.0 where nothing can be said.
    """
    score = 0
    spread = 0.0
    for points in strata:
        ys = [y for _, y in sorted(points)]
        n = len(ys)
        score += sum((a > b) - (a < b) for i, a in enumerate(ys) for b in ys[i + 1 :])
        ties = (ys.count(y) for y in set(ys))
        spread += n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)
    if spread <= 0 or score == 0:
        return 0.0
    return (score - math.copysign(1, score)) / math.sqrt(spread / 18.0)
