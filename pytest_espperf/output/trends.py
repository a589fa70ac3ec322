"""Gates over the sessions of a history: for the report of a session, and for the page over all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from pytest_espperf.gate.series import COMPOSITES
from pytest_espperf.history import HistoryStore
from pytest_espperf.history.rows import MEDIANS, Query, SessionRow
from pytest_espperf.model.artifact import Json
from pytest_espperf.model.gates import MAIN_METRIC, divided, of_throughput
from pytest_espperf.model.registry import METRICS, Metric, find_metric, own_gate
from pytest_espperf.model.verdicts import FAILING, NOT_SLOWER, UNJUDGED
from pytest_espperf.output.steps import with_changes
from pytest_espperf.report.html.data import (
    OTHER_WORKLOAD,
    HistoryPage,
    PointKind,
    Trend,
    TrendPoint,
    TrendSession,
)
from pytest_espperf.report.layout import short_commit

SHOWN_OF_A_COMMIT = 8

MOST_SESSIONS = 5000
"""The newest sessions of a history that the page over all shows."""

Link = Callable[[SessionRow], str]


def gather_history(store: HistoryStore, board: str = "", link: Link | None = None) -> HistoryPage:
    """Gather the data of the page over the history of a board, or of all boards.

    Args:
        store: the history.
        board: its identity or its address; "" for all boards.
        link: finds the URL of a session's own report; "" where there is none.

    Raises:
        HistoryError: the history cannot be read.
    """
    query = Query(board=board or None, limit=MOST_SESSIONS, details=True)
    rows = store.select(query)[::-1]
    sessions = {row.name: _session(row, link=link(row) if link else "") for row in rows}
    by_board: dict[str, list[SessionRow]] = {}
    for row in rows:
        if row.completed:
            by_board.setdefault(row.board, []).append(row)
    trends = [
        with_changes(trend)
        for name in sorted(by_board)
        for trend in _of_board(name, by_board[name], sessions.__getitem__)
    ]
    return HistoryPage(tuple(sessions.values()), tuple(trends))


def trend_sessions(rows: Sequence[SessionRow], this: str = "") -> dict[str, TrendSession]:
    """Describe sessions in a few words, by the name of their file.

    Args:
        rows: the sessions.
        this: id of the session of the report.
    """
    return {row.name: _session(row, is_this=row.session_id == this) for row in rows}


def make_trend(
    board: str, profile: str, metric: str, rows: Sequence[SessionRow], sessions: Callable[[str], TrendSession]
) -> Trend | None:
    """Make the history of one gate; None where no session has a value.

    Args:
        board: whose gate it is.
        profile: of the gate.
        metric: likewise.
        rows: with details, oldest first.
        sessions: finds the words for a session, by the name of its file.
    """
    points = []
    before: SessionRow | None = None
    for row in rows:
        point = _point(row, profile, metric, sessions(row.name), _opens(before, row, profile))
        if point is not None:
            points.append(point)
            before = row
    unit = next((row.units.get(profile, "") for row in reversed(rows) if profile in row.profiles), "")
    return (
        Trend(board, profile, metric, tuple(points), unit=unit if metric == MAIN_METRIC else "")
        if points
        else None
    )


def make_own_trend(
    board: str, name: str, rows: Sequence[SessionRow], sessions: Callable[[str], TrendSession]
) -> Trend | None:
    """Make the history of a figure of the firmware's own, in the unit that the newest session has it in.

    Arguments as of :func:`make_trend`; None where no session has a value.
    """
    unit, better, _ = next(
        (row.own[name] for row in reversed(rows) if row.own and name in row.own), ("", "", 0.0)
    )
    metric = find_metric(name, unit, better)
    if metric is None:
        return None
    points = []
    before: SessionRow | None = None
    for row in rows:
        found = (row.own or {}).get(name)
        if found is None or found[:2] != (unit, better):
            continue
        gate = (row.gates or {}).get(own_gate(name), {})
        opens = row.verdict if row.accepted is None else "accepted"
        opens = opens if before is not None and row.opens_epoch else ""
        points.append(_trend_point(row, metric, found[2], sessions(row.name), gate=gate, opens=opens))
        before = row
    return Trend(board, "", name, tuple(points), unit=unit, better=better) if points else None


def _of_board(
    board: str, rows: Sequence[SessionRow], sessions: Callable[[str], TrendSession]
) -> Iterator[Trend]:
    """Make the trends of a board's gates, those of the profiles measured last first."""
    profiles = dict.fromkeys(name for row in reversed(rows) for name in row.profiles)
    judged = {str(gate.get("metric")) for row in rows for gate in (row.gates or {}).values()}
    metrics = [*COMPOSITES, *(name for name in MEDIANS if name in judged and name not in COMPOSITES)]
    for profile in profiles:
        own = [row for row in rows if profile in row.profiles]
        for metric in (*metrics, *some_metrics(own, profile)):
            trend = make_trend(board, profile, metric, own, sessions)
            if trend is not None:
                yield trend
    for name in own_names(rows):
        trend = make_own_trend(board, name, rows, sessions)
        if trend is not None:
            yield trend


def some_metrics(rows: Sequence[SessionRow], profile: str) -> list[str]:
    """List the metrics that only some phases have, as far as a profile has them in any of the sessions."""
    had = {
        name
        for row in rows
        for cell, medians in (row.medians or {}).items()
        if cell.partition(":")[0] == profile
        for name in medians
    }
    return [name for name, metric in METRICS.items() if metric.only_some and name in had]


def own_names(rows: Sequence[SessionRow]) -> list[str]:
    """List the firmware's own figures of the sessions, those measured last first."""
    return list(dict.fromkeys(name for row in reversed(rows) for name in (row.own or {})))


def _session(row: SessionRow, *, is_this: bool = False, link: str = "") -> TrendSession:
    return TrendSession(
        file=row.name,
        when=_when(row.stamp),
        session_id=row.session_id,
        board=row.board,
        tag=row.tag,
        verdict=row.verdict or UNJUDGED,
        commit=short_commit(row.commit, SHOWN_OF_A_COMMIT, dirty=row.dirty),
        firmware=row.firmware,
        worst_pct=row.worst_pct,
        is_this=is_this,
        link=link,
        moment=_moment(row.stamp),
    )


def _opens(before: SessionRow | None, row: SessionRow, profile: str) -> str:
    """Name the reason why the sessions before this one are no baseline of later ones; "" where they are."""
    if before is None:
        return ""
    if row.opens_epoch:
        return "accepted" if row.accepted is not None else row.verdict
    now, then = (row.base_key, row.profiles.get(profile)), (before.base_key, before.profiles.get(profile))
    return OTHER_WORKLOAD if now != then else ""


def _point(
    row: SessionRow, profile: str, metric: str, session: TrendSession, opens: str
) -> TrendPoint | None:
    gate = (row.gates or {}).get(f"{profile}:{metric}", {})
    value = _composite(row, profile, metric)
    if value is None:
        return None
    return _trend_point(row, METRICS[metric], value, session, gate=gate, opens=opens)


def _trend_point(
    row: SessionRow, metric: Metric, value: float, session: TrendSession, *, gate: Json, opens: str
) -> TrendPoint:
    # A gate leaves out phases that the generator paced: only its ratios fit to other sessions' figures.
    change, threshold = gate.get("d_pct"), gate.get("smallest_detectable_pct")
    baseline = limit = None
    if change is not None and change > -100 and metric.name != "error_rate":  # that one changes in points
        baseline = _slower(value, metric, 1 / (1 + change / 100))
        limit = _slower(baseline, metric, 1 + threshold / 100) if threshold and threshold > -100 else None
    verdict = gate.get("verdict", "")
    return TrendPoint(
        session=session,
        value=value,
        kind=_kind(row, verdict),
        verdict=verdict,
        baseline=baseline,
        limit=limit,
        d_pct=divided(metric, change) if change is not None else None,
        opens=opens,
    )


def _kind(row: SessionRow, verdict: str) -> PointKind:
    if row.accepted is not None:
        return "accepted"
    if row.pinned:
        return "pinned"
    if row.in_history:
        return "history"
    if row.verdict in FAILING and verdict in NOT_SLOWER:
        return "elsewhere"
    return "failing" if row.verdict in FAILING else "doubtful"


def _slower(value: float, metric: Metric, factor: float) -> float:
    """Make a value slower by a factor."""
    return value * factor if metric.better == "lower" else value / factor


def _composite(row: SessionRow, profile: str, metric: str) -> float | None:
    """Compute the geometric mean over the phases, of the medians over the runs; of errors, the worst."""
    cells = {name: cell for name, cell in (row.medians or {}).items() if name.partition(":")[0] == profile}
    chosen = of_throughput({name: name in row.paced for name in cells}) if metric == MAIN_METRIC else cells
    medians = [cells[name].get(metric) for name in chosen]
    known = [value for value in medians if value is not None]
    if not known or (len(known) < len(medians) and not METRICS[metric].only_some):
        return None
    if metric == "error_rate":
        return max(known)
    if min(known) <= 0:
        return None
    return math.exp(math.fsum(map(math.log, known)) / len(known))


def _moment(stamp: str) -> str:
    """Format ``20260131T235959Z`` as ``2026-01-31T23:59:59Z``."""
    day = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}"
    return (
        f"{day}T{stamp[9:11]}:{stamp[11:13]}:{stamp[13:15]}Z" if len(stamp) == len("20260131T235959Z") else ""
    )


def _when(stamp: str) -> str:
    """Format ``20260131T235959Z`` as ``2026-01-31 23:59``."""
    return f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]} {stamp[9:11]}:{stamp[11:13]}"
