"""``espperf prune``: the history without what no later session needs."""

from __future__ import annotations

import argparse
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from pytest_espperf.cli.common import add_command, checked, say, say_aside
from pytest_espperf.cli.history import history_of, open_history, say_skipped
from pytest_espperf.cli.json_lines import print_json
from pytest_espperf.config.parsers import number, whole
from pytest_espperf.errors import HistoryError, UsageError
from pytest_espperf.history.names import format_stamp, horizon
from pytest_espperf.history.prune import Leaving, PruneChoice, choose, plan, remove
from pytest_espperf.history.rows import Query
from pytest_espperf.session.earlier import MAX_SESSIONS

KEEP = 50
_LONGEST_DAYS = 36_500
_REASONS = {
    "newest": "among the newest",
    "latest": "the latest",
    "accepted": "accepted",
    "pinned": "pinned",
    "baseline": "baseline of later sessions",
    "young": "too young",
}


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    prune = add_command(
        commands,
        "prune",
        _prune,
        "remove old sessions that no later one is judged against: lists them, and removes them with --yes. "
        "Pinned and accepted ones stay, and so does what the gate is given of every comparability group; "
        "verdicts are the same before and after.",
        history=True,
    )
    prune.add_argument(
        "--keep",
        type=checked(whole(least=0)),
        default=KEEP,
        metavar="N",
        help="the newest N stay in any case (default: %(default)s)",
    )
    prune.add_argument(
        "--older-than",
        type=checked(number(least=0, most=_LONGEST_DAYS)),
        metavar="DAYS",
        help="only remove sessions older than that",
    )
    prune.add_argument("--yes", action="store_true", help="remove them; without it, nothing is removed")
    prune.add_argument(
        "--json",
        action="store_true",
        help="one JSON object: removed (whether --yes was given), sessions [{session_id, name, size_bytes, "
        "files}], size_bytes, stay {reason: how many}, failed [names]",
    )


def _prune(arguments: argparse.Namespace) -> int:
    if (shared := history_of(arguments)).sync is not None:
        raise UsageError(
            f"{shared.source}: nothing is removed from a shared history: begin another one with what is to "
            "stay, by espperf import --perf-history=NEW_URL FILES, and let all benches name that"
        )
    store = open_history(arguments)
    rows = store.select(Query(newest_first=False))
    latest = store.latest()
    choice = choose(
        rows,
        keep=arguments.keep,
        baseline=MAX_SESSIONS,
        latest=latest.session_id if latest is not None else "",
        young_from=_stamp_of_days_ago(arguments.older_than),
        young_to=horizon(),
    )
    going = plan(store.folder, choice)
    failed: list[str] = []
    if arguments.yes:
        gone, failed = _remove(store.folder, going)
        going = gone
        store.select(Query(limit=1))  # the index forgets them
    if arguments.json:
        print_json(_described(going, choice, failed, done=arguments.yes))
    else:
        _print_outcome(going, choice, total=len(rows), done=arguments.yes)
    say_skipped(store)
    return 1 if failed else 0


def _stamp_of_days_ago(days: float | None) -> str:
    return "" if days is None else format_stamp(datetime.now(timezone.utc) - timedelta(days=days))


def _remove(folder: Path, going: list[Leaving]) -> tuple[list[Leaving], list[str]]:
    """Remove sessions; return the removed ones, and the names of those that could not be removed."""
    gone, failed = [], []
    for leaving in going:
        try:
            if remove(folder, leaving):
                gone.append(leaving)
        except HistoryError as error:
            failed.append(leaving.row.name)
            say_aside(f"not removed: {leaving.row.name}: {error}")
    return gone, failed


def _print_outcome(going: list[Leaving], choice: PruneChoice, *, total: int, done: bool) -> None:
    for leaving in going:
        say(f"{leaving.size_bytes / 1e6:>9,.2f} MB  {leaving.row.name}")
    size = sum(leaving.size_bytes for leaving in going) / 1e6
    word = "removed" if done else "would remove"
    say(f"{word} {len(going)} of {total} sessions, {size:,.2f} MB")
    counts = Counter(choice.stay.values())
    kept = [f"{counts[reason]} {words}" for reason, words in _REASONS.items() if counts[reason]]
    if kept:
        say(f"stay: {', '.join(kept)}")
    if going and not done:
        say("nothing was removed: add --yes to do it")


def _described(going: list[Leaving], choice: PruneChoice, failed: list[str], *, done: bool) -> dict[str, Any]:
    return {
        "removed": done,
        "sessions": [
            {
                "session_id": leaving.row.session_id,
                "name": leaving.row.name,
                "size_bytes": leaving.size_bytes,
                "files": [str(path) for path in leaving.files],
            }
            for leaving in going
        ],
        "size_bytes": sum(leaving.size_bytes for leaving in going),
        "stay": Counter(choice.stay.values()),
        "failed": failed,
    }
