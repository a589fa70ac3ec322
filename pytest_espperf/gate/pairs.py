"""Confirmation C: what interleaved pairs of rounds, old firmware against new, say about a suspect gate.

With ``D`` the difference of a pair's composites (a log ratio, slower larger), k pairs, and a variance that
is pooled from three sources, each weighted by its degrees of freedom (Smyth 2004, "moderated t")::

    s2 = [d0 2 Vw + (R - 1) 2 Vn + (k - 1) s_D^2] / (d0 + R - 1 + k - 1)
    T  = max(ln 1.035, t[1 - alpha ; d0 + R - 1 + k - 1] sqrt(1.053 s2 / k))

``Vw`` is the variance between rounds in the history, ``Vn`` the same of this session's R planned rounds,
``s_D^2`` that of the pairs themselves, pulled in to 2.5 standard deviations. The history, however long,
counts as much as today does, ``d0 = R - 1 + k - 1`` at most: today's noise may be another one.

The pairs' difference is Tukey's biweight: its scale rests on many rounds, so that a pair that something
else disturbed can be told, and loses its weight instead of moving the estimate and widening the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

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
)

PULLED_IN = 2.5
"""Standard deviations beyond which a pair adds no more to the variance."""


@dataclass(frozen=True)
class PairsResult:
    """What the pairs of one gate say.

    Attributes:
        change: new firmware over old, log ratio, slower larger.
        threshold: log ratio above which it is called a regression.
    """

    change: float
    threshold: float

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
    robust = (count - 1, (mad_to_sigma(count) * mad(differences)) ** 2)
    scale = math.sqrt(_pooled([*known, robust])[1])
    centre = median(differences)
    reach = PULLED_IN * scale
    own = variance([min(max(value, centre - reach), centre + reach) for value in differences])
    df, pooled = _pooled([*known, (count - 1, own)])
    error = math.sqrt(BIWEIGHT_VARIANCE * pooled / count)
    return PairsResult(
        change=biweight(differences, scale),
        threshold=max(p.MIN_CHANGE_PAIRS, t_quantile(alpha, df) * error),
    )


def pairs_result(series: Series, noise: Noise) -> PairsResult:
    """What the pairs of a gate say, with the noise of its history and of the session's planned rounds."""
    differences = [new - old for old, new in series.pairs]
    today = len(series.now) - 1
    history = min(noise.history.within_df, today + len(differences) - 1)
    known = [
        (history, 2 * noise.history.within),
        (today, 2 * (round_variance([series.now]) or 0.0)),
    ]
    return compare_pairs(differences, known, noise.pairs_alpha)
