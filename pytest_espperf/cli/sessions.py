"""``espperf list``, ``show``, ``accept`` and ``pin``: the history, and what is decided about it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pytest_espperf.cli.common import SESSION_HELP, add_command, find_session, open_history, say_skipped
from pytest_espperf.errors import UsageError


def add_commands(commands: Any) -> None:
    """Add them to the command line."""
    listing = add_command(
        commands, "list", _list, "list the sessions of the history, oldest first", history=True
    )
    listing.add_argument("--json", action="store_true", help="as JSON, one object a session")
    show = add_command(commands, "show", _show, "show one session", history=True)
    show.add_argument("session", help=SESSION_HELP)
    show.add_argument("--json", action="store_true", help="the whole artifact as JSON")
    accept = add_command(
        commands,
        "accept",
        _accept,
        "accept a session's figures as intended: later ones are judged from it on",
        history=True,
    )
    accept.add_argument("session", help=SESSION_HELP)
    accept.add_argument("--reason", required=True, help="why, for those who come later")
    pin = add_command(
        commands, "pin", _pin, "hold a session as a fixed anchor of the drift guard", history=True
    )
    pin.add_argument("session", help=SESSION_HELP)
    pin.add_argument("--reason", default="", help="why, for those who come later")


def _list(arguments: argparse.Namespace) -> int:
    store = open_history(arguments)
    for session in store.sessions():
        verdict = session.gate.kind if session.gate is not None else "unjudged"
        row = {
            "session_id": session.session_id,
            "timestamp_utc": session.timestamp_utc,
            "target": session.target,
            "verdict": verdict,
            "accepted": session.accepted is not None,
            "tag": session.tag,
            "profiles": session.profiles,
        }
        if arguments.json:
            print(json.dumps(row))
            continue
        accepted = " (accepted)" if session.accepted is not None else ""
        print(
            f"{session.timestamp_utc:<17} {session.session_id[:8]:<9}{verdict + accepted:<24}"
            f"{session.target:<24}{session.tag}"
        )
    say_skipped(store)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    import msgspec  # noqa: PLC0415 - run leaves that to pytest

    from pytest_espperf.report import render_terminal  # noqa: PLC0415 - likewise

    session = find_session(arguments, arguments.session)
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(session)).decode())
    else:
        print("\n".join(line.text for line in render_terminal(session, verbosity=1)))
    return 0


def _accept(arguments: argparse.Namespace) -> int:
    if not arguments.reason.strip():
        raise UsageError("--reason: it is empty; say why, for those who come later")
    accepted = open_history(arguments).accept(arguments.session, arguments.reason, _user())
    print(f"accepted {accepted.json_path.name}: {arguments.reason}")
    return 0


def _pin(arguments: argparse.Namespace) -> int:
    pinned = open_history(arguments).pin(arguments.session, arguments.reason, _user())
    print(f"pinned {pinned.json_path.name}")
    return 0


def _user() -> str:
    import getpass  # noqa: PLC0415 - only here

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no user name on this machine
        return ""
