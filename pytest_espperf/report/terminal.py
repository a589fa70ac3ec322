"""The summary at the end of a session, in 80 columns of plain text; the caller adds colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_espperf.model.artifact import Finding, GateRow, PathChange, SessionArtifact
from pytest_espperf.model.findings import Severity
from pytest_espperf.model.registry import METRICS, PER_SECOND, common_unit
from pytest_espperf.model.text import clip, grouped, printable
from pytest_espperf.model.verdicts import FAILING, NOT_GATEABLE, Mood, mood_of, short_of
from pytest_espperf.report.contest import candidate_table
from pytest_espperf.report.layout import Line, columns, wrapped
from pytest_espperf.report.view import (
    UNKNOWN,
    CellRow,
    View,
    blamed,
    bound_text,
    finding_text,
    format_metric,
    interval_text,
    legend,
    make_view,
    signed_pct,
)

MOST_PLACES = 5
"""Paths that are shown of the profiles that are slower; all of them with -v."""

_NAME = 21
_GATE_WIDTHS = (_NAME, 10, 10, 9, 9, 9)
_INTERVAL_WIDTHS = (_NAME, 10, 10, 10, 18)
_PLACE_WIDTHS = (44, 12, 12, 12)
_FIGURE_WIDTHS = (34, 24, 20)
_CELL_WIDTHS = (34, 9, 9, 9, 9, 9)
_MIXED_WIDTHS = (28, 15, 9, 9, 9, 9)
_SEVERITY_MOODS: dict[Severity, Mood] = {"fail": "bad", "warn": "warn", "info": "plain"}


def render_terminal(session: SessionArtifact, *, verbosity: int = 0) -> list[Line]:
    """Render the summary: verdict, findings, gates, where, what to do next.

    Medians stand in it where nothing was compared.

    Args:
        session: with its verdict.
        verbosity: as pytest's: below 0 the verdict and findings alone, above 0 every gate, median and path.
    """
    view = make_view(session)
    headline = wrapped(f"{view.verdict.upper()}: {view.meaning}", hanging=2)
    lines = [Line(text, view.mood, bold=True) for text in headline]
    lines += finding_lines(view.further)
    if verbosity < 0:
        return lines
    if session.contest is not None and session.contest.candidates:
        lines += [Line(""), *candidate_table(session.contest)]
    # A search has its own table, with the commits; its gate has neither threshold nor bound.
    searched = session.contest is not None and session.contest.candidates
    first = not any(_was_compared(row) and not _says_nothing(row) for row in view.gates)
    if view.gates and (verbosity > 0 or not (first or searched)):
        lines += [Line(""), *_gates(view, verbosity)]
    if places := blamed(session)[: None if verbosity > 0 else MOST_PLACES]:
        lines += [Line(""), *_places(view, places)]
    if view.cells and (verbosity > 0 or first):
        lines += [Line(""), *_cells(view, verbosity)]
    if view.figures and (verbosity > 0 or first):
        lines += [Line(""), *_figures(view)]
    if view.next_steps:
        lines.append(Line(""))
        lines += [Line(text) for step in view.next_steps for text in wrapped(f"next: {step}", hanging=6)]
    return lines


def finding_lines(findings: Iterable[Finding]) -> list[Line]:
    """Render findings in the order given, below what they are about."""
    return [
        Line(text, _SEVERITY_MOODS[finding.severity])
        for finding in findings
        for text in wrapped(f"{finding.severity}: {finding_text(finding)}", indent=2, hanging=6)
    ]


def _gates(view: View, verbosity: int) -> list[Line]:
    listed = [row for row in view.gates if not _says_nothing(row)]
    fails = any(row.verdict in FAILING for row in listed)
    shown = [row for row in listed if not (fails and row.verdict == "unchanged")]
    if verbosity > 0:
        listed = shown = list(view.gates)
    if view.intervals:
        head = columns(("gate", *view.sides, "change", "interval"), _INTERVAL_WIDTHS)
    else:
        head = columns(("gate", *view.sides, "slower", "fails at", "at most"), _GATE_WIDTHS)
    lines = [Line(f"{head}  verdict", bold=True), *(_gate(view, row) for row in shown)]
    if folded := len(listed) - len(shown):
        many = f"{folded} more gates are" if folded > 1 else "1 more gate is"
        lines.append(Line(f"{many} {view.words.get('unchanged', 'unchanged')} (-v shows all)"))
    if any(UNKNOWN in _bounds(view, row) for row in shown):
        lines.append(Line(f"?: {UNKNOWN}, more than 300 %"))
    lines += [Line(text) for text in wrapped(legend(shown, intervals=view.intervals))]
    if verbosity > 0:
        explained = [row for row in shown if row.detail]
        lines += [Line(text) for row in explained for text in wrapped(f"{row.name}: {row.detail}", hanging=2)]
    if view.detectable and (verbosity > 0 or not fails):
        lines += [Line(text) for text in wrapped(view.detectable)]
    return lines


def _was_compared(row: GateRow) -> bool:
    return row.verdict != NOT_GATEABLE


def _says_nothing(row: GateRow) -> bool:
    """Check for a row without news: p99 of too few requests, an unchanged error rate, an unchanged file.

    An own figure that is not judged yet is shown all the same: nothing else shows it.
    """
    if row.is_own:
        return row.verdict == "unchanged" and not row.d_pct
    return not _was_compared(row) or (row.verdict == "unchanged" and row.metric == "error_rate")


def _gate(view: View, row: GateRow) -> Line:
    cells = (
        _gate_name(row),
        format_metric(row.described, row.baseline),
        format_metric(row.described, row.now),
        view.change(row),
        *("?" if text == UNKNOWN else text for text in _bounds(view, row)),
    )
    widths = _INTERVAL_WIDTHS if view.intervals else _GATE_WIDTHS
    word = view.words.get(row.verdict) or short_of(row.verdict)
    return Line(f"{columns(cells, widths)}  {word}", mood_of(row.verdict))


def _gate_name(row: GateRow) -> str:
    """``profile:metric``; of a long one the end, which tells the gates apart, stays whole."""
    head, colon, tail = row.name.partition(":")
    return clip(head, max(4, _NAME - 1 - len(colon + tail))) + colon + printable(tail)


def _bounds(view: View, row: GateRow) -> tuple[str, ...]:
    """Format the smallest slowdown that fails, and the largest that is not excluded; or the interval."""
    if view.intervals:
        return (interval_text(row),)
    return bound_text(row, row.smallest_detectable_pct), bound_text(row, row.at_most_pct)


def _places(view: View, places: Sequence[PathChange]) -> list[Line]:
    head = columns(("where: p95 in ms", *view.sides, "slower"), _PLACE_WIDTHS)
    return [Line(head, bold=True), *(_place(place) for place in places)]


def _place(place: PathChange) -> Line:
    cells = (
        f"{place.profile}:{place.phase} {place.path}",
        format_metric(METRICS.get(place.metric), place.baseline),
        format_metric(METRICS.get(place.metric), place.now),
        signed_pct(place.d_pct),
    )
    return Line(columns(cells, _PLACE_WIDTHS))


def _cells(view: View, verbosity: int) -> list[Line]:
    shown = [row for row in view.cells if verbosity > 0 or not row.is_path]
    unit = common_unit(row.unit for row in shown)
    widths = _MIXED_WIDTHS if unit == PER_SECOND else _CELL_WIDTHS
    head = ("medians over the runs", unit, "p50 ms", "p95 ms", "p99 ms", "errors")
    lines = [Line(columns(head, widths), bold=True)]
    return lines + [Line(columns(_cell(row, unit), widths)) for row in shown]


def _figures(view: View) -> list[Line]:
    head = columns(("figures", "", "median"), _FIGURE_WIDTHS, texts=2)
    rows = ((one.name, one.metric.label, one.metric.format(one.value)) for one in view.figures)
    return [Line(head, bold=True), *(Line(columns(row, _FIGURE_WIDTHS, texts=2)) for row in rows)]


def _cell(row: CellRow, unit: str) -> tuple[str, ...]:
    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else grouped(value, digits)

    name = f"  {row.name}" if row.is_path else row.name
    errors = "-" if row.error_rate is None else f"{grouped(row.error_rate, 1)} %"
    latencies = [number(value, 1) for value in (row.p50_ms, row.p95_ms, row.p99_ms)]
    return name, row.rate(unit), *latencies, errors
