"""HTML reports of ``--perf-report`` and ``espperf report``: their data is gathered, drawn and written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from urllib.parse import quote_from_bytes

from pytest_espperf.errors import UsageError
from pytest_espperf.gate import host_finding
from pytest_espperf.gate.series import COMPOSITES
from pytest_espperf.history import HistoryStore
from pytest_espperf.history.names import OrderKey, clean_tag
from pytest_espperf.history.rows import Query, SessionRow, keys_of, row_of
from pytest_espperf.model import metrics
from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.output.files import write_file
from pytest_espperf.output.trends import make_own_trend, make_trend, some_metrics, trend_sessions
from pytest_espperf.report.boards import Ended, make_overview
from pytest_espperf.report.html.data import (
    Course,
    Distribution,
    Excerpt,
    HistoryPage,
    ReportData,
    Trend,
    TrendSession,
)
from pytest_espperf.report.view import make_view
from pytest_espperf.system import regular

MOST_SESSIONS = 1000
"""The newest sessions of a history that are drawn."""

BEFORE, AFTER = 4, 20
"""Lines of a serial log before and after a fatal event."""

MOST_EXCERPTS = 10
MOST_LOG_BYTES = 8 * 1024 * 1024


def check_installed(source: str) -> None:
    """Make sure that a report can be drawn.

    Raises:
        UsageError: jinja2 is missing; the message names the command that installs it.
    """
    try:
        import jinja2  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise UsageError(f"{source}: a page needs jinja2: pip install 'pytest-espperf[report]'") from None


def write_report(session: SessionArtifact, store: HistoryStore, path: Path, home: str = "") -> None:
    """Draw the HTML report of a session into a file.

    Args:
        session: with its verdict.
        store: the history around it; a folder that is not there has none.
        path: of the file; one that exists is replaced.
        home: URL of the page over the history, relative to this one; "" where there is none.

    Raises:
        HistoryError: the history cannot be read.
        UsageError: the file cannot be written.
    """
    from pytest_espperf.report.html.page import render_html  # noqa: PLC0415 - jinja2, an extra

    write_file(path, render_html(gather(session, store), home).encode("utf-8", "replace"))


def write_overview(boards: Mapping[str, Ended], path: Path) -> None:
    """Draw the page over the boards of a run into a file.

    Args:
        boards: at least one, by its name.
        path: of the file; one that exists is replaced.

    Raises:
        UsageError: the file cannot be written.
    """
    from pytest_espperf.report.html.page import render_overview  # noqa: PLC0415 - jinja2, an extra

    host = host_finding({board: ended.session for board, ended in boards.items()})
    write_file(path, render_overview(make_overview(boards, host)).encode("utf-8", "replace"))


def write_history(page: HistoryPage, path: Path) -> None:
    """Draw the page over a history into a file.

    Args:
        page: the data.
        path: of the file; one that exists is replaced.

    Raises:
        UsageError: the file cannot be written.
    """
    from pytest_espperf.report.html.page import render_history  # noqa: PLC0415 - jinja2, an extra

    write_file(path, render_history(page).encode("utf-8", "replace"))


def link(page: Path, file: Path) -> str:
    """Make the URL of a file relative to a page; "" where the file is not below the page's folder."""
    try:
        below = file.resolve().relative_to(page.parent.resolve())
    except (OSError, ValueError, RuntimeError):
        return ""
    return quote_from_bytes(os.fsencode(below.as_posix()))


def gather(session: SessionArtifact, store: HistoryStore) -> ReportData:
    """Gather the data that the report of a session is drawn from.

    Raises:
        HistoryError: the history cannot be read.
    """
    rows = _comparable_rows(session, store)
    shown = rows[-MOST_SESSIONS:]
    wanted = _baseline_of(session)
    baseline = [row for row in rows if row.session_id in wanted]
    return ReportData(
        session=session,
        compared=tuple(trend_sessions(baseline).values()),
        trends=tuple(_trends(session, shown, trend_sessions(shown, session.session_id))),
        distributions=tuple(_distributions(session, store, baseline)),
        courses=tuple(_courses(session)),
        excerpts=tuple(_excerpts(session, _log_of(session, store))),
        left_out=len(rows) - len(shown),
    )


def _baseline_of(session: SessionArtifact) -> set[str]:
    """Ids of the sessions that a session was compared with."""
    named = session.gate.baseline.get("sessions") if session.gate is not None else None
    return {one for one in named if isinstance(one, str)} if isinstance(named, list) else set()


def _comparable_rows(session: SessionArtifact, store: HistoryStore) -> list[SessionRow]:
    """List the completed comparable sessions, oldest first, and this one, saved or not."""
    rows: list[SessionRow] = []
    if session.comparability is not None:
        query = Query(
            comparable_with=session.comparability, completed_only=True, newest_first=False, details=True
        )
        rows = store.select(query)
    if all(row.session_id != session.session_id for row in rows):
        rows.append(row_of(session, OrderKey(session.timestamp_utc, 1, "")))
    return rows


def _trends(
    session: SessionArtifact, rows: Sequence[SessionRow], sessions: Mapping[str, TrendSession]
) -> Iterator[Trend]:
    keys = keys_of(session.comparability)
    for profile in _worst_first(session):
        alike = [row for row in rows if profile in keys.common(row) or row.session_id == session.session_id]
        for metric in (*COMPOSITES, *some_metrics(alike[-1:], profile)):
            trend = make_trend("", profile, metric, alike, sessions.__getitem__)
            if trend is not None:
                yield trend
    for name in session.figures:
        trend = make_own_trend("", name, rows, sessions.__getitem__)
        if trend is not None:
            yield trend


def _worst_first(session: SessionArtifact) -> list[str]:
    """List the measured profiles, those of the worst gates first."""
    measured = dict.fromkeys(cell.profile for cell in session.aggregated.values())
    judged = dict.fromkeys(row.profile for row in make_view(session).gates if row.profile in measured)
    return list({**judged, **measured})


def _distributions(
    session: SessionArtifact, store: HistoryStore, rows: Sequence[SessionRow]
) -> Iterator[Distribution]:
    """Distribution of each cell, beside that of the rows of the baseline."""
    baseline = [_histograms(one) for one in store.load_rows(rows)]
    for cell, histograms in _histograms(session).items():
        before = [text for one in baseline for text in one.get(cell, ())]
        yield Distribution(cell, metrics.percentile_curve(histograms), metrics.percentile_curve(before))


def _histograms(session: SessionArtifact) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for run in session.raw_runs:
        for result in run.results if run.role == "run" else ():
            if result.report.histogram:
                found.setdefault(f"{result.profile}:{result.phase}", []).append(result.report.histogram)
    return found


def _courses(session: SessionArtifact) -> Iterator[Course]:
    for cell in session.aggregated:
        runs = tuple(
            (f"{run.role} {run.run_index}", result.report)
            for run in session.raw_runs
            for result in run.results
            if f"{result.profile}:{result.phase}" == cell and run.role != "reference"
        )
        if any(report.timeline is not None for _, report in runs):
            yield Course(cell, runs)


def _excerpts(session: SessionArtifact, log: Path | None) -> Iterator[Excerpt]:
    """Excerpt the console around each fatal event, from its log; without a log, from the session itself."""
    lines = _lines(log)
    place = 0
    fatal = (
        (f"{run.role} {run.run_index} {result.profile}:{result.phase}", event)
        for run in session.raw_runs
        for result in run.results
        for event in result.report.events
        if event.fatal
    )
    for title, event in islice(fatal, MOST_EXCERPTS):
        line = event.text.partition(": ")[2].partition(" | ")[0] or event.text
        found = next((at for at in range(place, len(lines)) if line in lines[at]), None)
        if found is None:
            yield Excerpt(f"{title}, {event.at_s:.1f} s", (event.text,))
        else:
            place = found + 1
            around = lines[max(0, found - BEFORE) : found + AFTER]
            yield Excerpt(f"{title}, {event.at_s:.1f} s", tuple(around))


def _log_of(session: SessionArtifact, store: HistoryStore) -> Path | None:
    """Find the console's log; None where the session's id, which may be any text, is no file name."""
    own = session.session_id
    return store.folder / f"serial_{own}.log" if own and own == clean_tag(own) else None


def _lines(log: Path | None) -> list[str]:
    """Read the last lines of a log; [] where there is none."""
    try:
        data = regular.read_end(log, MOST_LOG_BYTES) if log is not None else b""
    except (OSError, ValueError):
        return []
    return data.decode("utf-8", "replace").splitlines()
