"""Confirmation C: interleaved pairs of rounds, old firmware against new, decide a suspect gate.

With ``D`` the difference of a pair's composites (a log ratio, slower larger), k pairs, and a variance that
is pooled from three sources, each weighted by its degrees of freedom (Smyth 2004, "moderated t")::

    s2 = [d0 2 Vw + (R - 1) 2 Vn + (k - 1) s_D^2] / (d0 + R - 1 + k - 1)
    T  = max(ln 1.035, t[1 - alpha ; d0 + R - 1 + k - 1] sqrt(1.053 s2 / k))

``Vw`` is the variance between rounds in the history, ``Vn`` the same of this session's R planned rounds,
``s_D^2`` that of the pairs themselves, pulled in to 2.5 standard deviations. The history, however long,
counts as much as today does, ``d0 = R - 1 + k - 1`` at most: today's noise may be another one.

Between the two firmwares lie a flash, a boot, a new Wi-Fi association: pairs may differ by more than rounds
of one boot do. Where the variance of the four nearest to their median (others may be disturbed) says 4 times
what the rounds say (98 % of the time it says less), they do, and stand by themselves, with k - 1
degrees of freedom. One boot serves two neighbouring pairs (AB BA AB ...), so
that what lies above the rounds' part is worth 2.2 times as much in the mean of all as in one of them.

The pairs' difference is Tukey's biweight: its scale rests on many rounds, so that a pair that something
else disturbed can be told, and loses its weight instead of moving the estimate and widening the threshold.
The chance of a false alarm is the gate's part of ALPHA_PAIRS, in proportion to ``1 / Vw``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.noise import Noise
from pytest_espperf.gate.series import Series
from pytest_espperf.gate.stats import (
    BIWEIGHT_VARIANCE,
    biweight,
    mad,
    mad_to_sigma,
    round_variance,
    t_quantile,
    variance,
    variance_of_nearest,
    variance_within,
)

PULLED_IN = 2.5
"""Standard deviations beyond which a pair adds no more to the variance."""

UNLIKE = 4.0
"""Times the rounds' variance above which pairs are another kind of thing (98 % of equal ones are below)."""

SHARED_BOOTS = 2.2
"""Variance of the mean of AB BA AB ... due to boots, over a sixth of what six pairs show of it: .61 / .28."""


@dataclass(frozen=True)
class PairsResult:
    """Result of the pairs of one gate.

    Attributes:
        change: new firmware over old, log ratio, slower larger.
        threshold: log ratio above which it is called a regression.
        at_most: a slowdown of more than this log ratio is excluded (one-sided, 95 %).
    """

    change: float
    threshold: float
    at_most: float

    @property
    def slower(self) -> bool:
        """Whether the new firmware is the slower one, beyond the noise."""
        return self.change > self.threshold


def _pooled(sources: Sequence[tuple[int, float]]) -> tuple[int, float]:
    """Degrees of freedom and variance of several ``(df, variance)``."""
    df = sum(count for count, _ in sources)
    return df, (sum(count * value for count, value in sources) / df if df else 0.0)


def compare_pairs(
    differences: Sequence[float], known: Sequence[tuple[int, float]], alpha: float
) -> PairsResult:
    """Judge the differences of A/B pairs.

    Args:
        differences: new minus old, log composites; three or more.
        known: ``(degrees of freedom, variance of a difference)`` from elsewhere.
        alpha: chance of a false alarm that this gate has.
    """
    count = len(differences)
    freedom, rounds = _pooled(known)
    robust = (count - 1, (mad_to_sigma(count) * mad(differences)) ** 2)
    if freedom >= count - 1:  # else there is no scale that a wild pair could be told by
        own = variance_within(differences, PULLED_IN * math.sqrt(_pooled([*known, robust])[1]))
    else:
        own = variance(differences)
    df, pooled = _pooled([*known, (count - 1, own)])
    scale = math.sqrt(pooled)
    spread = variance_of_nearest(differences)
    if freedom == 0 or spread > UNLIKE * rounds:
        own = max(own, spread)
        df, scale = count - 1, math.sqrt(own)
        pooled = own if freedom == 0 else rounds + SHARED_BOOTS * (own - rounds)
    error = math.sqrt(BIWEIGHT_VARIANCE * pooled / count)
    change = biweight(differences, scale)
    return PairsResult(
        change=change,
        threshold=max(p.MIN_CHANGE_PAIRS, t_quantile(alpha, df) * error),
        at_most=change + t_quantile(p.EXCLUDED_TAIL, df) * error,
    )


def pairs_result(series: Series, noise: Noise) -> PairsResult:
    """Judge the pairs of a gate, with the noise of its history and of the session's planned rounds."""
    differences = [new - old for old, new in series.pairs]
    today = len(series.now) - 1
    history = min(noise.history.within_df, today + len(differences) - 1)
    known = [
        (history, 2 * noise.history.within),
        (today, 2 * (round_variance([series.now]) or 0.0)),
    ]
    return compare_pairs(differences, known, noise.pairs_alpha)
