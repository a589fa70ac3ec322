"""``espperf judge``: a session under another policy."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from pytest_espperf.cli.common import SESSION_HELP, add_command, print_lines, say_aside
from pytest_espperf.cli.history import history_folder, open_history
from pytest_espperf.cli.json_lines import print_json
from pytest_espperf.config.lookup import add_arguments, resolve
from pytest_espperf.config.settings import BY_DEST
from pytest_espperf.history import HistoryStore, load_session
from pytest_espperf.report import render_terminal
from pytest_espperf.session.judging import judge_again
from pytest_espperf.system import regular
from pytest_espperf.system.homes import expand_reference

POLICY = tuple(
    BY_DEST[name]
    for name in (
        "perf_baseline",
        "perf_fail_on",
        "perf_min_effect",
        "perf_tolerance",
        "perf_confirm",
        "perf_strict",
        "perf_require_baseline",
    )
)
"""The options of the policy."""


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    judge = add_command(
        commands,
        "judge",
        _judge,
        "judge a session again under another policy: against the sessions older than it in its history "
        "folder, with the decisions (accepted, pinned) of today. Budgets stay as they were when it was "
        "measured; at most --perf-confirm of its confirmation runs count. Options are taken "
        "from here and from the environment, not from pytest's ini file. "
        "Nothing is written. Exit code as of the session: 1 where it fails.",
        history=True,
    )
    judge.add_argument("session", metavar="SESSION", help=SESSION_HELP)
    add_arguments(judge.add_argument, POLICY, lambda option: option.flag)
    judge.add_argument(
        "--json",
        action="store_true",
        help="one JSON object: session_id, fails, gate {verdict, baseline, gates, findings, places}, "
        "comparison_to_previous",
    )
    judge.add_argument("-v", "--verbose", action="store_true", help="every path as well")


def _judge(arguments: argparse.Namespace) -> int:
    given = {option.dest: getattr(arguments, option.dest) for option in POLICY}
    settings = resolve(given, os.environ, {})
    path = Path(expand_reference(arguments.session, "SESSION"))
    if regular.is_file(path):
        session = load_session(path)
        store = open_history(arguments) if history_folder(arguments)[1] else HistoryStore(path.parent)
    else:
        store = open_history(arguments)
        session = store.find(arguments.session).artifact
    judgement = judge_again(session, store, settings, Path.cwd())
    if arguments.json:
        print_json(
            {
                "session_id": session.session_id,
                "fails": judgement.fails,
                "gate": judgement.artifact.gate,
                "comparison_to_previous": judgement.artifact.comparison_to_previous,
            }
        )
    else:
        print_lines(render_terminal(judgement.artifact, verbosity=int(arguments.verbose)))
        say_aside(f"judged against what {store.folder} held before it")
    return int(judgement.fails)
