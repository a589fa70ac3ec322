"""What the benches on real servers share: sessions in subprocesses, and other work for the computer."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import SessionArtifact

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.processes import running

BUSY = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
while True:
    pass
"""
"""A loop that ends with the process that started it, however that ends."""


class SessionError(Exception):
    """A session ended without an artifact, or not in time; the message has the end of its output."""


def session(history: Path, words: Sequence[str], limit_s: float) -> SessionArtifact:
    """Run ``espperf run`` with these words in a process of its own; what it saved in ``history``.

    Raises:
        SessionError: it saved nothing, or took longer than ``limit_s``.
    """
    command = [
        *(sys.executable, "-m", "pytest_espperf.cli", "run", *words),
        *(f"--perf-history={history}", "-q", "-p", "no:cacheprovider", f"--rootdir={history.parent}"),
    ]
    before = set(history.glob("perf_*.json"))
    try:
        done = subprocess.run(
            command, cwd=history.parent, capture_output=True, text=True, check=False, timeout=limit_s
        )
    except subprocess.TimeoutExpired as late:
        raise SessionError(f"no end after {limit_s:.0f} s: {' '.join(command)}") from late
    new = set(history.glob("perf_*.json")) - before
    saved = [entry.artifact for entry in HistoryStore(history).entries() if entry.json_path in new]
    if len(saved) != 1:
        raise SessionError(f"exit code {done.returncode}, no artifact: {(done.stdout + done.stderr)[-2000:]}")
    return saved[0]


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Loops that take a core each, where the system puts them, for the time of the block."""
    with ExitStack() as stack:
        for _ in range(loops):
            stack.enter_context(running((sys.executable, "-c", BUSY), stdin=subprocess.PIPE))
        yield


@contextmanager
def busy_spells(seed: int, shortest_s: float = 20.0, longest_s: float = 60.0) -> Iterator[None]:
    """One or two busy loops that come and go, for the time of the block; spells and pauses are drawn."""
    rng = random.Random(seed)
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            with busy(rng.choice((1, 2))):
                stop.wait(rng.uniform(shortest_s, longest_s))
            stop.wait(rng.uniform(shortest_s, longest_s))

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
