"""``espperf calibrate``: A/A sessions on the user's own bench, and what they say it can see."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_espperf import gate
from pytest_espperf.errors import UsageError
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.model.verdicts import INVALID

WANTED_PCT = (5.0, 10.0, 20.0)


def run_sessions(
    command: Sequence[str], history: Path, count: int, say: Callable[[str], None]
) -> list[SessionArtifact]:
    """Run so many sessions of one firmware, one after another.

    Args:
        command: words for pytest.
        history: where they are kept; they are sessions like any other.
        count: at least 2.
        say: prints a line of progress, at once.

    Raises:
        UsageError: a session could not be measured; what it said stands above.
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
    """Lines for people: the noise of the bench, and the rounds that a slowdown takes."""
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
        rounds = gate.rounds_needed(sessions, wanted)
        answer = (
            f"--perf-runs {rounds}"
            if rounds is not None
            else "more than 50 runs: the movement between sessions is the limit, and pairs of both firmwares "
            "(--perf-ab-baseline-cmd) get below it"
        )
        lines.append(f"to see {wanted:g} %: {answer}")
    return lines
