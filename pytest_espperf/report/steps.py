"""Where steps began, in words: the session, its commit and firmware, and what changed by how much. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_espperf.model.text import printable
from pytest_espperf.report.changes import pair_text, size_text
from pytest_espperf.report.html.data import LevelChange, Trend, TrendSession

MOST = 5
"""Sessions that are named, the newest first."""


def gathered(trends: Sequence[Trend]) -> list[tuple[TrendSession, list[tuple[Trend, LevelChange]]]]:
    """Gather what changed at each session, the newest session first; the largest change of each first."""
    found: dict[str, tuple[TrendSession, list[tuple[Trend, LevelChange]]]] = {}
    for trend in trends:
        for change in trend.changes:
            session = trend.points[change.at].session
            found.setdefault(session.file, (session, []))[1].append((trend, change))
    for _, changes in found.values():
        changes.sort(key=lambda one: -abs(one[1].d_pct))
    return sorted(found.values(), key=lambda one: (one[0].moment, one[0].file), reverse=True)


def change_text(trend: Trend, change: LevelChange) -> str:
    """Describe one change: ``python_heavy:rps_ok 12 % slower (72 -> 64 req/s)``."""
    metric = trend.described
    size = size_text(metric, change.before, change.after, change.d_pct)
    pair = pair_text(metric, change.before, change.after)
    return f"{printable(trend.name)} {size}{f' ({pair})' if pair else ''}"


def session_text(session: TrendSession) -> str:
    """Name a session: ``2026-01-07 12:00 (session 1a2b3c4d, commit 5e6f7a8b, firmware 1.1)``."""
    facts = [f"session {session.session_id[:8]}"] if session.session_id else []
    facts += [f"commit {session.commit}"] if session.commit else []
    facts += [f"firmware {session.firmware}"] if session.firmware else []
    return printable(f"{session.when} ({', '.join(facts)})" if facts else session.when)


def step_lines(trends: Sequence[Trend], most: int = MOST) -> list[str]:
    """Say at which sessions levels changed, one line each."""
    boards = {trend.board for trend in trends}
    steps = gathered(trends)
    lines = []
    for session, changes in steps[:most]:
        where = f" on {printable(session.board)}" if len(boards) > 1 else ""
        what = "; ".join(change_text(trend, change) for trend, change in changes)
        lines.append(f"a step began{where} at {session_text(session)}: {what}")
    if len(steps) > most:
        lines.append(f"and {len(steps) - most} earlier: --json has all of them")
    return lines
