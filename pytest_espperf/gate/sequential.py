"""Old firmware against new in interleaved pairs, decided as soon as the answer is certain either way.

Pairs come as AB BA AB ..., A the old firmware, so that one boot may serve two neighbouring pairs. With ``d``
the difference of a pair's composites (new minus old, a log ratio, slower larger) and ``e`` the difference of
two neighbouring rounds of one firmware, both of n pairs so far::

    vd = variance of d,  ve = mean square of e               both 2 Vw where boots are alike
    s2 = max(vd, ve) + max(0, vd - ve) n / (n - 1)           boots differ: neighbours share one
    df = (n - 1) (2 + 4 min(1, ve / vd)) / 3
    E  = sqrt(1.053 s2 / n)                                  standard error of Tukey's biweight

    slower  change >  max(ln 1.02, t[1 - a_n ; df] E)        sum of a_n: the gate's part of alpha
    faster  change < -max(ln 1.02, t[1 - a_n ; df] E)
    same    change + t[1 - b ; df] E <= tolerance            b = EXCLUDED_TAIL / SAME_LOOKS
    open    none of them: another pair is needed

Figures come in steps: the clients of a board that answers them in turn end a phase together or not at all.
With ``g`` the step, what rounding may move a mean by is no more than::

    r = g exp(-2 pi2 v / g2)         v = max(0, s2 / 2 - g2 / 12), the variance of a round before rounding

(twice the bias of a rounded normal value, rounded up). It is next to nothing where rounds vary by half a
step, and a whole step where they do not vary: then pairs agree because both are rounded alike. It is added to
what the change must exceed, and to both ends of its interval; and pairs never vary by
less than rounding makes them, ``g2 / 6``.

From five pairs on, differences are pulled in to 2.5 robust standard deviations before their squares are
summed, and a disturbed pair loses its weight in the change (:mod:`pytest_espperf.gate.pairs`).

Each gate looks after each pair, ``least_pairs`` to ``most_pairs``. The chance of a false alarm is divided
among all looks of all gates, most of it for the last look (alpha spending with a union bound), and the last
look's among the profiles that are still open then: what a decided profile has not spent is theirs. This is
not exact: a profile that is open at the end is rather one that looks slower. ``ALPHA_CONTEST`` allows for it:
of 1,000 comparisons at high noise, where it matters most, 5 have a false alarm (normal values), 2 with heavy
tails or stalls, 6 where boots differ by a third of what rounds do, and 15 where they differ by as much; at
medium noise 1. "Same" needs no correction for the number of gates: each must exclude its tolerance by itself.

An e-process (Student's t with a normal prior of the effect, right Haar prior of the scale) was tried on the
same simulated pairs: it is valid at any look, and needs 9 pairs for +10 % where these boundaries need 7, 5
pairs for "same" at low noise where they need 3, and finds 5 % in 76 % of cases where they do in 91 %
(standard deviation of a round 2.2 %, one gate, 16 pairs). Without ``e`` +10 % takes 8 pairs. Differences that
are pulled in to 2.0 deviations find 5 % in 89 % of cases, not in 85 % (2.6 %, 2 % of rounds disturbed), but
have three times as many false alarms where boots differ by as much as runs do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from pytest_espperf.model.gates import MAIN_METRIC

PairWord = Literal["slower", "faster", "same", "open"]

ROBUST_FROM = 5
"""Pairs from which on one of them can be told to be disturbed."""

LEAST_VARIANCE = p.SESSION_SIGMA_FLOOR**2
"""Pairs are never taken to differ by less: a few that happen to agree prove nothing."""

MAIN_SHARE = 0.85
"""Of a profile's alpha the part of the throughput, where the board sets the pace: the steadiest gate."""

LAST_SHARE = 0.8
"""Of a gate's alpha the part of the last look, where the power for small changes is decided."""

SAME_LOOKS = 4.0
"""Looks in a row that count as this many independent ones, for "same": from simulation."""


@dataclass(frozen=True)
class PairSeries:
    """The pairs of one gate.

    Attributes:
        profile: name of the profile.
        metric: ``rps_ok``, ``p95_ms`` or another gated figure.
        pairs: (old, new) log composites, slower larger, in the order measured.
        paced: a schedule sets the pace of the profile's phases: its throughput shows nothing.
        swapped: where the firmwares run on two boards at once, of each pair whether they have changed places;
            empty for one board.
        grain: smallest step (log ratio) in which the composites can come; 0.0 for none.

    Raises:
        ValueError: ``swapped`` has another length than ``pairs``.
    """

    profile: str
    metric: str
    pairs: tuple[tuple[float, float], ...]
    paced: bool = False
    swapped: tuple[bool, ...] = ()
    grain: float = 0.0

    def __post_init__(self) -> None:
        if self.swapped and len(self.swapped) != len(self.pairs):
            raise ValueError(f"{len(self.pairs)} pairs, but {len(self.swapped)} of them have a place")

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
        tolerance: slowdown (log ratio) that "same" excludes; four times that of latencies of a closed loop.
        alpha: chance of a false "slower" of any gate at any look.

    Raises:
        ValueError: a field is out of its range.
    """

    least_pairs: int = p.MIN_PAIRS
    most_pairs: int = 16
    tolerance: float = math.log1p(p.TOLERANCE_CONTEST)
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

    def share(self, *, last: bool) -> float:
        """Return the part of alpha that a look has: the last one, or another."""
        looks = self.most_pairs - self.least_pairs + 1
        if looks == 1:
            return 1.0
        return LAST_SHARE if last else (1.0 - LAST_SHARE) / (looks - 1)


@dataclass(frozen=True)
class PairAnswer:
    """The answer of one gate after the pairs so far.

    Attributes:
        name: ``profile:metric``.
        word: the answer; ``open`` after ``most_pairs`` is inconclusive.
        change: new firmware over old, log ratio, slower larger; 0.0 without a pair.
        low, high: interval of the change (log ratios): ``high`` is what "same" excludes. Infinite with fewer
            than three pairs, or two in each place of two boards.
        pairs: how many it rests on.
        threshold: log ratio beyond which it is called slower (below its negative, faster).
        last: no more pairs may be measured.
        boards: second board over the first, log ratio, slower larger; None for one board, and before the
            firmwares have changed places.
    """

    name: str
    word: PairWord
    change: float
    low: float
    high: float
    pairs: int
    threshold: float
    last: bool = False
    boards: float | None = None

    @property
    def profile(self) -> str:
        """The gate's profile."""
        return self.name.rpartition(":")[0]


@dataclass(frozen=True)
class _Estimate:
    """A change, its standard error and the degrees of freedom of that, and what :class:`PairAnswer` has.

    ``rounding`` is what the steps of the figures may have moved the change by.
    """

    change: float
    error: float
    df: float
    rounding: float
    boards: float | None = None


def decide(series: Sequence[PairSeries], plan: PairPlan) -> dict[str, PairAnswer]:
    """Answer for each gate, by name; to be asked again after each pair.

    Args:
        series: all gates of the comparison at every look, also those that are decided and measured no more:
            they share ``alpha``.
        plan: how certain an answer has to be.
    """
    measured: dict[str, int] = {}
    for one in series:
        measured[one.profile] = max(measured.get(one.profile, 0), len(one.pairs))
    # One pair less: the last pair of all profiles may not be complete yet.
    left = sum(count >= plan.most_pairs - 1 for count in measured.values())
    answers = {}
    for one in series:
        last = measured[one.profile] >= plan.most_pairs
        profiles = left if last else len(measured)
        alpha = plan.alpha * plan.share(last=last) * _part(one, series) / profiles
        answers[one.name] = _answer(one, plan, alpha, last=last)
    faster = {answer.profile for answer in answers.values() if answer.word == "faster"}
    return {
        name: replace(answer, word="faster") if answer.profile in faster and _is_lower(answer) else answer
        for name, answer in answers.items()
    }


def _is_lower(answer: PairAnswer) -> bool:
    """Whether a gate whose slowdown is excluded is faster itself, by its interval.

    That is less certain than by its threshold, and is asked only where another gate of the profile is faster
    by that: then there is no false "faster" of a profile that this could add.
    """
    return answer.word == "same" and answer.high < -p.MIN_CHANGE_CONTEST


def _part(series: PairSeries, every: Sequence[PairSeries]) -> float:
    """Return the part of its profile's alpha that a gate has."""
    gates = [other for other in every if other.profile == series.profile]
    if len(gates) == 1 or not any(gate.metric == MAIN_METRIC and not gate.paced for gate in gates):
        return 1 / len(gates)
    return MAIN_SHARE if series.metric == MAIN_METRIC else (1 - MAIN_SHARE) / (len(gates) - 1)


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


def _answer(series: PairSeries, plan: PairPlan, alpha: float, *, last: bool) -> PairAnswer:
    pairs = series.pairs[: plan.most_pairs]
    count = len(pairs)
    differences = [new - old for old, new in pairs]
    if series.swapped:
        found = _of_two_boards(differences, series.swapped[:count], series.grain)
    else:
        found = _of_one_board(differences, pairs, series.grain) if count >= p.MIN_PAIRS else None
    if found is None:
        change = median(differences) if differences else 0.0
        return PairAnswer(series.name, "open", change, -math.inf, math.inf, count, math.inf, last=last)
    threshold = max(p.MIN_CHANGE_CONTEST, t_quantile(alpha, found.df) * found.error + found.rounding)
    reach = t_quantile(p.EXCLUDED_TAIL / SAME_LOOKS, found.df) * found.error + found.rounding
    low, high = found.change - reach, found.change + reach
    tolerance = p.tolerance_of(
        series.metric,
        math.expm1(plan.tolerance),
        paced=series.paced,
        alone=series.paced,
        tail_factor=p.TOLERANCE_TAIL_FACTOR_CONTEST,
    )
    word: PairWord = "open"
    if count >= plan.least_pairs:
        if abs(found.change) > threshold:
            word = "slower" if found.change > 0 else "faster"
        elif high <= tolerance:
            word = "same"
    return PairAnswer(
        series.name, word, found.change, low, high, count, threshold, last=last, boards=found.boards
    )


def _rounding(spread: float, grain: float) -> float:
    """Bound what steps of the figures can move a mean difference by, for pairs with a variance."""
    if grain <= 0:
        return 0.0
    unrounded = max(0.0, spread / 2 - grain**2 / 12)
    return grain * math.exp(-2 * math.pi**2 * unrounded / grain**2)


def _of_one_board(
    differences: Sequence[float], pairs: Sequence[tuple[float, float]], grain: float
) -> _Estimate:
    """Estimate the change from three pairs or more of one board."""
    count = len(pairs)
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
    least = max(LEAST_VARIANCE, grain**2 / 6)
    apart, within = max(apart, least), max(within, least)
    spread = max(apart, within) + max(0.0, apart - within) * count / (count - 1)
    return _Estimate(
        change=biweight(differences, math.sqrt(spread)) if robust else fmean(differences),
        error=math.sqrt((BIWEIGHT_VARIANCE if robust else 1.0) * spread / count),
        # In whole tenths, downwards: quantiles are kept.
        df=math.floor((count - 1) * (20 + 40 * min(1.0, within / apart)) / 3) / 10,
        rounding=_rounding(max(apart, within), grain),
    )


def _of_two_boards(differences: Sequence[float], swapped: Sequence[bool], grain: float) -> _Estimate | None:
    """Estimate the change from pairs measured at once; None with fewer than two pairs in one of the places.

    Half the difference of the two places' means is what the boards differ by, and leaves with it. The rounds
    of a pair share what happens around them, so that only differences tell how much they vary.
    """
    count = len(differences)
    straight = [value for value, flag in zip(differences, swapped, strict=True) if not flag]
    crossed = [value for value, flag in zip(differences, swapped, strict=True) if flag]
    if min(len(straight), len(crossed)) < 2:
        return None
    least = max(LEAST_VARIANCE, grain**2 / 6)
    off = [value - median(place) for place in (straight, crossed) for value in place]
    if count > ROBUST_FROM:
        apart = variance_within(off, PULLED_IN * mad_to_sigma(count) * mad(off)) * (count - 1) / (count - 2)
        apart = max(apart, least)
        scale = math.sqrt(apart)
        here, there = biweight(straight, scale), biweight(crossed, scale)
        factor = BIWEIGHT_VARIANCE
    else:
        here, there = fmean(straight), fmean(crossed)
        freedom = count - 2
        apart = ((len(straight) - 1) * variance(straight) + (len(crossed) - 1) * variance(crossed)) / freedom
        apart, factor = max(apart, least), 1.0
    spread = factor * apart * (1 / len(straight) + 1 / len(crossed)) / 4
    return _Estimate(
        (here + there) / 2, math.sqrt(spread), count - 2, _rounding(apart, grain), (here - there) / 2
    )
