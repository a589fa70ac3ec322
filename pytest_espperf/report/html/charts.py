"""The charts of the HTML pages, as data that the scripts of ``assets`` draw. Pure.

A chart has panels, one below the other, over one axis. Colours are names of ``page.css``, and each has one
meaning: ``now`` is what this session measured, ``plain`` the baseline, ``good``, ``warn`` and ``bad`` are
verdicts and errors. Series of one colour differ in width and dash.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, get_args

from pytest_espperf.model.artifact import Json, PhaseReport, Timeline
from pytest_espperf.model.figures import number_at
from pytest_espperf.model.registry import AS_NEEDED
from pytest_espperf.model.text import printable
from pytest_espperf.report.html.data import (
    Course,
    Distribution,
    PointKind,
    Trend,
    TrendPoint,
    TrendSession,
)
from pytest_espperf.report.steps import change_text

MOST = 1e12
"""What no board, phase or histogram has: beyond it nothing is drawn."""

_KINDS = {kind: place for place, kind in enumerate(get_args(PointKind))}

SESSION_FIELDS = (
    *("when", "id", "board", "tag", "verdict", "commit", "firmware", "worst_pct", "link", "file", "this"),
)
POINT_FIELDS = ("session", "value", "kind", "word", "baseline", "limit", "pct", "opens")
"""Names of the columns of a page's sessions and points."""


# --- trends -------------------------------------------------------------------------------------------------


def trend_data(trends: Sequence[Trend], sessions: Sequence[TrendSession] = ()) -> Json:
    """Put gates over a history into tables, in which each session stands once.

    Args:
        trends: the gates.
        sessions: in their order on the page; those of the points by default.
    """
    every = sessions or [point.session for trend in trends for point in trend.points]
    ordered = list({one.file: one for one in every}.values())
    places = {one.file: place for place, one in enumerate(ordered)}
    return {
        "session_fields": SESSION_FIELDS,
        "sessions": [_session_row(one) for one in ordered],
        "point_fields": POINT_FIELDS,
        "gates": [_gate(trend, places) for trend in trends],
    }


def _session_row(one: TrendSession) -> list[Any]:
    texts = (one.when, one.session_id[:8], one.board, one.tag, one.verdict, one.commit, one.firmware)
    worst = _five(one.worst_pct)
    return [*map(printable, texts), worst, one.link, printable(one.file), int(one.is_this)]


def _gate(trend: Trend, places: Mapping[str, int]) -> Json:
    metric = trend.described
    least, most = _edges(trend.points)
    return {
        "board": printable(trend.board),
        "profile": printable(trend.group),
        "metric": printable(metric.name),
        "label": printable(metric.label),
        "unit": printable(metric.unit),
        "better": metric.better,
        **({} if metric.digits == AS_NEEDED else {"digits": metric.digits}),
        "points": [
            [
                places[point.session.file],
                _five(point.value) or 0.0,
                _KINDS[point.kind],
                printable(point.verdict),
                _five(point.baseline),
                _five(None if point.limit is None else min(max(point.limit, least), most)),
                _five(point.d_pct),
                point.opens,
            ]
            for point in trend.points
            if _drawable(point.value)
        ],
        "changes": [
            [places[trend.points[one.at].session.file], printable(change_text(trend, one))]
            for one in trend.changes
        ],
    }


def _edges(points: Sequence[TrendPoint]) -> tuple[float, float]:
    """Edges at which limits are drawn far from all values, which would leave no room for them."""
    values = [point.value for point in points if _drawable(point.value)] or [0.0]
    return min(values) / 2, max(values) * 2


# --- latencies ----------------------------------------------------------------------------------------------


def distribution_chart(distribution: Distribution) -> Json:
    """Latency by percentile, with the tail drawn out: the axis is the logarithm of one in how many."""
    now, baseline = dict(distribution.now), dict(distribution.baseline)
    at = sorted({*now, *baseline})
    deepest = at[-1] if at else 99.0
    marks = [0.0, *(mark for mark in (50.0, 90.0, 99.0, 99.9, 99.99, 99.999) if mark <= max(deepest, 90.0))]
    series = [_line("baseline", "plain", _latencies_at(baseline, at), dash=[4, 3])] if baseline else []
    series.append(_line("now", "now", _latencies_at(now, at), width=2))
    panel = {
        "height": 240,
        "unit": "ms",
        "log": True,
        "x": [_tail(one) for one in at],
        "names": [f"p{one:.6g}" for one in at],
        "series": [{**one, "span": True, "dots": True} for one in series],
    }
    ticks = [[_tail(mark), f"{mark:g}"] for mark in marks]
    return {"label": "percentile", "ticks": ticks, "panels": [panel]}


def _latencies_at(curve: Mapping[float, float], at: Sequence[float]) -> list[float | None]:
    values = (curve.get(one) for one in at)
    return [_five(value) if value is not None and value > 0 else None for value in values]


def _tail(percentile: float) -> float:
    """Place of a percentile on the axis: 0, 1, 2 and 3 for 0, 90, 99 and 99.9."""
    return round(math.log10(100.0 / max(1e-9, 100.0 - percentile)), 5)


# --- phases over time ---------------------------------------------------------------------------------------


def course_chart(course: Course) -> Json:
    """Draw a cell over time, run after run: latencies, rates, free heap; stalls and events are marked."""
    lengths = [_length_s(report) for _, report in course.runs]
    starts = [0.0, *accumulate(lengths)][:-1]
    panels = [_latencies(course, starts), _rates(course, starts)]
    heap = _heap(course, starts, lengths)
    if heap["series"]:
        panels.append(heap)
    marks: list[Json] = []
    shades: list[Json] = []
    for (label, report), start in zip(course.runs, starts, strict=True):
        marks += _marks(label, report, start)
        shades += [
            {"from": _short(start + began), "to": _short(start + ended), "colour": "bad"}
            for began, ended in _silences(report)
        ]
    return {
        "label": "seconds of load, run after run",
        "unit": "s",
        "range": [0, _short(math.fsum(lengths)) or 1],
        "panels": panels,
        "marks": marks,
        "shades": shades,
    }


def _line(name: str, colour: str, values: Sequence[float | None], **more: Any) -> Json:
    return {"name": name, "colour": colour, "draw": "line", "values": list(values), **more}


def _length_s(report: PhaseReport) -> float:
    line = _timeline(report)
    lengths = (report.elapsed, line.slice_s * len(line.ok) if line is not None else 0.0)
    return max(0.001, *(length for length in lengths if _drawable(length)))


def _timeline(report: PhaseReport) -> Timeline | None:
    """Return a report's timeline, where its slices have a length."""
    line = report.timeline
    return (
        line if line is not None and line.slice_s > 1e-6 and _drawable(line.slice_s * len(line.ok)) else None
    )


def _slices(course: Course, starts: Sequence[float]) -> Iterator[tuple[float, Timeline, int]]:
    """Middle of each slice on the common axis, its timeline, its number; -1 between runs, to break lines."""
    for (_, report), start in zip(course.runs, starts, strict=True):
        if (line := _timeline(report)) is not None:
            yield start, line, -1
            for index in range(len(line.ok)):
                yield start + (index + 0.5) * line.slice_s, line, index


def _at(values: Sequence[float | None], index: int) -> float | None:
    """Return a value of a timeline, whose lists may be of unlike lengths; None where none can be drawn."""
    return _drawn(values[index] if 0 <= index < len(values) else None)


def _drawn(value: float | None) -> float | None:
    """Round a value for a chart; None where it is unknown or cannot be drawn."""
    return _short(value) if value is not None and _drawable(value) else None


def _drawable(value: float) -> bool:
    return abs(value) < MOST  # False of NaN, too


def _latencies(course: Course, starts: Sequence[float]) -> Json:
    slices = list(_slices(course, starts))
    kinds: tuple[tuple[str, str, Json], ...] = (
        ("p50_ms", "p50", {"width": 2.5}),
        ("p95_ms", "p95", {"width": 1}),
        ("max_ms", "max", {"width": 1, "dash": [2, 3]}),
    )
    return {
        "height": 200,
        "unit": "ms",
        "zero": True,
        "x": [_short(at) for at, _, _ in slices],
        "series": [
            _line(name, "now", [_at(getattr(line, key), index) for _, line, index in slices], **look)
            for key, name, look in kinds
        ],
    }


def _rates(course: Course, starts: Sequence[float]) -> Json:
    slices = [(at, line, index) for at, line, index in _slices(course, starts) if index >= 0]
    return {
        "height": 130,
        "unit": "per s",
        "zero": True,
        "x": [_short(at) for at, _, _ in slices],
        "series": [
            {
                "name": name,
                "colour": colour,
                "draw": "bars",
                "values": [
                    _short((_at(getattr(line, key), index) or 0.0) / line.slice_s)
                    for _, line, index in slices
                ],
                "widths": [_short(line.slice_s) for _, line, _ in slices],
            }
            for key, name, colour in (("ok", "ok", "now"), ("err", "errors", "bad"))
        ],
    }


def _heap(course: Course, starts: Sequence[float], lengths: Sequence[float]) -> Json:
    """Free heap in percent of what was free at first, from nothing on: a loss looks as large as it is."""
    readings = [
        (at, reading)
        for (_, report), start, length in zip(course.runs, starts, lengths, strict=True)
        for at, reading in ((start, report.mem_before), (start + length, report.mem_after))
    ]
    kinds: tuple[tuple[str, str, Json], ...] = (
        ("internal_free", "internal heap", {"width": 2}),
        ("psram_free", "PSRAM", {"dash": [6, 3]}),
        ("gc_mem_free", "Python heap", {"dash": [2, 3]}),
    )
    series = []
    for key, name, look in kinds:
        figures = [number_at(reading, key) for _, reading in readings]
        free = [figure if figure is not None and 0 <= figure < MOST else None for figure in figures]
        first = next((figure for figure in free if figure is not None), 0)
        if first > 0:
            values = [None if figure is None else _drawn(100 * figure / first) for figure in free]
            exact = [None if figure is None else f"{figure / 1024:,.0f} KB" for figure in free]
            series.append(_line(name, "now", values, exact=exact, span=True, dots=True, **look))
    x = [_short(at) for at, _ in readings]
    return {"height": 120, "unit": "free %", "zero": True, "least": 100, "x": x, "series": series}


def _marks(label: str, report: PhaseReport, start: float) -> Iterator[Json]:
    yield {"at": _short(start), "colour": "plain", "label": printable(label)}
    for event in report.events:
        if _drawable(event.at_s):
            yield {
                "at": _short(start + event.at_s),
                "colour": "bad" if event.fatal else "warn",
                "dash": True,
                "strong": True,
                "upright": True,
                "label": printable(event.kind[:20]),
            }


def _silences(report: PhaseReport) -> Iterator[tuple[float, float]]:
    """Seconds between which nothing was answered well, by slices; only where the phase stalled."""
    line = _timeline(report)
    if line is None or report.stalled_s <= 0:
        return
    began: int | None = None
    for index, count in enumerate([*line.ok, 1]):
        if not count and began is None:
            began = index
        elif count and began is not None:
            if (index - began) * line.slice_s >= 0.75:
                yield began * line.slice_s, index * line.slice_s
            began = None


def _five(value: float | None) -> float | None:
    """Five significant figures: more than a screen shows, less than a file of 2 MB can hold."""
    return float(f"{value:.5g}") if value is not None and _drawable(value) else None


def _short(value: float) -> float:
    """Four figures are enough for a screen, and a thousandth of a second for its axis."""
    return round(value, 3) if abs(value) < 1000 else round(value, 1)
