"""``espperf calibrate``: A/A sessions on the user's own bench, and the smallest change that it detects."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pytest_espperf import gate
from pytest_espperf.cli.common import DEFAULT_HISTORY, add_command, checked, say
from pytest_espperf.cli.run import add_run_arguments, own_words, pytest_words
from pytest_espperf.config.parsers import whole
from pytest_espperf.errors import UsageError
from pytest_espperf.history import HistoryStore
from pytest_espperf.history.shared.sharing import sharing_at
from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.model.verdicts import INVALID
from pytest_espperf.plugin.invocation import SUITE

WANTED_PCT = (5.0, 10.0, 20.0)


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    calibration = add_command(
        commands,
        "calibrate",
        _calibrate,
        "measure the noise of a bench: several sessions of one firmware, what they could have seen, and how "
        "many runs a wanted slowdown takes. Takes what 'espperf run' takes.",
        passes_on=True,
    )
    calibration.add_argument(
        "--sessions",
        type=checked(whole(least=2, most=1000)),
        default=5,
        metavar="N",
        help="default: %(default)s",
    )
    add_run_arguments(calibration)


def _calibrate(arguments: argparse.Namespace) -> int:
    sharing = sharing_at(arguments.perf_history or str(DEFAULT_HISTORY), Path.cwd(), "--perf-history")
    sharing.pull(say)  # what comes in during the first session would be taken for a part of it
    words = [
        *pytest_words(arguments),
        f"--perf-history={sharing.folder if sharing.sync is None else sharing.sync.url}",
        "--perf-all-rounds",
        "--perf-confirm=0",  # what is measured again because it was slow would make the bench look calmer
        *own_words(arguments.rest),
    ]
    found = run_sessions(
        [*SUITE, "-m", "perf", *words], sharing.folder, arguments.sessions, partial(say, flush=True)
    )
    say("\n".join(["", *describe(found)]))
    return 0


def run_sessions(
    command: Sequence[str], history: Path, count: int, say: Callable[[str], None]
) -> list[SessionArtifact]:
    """Run sessions of one firmware, one after another.

    Args:
        command: words for pytest.
        history: folder in which they are stored, as any other session.
        count: at least 2.
        say: prints a line of progress, at once.

    Raises:
        UsageError: a session could not be measured; its output stands above.
    """
    store = HistoryStore(history)
    found = []
    for index in range(1, count + 1):
        say(f"== session {index} of {count}")
        before = set(store.file_names())
        done = subprocess.run([sys.executable, "-m", "pytest", *command], check=False)  # noqa: S603 - ours
        new = [name for name in store.file_names() if name not in before]
        entry = store.entry(new[-1]) if new else None
        if entry is None or done.returncode not in {0, 1} or not usable(entry.artifact):
            raise UsageError(f"session {index} could not be measured (exit code {done.returncode})")
        found.append(entry.artifact)
    return found


def usable(session: SessionArtifact) -> bool:
    """Whether a session was measured whole; its verdict against others does not matter here."""
    return session.gate is not None and session.gate.kind not in INVALID


def describe(sessions: Sequence[SessionArtifact]) -> list[str]:
    """Describe the noise of the bench, and how many runs a slowdown takes."""
    lines = [
        f"{len(sessions)} sessions of one firmware: how much this bench moves by itself, and the smallest",
        "slowdown that would be called nine times in ten, with 20 accepted sessions to compare with.",
        "",
        f"{'gate':<28}{'run to run':>12}{'session to session':>20}{'smallest':>10}",
    ]
    lines += [
        f"{f'{bench.profile}:{bench.metric}':<28}{bench.round_sigma_pct:>10.1f} %"
        f"{bench.session_sigma_pct:>18.1f} %{bench.smallest_pct:>8.1f} %"
        for bench in gate.bench_noise(sessions)
    ]
    lines.append("")
    for wanted in WANTED_PCT:
        runs = gate.rounds_needed(sessions, wanted)
        answer = (
            f"--perf-runs {runs}"
            if runs is not None
            else "more than 50 runs: the movement between sessions is the limit, and pairs of both firmwares "
            "(--perf-ab-baseline-cmd) get below it"
        )
        lines.append(f"to see {wanted:g} %: {answer}")
    return lines
