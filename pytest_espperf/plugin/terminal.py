"""pytest's terminal: lines of ours on it, and a run that does not depend on who reads it."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import pytest
from _pytest._code import TracebackEntry

from pytest_espperf.model.text import inert
from pytest_espperf.system.streams import guarded


def guard_terminal(config: pytest.Config) -> None:
    """Let a run that measures a board go on where nobody reads its output, or the disk behind it is full."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return
    before = sys.stdout
    guard = ExitStack()
    guard.enter_context(guarded("stdout"))
    config.add_cleanup(guard.close)
    writer = config.get_terminal_writer()
    if writer._file is before:  # noqa: SLF001 - pytest's object: there is no public way
        writer._file = sys.stdout  # noqa: SLF001 - likewise


def write_line(reporter: pytest.TerminalReporter, text: str, **markup: bool) -> None:
    """Write one line of ours, made plain whatever a board or a file put into it."""
    reporter.write_line(inert(text), **markup)


def drop_unplaced(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Leave out of a traceback what has no line, unless that is all of it.

    From Python 3.11 on some instructions belong to no line. If Ctrl-C interrupts one, pytest cannot show
    where it was, and would end with a traceback of its own.
    """
    placed = excinfo.traceback.filter(_has_line)
    if placed:
        excinfo.traceback = placed


def _has_line(entry: TracebackEntry) -> bool:
    try:
        return entry.lineno >= 0
    except TypeError:  # None, of which it subtracts 1
        return False
