"""The summary at the end of a session, in 80 columns of plain text; the caller adds colour."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from pytest_espperf.artifact import GateRow, SessionArtifact
from pytest_espperf.report.view import (
    MOODS,
    CellRow,
    Mood,
    View,
    finding_text,
    format_metric,
    make_view,
    signed_pct,
)

WIDTH = 80

_SEVERITY_MOODS: dict[str, Mood] = {"fail": "bad", "warn": "warn", "info": "plain"}


@dataclass(frozen=True)
class Line:
    """One line and how it is meant."""

    text: str
    mood: Mood = "plain"
    bold: bool = False


def printable(text: str) -> str:
    """Text that cannot move the cursor or colour the terminal, whatever a board sent."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _clip(text: str, width: int) -> str:
    text = printable(text)
    return text if len(text) <= width else text[: width - 1] + "…"


def render_terminal(session: SessionArtifact, *, verbosity: int = 0) -> list[Line]:
    """The lines of the summary: verdict, gates, where, findings, what to do next.

    Args:
        session: with its verdict.
        verbosity: as pytest's: below 0 the verdict and findings alone, above 0 paths of every cell.
    """
    view = make_view(session)
    lines = [Line(f"{view.verdict.upper()}: {view.meaning}", view.mood, bold=True)]
    lines += [
        Line(f"  {finding.severity}: {printable(finding_text(finding))}", _SEVERITY_MOODS[finding.severity])
        for finding in view.findings
    ]
    if verbosity < 0:
        return lines
    if view.gates:
        lines += [Line(""), *_gates(view)]
    if view.cells:
        lines += [Line(""), *_cells(view, verbosity)]
    if view.next_steps:
        lines.append(Line(""))
        lines += [Line(f"next: {step}") for step in view.next_steps]
    return lines


def _gates(view: View) -> list[Line]:
    lines = [
        Line(
            f"{'gate':<22}{'baseline':>12}{'now':>12}{'slower':>9}{'fails at':>9}  verdict",
            bold=True,
        )
    ]
    lines += [_gate(row) for row in view.gates]
    if view.detectable:
        lines += [Line(text) for text in textwrap.wrap(view.detectable, WIDTH)]
    return lines


def _gate(row: GateRow) -> Line:
    change = signed_pct(row.d_pct)
    limit = "-" if row.threshold_pct is None else f"{row.threshold_pct:.1f} %"
    text = (
        f"{_clip(row.name, 22):<22}{format_metric(row.metric, row.baseline):>12}"
        f"{format_metric(row.metric, row.now):>12}{change:>9}{limit:>9}  {row.verdict}"
    )
    return Line(text, MOODS.get(row.verdict, "plain"))


def _cells(view: View, verbosity: int) -> list[Line]:
    lines = [
        Line(
            f"{'medians over the runs':<34}{'req/s':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'errors':>9}",
            bold=True,
        )
    ]
    failing = {row.profile for row in view.gates if MOODS.get(row.verdict) == "bad"}
    profile = ""
    for row in view.cells:
        if not row.is_path:
            profile = row.name.partition(":")[0]
        elif verbosity <= 0 and profile not in failing:
            continue
        lines.append(_cell(row))
    return lines


def _cell(row: CellRow) -> Line:
    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:,.{digits}f}"

    name = f"  {row.name}" if row.is_path else row.name
    errors = "-" if row.error_rate is None else f"{row.error_rate:.1f} %"
    return Line(
        f"{_clip(name, 33):<34}{number(row.rps, 1):>9}{number(row.p50_ms, 1):>9}"
        f"{number(row.p95_ms, 1):>9}{number(row.p99_ms, 1):>9}{errors:>9}"
    )
