"""Boards that a labgrid coordinator hands out, as a session sees them.

labgrid itself is asked in a process of its own (:mod:`pytest_espperf.lab.__main__`), never in this one: it
runs the user's own modules, threads and an event loop of gRPC's, replaces ``sys.excepthook``, and some of its
ways to fail end the process. A process can be given up after some seconds, whatever it hangs on, and leaves
nothing behind that takes time from the generator. It costs about half a second of one core, so it is asked
between phases and not during one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pytest_espperf.errors import DeviceError, UsageError
from pytest_espperf.report.terminal import printable

GRACE_S = 60.0
"""How long a coordinator may be silent before its places are no longer taken to be ours."""

_READ_S = 30.0
_LOCATE_S = 15.0
_HELD_S = 5.0
_NAME_LENGTH = 60
_TAIL_BYTES = 2000


@dataclass
class LabBoard:
    """One target of an environment file.

    Attributes:
        name: the board's identity: its RemotePlace's name, or the target's where it has none or takes it from
            a reservation; fit for a test's id and a file's name.
        target: its name in the file.
        path: the file.
        coordinator: HOST:PORT.
        patterns: its RemotePlaces as the file has them; none where its address stands in the file itself.
        clock: monotonic seconds.
        places: the places that it was last located in.
    """

    name: str
    target: str
    path: Path
    coordinator: str
    patterns: tuple[str, ...]
    clock: Callable[[], float] = time.monotonic
    places: tuple[str, ...] = field(default=(), init=False)
    _silent_since: float | None = field(default=None, init=False)

    def locate(self) -> tuple[str, int]:
        """Address and port of its NetworkService, asked of the coordinator; about a second, 15 at most.

        Raises:
            DeviceError: the place is unknown, not acquired, or somebody else's; the coordinator or the
                exporter is away; there is no such resource, or none that can be measured.
        """
        reply = _ask(("locate", str(self.path), self.target), _LOCATE_S)
        if reply.problem:
            where = f"board {self.name} (target {self.target} of {self.path})"
            raise DeviceError(printable(f"{where}: {reply.problem}"))
        self.places = tuple(reply.answer["places"])
        return reply.answer["address"], reply.answer["port"]

    def held(self) -> str:
        """Whether the board is still ours: "" where it is, else one sentence; about a second, 5 at most.

        Lost is what the coordinator calls released, deleted, or somebody else's. A coordinator that was
        restarted is such a case: it forgets who holds what, and may give the place to anybody.

        One that does not answer has given it to nobody meanwhile, or cannot be heard from here: nothing is
        known, and the board is taken to be ours for :data:`GRACE_S` from the first question that it left
        unanswered. Released and acquired again by the same user on the same host, between two questions,
        is not seen: labgrid has no name for an acquisition. A board whose address stands in the file is
        nobody's.
        """
        if not self.patterns:
            return ""
        reply = _ask(("held", self.coordinator, *(self.places or self.patterns)), _HELD_S)
        if reply.lost:
            return printable(reply.lost)
        if not reply.problem:
            self._silent_since = None
            return ""
        now = self.clock()
        if self._silent_since is None:
            self._silent_since = now
        silent_s = now - self._silent_since
        if silent_s < GRACE_S:
            return ""
        return printable(
            f"for {silent_s:.0f} s it has not been known whether {self.name} is still held: {reply.problem}"
        )


@dataclass(frozen=True)
class Lab:
    """An environment file.

    Attributes:
        boards: one per target, in the file's order.
    """

    path: Path
    boards: tuple[LabBoard, ...]


def load_lab(path: Path, source: str) -> Lab:
    """Read an environment file; no coordinator is contacted, and none of its ``imports`` is run.

    Args:
        path: the YAML file.
        source: who named it, for messages.

    Raises:
        UsageError: labgrid is not installed, the file is missing or no environment, or two of its targets
            are one board.
    """
    if not path.is_file():
        raise UsageError(f"{source}: {path} is not there, or is no file: name a labgrid environment file")
    if sys.platform == "win32":
        raise UsageError(f"{source}: labgrid does not run on Windows; give the boards by --device-ip")
    spec = importlib.util.find_spec("labgrid")
    if spec is None or spec.origin is None:
        raise UsageError(
            f"{source}: {path} needs labgrid, which is not installed: pip install 'pytest-espperf[lab]'"
        )
    path = path.absolute()
    reply = _ask(("read", str(path)), _READ_S)
    if reply.problem:
        raise UsageError(printable(f"{source}: {path}: {reply.problem}"))
    coordinator = reply.answer["coordinator"]
    boards = tuple(
        LabBoard(
            name=_identity(entry["target"], entry["places"]),
            target=entry["target"],
            path=path,
            coordinator=coordinator,
            patterns=tuple(entry["places"]),
        )
        for entry in reply.answer["targets"]
    )
    if twice := _same(boards):
        first, second = twice
        raise UsageError(
            printable(
                f"{source}: {path}: the targets {first.target} and {second.target} are one board, "
                f"{second.name}: give each board one target"
            )
        )
    return Lab(path, boards)


def _same(boards: Sequence[LabBoard]) -> tuple[LabBoard, LabBoard] | None:
    """Two boards that are one: of one name, as any file system tells names apart, or of one reservation."""
    seen: dict[str, LabBoard] = {}
    for board in boards:
        reservations = {pattern for pattern in board.patterns if pattern.startswith("+")}
        for key in {board.name.casefold(), *reservations}:
            if key in seen:
                return seen[key], board
            seen[key] = board
    return None


def _identity(target: str, places: Sequence[str]) -> str:
    """What a board is called; a name that had to be cleaned bears a mark of what it was, and stays unique."""
    name = next((place for place in places if not place.startswith("+")), target)
    safe = re.sub(r"[^0-9A-Za-z._-]+", "-", name).strip("-.")[:_NAME_LENGTH]
    if safe == name:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{safe or 'board'}-{mark}"


@dataclass(frozen=True)
class _Reply:
    """What labgrid's process said.

    Attributes:
        answer: empty where there is a problem.
        problem: half a sentence.
        lost: a sentence where the problem means that places once held are held no more.
    """

    answer: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    lost: str = ""


def _ask(words: Sequence[str], within_s: float) -> _Reply:
    """Ask labgrid's process one question; one that is not done in time is ended."""
    command = [sys.executable, "-W", "ignore", "-m", "pytest_espperf.lab", *words]
    # A file and no pipe: an ssh that labgrid leaves behind would hold a pipe open.
    with tempfile.TemporaryFile() as complaints:
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter and module, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                timeout=within_s,
                check=False,
                env=_environment(),
                start_new_session=True,  # Ctrl-C in the terminal is this process's business
            )
        except subprocess.TimeoutExpired as late:
            output, code = late.stdout or b"", None
        else:
            output, code = done.stdout, done.returncode
        # What follows the last newline is a line that was cut short, or nothing.
        lines = [json.loads(line) for line in output.split(b"\n")[:-1]]
        last = lines[-1] if lines else {"waiting_for": "labgrid to start"}
        if "waiting_for" not in last:
            return _Reply(**last)
        if code is None:
            return _Reply(problem=f"waited for {last['waiting_for']} in vain, {within_s:g} s")
        ended = f"labgrid ended with exit code {code}, waiting for {last['waiting_for']}"
        return _Reply(problem=f"{ended}{_tail(complaints)}")


def _environment() -> dict[str, str]:
    """The process imports this very package, wherever it lies, and nothing from the working directory."""
    inherited = os.environ.get("PYTHONPATH")
    root = str(Path(__file__).resolve().parents[2])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((root, inherited)) if inherited else root,
        "PYTHONSAFEPATH": "1",
    }


def _tail(complaints: IO[bytes]) -> str:
    """The last line of a file, to be appended to a sentence; "" where there is none."""
    complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - _TAIL_BYTES))
    lines = complaints.read().decode(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {said}" if said else ""
