"""The compact Markdown summary that lies beside every artifact; renders on GitHub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.model.text import flat, grouped
from pytest_espperf.report.view import (
    CellRow,
    blamed,
    bound_text,
    finding_text,
    legend,
    make_view,
    signed_pct,
)

MOST_PLACES = 10

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


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numeric_from: int = 1) -> list[str]:
    marks = ["---" if index < numeric_from else "---:" for index in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, marks, *rows)]


def render_markdown(session: SessionArtifact) -> str:
    """Render the session as Markdown; everything that a board or a user sent is escaped."""
    view = make_view(session)
    lines = [f"# Performance of {code(session.target or 'no device')}: {view.verdict}", ""]
    lines += [f"{escape(view.meaning)}.", ""]
    lines += [f"- {name}: {code(value)}" for name, value in view.facts]
    if view.findings:
        lines += ["", "## Findings", ""]
        lines += [f"- **{finding.severity}** {escape(finding_text(finding))}" for finding in view.findings]
    if view.gates:
        lines += ["", "## Gates", ""]
        lines += _table(
            ("gate", "verdict", "baseline", "now", "slower", "fails at", "at most", "runs", "sessions"),
            [
                (
                    code(row.name),
                    escape(row.verdict),
                    _number(row.baseline),
                    _number(row.now),
                    signed_pct(row.d_pct),
                    bound_text(row, row.smallest_detectable_pct),
                    bound_text(row, row.at_most_pct),
                    str(row.rounds or "-"),
                    str(row.sessions),
                )
                for row in view.gates
            ],
            numeric_from=2,
        )
        lines += ["", f"{escape(legend(view.gates))}. {escape(view.detectable)}".strip()]
    if where := blamed(session)[:MOST_PLACES]:
        lines += ["", "## Where", ""]
        lines += _table(
            ("path", "profile:phase", "p95 ms, baseline", "now", "slower"),
            [
                (
                    code(place.path),
                    code(f"{place.profile}:{place.phase}"),
                    _number(place.baseline),
                    _number(place.now),
                    signed_pct(place.d_pct),
                )
                for place in where
            ],
            numeric_from=2,
        )
    if view.cells:
        lines += ["", "## Medians", ""]
        lines += _table(
            (
                "profile:phase / path",
                "req/s",
                "p50 ms",
                "p95 ms",
                "p99 ms",
                "errors %",
                "p95 to previous",
                "req/s to previous",
            ),
            [_cell(row) for row in view.cells],
        )
    if view.next_steps:
        lines += ["", "## Next", ""] + [f"- {escape(step)}" for step in view.next_steps]
    return "\n".join(lines) + "\n"


def _cell(row: CellRow) -> tuple[str, ...]:
    return (
        f"&nbsp;&nbsp;{code(row.name)}" if row.is_path else f"**{escape(row.name)}**",
        _number(row.rps, 1),
        _number(row.p50_ms),
        _number(row.p95_ms),
        _number(row.p99_ms),
        _number(row.error_rate),
        signed_pct(row.p95_change_pct) if not row.is_path else "",
        signed_pct(row.rps_change_pct) if not row.is_path else "",
    )
