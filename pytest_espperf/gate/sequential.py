"""Old firmware against new in interleaved pairs, decided as soon as the answer is certain either way.

Pairs come as AB BA AB ..., A the old firmware, so that one boot may serve two neighbouring pairs. With ``d``
the difference of a pair's composites (new minus old, a log ratio, slower larger) and ``e`` the difference of
two neighbouring rounds of one firmware, both of n pairs so far::

    vd = variance of d,  ve = mean square of e              both 2 Vw where boots are alike
    s2 = vd + (vd - ve) n / (n - 1)     where vd > ve:  boots differ, and neighbours share one
         (vd + ve) / 2                  else
    df = (n - 1) (2 + 4 min(1, ve / vd)) / 3
    E  = sqrt(1.053 s2 / n)                                 standard error of Tukey's biweight

    slower  change >  max(ln 1.035, t[1 - a ; df] E)        a = alpha / (gates x looks)
    faster  change < -max(ln 1.035, t[1 - a ; df] E)
    same    change + t[1 - b ; df] E <= tolerance           b = EXCLUDED_TAIL / SAME_LOOKS
    open    none of them: another pair is needed

Each gate looks at the pairs after each of them, ``least_pairs`` to ``most_pairs``. The chance of a false
alarm is divided among all looks of all gates (a union bound, whatever depends on what). "Same" needs no
correction for the number of gates: each gate must exclude its tolerance by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.pairs import PULLED_IN
from pytest_espperf.gate.stats import (
    BIWEIGHT_VARIANCE,
    MAD_TO_SIGMA,
    biweight,
    mad,
    mad_to_sigma,
    t_quantile,
    variance,
    variance_within,
)

PairWord = Literal["slower", "faster", "same", "open"]

ROBUST_FROM = 5
"""Pairs from which on one of them can be told to be disturbed."""

LEAST_VARIANCE = p.SESSION_SIGMA_FLOOR**2
"""Pairs are never taken to differ by less: a few that happen to agree prove nothing."""

SAME_LOOKS = 5.0
"""Looks in a row that count as this many independent ones, for "same": from simulation."""


@dataclass(frozen=True)
class PairSeries:
    """The pairs of one gate.

    Attributes:
        profile: name of the profile.
        metric: ``rps_ok``, ``p95_ms`` or another gated figure.
        pairs: (old, new) log composites, slower larger, in the order measured.
        paced: a schedule sets the pace of the profile's phases: its throughput shows nothing.
    """

    profile: str
    metric: str
    pairs: tuple[tuple[float, float], ...]
    paced: bool = False

    @property
    def name(self) -> str:
        """``profile:metric``."""
        return f"{self.profile}:{self.metric}"


@dataclass(frozen=True)
class PairPlan:
    """How many pairs may be measured, and how certain the answer has to be.

    Attributes:
        least_pairs: pairs before which nothing is decided; 3 or more.
        most_pairs: pairs after which a gate that is still open is inconclusive.
        tolerance: slowdown (log ratio) that "same" excludes; twice that for latencies of a closed loop.
        alpha: chance of a false "slower" of any gate at any look.

    Raises:
        ValueError: a field is out of its range.
    """

    least_pairs: int = p.MIN_PAIRS
    most_pairs: int = 16
    tolerance: float = p.TOLERANCE_CONTEST
    alpha: float = p.ALPHA_CONTEST

    def __post_init__(self) -> None:
        if self.least_pairs < p.MIN_PAIRS:
            raise ValueError(f"nothing is decided by fewer than {p.MIN_PAIRS} pairs, not {self.least_pairs}")
        if self.most_pairs < self.least_pairs:
            raise ValueError(f"most_pairs must be at least {self.least_pairs}, not {self.most_pairs}")
        if not (math.isfinite(self.tolerance) and self.tolerance > 0):
            raise ValueError(f"the tolerance must be a log ratio above 0, not {self.tolerance:g}")
        if not 0 < self.alpha < 0.5:
            raise ValueError(f"alpha must be between 0 and 0.5, not {self.alpha:g}")

    @property
    def looks(self) -> int:
        """How many times each gate is looked at."""
        return self.most_pairs - self.least_pairs + 1


@dataclass(frozen=True)
class PairAnswer:
    """The answer of one gate after the pairs so far.

    Attributes:
        name: ``profile:metric``.
        word: the answer; ``open`` after ``most_pairs`` is inconclusive.
        change: new firmware over old, log ratio, slower larger; 0.0 without a pair.
        low, high: interval of the change (log ratios): ``high`` is what "same" excludes. Infinite with fewer
            than three pairs.
        pairs: how many it rests on.
        threshold: log ratio beyond which it is called slower (below its negative, faster).
        last: no more pairs may be measured.
    """

    name: str
    word: PairWord
    change: float
    low: float
    high: float
    pairs: int
    threshold: float
    last: bool = False

    @property
    def profile(self) -> str:
        """The gate's profile."""
        return self.name.rpartition(":")[0]


@dataclass(frozen=True)
class _Estimate:
    change: float
    error: float
    df: float


def decide(series: Sequence[PairSeries], plan: PairPlan) -> dict[str, PairAnswer]:
    """Answer for each gate, by name; to be asked again after each pair.

    Args:
        series: all gates of the comparison at every look, also those that are decided and measured no more:
            they share ``alpha``.
        plan: how certain an answer has to be.
    """
    alpha = plan.alpha / (max(1, len(series)) * plan.looks)
    return {one.name: _answer(one, plan, alpha) for one in series}


def open_profiles(answers: Mapping[str, PairAnswer]) -> list[str]:
    """List the profiles that have to be measured on, in the order of the answers.

    A profile with a slower gate is decided. One with a faster gate is not before all of its gates are.
    """
    by_profile: dict[str, list[PairAnswer]] = {}
    for answer in answers.values():
        by_profile.setdefault(answer.profile, []).append(answer)
    return [name for name, found in by_profile.items() if _is_open(found)]


def _is_open(answers: Iterable[PairAnswer]) -> bool:
    words = {answer.word: answer.last for answer in answers}
    return "slower" not in words and words.get("open") is False


def _answer(series: PairSeries, plan: PairPlan, alpha: float) -> PairAnswer:
    count = len(series.pairs)
    last = count >= plan.most_pairs
    if count < p.MIN_PAIRS:
        change = median(new - old for old, new in series.pairs) if count else 0.0
        return PairAnswer(series.name, "open", change, -math.inf, math.inf, count, math.inf, last)
    found = _estimate(series.pairs)
    threshold = max(p.MIN_CHANGE_PAIRS, t_quantile(alpha, found.df) * found.error)
    reach = t_quantile(p.EXCLUDED_TAIL / SAME_LOOKS, found.df) * found.error
    tolerance = p.tolerance_of(
        series.metric, math.expm1(plan.tolerance), paced=series.paced, alone=series.paced
    )
    word: PairWord = "open"
    if count >= plan.least_pairs:
        if abs(found.change) > threshold:
            word = "slower" if found.change > 0 else "faster"
        elif found.change + reach <= tolerance:
            word = "same"
    return PairAnswer(
        series.name, word, found.change, found.change - reach, found.change + reach, count, threshold, last
    )


def _estimate(pairs: Sequence[tuple[float, float]]) -> _Estimate:
    """Estimate the change, its standard error and the error's degrees of freedom; three pairs or more."""
    count = len(pairs)
    differences = [new - old for old, new in pairs]
    # Pair 1 ends and pair 2 begins with the new firmware, pair 2 ends and pair 3 begins with the old one.
    repeats = [pairs[i + 1][1 - i % 2] - pairs[i][1 - i % 2] for i in range(count - 1)]
    robust = count >= ROBUST_FROM
    if robust:
        own = mad_to_sigma(count) * mad(differences)
        alike = MAD_TO_SIGMA * median(abs(value) for value in repeats)
        reach = PULLED_IN * max(own, math.sqrt((own**2 + alike**2) / 2))
        apart = variance_within(differences, reach)
        within = fmean(min(abs(value), reach) ** 2 for value in repeats)
    else:
        apart = variance(differences)
        within = fmean(value**2 for value in repeats)
    apart, within = max(apart, LEAST_VARIANCE), max(within, LEAST_VARIANCE)
    spread = apart + (apart - within) * count / (count - 1) if apart > within else (apart + within) / 2
    df = (count - 1) * (2 + 4 * min(1.0, within / apart)) / 3
    return _Estimate(
        change=biweight(differences, math.sqrt(spread)) if robust else fmean(differences),
        error=math.sqrt((BIWEIGHT_VARIANCE if robust else 1.0) * spread / count),
        df=df,
    )
