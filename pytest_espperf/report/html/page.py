"""The HTML pages: the report of a session, the page over a history, the page over the boards of a run.

The page over the boards of a run is small, without charts, and links each board's own report. In templates
whatever a board, a user or a file sent is made printable and escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from pytest_espperf.model.artifact import GateRow, Json, SessionArtifact
from pytest_espperf.model.gates import MAIN_METRIC, change_words, divided_pct
from pytest_espperf.model.registry import common_unit, find_metric, rate_unit
from pytest_espperf.model.text import grouped, printable
from pytest_espperf.model.verdicts import BLAMING, Mood, mood_of, rank
from pytest_espperf.report.boards import Overview
from pytest_espperf.report.html.charts import course_chart, distribution_chart, trend_data
from pytest_espperf.report.html.data import (
    Distribution,
    HistoryPage,
    ReportData,
    Trend,
    TrendSession,
)
from pytest_espperf.report.steps import change_text, gathered
from pytest_espperf.report.view import (
    View,
    bound_text,
    finding_text,
    format_metric,
    interval_text,
    legend,
    make_view,
    signed_pct,
)

MOST_REASONS = 2
"""Reasons of errors that are shown of one run."""

TABLE_ROWS = 30
"""Sessions of a trend that stand in its table, too: the newest."""

MOST_FIGURES = 4
"""Figures in the head of a report."""

SHOWN_OF_A_COMMIT = 8
TREND_HEIGHT = 290


@dataclass(frozen=True)
class Chart:
    """A chart, and its values as a table for those who cannot see or hover.

    Attributes:
        title: of the chart.
        about: its metric in words.
        data: what ``charts.js`` draws; None for a trend, whose data stand once for all.
        head: names of the table's columns.
        rows: of the table.
        height: room on the page in pixels, before it is drawn.
    """

    title: str
    about: str
    data: Markup | None
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    height: int


@dataclass(frozen=True)
class HeadFigure:
    """One figure in the head of a report: from the baseline's to this session's.

    Attributes:
        name: of the gate or cell, and its metric.
        before: in the baseline; "" where there is none.
        now: with its unit.
        change: in words; "" where nothing was compared.
        mood: of its verdict.
    """

    name: str
    before: str
    now: str
    change: str = ""
    mood: Mood = "plain"


def render_html(data: ReportData, home: str = "") -> str:
    """Render the report as one HTML document: no other file, no request to anywhere.

    Args:
        data: the session and what stands around it.
        home: URL of the page over the history, relative to the report; "" where there is none.
    """
    view = make_view(data.session)
    return render(
        "page.html.jinja",
        view=view,
        rate_unit=common_unit(row.unit for row in view.cells),
        home=home,
        session=data.session,
        figures=_figures(view),
        against=_against(data),
        about=list(_about(data)),
        findings=[(finding.severity, finding_text(finding)) for finding in view.findings],
        gates=_gates(view),
        legend=legend(view.gates, intervals=view.intervals),
        places=[place for place in view.places if place.metric == "p95_ms"],
        trends=[_trend(trend) for trend in data.trends],
        trend_data=to_script(trend_data(data.trends)),
        distributions=[_distribution(one) for one in data.distributions],
        courses=[
            _chart(course.cell, course_chart(course), ("run", "figures"), _course_rows(course.runs))
            for course in data.courses
        ],
        excerpts=data.excerpts,
        left_out=data.left_out,
        facts=view.facts,
        environment=list(_flat(data.session.environment)),
        comparability=list(_flat(_comparability(data.session))),
        settings=list(_settings(data.session)),
    )


def render_history(page: HistoryPage) -> str:
    """Render the page over a history as one HTML document: no other file, no request to anywhere."""
    boards = _newest_of_boards(page.sessions)
    places = {one.board: place for place, (one, _) in enumerate(boards)}
    trends = sorted(page.trends, key=lambda trend: places.get(trend.board, 0))
    verdicts = sorted({one.verdict for one in page.sessions}, key=rank)
    return render(
        "trend.html.jinja",
        page=page,
        boards=boards,
        steps=[
            (session, [change_text(trend, change) for trend, change in changes])
            for session, changes in gathered(trends)[:TABLE_ROWS]
        ],
        verdicts=verdicts,
        profiles=sorted({trend.group for trend in page.trends}),
        metrics=list({one.metric: (one.metric, one.described.label) for one in page.trends}.values()),
        data=to_script(
            trend_data(trends, page.sessions) | {"moods": {word: mood_of(word) for word in verdicts}}
        ),
    )


def _newest_of_boards(sessions: Sequence[TrendSession]) -> list[tuple[TrendSession, int]]:
    """List the newest session of each board, the worst first, with the number of its sessions."""
    newest: dict[str, TrendSession] = {}
    counts: dict[str, int] = {}
    for one in sessions:
        newest[one.board] = one
        counts[one.board] = counts.get(one.board, 0) + 1
    ordered = sorted(newest.values(), key=lambda one: (rank(one.verdict), one.board))
    return [(one, counts[one.board]) for one in ordered]


def _figures(view: View) -> list[HeadFigure]:
    """Choose the figures of the head: of the slower profiles, or all; of a first session, its last phases."""
    compared = [row for row in view.gates if row.baseline is not None and row.now is not None]
    slower = [row for row in compared if row.verdict in BLAMING]
    if compared:
        return [_figure(row) for row in (slower or compared)[:MOST_FIGURES]]
    last_phases = {row.name.partition(":")[0]: row for row in view.cells if not row.is_path}
    return [
        HeadFigure(f"{row.name} {one.label}", "", one.format(value))
        for row in last_phases.values()
        for metric, value in ((MAIN_METRIC, row.rps), ("p95_ms", row.p95_ms))
        if value is not None and (one := find_metric(metric, row.unit)) is not None
    ][:MOST_FIGURES]


def _change(row: GateRow | None) -> str:
    """Format the change of a gate, slower positive; ``-`` where there is none."""
    return signed_pct(divided_pct(row, row.d_pct) if row is not None else None)


def _figure(row: GateRow) -> HeadFigure:
    metric = row.described
    unit = metric.unit if metric else ""
    change = ""
    if row.d_pct is not None:
        points = row.metric == "error_rate"
        words = ("more", "less") if points else change_words(metric)
        word = words[0] if row.d_pct > 0 else words[1]
        change = f"{abs(divided_pct(row, row.d_pct) or 0.0):.1f} {'points' if points else '%'} {word}"
    return HeadFigure(
        name=row.name
        if row.is_own
        else f"{row.profile or row.name} {metric.label if metric else ''}".strip(),
        before=format_metric(metric, row.baseline),
        now=f"{format_metric(metric, row.now)} {unit}".strip(),
        change=change,
        mood=mood_of(row.verdict),
    )


def _against(data: ReportData) -> str:
    """Name the baseline in one sentence; "" where there was none."""
    gate = data.session.gate
    named = gate.baseline.get("sessions") if gate is not None else None
    if gate is None or not isinstance(named, list) or not named:
        return ""
    mode = str(gate.baseline.get("mode", "history"))
    of_history = mode in {"history", "previous"}
    what = "the previous session" if len(named) == 1 else f"the median of {len(named)} accepted sessions"
    if len(named) == 1 and mode == "history":
        what = "1 accepted session"
    known = data.compared
    when = f" of {_span(known[0].when, known[-1].when)}" if known else ""
    return f"Compared with {what if of_history else mode}{when}"


def _span(first: str, last: str) -> str:
    if first == last:
        return first
    return f"{first} to {last[11:] if first[:10] == last[:10] else last}"


def _about(data: ReportData) -> Iterator[tuple[str, str]]:
    """List what was measured: board, time, commit and firmware, from the baseline's to this session's."""
    session = data.session
    newest = data.compared[-1] if data.compared else None
    environment = session.environment
    commit = environment.get("git_commit")
    commit = commit[:SHOWN_OF_A_COMMIT] if isinstance(commit, str) else ""
    dirty = " (uncommitted changes)" if environment.get("git_dirty") is True else ""
    firmware = session.device.get("firmware")
    yield "board", session.target or "no device"
    yield "time", readable_time(session.timestamp_utc)
    if commit:
        yield "commit", f"{_from(newest.commit if newest else '', commit)}{dirty}"
    if isinstance(firmware, str) and firmware:
        yield "firmware", _from(newest.firmware if newest else "", firmware)
    if session.tag:
        yield "tag", session.tag
    yield "profiles", ", ".join(session.profiles)
    yield "runs", str(session.runs_per_profile)
    if session.hard_stop_reason:
        yield "stopped", session.hard_stop_reason


def _from(before: str, now: str) -> str:
    return f"{before} \u2192 {now}" if before and before != now else now


def readable_time(stamp: str) -> str:
    """Format ``20260131T235959Z`` and ISO 8601 as ``2026-01-31 23:59 UTC``; any other text stays."""
    digits = "".join(letter for letter in stamp if letter.isdigit())
    if len(digits) < 12 or not digits.isascii():
        return stamp
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]} {digits[8:10]}:{digits[10:12]} UTC"


def to_script(data: Json) -> Markup:
    """Encode data for a script element, in which only ``<`` could end it, or begin a comment."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - escaped for where it stands


def _chart(
    title: str,
    data: Json,
    head: tuple[str, ...],
    rows: Iterator[tuple[str, ...]],
) -> Chart:
    height = sum(panel["height"] + 28 for panel in data["panels"])
    return Chart(title, "", to_script(data), head, tuple(rows), height)


def _trend(trend: Trend) -> Chart:
    metric = trend.described
    unit = f" in {metric.unit}" if metric.unit else ""
    about = f"{metric.label}{unit}; {'more' if metric.better == 'higher' else 'less'} is better"
    rows = (
        (
            point.session.when,
            point.session.name,
            point.words,
            metric.format(point.value),
            metric.format(point.baseline),
            signed_pct(point.d_pct),
        )
        for point in trend.points[: -TABLE_ROWS - 1 : -1]
    )
    head = ("time (UTC)", "session", "verdict", "value", "baseline", "slower")
    return Chart(trend.name, about, None, head, tuple(rows), TREND_HEIGHT)


def _distribution(one: Distribution) -> Chart:
    then = dict(one.baseline)

    def rows() -> Iterator[tuple[str, ...]]:
        for at, now in one.now:
            before = then.get(at)
            change = signed_pct(100 * (now / before - 1)) if before else "-"
            yield f"{at:.6g}", number(now, 3), number(before, 3), change

    head = ("percentile", "now ms", "baseline ms", "slower")
    return _chart(one.cell, distribution_chart(one), head, rows())


def _course_rows(runs: Any) -> Iterator[tuple[str, ...]]:
    for label, report in runs:
        events = "; ".join(str(event) for event in report.events)
        why = "; ".join(map(str, report.error_reasons[:MOST_REASONS]))
        errors = f"{report.err} errors{f' ({why})' if why else ''}"
        stalled = f", {number(report.stalled_s, 1)} s without an answer" if report.stalled_s else ""
        yield (
            label,
            (
                f"{number(report.rps_ok, 1)} {rate_unit((report.kind,))}, p95 {number(report.p95_ms)} ms, "
                f"max {number(report.max_ms)} ms, {errors}{stalled}{'; ' if events else ''}{events}"
            ),
        )


def _gates(view: View) -> list[dict[str, str]]:
    return [
        {
            "name": row.name,
            "verdict": row.verdict,
            "word": view.word(row),
            "baseline": format_metric(row.described, row.baseline),
            "now": format_metric(row.described, row.now),
            "unit": row.described.unit if row.described is not None else "",
            "slower": view.change(row),
            "interval": interval_text(row),
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
    environment.globals["source"] = lambda asset: _source(environment, asset)
    environment.filters.update(pct=signed_pct, change=_change, number=number, bound=bound_text, mood=mood_of)
    environment.filters["pair"] = lambda text: (printable(text), text)
    return environment.get_template(name).render(**given)


def _source(environment: jinja2.Environment, name: str) -> Markup:
    """Text of a style or script, which is ours: no template, and nothing in it is escaped."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])  # noqa: S704 - files of this package


def _plain(value: Any) -> Any:
    """Make a template's text printable; our own markup is a ``Markup``, which is no plain ``str``."""
    return printable(value) if type(value) is str else value


def number(value: float | None, digits: int = 2) -> str:
    """``1,234.50``; ``-`` where there is none."""
    return "-" if value is None else grouped(value, digits)
