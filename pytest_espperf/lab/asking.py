"""labgrid's processes: one for each question, and one that watches the places of a board.

labgrid is never imported into this process: it runs the user's own modules, threads and an event loop of
gRPC's, replaces ``sys.excepthook``, and some of its ways to fail end the process. A process can be given up
after some seconds, whatever it hangs on, and leaves nothing behind that takes time from the generator.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pytest_espperf.system import commands

_TAIL_BYTES = 2000
_ANSWER_BYTES = 4 * 1024 * 1024
_STOP_S = 3.0
_COMMAND = (sys.executable, "-W", "ignore", "-m", "pytest_espperf.lab")


@dataclass(frozen=True)
class Reply:
    """The answer of labgrid's process.

    Attributes:
        answer: empty where there is a problem.
        problem: half a sentence.
        lost: a sentence where the problem means that places once held are held no more.
    """

    answer: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    lost: str = ""


def ask(words: Sequence[str], within_s: float) -> Reply:
    """Ask labgrid's process one question; one that is not done in time is ended."""
    # A file and no pipe: an ssh that labgrid leaves behind would hold a pipe open.
    with tempfile.TemporaryFile() as complaints:
        try:
            done = commands.run(
                [*_COMMAND, *words],
                within_s,
                keep=_ANSWER_BYTES,
                stderr=complaints,
                environment=_environment(),
            )
        except subprocess.TimeoutExpired as late:
            output, code = late.output or b"", None
        else:
            output, code = done.output, done.code
        # What follows the last newline is a line that was cut short, or nothing.
        lines = [json.loads(line) for line in output.split(b"\n")[:-1]]
        last = lines[-1] if lines else {"waiting_for": "labgrid to start"}
        if "waiting_for" not in last:
            return Reply(**last)
        if code is None:
            return Reply(problem=f"waited for {last['waiting_for']} in vain, {within_s:g} s")
        ended = f"labgrid ended with exit code {code}, waiting for {last['waiting_for']}"
        return Reply(problem=f"{ended}{_tail(complaints)}")


class Watch:
    """A process that watches places, and says what becomes of them; see ``watch`` in ``__main__``.

    It sleeps until the coordinator has something to say. It ends when its standard input does, so it cannot
    outlive this process, however that ends.
    """

    def __init__(self, coordinator: str, places: Sequence[str]) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
            [*_COMMAND, "watch", coordinator, *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=_environment(),
            start_new_session=True,  # Ctrl-C in the terminal is this process's business
        )
        self._said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.ended = ""

    def news(self, within_s: float = 0.0) -> list[dict[str, Any]]:
        """Return what the process wrote since the last call; wait for a line, but no longer than this.

        What it waits for itself (``waiting_for``) is no news. Once it has ended, ``ended`` says how.
        """
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + within_s
        while not self.ended:
            left = 0.0 if found else max(0.0, deadline - time.monotonic())
            try:
                line = self._said.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                self.ended = f"exit code {self._end()}{_tail(self._complaints)}"
            elif "waiting_for" not in line:
                found.append(line)
        return found

    def close(self) -> None:
        """End the process; takes some seconds at most."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):  # a broken pipe
            self.process.stdin.close()
        self._end()
        self._reader.join(_STOP_S)
        self.process.stdout.close()
        self._complaints.close()

    def _end(self) -> int:
        try:
            return self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            commands.end_tree(self.process)
            return self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):
                self._said.put(json.loads(line))
        self._said.put(None)


def _environment() -> dict[str, str]:
    """Let the process import this very package, wherever it lies, and nothing of the working directory."""
    inherited = os.environ.get("PYTHONPATH")
    root = str(Path(__file__).resolve().parents[2])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((root, inherited)) if inherited else root,
        "PYTHONSAFEPATH": "1",
    }


def _tail(complaints: IO[bytes]) -> str:
    """Return the last line of a file, to be appended to a sentence; "" where there is none."""
    complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - _TAIL_BYTES))
    lines = complaints.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {last}" if last else ""
