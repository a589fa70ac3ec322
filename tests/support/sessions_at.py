"""Short sessions in a process of their own, at a server of a test's own that answers any path."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from support.pytest_alone import ENVIRONMENT
from support.short_sessions import SHORT

from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import SessionArtifact

LONGEST_S = 120.0

PATIENT = """
from pytest_espperf.session import board, capacity

board.QUICK_S = {quick_s}
capacity.MOST_S = 8.0
capacity.LEAST_WAIT_S = 1.5
"""
"""A plugin of pytest's: a busy machine may take long over what a session finds out before its load."""

PROFILE = (
    '[profiles.page]\npaths = ["/"]\n[profiles.page.phases.only]\nclients = {clients}\nduration_s = {s}\n'
)


def run_at(
    port: int,
    folder: Path,
    *words: str,
    clients: int = 1,
    seconds: float = 0.4,
    runs: int = 2,
    limit: int = 0,
    stop_s: float = 0.0,
    quick_s: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """``espperf run`` with one profile of one phase; the history is below ``folder``.

    Args:
        port: where the server listens, on 127.0.0.1.
        folder: the project's.
        words: options.
        clients: of the phase.
        seconds: of the phase.
        runs: how many.
        limit: open files that the process may have; 0 for as many as this one. POSIX only.
        stop_s: for how long the process is stopped once, in the midst of its first phase. POSIX only.
        quick_s: in which a probe counts as quickly answered; by default, by a busy machine as well.
    """
    (folder / "patient.py").write_text(PATIENT.format(quick_s=quick_s), encoding="utf-8")
    (folder / "espperf.toml").write_text(
        PROFILE.format(clients=clients, s=seconds) + '[telemetry]\nstats = ""\nmemory = ""\n',
        encoding="utf-8",
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ESPPERF_")}
    own = {
        "ESPPERF_PERF_PROFILES": "page",
        "ESPPERF_PERF_PROBE_PATH": "/",
        "ESPPERF_PERF_RUNS": str(runs),
        "ESPPERF_PERF_HEARTBEAT_MS": "100",
        "ESPPERF_PERF_HISTORY": str(folder / "history"),
    }
    words = ("run", f"127.0.0.1:{port}", "-p", "patient", *words)
    command = [sys.executable, "-m", "pytest_espperf.cli", *words]
    if limit:
        command = ["sh", "-c", f'ulimit -n {limit}; exec "$0" "$@"', *command]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, **ENVIRONMENT, **SHORT, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(LONGEST_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if stop_s and "page:only" in line:  # the first heartbeat
                os.kill(process.pid, signal.SIGSTOP)
                time.sleep(stop_s)
                os.kill(process.pid, signal.SIGCONT)
                stop_s = 0.0
        assert process.stderr is not None
        errors = process.stderr.read()
        return subprocess.CompletedProcess(command, process.wait(30), "".join(lines), errors)
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def artifacts(folder: Path) -> list[SessionArtifact]:
    """The sessions that were saved there, oldest first."""
    return list(HistoryStore(folder / "history").sessions())
