"""Several values of a knob, measured in interleaved rounds: which is the best, and which might be.

A round measures every value once, so that what changes with time is common to a round's values (blocks). With
K values, R rounds, and ``x`` a round's composite (log, slower larger)::

    s2   = mean square of x without the medians of its value and round, (K - 1)(R - 1) degrees of freedom
    d    = Tukey's biweight of the R differences of two values
    reach = max(ln 1.02, t[1 - alpha / (K - 1) ; (K - 1)(R - 1)] sqrt(2 1.053 s2 / R))

The value with the least composite looks best. A value is *worse* where its difference to it is beyond the
reach, else it is *alike*: it may be the best. This is Hsu's multiple comparison with the best (1984): a true
best is called worse with a chance of ``alpha`` at most, whatever the number of values. A round that something
else disturbed loses its weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.pairs import PULLED_IN
from pytest_espperf.gate.stats import BIWEIGHT_VARIANCE, MAD_TO_SIGMA, biweight, t_quantile

RankWord = Literal["best", "alike", "worse"]

LEAST_ROUNDS = 3
"""Rounds below which nothing is ranked."""


@dataclass(frozen=True)
class Rank:
    """One value of the knob.

    Attributes:
        value: as it was given.
        word: ``best``: the least composite; ``alike``: cannot be distinguished from it; ``worse``.
        change: against the best, log ratio, slower larger; 0.0 of the best.
        low, high: simultaneous interval of the change; both 0.0 of the best.
    """

    value: str
    word: RankWord
    change: float
    low: float
    high: float


@dataclass(frozen=True)
class Ranking:
    """The values of a knob, the fastest first.

    Attributes:
        ranks: of each value.
        rounds: how many it rests on.
        reach: difference (log ratio) from which on two values can be distinguished.
        apart: pairs of worse values, neighbours in the order, that can be distinguished from each other.
    """

    ranks: tuple[Rank, ...]
    rounds: int
    reach: float
    apart: tuple[tuple[str, str], ...] = ()

    @property
    def best(self) -> str:
        """The value that looks best."""
        return self.ranks[0].value

    @property
    def candidates(self) -> tuple[str, ...]:
        """The values that may be the best."""
        return tuple(rank.value for rank in self.ranks if rank.word != "worse")

    @property
    def sentence(self) -> str:
        """The answer: "6 is best; 4 is 8 % slower, 8 is 9 % slower; 4 and 8 cannot be distinguished"."""
        worse = [rank for rank in self.ranks if rank.word == "worse"]
        names = self.candidates
        if not worse:
            limit = f"a difference of {_pct(self.reach)} would show"
            return f"{_listed(names)} cannot be distinguished: {limit}"
        if len(names) == 1:
            parts = [f"{self.best} is best"]
        else:
            parts = [f"{self.best} looks best, and cannot be distinguished from {_listed(names[1:])}"]
        parts.append(", ".join(f"{rank.value} is {_pct(rank.change)} slower" for rank in worse))
        parts += [f"{_listed(group)} cannot be distinguished" for group in self._groups(worse)]
        return "; ".join(parts)

    def _groups(self, worse: Sequence[Rank]) -> list[list[str]]:
        """Group worse values that follow each other and cannot be distinguished; groups of two or more."""
        groups: list[list[str]] = []
        for rank in worse:
            if groups and (groups[-1][-1], rank.value) not in self.apart:
                groups[-1].append(rank.value)
            else:
                groups.append([rank.value])
        return [group for group in groups if len(group) > 1]


def _pct(log_ratio: float) -> str:
    """Say a log ratio in percent, with a digit behind the point below ten."""
    percent = 100.0 * math.expm1(log_ratio)
    return f"{percent:.1f} %" if abs(percent) < 10 else f"{percent:.0f} %"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def rank_values(rounds: Mapping[str, Sequence[float]], alpha: float = 0.05) -> Ranking:
    """Rank the values of a knob.

    Args:
        rounds: value -> its composites (log, slower larger), one of each round, in the same order for all.
        alpha: chance that a best value is called worse.

    Raises:
        ValueError: there are fewer than two values or three rounds, a value lacks a round, or a composite is
            not a number.
    """
    names = list(rounds)
    if len(names) < 2:
        raise ValueError(f"two values or more can be compared, not {len(names)}")
    count = len(rounds[names[0]])
    if any(len(measured) != count for measured in rounds.values()):
        counts = ", ".join(f"{name}: {len(measured)}" for name, measured in rounds.items())
        raise ValueError(f"each value needs the same rounds, not {counts}")
    if count < LEAST_ROUNDS:
        raise ValueError(f"{LEAST_ROUNDS} rounds or more can be compared, not {count}")
    if not all(math.isfinite(value) for measured in rounds.values() for value in measured):
        raise ValueError("a composite is not a number")
    df = (len(names) - 1) * (count - 1)
    scale = math.sqrt(2 * _spread(list(rounds.values()), df))
    reach = max(
        p.MIN_CHANGE_CONTEST,
        t_quantile(alpha / (len(names) - 1), df) * scale * math.sqrt(BIWEIGHT_VARIANCE / count),
    )

    def beyond(name: str, other: str) -> float:
        pairs = zip(rounds[name], rounds[other], strict=True)
        return biweight([mine - its for mine, its in pairs], scale)

    names.sort(key=lambda name: median(beyond(name, other) for other in rounds if other != name))
    best = names[0]
    ranks = [Rank(best, "best", 0.0, 0.0, 0.0)]
    for name in names[1:]:
        change = beyond(name, best)
        word: RankWord = "worse" if change > reach else "alike"
        ranks.append(Rank(name, word, change, change - reach, change + reach))
    ranks[1:] = sorted(ranks[1:], key=lambda rank: rank.change)
    worse = [rank.value for rank in ranks if rank.word == "worse"]
    apart = tuple((name, other) for name, other in pairwise(worse) if abs(beyond(other, name)) > reach)
    return Ranking(tuple(ranks), count, reach, apart)


def _spread(table: Sequence[Sequence[float]], df: int) -> float:
    """Variance of a composite without the effects of its value and its round (median polish)."""
    left = [list(row) for row in table]
    for _ in range(10):
        for place in range(len(left[0])):
            centre = median(row[place] for row in left)
            for row in left:
                row[place] -= centre
        for row in left:
            centre = median(row)
            row[:] = [value - centre for value in row]
    off = sorted(abs(value) for row in left for value in row)
    # Medians leave (K - 1)(R - 1) values free: as many of the smallest are about zero by construction.
    free = off[len(off) - df :]
    reach = PULLED_IN * max(MAD_TO_SIGMA * median(free), p.SESSION_SIGMA_FLOOR)
    squares = math.fsum(min(value, reach) ** 2 for value in free)
    return max(squares / df, p.SESSION_SIGMA_FLOOR**2)
