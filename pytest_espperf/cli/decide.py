"""``espperf accept`` and ``pin``: decisions about a session."""

from __future__ import annotations

import argparse
import getpass
import re
from typing import Any

from pytest_espperf.cli.common import SESSION_HELP, add_command, say, say_aside
from pytest_espperf.cli.history import open_history, share
from pytest_espperf.errors import UsageError
from pytest_espperf.history import HistoryStore, SavedSession, names
from pytest_espperf.report.exports.figures import board_of
from pytest_espperf.system import regular


def add_commands(commands: Any) -> None:
    """Add both commands to the command line."""
    accept = add_command(
        commands,
        "accept",
        _accept,
        "accept a session's figures as intended: the baseline of later sessions begins with it",
        history=True,
    )
    _add_session(accept)
    accept.add_argument(
        "--reason", default="", help="the reason, kept with the decision; required, except to undo"
    )
    accept.add_argument("--undo", action="store_true", help="take the acceptance back")
    pin = add_command(
        commands, "pin", _pin, "pin a session as a fixed anchor of the drift guard", history=True
    )
    _add_session(pin)
    pin.add_argument("--reason", default="", help="the reason, kept with the decision")
    pin.add_argument("--undo", action="store_true", help="remove the pin")


def _add_session(command: argparse.ArgumentParser) -> None:
    """Add the arguments that name the session."""
    command.add_argument("session", metavar="SESSION", help=SESSION_HELP)
    command.add_argument(
        "--board",
        default="",
        metavar="BOARD",
        help="that of this board: its identity, or its address; needed where several boards have the tag",
    )


def _accept(arguments: argparse.Namespace) -> int:
    store = open_history(arguments)
    if arguments.undo:
        return _undo(arguments, store, "accept", "accepted")
    if not arguments.reason.strip():
        raise UsageError("--reason is missing: it is kept with the decision")
    accepted = store.accept(_meant(arguments, store), arguments.reason, _user())
    say(f"accepted {_described(accepted)}: {arguments.reason}")
    share(arguments)
    return 0


def _pin(arguments: argparse.Namespace) -> int:
    store = open_history(arguments)
    if arguments.undo:
        return _undo(arguments, store, "pin", "pinned")
    pinned = store.pin(_meant(arguments, store), arguments.reason, _user())
    say(f"pinned {_described(pinned)}")
    share(arguments)
    return 0


def _undo(arguments: argparse.Namespace, store: HistoryStore, kind: str, word: str) -> int:
    """Take a decision back; one that could not be read, and never counted, is removed as well."""
    if arguments.reason:
        raise UsageError("--undo removes the decision, and keeps no --reason: leave it out")
    entry = _meant(arguments, store)
    was = regular.exists(store.folder / names.mark_name(kind, entry.json_path.stem))
    (store.unaccept if kind == "accept" else store.unpin)(entry)
    say(f"{_described(entry)}: {'no longer' if was else 'was not'} {word}")
    share(arguments)
    return 0


def _meant(arguments: argparse.Namespace, store: HistoryStore) -> SavedSession:
    """Find the session to accept or pin; where the run of ``latest`` had several boards, print which it is.

    Raises:
        HistoryError: none is meant, or more than one; a tag of several boards is more than one.
    """
    entry = store.find(arguments.session, board=arguments.board, one_board=True)
    boards = entry.artifact.boards
    if boards > 1 and not arguments.board and re.match("latest(~|$)", arguments.session):
        many = f"{arguments.session} is one session of a run of {boards} boards"
        say_aside(f"{many}: that of {_board(entry)}; --board means another one")
    return entry


def _described(entry: SavedSession) -> str:
    """Name a session by its file and its board."""
    return f"{entry.json_path.name} of {_board(entry)}"


def _board(entry: SavedSession) -> str:
    return board_of(entry.artifact) or "a board without a name"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no user name on this machine
        return ""
