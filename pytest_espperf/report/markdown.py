"""The compact Markdown summary that lies beside every artifact; renders on GitHub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pytest_espperf.model.artifact import Finding, GateRow, PathChange, SessionArtifact, Verdict
from pytest_espperf.model.registry import common_unit
from pytest_espperf.model.text import clip, flat, grouped
from pytest_espperf.report.changes import baseline_text, gate_size, others_text, short_list, value_text
from pytest_espperf.report.contest import candidate_rows
from pytest_espperf.report.view import (
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

MOST_PLACES = 10
MOST_GATES = 6
"""Paths and gates of the short tables; all gates stand in the long one."""

MOST_OF_A_NAME = 80
"""Characters of a name in a short table."""

FOLD, UNFOLD = "<details>", "</details>"
"""Ends of what is folded away on GitHub and GitLab."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$@-])")

_LINKED = re.compile(r"(?i):(?=//)|(?<=/)/|(?<=www)\.|(?<=\w)\.(?=[^\W\d])")
"""What makes a link of plain text: ``https://``, ``//host``, ``www.``, ``name.tld``."""

_BLOCK = re.compile(r"^(\d*)(?=[.=])")
"""What makes a list or a heading of a line's beginning: ``1.``, ``===``."""

_GITHUB = re.compile(r"(?i)(\\[@#](?=\w)|\bgh\\-(?=\d))")
"""Mentions, addresses and numbers, for which GitHub searches the rendered page: an escape is gone by then."""

_GAP = "&#8203;"
"""A space of no width, which stands between the sign and the name there."""


def escape(text: str) -> str:
    """Any text as plain Markdown text on one line: no markup, HTML or table cell, no link or mention."""
    escaped = _LINKED.sub(r"\\\g<0>", _SPECIAL.sub(r"\\\1", flat(text)))
    return _GITHUB.sub(rf"\1{_GAP}", _BLOCK.sub(r"\1\\", escaped))


def code(text: str) -> str:
    """Any text as an inline code span that may stand in a table cell."""
    line = flat(text)
    line = line.replace("\\|", "\\ |")  # in a table "\\\\|" is a backslash and the end of the cell
    fence = "`" * (max((len(run) for run in re.findall(r"`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", "\\|")


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else grouped(value, digits)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numeric_from: int = 1) -> list[str]:
    """Lay out a table; cells of the columns from ``numeric_from`` on are figures, on the right."""
    marks = ["---" if index < numeric_from else "---:" for index in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, marks, *rows)]


def candidate_markdown(session: SessionArtifact) -> list[str]:
    """Lay out the firmwares among which an answer was looked for; [] where there are none."""
    rows = candidate_rows(session.contest) if session.contest is not None else []
    shown = [(row[-1], *row[:-1]) for row in rows]  # the text first: the other columns are figures
    named = [
        tuple(escape(clip(cell, MOST_OF_A_NAME)) for cell in (label, text, *figures))
        for text, label, *figures in shown
    ]
    return table(named[0], named[1:], numeric_from=2) if named else []


def gate_table(rows: Iterable[GateRow], view: View) -> list[str]:
    """Lay out a short table of gates: the baseline's value, this session's, and the change.

    Args:
        rows: the gates.
        view: of their session.
    """
    return table(
        ("gate", "verdict", *view.sides, "change"),
        [
            (
                code(clip(row.name, MOST_OF_A_NAME)),
                escape(view.word(row)),
                value_text(row.described, row.baseline),
                value_text(row.described, row.now),
                gate_size(row) or "-",
            )
            for row in rows
        ],
        numeric_from=2,
    )


def baseline_sentence(verdict: Verdict, shown: Sequence[GateRow], words: Mapping[str, str]) -> str:
    """Explain a short table of gates: what the baseline is, and what is left out; "" for nothing.

    Args:
        verdict: of the session.
        shown: the gates of the table.
        words: what verdicts are called that are not called by their own word.
    """
    against = baseline_text(verdict)
    parts = [f"the baseline is {against}" if against else "", others_text(verdict, shown, words)]
    return ". ".join(escape(part[:1].upper() + part[1:]) for part in parts if part) + (
        "." if any(parts) else ""
    )


def render_markdown(session: SessionArtifact) -> str:
    """Render the session as Markdown; everything that a board or a user sent is escaped.

    The answer comes first: verdict, size, from what to what, where, what next. All else stands below a fold.
    """
    view = make_view(session)
    lines = [f"# Performance of {code(session.target or 'no device')}: {view.verdict}", ""]
    lines += [f"**{view.verdict.upper()}**: {escape(view.meaning)}.", ""]
    if session.gate is not None and (shown := short_list(session.gate, MOST_GATES)):
        lines += [*gate_table(shown, view), ""]
        if rest := baseline_sentence(session.gate, shown, view.words):
            lines += [rest, ""]
    if candidates := candidate_markdown(session):
        lines += [*candidates, ""]
    lines += _section("Findings", _finding_lines(one for one in view.findings if one.severity != "info"))
    lines += _section("Where", _place_table(view, blamed(session)[:MOST_PLACES]))
    lines += _section("Next", [f"- {escape(step)}" for step in view.next_steps])
    lines += [FOLD, "<summary>Session, all gates and medians</summary>", ""]
    lines += [*(f"- {name}: {code(value)}" for name, value in view.facts), ""]
    lines += _section("More findings", _finding_lines(one for one in view.findings if one.severity == "info"))
    lines += _section("Gates", _gates(view))
    lines += _section("Medians", _medians(view))
    lines += _section("Figures", _figures(view))
    return "\n".join([*lines, UNFOLD]) + "\n"


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""] if lines else []


def _finding_lines(findings: Iterable[Finding]) -> list[str]:
    return [f"- **{finding.severity}** {escape(finding_text(finding))}" for finding in findings]


def _place_table(view: View, places: Sequence[PathChange]) -> list[str]:
    if not places:
        return []
    return table(
        ("path", "profile:phase", f"p95 ms, {view.sides[0]}", view.sides[1], "slower"),
        [
            (
                code(place.path),
                code(f"{place.profile}:{place.phase}"),
                _number(place.baseline),
                _number(place.now),
                signed_pct(place.d_pct),
            )
            for place in places
        ],
        numeric_from=2,
    )


def _gates(view: View) -> list[str]:
    if not view.gates:
        return []
    rows = [
        (
            code(row.name),
            escape(view.word(row)),
            _gate_value(row, row.baseline),
            _gate_value(row, row.now),
            view.change(row),
            *_bounds(view, row),
            str(row.rounds or "-"),
            *([] if view.intervals else [str(row.sessions)]),
        )
        for row in view.gates
    ]
    known = ("slower", "fails at", "at most", "runs", "sessions")
    head = ("gate", "verdict", *view.sides, *(("change", "interval", "pairs") if view.intervals else known))
    below = f"{escape(legend(view.gates, intervals=view.intervals))}. {escape(view.detectable)}".strip()
    return [*table(head, rows, numeric_from=2), "", below]


def _bounds(view: View, row: GateRow) -> list[str]:
    if view.intervals:
        return [interval_text(row)]
    return [bound_text(row, row.smallest_detectable_pct), bound_text(row, row.at_most_pct)]


def _gate_value(row: GateRow, value: float | None) -> str:
    return format_metric(row.described, value) if row.is_own else _number(value)


def _figures(view: View) -> list[str]:
    if not view.figures:
        return []
    rows = [
        (code(one.name), escape(one.metric.label), escape(one.metric.format(one.value)))
        for one in view.figures
    ]
    return table(("of", "figure", "median"), rows, numeric_from=2)


def _medians(view: View) -> list[str]:
    if not view.cells:
        return []
    unit = common_unit(row.unit for row in view.cells)
    head = ("profile:phase / path", unit, "p50 ms", "p95 ms", "p99 ms", "errors %")
    return table(head, [_cell(row, unit) for row in view.cells])


def _cell(row: CellRow, unit: str) -> tuple[str, ...]:
    return (
        f"&nbsp;&nbsp;{code(row.name)}" if row.is_path else f"**{escape(row.name)}**",
        row.rate(unit),
        _number(row.p50_ms),
        _number(row.p95_ms),
        _number(row.p99_ms),
        _number(row.error_rate),
    )
