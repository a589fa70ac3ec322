"""``espperf list``: the history as a table."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Collection
from typing import Any, get_args

from pytest_espperf.cli.common import add_command, checked, print_lines, say_aside
from pytest_espperf.cli.history import open_history, say_skipped
from pytest_espperf.cli.json_lines import print_json
from pytest_espperf.cli.times import add_utc, time_writer
from pytest_espperf.config.parsers import one_of, whole
from pytest_espperf.history.rows import Query, SessionRow
from pytest_espperf.model.verdicts import UNJUDGED, VerdictWord
from pytest_espperf.report import Line
from pytest_espperf.report.listing import ListedSession, render_listing


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    listing = add_command(
        commands,
        "list",
        _list,
        "list the sessions of the history, newest last: time, id, verdict, board, tag, firmware or commit "
        "(with a plus where something was not committed), and the worst gate with its change in percent, "
        "slower positive",
        history=True,
    )
    listing.add_argument("--tag", metavar="TAG", help="those of this tag")
    listing.add_argument("--board", metavar="BOARD", help="those of this board: its identity, or its address")
    listing.add_argument(
        "--verdict",
        type=checked(_verdicts),
        action="append",
        metavar="V,...",
        help="those of these verdicts; repeatable, adds up",
    )
    listing.add_argument(
        "--last", type=checked(whole(least=1)), metavar="N", help="the newest N of those that match"
    )
    add_utc(listing)
    listing.add_argument(
        "--json",
        action="store_true",
        help="one JSON object a line: session_id, timestamp_utc, name (of its file), target, board, verdict, "
        "accepted, pinned, completed, tag, profiles, worst_pct (the largest slowdown), worst_gate and "
        "worst_change (as in the table), commit, dirty, firmware, copies (names of other files with it)",
    )


def _verdicts(text: str) -> set[str]:
    return {one_of(*get_args(VerdictWord), UNJUDGED)(word) for word in text.split(",")}


def _list(arguments: argparse.Namespace) -> int:
    store = open_history(arguments)
    query = Query(
        tag=arguments.tag,
        board=arguments.board,
        verdicts=_as_recorded(arguments.verdict),
        limit=arguments.last,
    )
    rows = store.select(query)[::-1]
    if arguments.json:
        for row in rows:
            print_json(_described(row))
    elif rows:
        print_lines(_table(arguments, rows))
    if not rows:
        say_aside(f"no session in {store.folder} matches")
    say_skipped(store)
    return 0


def _as_recorded(verdicts: list[set[str]] | None) -> Collection[str] | None:
    if verdicts is None:
        return None
    return {"" if word == UNJUDGED else word for words in verdicts for word in words}


def _described(row: SessionRow) -> dict[str, Any]:
    return {
        "session_id": row.session_id,
        "timestamp_utc": row.timestamp_utc,
        "name": row.name,
        "target": row.target,
        "board": row.board,
        "verdict": row.verdict or UNJUDGED,
        "accepted": row.accepted is not None,
        "joins_baseline": row.in_history,
        "pinned": row.pinned,
        "completed": row.completed,
        "tag": row.tag,
        "profiles": list(row.profiles),
        "worst_pct": row.worst_pct,
        "worst_gate": row.worst_gate,
        "worst_change": row.worst_change,
        "commit": row.commit,
        "dirty": row.dirty,
        "firmware": row.firmware,
        "copies": list(row.copies),
    }


def _table(arguments: argparse.Namespace, rows: list[SessionRow]) -> list[Line]:
    when = time_writer(arguments)
    listed = [
        ListedSession(
            time=when(row.stamp),
            session_id=row.session_id,
            verdict=row.verdict or UNJUDGED,
            board=row.board,
            tag=row.tag,
            worst_gate=row.worst_gate,
            worst_change=row.worst_change,
            commit=row.commit,
            dirty=row.dirty,
            firmware=row.firmware,
            accepted=row.accepted is not None,
            pinned=row.pinned,
            standing=row.standing.label,
            copies=len(row.copies),
            word=row.word,
        )
        for row in rows
    ]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return render_listing(listed, width=width, time="time (UTC)" if arguments.utc else "time")
