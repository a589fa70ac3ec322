"""Where the level of a gate changed: steps in a series of sessions.

Binary segmentation (Scott and Knott 1974) with Student's t of the two sides' means: of a stretch of sessions,
each split that leaves three sessions on either side is tried, and the stretch is cut at the best one if::

    p = splits x 2 P(T > |t|)  <  LEVEL  and  |change| >= ln 1.03

(Bonferroni over the splits of the stretch.) Both sides are cut further. Then each step is tried again between
its neighbours, the most doubtful first: it may move, and goes if it is none. Cutting takes the noise from the
median difference of neighbours, which steps elsewhere do not move; a step that stays stands out from how the
sessions of its two sides move about their means.

Before, a session that lies farther than three standard deviations from the median of its neighbours is pulled
in to that distance: one odd session is no step, and does not hide one. Sessions that follow each other are
often alike (the room, the radio): the variance of a mean grows with their correlation r by (1 + r) / (1 - r).

Why not a library: Otava's E-divisive needs scipy and numpy, takes random permutations, and does not see a
step with three sessions behind it; ruptures needs them too and wants the penalty, which is the question
asked here. A series has a few hundred values, so that every split can be tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.stats import MAD_TO_SIGMA, t_upper_tail

LEVEL = 0.02
"""Chance of a step in a stretch without one: of normal values, and other ones have tails."""

SIDE = 3
"""Sessions on either side of a step, at least."""

NEIGHBOURS = 3
"""Sessions before and after one that it is compared with."""

PULLED_IN = 3.0
"""Standard deviations from its neighbours' median to which an odd session is pulled in."""

TIE = 1.0
"""Squares, in variances, by which a split may fit worse than the best one and yet be the step."""

_MOST_CORRELATION = 0.8

_Spread = Callable[[Sequence[float], Sequence[float]], float]
"""Sessions before and after a split -> variance of a session, as that of means needs it."""


@dataclass(frozen=True)
class ChangePoint:
    """A step.

    Attributes:
        index: the first session of the new level.
        before: level before it, the mean from the step before it on (log).
        after: level from it to the next one (log).
        change: ``after - before``.
        confidence: 1 - p.
    """

    index: int
    before: float
    after: float
    change: float
    confidence: float


@dataclass(frozen=True)
class _Split:
    index: int
    change: float
    doubt: float

    @property
    def is_step(self) -> bool:
        return self.doubt < LEVEL and abs(self.change) >= p.MIN_CHANGE_SUSPECT


def find_change_points(values: Sequence[float], accepted: Sequence[bool] = ()) -> list[ChangePoint]:
    """Find the sessions at which the level changed.

    Args:
        values: of all sessions, accepted and failed, oldest first; log, slower larger.
        accepted: of each whether it was accepted. Where two splits fit about as well, the step is at the
            first session that was not. Empty: not known.

    Raises:
        ValueError: ``accepted`` has another length, or a value is not a number.
    """
    if accepted and len(accepted) != len(values):
        raise ValueError(f"{len(values)} values, but {len(accepted)} of them are accepted or not")
    if not all(math.isfinite(value) for value in values):
        raise ValueError("a value of the series is not a number")
    if len(values) < 2 * SIDE:
        return []
    calm = _pulled_in(values)
    noise = _neighbour_sigma(calm) ** 2
    edges = {0, len(calm)}
    todo = [(0, len(calm))]
    while todo:
        begin, end = todo.pop()
        split = _best_split(calm, begin, end, accepted, lambda _before, _after: noise)
        if split is not None and split.is_step:
            edges.add(split.index)
            todo += [(begin, split.index), (split.index, end)]
    return _settled(calm, sorted(edges), accepted, _spread)


def _settled(
    values: Sequence[float], edges: list[int], accepted: Sequence[bool], spread: _Spread
) -> list[ChangePoint]:
    """Try each step again between its neighbours, the most doubtful one first to go."""
    while len(edges) > 2:
        tried = [
            _best_split(values, begin, end, accepted, spread)
            for begin, end in zip(edges[:-2], edges[2:], strict=True)
        ]
        doubts = [1.0 if split is None or not split.is_step else split.doubt for split in tried]
        if max(doubts) >= LEVEL:
            del edges[1 + doubts.index(max(doubts))]
            continue
        moved = [edges[0], *(split.index for split in tried if split is not None), edges[-1]]
        if moved == edges or any(later - first < SIDE for first, later in pairwise(moved)):
            break
        edges = moved
    found = []
    for begin, at, end in zip(edges[:-2], edges[1:-1], edges[2:], strict=True):
        before, after = fmean(values[begin:at]), fmean(values[at:end])
        doubt = _test(values[begin:at], values[at:end], end - begin - 2 * SIDE + 1, spread)
        found.append(ChangePoint(at, before, after, after - before, 1.0 - doubt))
    return found


def _pulled_in(values: Sequence[float]) -> list[float]:
    """Pull odd sessions in to what their neighbours say."""
    reach = PULLED_IN * _neighbour_sigma(values)
    calm = []
    for index, value in enumerate(values):
        centre = median(values[max(0, index - NEIGHBOURS) : index + NEIGHBOURS + 1])
        calm.append(min(max(value, centre - reach), centre + reach))
    return calm


def _neighbour_sigma(values: Sequence[float]) -> float:
    """Estimate the standard deviation by the median difference of neighbours, which steps do not move."""
    off = [abs(later - first) for first, later in pairwise(values)]
    return max(p.SESSION_SIGMA_FLOOR, MAD_TO_SIGMA * median(off) / math.sqrt(2))


def _best_split(
    values: Sequence[float], begin: int, end: int, accepted: Sequence[bool], spread: _Spread
) -> _Split | None:
    """Find the split of a stretch that leaves the least squares; None where it is too short."""
    count = end - begin
    if count < 2 * SIDE:
        return None
    stretch = values[begin:end]
    centre = fmean(stretch)
    left, gains = 0.0, {}
    for place, value in enumerate(stretch[:-SIDE], start=1):
        left += value - centre
        if place >= SIDE:
            gains[place] = left * left * count / (place * (count - place))
    best = max(gains, key=gains.__getitem__)
    if accepted:
        least = gains[best] - TIE * spread(stretch[:best], stretch[best:])
        near = [place for place, gain in gains.items() if gain >= least]
        caught = [place for place in near if accepted[begin + place - 1] and not accepted[begin + place]]
        best = max(caught, key=gains.__getitem__, default=best)
    before, after = stretch[:best], stretch[best:]
    return _Split(begin + best, fmean(after) - fmean(before), _test(before, after, len(gains), spread))


def _squares(values: Sequence[float]) -> tuple[float, float]:
    """Sum of squares about the mean, and of the products of neighbours."""
    centre = fmean(values)
    off = [value - centre for value in values]
    return math.fsum(value * value for value in off), math.fsum(a * b for a, b in pairwise(off))


def _spread(before: Sequence[float], after: Sequence[float]) -> float:
    """Variance of a session about its side's mean, made larger where neighbours are alike."""
    (one, one_next), (other, other_next) = _squares(before), _squares(after)
    count = len(before) + len(after)
    plain = max((one + other) / (count - 2), p.SESSION_SIGMA_FLOOR**2)
    # What n values take from their own mean lowers the products of neighbours by a value's variance a side.
    alike = (one_next + other_next) / (count - 2) / plain + 2 / (count - 2)
    alike = min(max(alike, 0.0), _MOST_CORRELATION)
    return plain * (1 + alike) / (1 - alike)


def _test(before: Sequence[float], after: Sequence[float], splits: int, spread: _Spread) -> float:
    """Chance that the best of so many splits is as good without a step."""
    error = math.sqrt(spread(before, after) * (1 / len(before) + 1 / len(after)))
    score = abs(fmean(after) - fmean(before)) / error
    return min(1.0, splits * 2 * t_upper_tail(score, len(before) + len(after) - 2))
