"""The HTML pages: the report of a session around its charts, and the page over all boards of a run.

The page over several boards is small, without charts, and links each board's own report. In templates
whatever a board, a user or a file sent is made printable and escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from pytest_espperf.model.artifact import Json, SessionArtifact
from pytest_espperf.model.registry import METRICS
from pytest_espperf.model.text import grouped, printable
from pytest_espperf.model.verdicts import mood_of
from pytest_espperf.report.boards import Overview
from pytest_espperf.report.html.charts import course_chart, distribution_chart, trend_chart
from pytest_espperf.report.html.data import Distribution, ReportData, Trend
from pytest_espperf.report.view import (
    View,
    bound_text,
    finding_text,
    format_metric,
    legend,
    make_view,
    signed_pct,
)

MOST_REASONS = 2
"""Reasons of errors that are shown of one run."""

TABLE_ROWS = 30
"""Sessions of a trend that stand in its table, too: the newest."""


@dataclass(frozen=True)
class Chart:
    """A chart, the figure behind it, and its values as a table for those who cannot see or hover."""

    title: str
    about: str
    json: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    height: int


def render_html(data: ReportData) -> str:
    """Render the report as one HTML document: no other file, no request to anywhere."""
    view = make_view(data.session)
    return render(
        "page.html.jinja",
        view=view,
        session=data.session,
        findings=[(finding.severity, finding_text(finding)) for finding in view.findings],
        gates=_gates(view),
        legend=legend(view.gates),
        places=[place for place in view.places if place.metric == "p95_ms"],
        trends=[_trend(trend) for trend in data.trends],
        distributions=[_distribution(one) for one in data.distributions],
        courses=[
            _chart(course.cell, "", course_chart(course), ("run", "figures"), _course_rows(course.runs))
            for course in data.courses
        ],
        excerpts=data.excerpts,
        left_out=data.left_out,
        environment=list(_flat(data.session.environment)),
        comparability=list(_flat(_comparability(data.session))),
        settings=list(_settings(data.session)),
        plotly=get_plotlyjs(),
    )


def _chart(
    title: str, about: str, figure: go.Figure, head: tuple[str, ...], rows: Iterator[tuple[str, ...]]
) -> Chart:
    # Inside a script element only "<" could end it, or begin a comment.
    text = figure.to_json(validate=False).replace("<", "\\u003c")
    return Chart(title, about, text, head, tuple(rows), figure.layout.height)


def _trend(trend: Trend) -> Chart:
    metric = METRICS[trend.metric]
    about = f"{metric.label} in {metric.unit}; {'more' if metric.better == 'higher' else 'less'} is better"
    rows = (
        (
            point.when,
            point.name,
            point.verdict,
            metric.format(point.value),
            metric.format(point.baseline),
            signed_pct(point.d_pct),
        )
        for point in trend.points[: -TABLE_ROWS - 1 : -1]
    )
    head = ("time (UTC)", "session", "verdict", "value", "baseline", "slower")
    return _chart(trend.name, about, trend_chart(trend), head, rows)


def _distribution(one: Distribution) -> Chart:
    then = dict(one.baseline)

    def rows() -> Iterator[tuple[str, ...]]:
        for at, now in one.now:
            before = then.get(at)
            change = signed_pct(100 * (now / before - 1)) if before else "-"
            yield f"{at:.6g}", number(now, 3), number(before, 3), change

    head = ("percentile", "now ms", "baseline ms", "slower")
    return _chart(one.cell, "", distribution_chart(one), head, rows())


def _course_rows(runs: Any) -> Iterator[tuple[str, ...]]:
    for label, report in runs:
        events = "; ".join(str(event) for event in report.events)
        why = "; ".join(map(str, report.error_reasons[:MOST_REASONS]))
        errors = f"{report.err} errors{f' ({why})' if why else ''}"
        stalled = f", {number(report.stalled_s, 1)} s without an answer" if report.stalled_s else ""
        yield (
            label,
            (
                f"{number(report.rps_ok, 1)} req/s, p95 {number(report.p95_ms)} ms, max "
                f"{number(report.max_ms)} ms, {errors}{stalled}{'; ' if events else ''}{events}"
            ),
        )


def _gates(view: View) -> list[dict[str, str]]:
    return [
        {
            "name": row.name,
            "verdict": row.verdict,
            "baseline": format_metric(row.metric, row.baseline),
            "now": format_metric(row.metric, row.now),
            "unit": METRICS[row.metric].unit if row.metric in METRICS else "",
            "slower": signed_pct(row.d_pct),
            "fails": bound_text(row, row.smallest_detectable_pct),
            "at_most": bound_text(row, row.at_most_pct),
            "runs": str(row.rounds or "-"),
            "sessions": str(row.sessions),
            "detail": row.detail,
        }
        for row in view.gates
    ]


def _comparability(session: SessionArtifact) -> Json:
    return session.comparability.fields if session.comparability is not None else {}


def _settings(session: SessionArtifact) -> Iterator[tuple[str, str]]:
    """List what was set, and where."""
    sources = session.settings.get("sources")
    for name, source in sorted(sources.items()) if isinstance(sources, dict) else ():
        yield f"{name} ({source})", _text(session.settings.get(name))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return f"{value}"


def render_overview(overview: Overview) -> str:
    """Render the page over several boards as one HTML document that asks for nothing and runs nothing."""
    return render("boards.html.jinja", overview=overview, text=finding_text)


def render(name: str, **given: Any) -> str:
    """Draw a page from a template of the folder ``assets``."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pytest_espperf.report.html", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(pct=signed_pct, number=number, bound=bound_text, mood=mood_of)
    return environment.get_template(name).render(**given)


def _plain(value: Any) -> Any:
    """Make a template's text printable; our own markup is a ``Markup``, which is no plain ``str``."""
    return printable(value) if type(value) is str else value


def number(value: float | None, digits: int = 2) -> str:
    """``1,234.50``; ``-`` where there is none."""
    return "-" if value is None else grouped(value, digits)
