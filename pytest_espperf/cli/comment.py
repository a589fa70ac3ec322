"""``espperf comment``: the comment on a pull request about a session."""

from __future__ import annotations

import argparse
import io
import re
import sys
from typing import Any

from pytest_espperf.cli.common import SESSION_HELP, add_command, checked, print_data
from pytest_espperf.cli.history import find_session
from pytest_espperf.cli.json_lines import print_json
from pytest_espperf.report.comment import describe_comment, render_comment


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    comment = add_command(
        commands,
        "comment",
        _comment,
        "print a short comment on a pull request: Markdown with the verdict, the gates that changed from the "
        "baseline, where, and what next. Its first line is hidden and names the board, so that a bot can "
        "find the comment again and replace it.",
        history=True,
    )
    comment.add_argument(
        "session", metavar="SESSION", nargs="?", default="latest", help=f"{SESSION_HELP}; default: latest"
    )
    comment.add_argument(
        "--link",
        type=checked(_link),
        action="append",
        default=[],
        metavar="TEXT=URL",
        help="a link below the table, as 'HTML report=https://example.org/perf.html'; repeatable",
    )
    comment.add_argument(
        "--json",
        action="store_true",
        help="one JSON object: marker, session_id, board, verdict, fails, headline, gates, places, "
        "next_steps, links [{text, url}], body (the whole comment)",
    )


def _link(text: str) -> tuple[str, str]:
    """Split ``TEXT=URL`` at the first ``=``."""
    name, _, address = (part.strip() for part in text.partition("="))
    if not name or not re.fullmatch(r"https?://[^\s<>\\]+", address) or not address.isprintable():
        raise ValueError(
            f"{text!r} is not of the form TEXT=URL, for example report=https://example.org/a.html"
        )
    return name, address


def _comment(arguments: argparse.Namespace) -> int:
    session = find_session(arguments, arguments.session)
    if arguments.json:
        print_json(describe_comment(session, arguments.link))
        return 0
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")  # GitHub reads it so, whatever the code page
    print_data(render_comment(session, arguments.link))
    return 0
