"""``espperf show``: one session."""

from __future__ import annotations

import argparse
from typing import Any

from pytest_espperf.cli.common import SESSION_HELP, add_command, print_lines
from pytest_espperf.cli.history import find_session
from pytest_espperf.cli.json_lines import print_json
from pytest_espperf.report import Line, make_view, render_terminal


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    show = add_command(commands, "show", _show, "show one session", history=True)
    show.add_argument("session", metavar="SESSION", help=SESSION_HELP)
    show.add_argument("--json", action="store_true", help="the whole artifact as one JSON object")
    show.add_argument(
        "-v", "--verbose", action="store_true", help="settings of the session and every path, as well"
    )


def _show(arguments: argparse.Namespace) -> int:
    session = find_session(arguments, arguments.session)
    if arguments.json:
        print_json(session, spread=True)
        return 0
    lines = render_terminal(session, verbosity=int(arguments.verbose))
    if arguments.verbose:
        facts = [Line(f"{name:<10}{value}") for name, value in make_view(session).facts]
        lines += [Line(""), *facts]
    print_lines(lines)
    return 0
