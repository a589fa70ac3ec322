"""Helpers for tests of the plugin: what a small HTTP server does, and a project that measures it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.pytest_alone import INSIDE
from support.short_sessions import NO_TIME_BUDGETS

from pytest_espperf.history import HistoryStore

PROFILES = """
[profiles.one]
paths = ["/a", "/b"]
[profiles.two]
paths = ["/c"]
"""

FAST = (
    "--perf-profiles=one",
    "--perf-runs=2",
    "--perf-burst-duration=0.2",
    "--perf-long-duration=0.2",
    "--perf-burst-clients=2",
    "--perf-long-clients=1",
    "--perf-settle-ms=0",
    "--perf-between-runs-ms=0",
    "--perf-metrics-retries=0",
    "--perf-confirm=1",
    "--perf-tolerance=1000",  # whether a busy machine lets parts of a second exclude less is not the subject
    *NO_TIME_BUDGETS,
)


class Span(NamedTuple):
    """One answer: when it began and ended, in monotonic seconds of the machine, and who asked, if known."""

    began: float
    ended: float
    worker: str = ""


USUAL_S = 0.02
SLOW_S = 0.2
"""Answers whose times are reported apart however busy the machine is that both the server and the load run
on."""
TEN_TIMES = "--perf-fail-on=rps_ok:70%"
"""A rule that the one breaks after the other, however noisy the machine makes both."""

BELOW_20_S = 2 / 20
"""Answers of which a board gives two clients no more than 20 in a second ..."""
LESS_THAN_20 = "--perf-min-effect=p95_ms:1e5,rps_ok:20"
"""... and a floor that only a board with more answers to lose can fall through, whatever the machine does."""


@dataclass
class Web:
    """A server whose pace and health the test sets while it runs.

    Attributes:
        delay_s: time each answer takes.
        status: of each answer.
        hang_after: answers after which nothing is answered any more.
        spans: each answer.
        most_at_once: answers under way at the same time, at most.
        at_first: called when the first request comes, which is answered then.
    """

    delay_s: float = 0.01
    status: int = 200
    hang_after: float = float("inf")
    served: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    port: int = 0
    spans: list[Span] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    at_first: Callable[[], object] | None = None
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


class Project:
    """A firmware project in a folder of its own, measured in subprocesses."""

    def __init__(self, pytester: pytest.Pytester, web: Web) -> None:
        self.pytester = pytester
        self.web = web
        (pytester.path / "espperf.toml").write_text(PROFILES, encoding="utf-8")

    @property
    def history(self) -> Path:
        return self.pytester.path / "tools" / "perf_history"

    def block(self, name: str) -> None:
        """Put a file where a folder would have to be, once something is measured."""
        self.web.at_first = (self.pytester.path / name).touch

    def run(
        self, *arguments: str, device: bool = True, suite: bool = True, workers: int = 0
    ) -> pytest.RunResult:
        words = self._words(arguments, device, suite, workers)
        return self.pytester.runpytest_subprocess(*words, timeout=100)

    def refuse(self, *arguments: str, device: bool = True, suite: bool = True) -> pytest.RunResult:
        """Like run, in this process: quicker, for what ends before anything is measured."""
        return self.pytester.runpytest_inprocess(*INSIDE, *self._words(arguments, device, suite))

    def run_on_terminal(self, *arguments: str) -> str:
        """All that a session writes to a terminal of 100 columns; POSIX only."""
        import fcntl
        import os
        import pty
        import struct
        import termios

        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 100, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *self._words(arguments, device=True, suite=True)],
            cwd=self.pytester.path,
            env={**os.environ, "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        watchdog = threading.Timer(100, process.kill)
        watchdog.start()
        output = b""
        try:
            while data := os.read(ours, 4096):
                output += data
        except OSError:  # Linux: the other end is closed
            pass
        finally:
            watchdog.cancel()
            process.kill()
            process.wait()
            os.close(ours)
        return output.decode().replace("\r\n", "\n")

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A session that goes on while the test does something to it; killed at the end if it still runs."""
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *self._words(arguments, device=True, suite=True)],
            cwd=self.pytester.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def _words(self, arguments: Sequence[str], device: bool, suite: bool, workers: int = 0) -> list[str]:
        words = ["-n", str(workers)] if workers else ["-p", "no:xdist"]
        if suite:
            words += ["--pyargs", "pytest_espperf.suite", "-m", "perf"]
        if device:
            words.append(f"--device-ip={self.web.address}")
        return [*words, *FAST, *arguments]

    def artifact(self, name: str = "latest.json") -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.history / name).read_text(encoding="utf-8"))
        return loaded

    def sessions(self) -> list[dict[str, Any]]:
        """Oldest first."""
        return [self.artifact(name) for name in HistoryStore(self.history).file_names()]
