"""The static site of ``--perf-site``: a page over the history, and a report of each of its newest sessions.

A report is drawn once; the page over the history each time. Every file replaces the old one in one rename, so
that a web server may serve the folder meanwhile, and several benches may keep one site of a shared history.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from pytest_espperf.history import HistoryStore
from pytest_espperf.history.rows import Query, SessionRow
from pytest_espperf.output.reports import write_history, write_report
from pytest_espperf.output.trends import gather_history
from pytest_espperf.system import regular

INDEX, REPORTS = "index.html", "sessions"

MOST_REPORTS = 100
"""Reports that are drawn of the newest sessions; reports stay, whatever becomes of their session."""


def update_site(folder: Path, store: HistoryStore) -> Path:
    """Bring a site up to date with a history.

    Args:
        folder: of the site; it is created where it is missing.
        store: the history; its unreadable sessions get no report.

    Returns:
        its first page.

    Raises:
        HistoryError: the history cannot be read.
        UsageError: a file cannot be written.
    """
    reports = folder / REPORTS
    for row in store.select(Query(limit=MOST_REPORTS)):
        path = reports / _name(row)
        if not regular.exists(path) and (entry := store.entry_of(row)) is not None:
            write_report(entry.artifact, store, path, home=f"../{INDEX}")
    there = {path.name for path in reports.glob("*.html")}

    def link(row: SessionRow) -> str:
        name = _name(row)
        return f"{REPORTS}/{quote(name)}" if name in there else ""

    write_history(gather_history(store, link=link), folder / INDEX)
    return folder / INDEX


def _name(row: SessionRow) -> str:
    return f"{row.name.removesuffix('.json')}.html"
