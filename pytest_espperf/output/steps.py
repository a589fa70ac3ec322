"""Where the level of a gate changed: the sessions of a history at which a step began."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from pytest_espperf.gate.change_points import find_change_points
from pytest_espperf.report.html.data import OTHER_WORKLOAD, LevelChange, Trend, TrendPoint

MOST_POINTS = 500
"""The newest sessions of a gate in which steps are looked for."""

LEVEL_KINDS = frozenset({"history", "accepted", "pinned"})
"""Sessions that were accepted; the others count as well: a step that was caught is in failed ones alone."""


def with_changes(trend: Trend) -> Trend:
    """Add to a gate's history the sessions at which its level changed.

    All sessions count, accepted and failed: the first one behind a step fails, as a rule. Sessions of another
    workload have another level by themselves: steps are looked for between them.
    """
    metric = trend.described
    if metric.name == "error_rate":
        return trend  # it is zero, as a rule: it has no level
    sign = 1 if metric.better == "lower" else -1
    found = [
        change for begin, stretch in _stretches(trend.points) for change in _changes(begin, stretch, sign)
    ]
    return replace(trend, changes=tuple(found))


def _stretches(points: Sequence[TrendPoint]) -> Iterator[tuple[int, Sequence[TrendPoint]]]:
    """Cut a history where the workload changed: place of its first point, and the points."""
    oldest = max(0, len(points) - MOST_POINTS)
    cuts = [place for place in range(oldest + 1, len(points)) if points[place].opens == OTHER_WORKLOAD]
    edges = [oldest, *cuts, len(points)]
    for begin, end in pairwise(edges):
        yield begin, points[begin:end]


def _changes(begin: int, points: Sequence[TrendPoint], sign: int) -> Iterator[LevelChange]:
    """Find the changes of one workload; slower is larger for the arithmetic, whatever the metric."""
    places = [place for place, point in enumerate(points) if point.value > 0]
    logs = [sign * math.log(points[place].value) for place in places]
    accepted = [points[place].kind in LEVEL_KINDS for place in places]
    for change in find_change_points(logs, accepted):
        yield LevelChange(
            at=begin + places[change.index],
            before=math.exp(sign * change.before),
            after=math.exp(sign * change.after),
            d_pct=100 * math.expm1(change.change),
            confidence=change.confidence,
        )
