"""``espperf trend``: one page over the whole history of a board, or of all boards."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_espperf.cli.common import add_command, say
from pytest_espperf.cli.history import open_history, say_skipped
from pytest_espperf.cli.json_lines import print_json
from pytest_espperf.errors import UsageError
from pytest_espperf.model.artifact import Json
from pytest_espperf.model.gates import divided
from pytest_espperf.output.files import parse_folder, write_file
from pytest_espperf.output.reports import check_installed, write_history
from pytest_espperf.output.trends import gather_history
from pytest_espperf.report.exports.otava import CONFIG, render_otava
from pytest_espperf.report.html.data import HistoryPage, Trend
from pytest_espperf.report.steps import step_lines
from pytest_espperf.system import regular
from pytest_espperf.system.homes import expand_user

USUAL = "espperf-trend.html"


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    trend = add_command(
        commands,
        "trend",
        _trend,
        "draw every gate over the whole history: one page that opens anywhere, with filters for board, "
        "profile, metric and verdict",
        history=True,
    )
    trend.add_argument(
        "--board", metavar="BOARD", default="", help="this board alone: its identity or address"
    )
    how = trend.add_mutually_exclusive_group()
    how.add_argument("-o", "--output", metavar="PATH.html", help=f"default: {USUAL} in this folder")
    how.add_argument(
        "--json",
        action="store_true",
        help="print the data of the page as one object: sessions (file, session_id, time_utc, board, tag, "
        "verdict, commit, firmware, worst_pct) and gates (board, profile, metric, unit, better, points, "
        "changes: where the level changed)",
    )
    how.add_argument(
        "--otava",
        metavar="FOLDER",
        help="write the history for Apache Otava: CSV files and the otava.yaml that names them",
    )


def _trend(arguments: argparse.Namespace) -> int:
    if not (arguments.json or arguments.otava):
        check_installed("espperf trend")
    folder = parse_folder(arguments.otava, Path.cwd(), "--otava") if arguments.otava else None
    path = Path(expand_user(arguments.output or USUAL, "--output"))
    if not (arguments.json or folder) and regular.is_folder(path):
        raise UsageError(f"--output: {path} is a folder: name a file")
    store = open_history(arguments)
    page = gather_history(store, arguments.board)
    say_skipped(store)
    if not page.sessions:
        of_board = f" of the board {arguments.board}" if arguments.board else ""
        raise UsageError(f"there is no session{of_board} in {store.folder}")
    if arguments.json:
        print_json(_described(page))
        return 0
    if folder is not None:
        for name, text in render_otava(page).items():
            write_file(folder / name, text.encode("utf-8", "replace"))
        say(str(folder / CONFIG))
    else:
        write_history(page, path)
        say(str(path))
    for line in step_lines(page.trends):
        say(line)
    return 0


def _described(page: HistoryPage) -> Json:
    sessions = [
        {
            "file": one.file,
            "session_id": one.session_id,
            "time_utc": one.when,
            "board": one.board,
            "tag": one.tag,
            "verdict": one.verdict,
            "commit": one.commit,
            "firmware": one.firmware,
            "worst_pct": one.worst_pct,
        }
        for one in page.sessions
    ]
    return {"sessions": sessions, "gates": [_gate(trend) for trend in page.trends]}


def _gate(trend: Trend) -> Json:
    metric = trend.described
    return {
        "board": trend.board,
        "profile": trend.group,
        "metric": trend.metric,
        "unit": metric.unit,
        "better": metric.better,
        "points": [
            {
                "file": point.session.file,
                "value": point.value,
                "verdict": point.verdict,
                "baseline": point.baseline,
                "fails_from": point.limit,
                "d_pct": point.d_pct,
                "opens": point.opens,
            }
            for point in trend.points
        ],
        "changes": [
            {
                "file": (session := trend.points[change.at].session).file,
                "session_id": session.session_id,
                "time_utc": session.when,
                "commit": session.commit,
                "firmware": session.firmware,
                "before": change.before,
                "after": change.after,
                "d_pct": divided(metric, change.d_pct),
                "confidence": change.confidence,
            }
            for change in trend.changes
        ],
    }
