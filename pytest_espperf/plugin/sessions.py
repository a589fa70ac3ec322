"""The sessions of a pytest run, made from its options.

Imported once a run has a perf test: this module loads what a measurement needs (httpx, asyncio, msgspec).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_espperf.config.settings import Settings
from pytest_espperf.history.shared.sharing import Sharing
from pytest_espperf.session.boards import named_boards
from pytest_espperf.session.folder import sharing_of
from pytest_espperf.session.session import PerfSession
from pytest_espperf.session.worker import Worker

LIVE_S = 1.0
"""Seconds between two lines of a running phase on a terminal, which take each other's place."""


def make_sessions(
    settings: Settings, rootpath: Path, say: Callable[[str], None], watch: Callable[[str], None] | None
) -> tuple[Sharing, dict[str, PerfSession]]:
    """Make the session of each board, by its name, and the history that they share; nothing is touched yet.

    Args:
        settings: the options of the run.
        rootpath: pytest's root directory.
        say: writes a line of progress.
        watch: writes the line of the running phase; None where the output is no terminal.

    Raises:
        UsageError: a bad option, profile or rule.
    """
    boards = named_boards(settings, rootpath)
    sharing = sharing_of(settings, rootpath)
    return sharing, {
        board.name: PerfSession(
            board.settings,
            rootpath,
            sharing=sharing,
            boards=len(boards),
            board=board.name,
            place=board.place,
            say=say,
            watch=watch,
            watch_s=LIVE_S if watch is not None else float("inf"),
        )
        for board in boards
    }


def make_workers(
    settings: Settings, rootpath: Path, given: Mapping[str, Mapping[str, Any]]
) -> dict[str, Worker]:
    """Make what drives the boards in a worker of pytest-xdist, by the name of the board.

    Args:
        settings: the options of the run.
        rootpath: pytest's root directory.
        given: by board, what the controller hands to :class:`pytest_espperf.session.worker.Worker`.
    """
    boards = named_boards(settings, rootpath)
    return {
        board.name: Worker(
            board.settings,
            rootpath,
            boards=len(boards),
            board=board.name,
            place=board.place,
            **given[board.name],
        )
        for board in boards
        if board.name in given
    }
