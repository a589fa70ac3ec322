"""The summary at the end of a session, in 80 columns of plain text; the caller adds colour."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from pytest_espperf.model.artifact import Finding, GateRow, PathChange, SessionArtifact
from pytest_espperf.model.findings import Severity
from pytest_espperf.model.text import grouped, printable
from pytest_espperf.model.verdicts import NOT_GATEABLE, Mood, mood_of, short_of
from pytest_espperf.report.layout import WIDTH, Line
from pytest_espperf.report.view import (
    UNKNOWN,
    CellRow,
    View,
    blamed,
    bound_text,
    finding_text,
    format_metric,
    legend,
    make_view,
    signed_pct,
)

MOST_PLACES = 5
"""Paths that are shown of the profiles that are slower; all of them with -v."""

_NAME = 21
_SEVERITY_MOODS: dict[Severity, Mood] = {"fail": "bad", "warn": "warn", "info": "plain"}


def _wrapped(text: str, *, indent: int = 0) -> list[str]:
    """Lines of at most 80 columns; only a word that is longer (a path) sticks out, to be copied."""
    return textwrap.wrap(
        printable(text),
        WIDTH,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _clip(text: str, width: int) -> str:
    text = printable(text)
    return text if len(text) <= width else text[: width - 1] + "…"


def render_terminal(session: SessionArtifact, *, verbosity: int = 0) -> list[Line]:
    """The lines of the summary: verdict, findings, gates, where, medians, what to do next.

    Args:
        session: with its verdict.
        verbosity: as pytest's: below 0 the verdict and findings alone, above 0 every path.
    """
    view = make_view(session)
    lines = [Line(f"{view.verdict.upper()}: {view.meaning}", view.mood, bold=True)]
    lines += finding_lines(view.findings)
    if verbosity < 0:
        return lines
    if view.gates:
        lines += [Line(""), *_gates(view, verbosity)]
    if places := blamed(session)[: None if verbosity > 0 else MOST_PLACES]:
        lines += [Line(""), *_places(places)]
    if view.cells:
        lines += [Line(""), *_cells(view, verbosity)]
    if view.next_steps:
        lines.append(Line(""))
        lines += [Line(text) for step in view.next_steps for text in _wrapped(f"next: {step}", indent=6)]
    return lines


def finding_lines(findings: Iterable[Finding]) -> list[Line]:
    """Findings in the order given, below what they are about."""
    return [
        Line(text, _SEVERITY_MOODS[finding.severity])
        for finding in findings
        for text in _wrapped(f"  {finding.severity}: {finding_text(finding)}", indent=8)
    ]


def _gates(view: View, verbosity: int) -> list[Line]:
    shown = [row for row in view.gates if verbosity > 0 or not _says_nothing(row)]
    head = f"{'gate':<{_NAME}}{'baseline':>10}{'now':>10}{'slower':>9}{'fails at':>9}{'at most':>9}  verdict"
    lines = [Line(head, bold=True), *(_gate(row) for row in shown)]
    if any(UNKNOWN in _bounds(row) for row in shown):
        lines.append(Line(f"?: {UNKNOWN}, more than 300 %"))
    lines += [Line(text) for text in _wrapped(legend(shown))]
    if verbosity > 0:
        told = [row for row in shown if row.detail]
        lines += [Line(text) for row in told for text in _wrapped(f"{row.name}: {row.detail}", indent=2)]
    if view.detectable:
        lines += [Line(text) for text in _wrapped(view.detectable)]
    return lines


def _says_nothing(row: GateRow) -> bool:
    """A p99 of too few requests, an error rate that is what it was."""
    return row.verdict == NOT_GATEABLE or (row.verdict == "unchanged" and row.metric == "error_rate")


def _gate(row: GateRow) -> Line:
    text = (
        f"{_gate_name(row):<{_NAME}}{format_metric(row.metric, row.baseline):>10}"
        f"{format_metric(row.metric, row.now):>10}{signed_pct(row.d_pct):>9}"
        + "".join(f"{'?' if text == UNKNOWN else text:>9}" for text in _bounds(row))
        + f"  {short_of(row.verdict)}"
    )
    return Line(text, mood_of(row.verdict))


def _gate_name(row: GateRow) -> str:
    """``profile:metric``; of a long one the end, which tells the gates apart, stays whole."""
    head, colon, tail = row.name.partition(":")
    return _clip(_clip(head, max(4, _NAME - 1 - len(colon + tail))) + colon + printable(tail), _NAME - 1)


def _bounds(row: GateRow) -> tuple[str, str]:
    """The smallest slowdown that fails, and the largest that is not excluded."""
    return bound_text(row, row.smallest_detectable_pct), bound_text(row, row.at_most_pct)


def _places(places: Sequence[PathChange]) -> list[Line]:
    lines = [Line(f"{'where: p95 in ms':<44}{'baseline':>12}{'now':>12}{'slower':>12}", bold=True)]
    for place in places:
        name = f"{place.profile}:{place.phase} {place.path}"
        lines.append(
            Line(
                f"{_clip(name, 43):<44}{format_metric(place.metric, place.baseline):>12}"
                f"{format_metric(place.metric, place.now):>12}{signed_pct(place.d_pct):>12}"
            )
        )
    return lines


def _cells(view: View, verbosity: int) -> list[Line]:
    lines = [
        Line(
            f"{'medians over the runs':<34}{'req/s':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'errors':>9}",
            bold=True,
        )
    ]
    return lines + [_cell(row) for row in view.cells if verbosity > 0 or not row.is_path]


def _cell(row: CellRow) -> Line:
    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else grouped(value, digits)

    name = f"  {row.name}" if row.is_path else row.name
    errors = "-" if row.error_rate is None else f"{grouped(row.error_rate, 1)} %"
    return Line(
        f"{_clip(name, 33):<34}{number(row.rps, 1):>9}{number(row.p50_ms, 1):>9}"
        f"{number(row.p95_ms, 1):>9}{number(row.p99_ms, 1):>9}{errors:>9}"
    )
