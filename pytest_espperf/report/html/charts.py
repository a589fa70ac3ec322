"""The charts of the HTML report, as plotly figures. Pure; the page has colours for light and dark."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pytest_espperf.model.artifact import PhaseReport, Timeline
from pytest_espperf.model.figures import number_at
from pytest_espperf.model.registry import METRICS
from pytest_espperf.model.text import printable
from pytest_espperf.report.html.data import Course, Curve, Distribution, PointKind, Trend, TrendPoint
from pytest_espperf.report.view import signed_pct

# Okabe and Ito's palette, which colour-blind readers can tell apart; each kind has a shape of its own, too.
NOW, BASELINE, BAD, GOOD, UNCLEAR = "#0072B2", "#8a8f98", "#D55E00", "#009E73", "#E69F00"
BAND = "rgba(138, 143, 152, 0.18)"
TICKS = 8

MOST = 1e12
"""What no board, phase or histogram has: beyond it nothing is drawn."""

_KINDS: dict[PointKind, tuple[str, str, str]] = {
    "history": ("in the history", GOOD, "circle"),
    "accepted": ("accepted by somebody", GOOD, "star"),
    "pinned": ("pinned", NOW, "square"),
    "doubtful": ("unclear", UNCLEAR, "diamond"),
    "failing": ("failed", BAD, "x"),
    "elsewhere": ("failed elsewhere", BASELINE, "circle-open"),
}


def _figure(height: int, **layout: Any) -> go.Figure:
    figure = go.Figure()
    _lay_out(figure, height, **layout)
    return figure


def _lay_out(figure: go.Figure, height: int, **layout: Any) -> None:
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 56, "r": 12, "t": 8, "b": 40},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hoverlabel={"align": "left"},
        **layout,
    )


def trend_chart(trend: Trend) -> go.Figure:
    """Draw a gate over the history: a line, the band from baseline to limit, each session by its standing."""
    points = trend.points
    metric = METRICS[trend.metric]
    places = range(len(points))
    ticks = list(places)[:: max(1, -(-len(points) // TICKS))]
    figure = _figure(
        300,
        xaxis={
            "tickvals": ticks,
            "ticktext": _dates([points[place].when for place in ticks]),
            "zeroline": False,
        },
        yaxis={"title": {"text": metric.unit}, "zeroline": False},
        hovermode="closest",
    )

    def line(name: str, values: list[float | None], **more: Any) -> None:
        figure.add_scatter(
            x=list(places), y=_figures(values), name=name, mode="lines", hoverinfo="skip", **more
        )

    def steps(name: str, values: list[float | None], **more: Any) -> None:
        """Each session's own value from half a step before it to half a step behind."""
        figure.add_scatter(
            x=[at for place in places for at in (place - 0.5, place + 0.5)],
            y=[value for value in _figures(values) for _ in "ab"],
            name=name,
            mode="lines",
            hoverinfo="skip",
            **more,
        )

    baselines, limits = _band(points)
    steps("baseline", baselines, line={"color": BASELINE, "width": 1})
    steps(
        "fails from here",
        limits,
        line={"color": BAD, "width": 1, "dash": "dot"},
        fill="tonexty",
        fillcolor=BAND,
    )
    steady = [point.value if point.kind in {"history", "accepted", "pinned"} else None for point in points]
    line("history", steady, line={"color": GOOD, "width": 1}, connectgaps=True, showlegend=False)
    for kind, (name, colour, symbol) in _KINDS.items():
        chosen = [place for place in places if points[place].kind == kind]
        if chosen:
            figure.add_scatter(
                x=chosen,
                y=_figures([points[place].value for place in chosen]),
                name=name,
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 6 if len(points) > 200 else 8},
                text=[_hover(points[place], metric.format) for place in chosen],
                hovertemplate="%{text}<extra></extra>",
            )
    for place in places:
        if points[place].opens_epoch:
            figure.add_vline(x=place - 0.5, line={"color": BASELINE, "width": 1, "dash": "dash"})
        if points[place].is_this:
            figure.add_scatter(
                x=[place],
                y=_figures([points[place].value]),
                name="this session",
                mode="markers",
                marker={"symbol": "circle-open", "size": 16, "color": NOW, "line": {"width": 2}},
                hoverinfo="skip",
            )
    return figure


def _dates(whens: Sequence[str]) -> list[str]:
    """Shorten times to days; of a single day, to times of day."""
    days = [when[:10] for when in whens]
    return days if len(set(days)) > 1 else [when[11:] for when in whens]


def _band(points: Sequence[TrendPoint]) -> tuple[list[float | None], list[float | None]]:
    """Baseline and limit of each session; of one that was not compared, those before it.

    A limit far from all values (a session in ruins) would leave no room for them: it is drawn at its edge.
    """
    values = [point.value for point in points if _drawable(point.value)] or [0.0]
    least, most = min(values) / 2, max(values) * 2
    baselines: list[float | None] = []
    limits: list[float | None] = []
    baseline = limit = None
    for point in points:
        if point.baseline is not None and point.limit is not None:
            baseline, limit = point.baseline, min(max(point.limit, least), most)
        baselines.append(baseline)
        limits.append(limit)
    return baselines, limits


def _hover(point: TrendPoint, number: Callable[[float | None], str]) -> str:
    name = f" {_label(point.name)}" if point.name else ""
    change = f", {signed_pct(point.d_pct)} slower" if point.d_pct is not None else ""
    return f"{_label(point.when)}{name}<br>{number(point.value)}{change}<br>{_label(point.verdict)}"


def distribution_chart(distribution: Distribution) -> go.Figure:
    """Latency by percentile, with the tail drawn out: the axis is the logarithm of one in how many."""
    deepest = max((at for at, _ in (*distribution.now, *distribution.baseline)), default=99.0)
    marks = [at for at in (50.0, 90.0, 99.0, 99.9, 99.99, 99.999) if at <= max(deepest, 90.0)]
    figure = _figure(
        300,
        xaxis={
            "type": "log",
            "tickvals": [1.0, *map(_one_in, marks)],
            "ticktext": ["0", *(f"{at:g}" for at in marks)],
            "title": {"text": "percentile"},
        },
        yaxis={"type": "log", "title": {"text": "ms"}, **_log_ticks(distribution)},
        hovermode="x",
    )

    def curve(name: str, points: Curve, colour: str, dash: str) -> None:
        figure.add_scatter(
            x=[_one_in(at) for at, _ in points],
            y=[milliseconds if 0 < milliseconds < MOST else None for _, milliseconds in points],
            name=name,
            mode="lines+markers",
            line={"color": colour, "dash": dash},
            marker={"size": 5},
            text=[f"p{at:.6g}" for at, _ in points],
            hovertemplate=f"{name} %{{text}}: %{{y:.4g}} ms<extra></extra>",
        )

    if distribution.baseline:
        curve("baseline", distribution.baseline, BASELINE, "dot")
    curve("now", distribution.now, NOW, "solid")
    return figure


def _log_ticks(distribution: Distribution) -> dict[str, list[Any]]:
    """1, 2 and 5 of each decade between the least and the largest latency, written out."""
    every = [milliseconds for _, milliseconds in (*distribution.now, *distribution.baseline)]
    values = [milliseconds for milliseconds in every if 0 < milliseconds < MOST]
    least, largest = max(1e-3, min(values, default=1.0)), max(values, default=1.0)
    decades = range(math.floor(math.log10(least)), math.ceil(math.log10(max(least, largest))) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    return {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _one_in(percentile: float) -> float:
    return 100.0 / max(1e-9, 100.0 - percentile)


def course_chart(course: Course) -> go.Figure:
    """Draw a cell over time, run after run: latencies, rates, free heap; stalls and events are marked."""
    figure = make_subplots(
        rows=3, cols=1, shared_xaxes=True, row_heights=[0.5, 0.28, 0.22], vertical_spacing=0.04
    )
    _lay_out(figure, 460, hovermode="x unified", barmode="overlay")
    figure.update_yaxes(title_text="ms", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="per s", rangemode="tozero", row=2, col=1)
    figure.update_yaxes(title_text="free %", row=3, col=1)
    figure.update_xaxes(title_text="seconds of load, run after run", row=3, col=1)
    lengths = [_length_s(report) for _, report in course.runs]
    starts = [0.0, *accumulate(lengths)][:-1]
    _latencies(figure, course, starts)
    _rates(figure, course, starts)
    _heap(figure, course, starts, lengths)
    for (label, report), start in zip(course.runs, starts, strict=True):
        _mark(figure, _label(label), report, start)
    return figure


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
    value = values[index] if 0 <= index < len(values) else None
    return value if value is not None and _drawable(value) else None


def _drawable(value: float) -> bool:
    return abs(value) < MOST  # False of NaN, too


def _latencies(figure: go.Figure, course: Course, starts: Sequence[float]) -> None:
    for key, name, colour, width in (
        ("p50_ms", "p50", NOW, 2),
        ("p95_ms", "p95", UNCLEAR, 1),
        ("max_ms", "max", BAD, 1),
    ):
        slices = list(_slices(course, starts))
        figure.add_scatter(
            x=[_short(at) for at, _, _ in slices],
            y=[_at(getattr(line, key), index) for _, line, index in slices],
            name=name,
            mode="lines",
            line={"color": colour, "width": width},
            hovertemplate=f"{name} %{{y:.4g}} ms<extra></extra>",
            row=1,
            col=1,
        )


def _rates(figure: go.Figure, course: Course, starts: Sequence[float]) -> None:
    slices = [(at, line, index) for at, line, index in _slices(course, starts) if index >= 0]
    for key, name, colour in (("ok", "ok", GOOD), ("err", "errors", BAD)):
        figure.add_bar(
            x=[_short(at) for at, _, _ in slices],
            y=[_short((_at(getattr(line, key), index) or 0.0) / line.slice_s) for _, line, index in slices],
            width=[line.slice_s for _, line, _ in slices],
            name=name,
            marker={"color": colour, "line": {"width": 0}},
            hovertemplate=f"{name} %{{y:.4g}}/s<extra></extra>",
            row=2,
            col=1,
        )


def _heap(figure: go.Figure, course: Course, starts: Sequence[float], lengths: Sequence[float]) -> None:
    for key, name, colour in (
        ("internal_free", "internal heap", NOW),
        ("psram_free", "PSRAM", GOOD),
        ("gc_mem_free", "Python heap", UNCLEAR),
    ):
        points = [
            (at, value)
            for (_, report), start, length in zip(course.runs, starts, lengths, strict=True)
            for at, reading in ((start, report.mem_before), (start + length, report.mem_after))
            if (value := number_at(reading, key)) is not None and 0 <= value < MOST
        ]
        if points and (first := points[0][1]) > 0:
            figure.add_scatter(
                x=[_short(at) for at, _ in points],
                y=[_short(100 * value / first) for _, value in points],
                text=[f"{value / 1024:,.0f} KB" for _, value in points],
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 1},
                marker={"size": 4},
                hovertemplate=f"{name} %{{text}}<extra></extra>",
                row=3,
                col=1,
            )


def _mark(figure: go.Figure, label: str, report: PhaseReport, start: float) -> None:
    figure.add_vline(x=start, line={"color": BASELINE, "width": 1})
    figure.add_annotation(
        x=start, y=1, yref="y domain", text=label, showarrow=False, xanchor="left", yanchor="top"
    )
    for began, ended in _silences(report):
        figure.add_vrect(x0=start + began, x1=start + ended, fillcolor=BAD, opacity=0.15, line_width=0)
    for event in report.events:
        if not _drawable(event.at_s):
            continue
        colour = BAD if event.fatal else UNCLEAR
        figure.add_vline(x=start + event.at_s, line={"color": colour, "width": 1.5, "dash": "dash"})
        figure.add_annotation(
            x=start + event.at_s,
            y=0.5,
            yref="y domain",
            text=_label(event.kind[:20]),
            textangle=-90,
            showarrow=False,
            xanchor="left",
            font={"color": colour},
        )


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


def _label(text: str) -> str:
    """Text from outside for a chart, which takes some HTML."""
    return html.escape(printable(text))


def _figures(values: Sequence[float | None]) -> list[float | None]:
    """Five significant figures: more than a screen shows, less than a file of 6 MB can hold."""
    return [float(f"{value:.5g}") if value is not None and _drawable(value) else None for value in values]


def _short(value: float) -> float:
    """Four figures are enough for a screen, and a thousandth of a second for its axis."""
    return round(value, 3) if abs(value) < 1000 else round(value, 1)
