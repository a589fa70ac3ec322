"""``espperf report``: the HTML report of a session."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_espperf.cli.common import SESSION_HELP, add_command, say
from pytest_espperf.cli.history import find_session, history_of, open_history
from pytest_espperf.errors import UsageError
from pytest_espperf.history.names import clean_tag
from pytest_espperf.output.reports import check_installed, write_report
from pytest_espperf.system import regular
from pytest_espperf.system.homes import expand_user


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    report = add_command(
        commands,
        "report",
        _report,
        "draw the HTML report of a session: one file that opens anywhere",
        history=True,
    )
    report.add_argument("session", nargs="?", default="latest", help=f"{SESSION_HELP}; default: latest")
    report.add_argument(
        "-o", "--output", metavar="PATH.html", help="default: espperf-<id>.html in this folder"
    )


def _report(arguments: argparse.Namespace) -> int:
    check_installed("espperf report")
    session = find_session(arguments, arguments.session)
    # An id is any text: it may become a part of a file's name, and nothing else of a path.
    usual = f"espperf-{clean_tag(session.session_id[:8]) or 'session'}.html"
    path = Path(expand_user(arguments.output or usual, "--output"))
    if regular.is_folder(path):
        raise UsageError(f"--output: {path} is a folder: name a file")
    shared = history_of(arguments)
    # A session's own file needs no history around it; there may be none.
    write_report(session, open_history(arguments) if shared.sync is not None else shared.store, path)
    say(str(path))
    return 0
