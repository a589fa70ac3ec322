"""``espperf show``, ``accept`` and ``pin``: one session, and what is decided about it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pytest_espperf.cli.common import SESSION_HELP, add_command, find_session, open_history, share
from pytest_espperf.cli.output import print_json, print_lines
from pytest_espperf.errors import UsageError

if TYPE_CHECKING:
    # `espperf run` leaves that to pytest's process.
    from pytest_espperf.history import HistoryStore


def add_commands(commands: Any) -> None:
    """Add them to the command line."""
    show = add_command(commands, "show", _show, "show one session", history=True)
    show.add_argument("session", metavar="SESSION", help=SESSION_HELP)
    show.add_argument("--json", action="store_true", help="the whole artifact as one JSON object")
    show.add_argument(
        "-v", "--verbose", action="store_true", help="what the session was, and every path, as well"
    )
    accept = add_command(
        commands,
        "accept",
        _accept,
        "accept a session's figures as intended: later ones are judged from it on",
        history=True,
    )
    accept.add_argument("session", metavar="SESSION", help=SESSION_HELP)
    accept.add_argument("--reason", default="", help="why, for those who come later; needed, except to undo")
    accept.add_argument("--undo", action="store_true", help="take the acceptance back")
    pin = add_command(
        commands, "pin", _pin, "hold a session as a fixed anchor of the drift guard", history=True
    )
    pin.add_argument("session", metavar="SESSION", help=SESSION_HELP)
    pin.add_argument("--reason", default="", help="why, for those who come later")
    pin.add_argument("--undo", action="store_true", help="let the session go")


def _show(arguments: argparse.Namespace) -> int:
    session = find_session(arguments, arguments.session)
    if arguments.json:
        print_json(session, spread=True)
        return 0
    from pytest_espperf.report import Line, make_view, render_terminal  # noqa: PLC0415 - likewise
    from pytest_espperf.report.terminal import printable  # noqa: PLC0415 - likewise

    lines = render_terminal(session, verbosity=int(arguments.verbose))
    if arguments.verbose:
        facts = [Line(f"{name:<10}{printable(value)}") for name, value in make_view(session).facts]
        lines += [Line(""), *facts]
    print_lines(lines)
    return 0


def _accept(arguments: argparse.Namespace) -> int:
    store = open_history(arguments)
    if arguments.undo:
        return _undo(arguments, store, "accept", "accepted")
    if not arguments.reason.strip():
        raise UsageError("--reason: it is missing; say why, for those who come later")
    accepted = store.accept(arguments.session, arguments.reason, _user())
    print(f"accepted {accepted.json_path.name}: {arguments.reason}")
    share(arguments)
    return 0


def _pin(arguments: argparse.Namespace) -> int:
    store = open_history(arguments)
    if arguments.undo:
        return _undo(arguments, store, "pin", "pinned")
    pinned = store.pin(arguments.session, arguments.reason, _user())
    print(f"pinned {pinned.json_path.name}")
    share(arguments)
    return 0


def _undo(arguments: argparse.Namespace, store: HistoryStore, kind: str, word: str) -> int:
    """Take a decision back; one that could not be read, and never counted, goes as well."""
    from pytest_espperf.history import names  # noqa: PLC0415 - run leaves msgspec to pytest

    if arguments.reason:
        raise UsageError("--undo removes the decision, and keeps no --reason: leave it out")
    entry = store.find(arguments.session)
    was = (store.folder / names.mark_name(kind, entry.json_path.stem)).exists()
    (store.unaccept if kind == "accept" else store.unpin)(entry)
    print(f"{entry.json_path.name}: {'no longer' if was else 'was not'} {word}")
    share(arguments)
    return 0


def _user() -> str:
    import getpass  # noqa: PLC0415 - only here

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no user name on this machine
        return ""
