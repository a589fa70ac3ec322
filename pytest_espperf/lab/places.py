"""Boards that a labgrid coordinator hands out, as a session sees them.

labgrid itself runs in processes of its own (:mod:`pytest_espperf.lab.asking`). To find a board costs about a
second of one core; from then on a process watches its places; it sleeps until the coordinator has something
to say: whether a board is still ours is known at any moment, and costs nothing while a phase runs.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_espperf.errors import DeviceError, UsageError
from pytest_espperf.lab.asking import Watch, ask
from pytest_espperf.system.regular import is_file

GRACE_S = 60.0
"""How long a coordinator may be silent before its places are no longer taken to be ours."""

_READ_S = 30.0
_LOCATE_S = 15.0
_WATCH_S = 5.0


@dataclass
class LabBoard:
    """One target of an environment file.

    Attributes:
        name: the board's identity: its RemotePlace's name, or the target's where it has none or takes it from
            a reservation.
        target: its name in the file.
        path: the file.
        coordinator: HOST:PORT.
        patterns: its RemotePlaces as the file has them; none where its address stands in the file itself.
        clock: monotonic seconds of the machine.
        address: host and port where they stand in the file itself.
        places: the places that it was last located in.
    """

    name: str
    target: str
    path: Path
    coordinator: str
    patterns: tuple[str, ...]
    clock: Callable[[], float] = time.monotonic
    address: tuple[str, int] | None = None
    places: tuple[str, ...] = field(default=(), init=False)
    _facts: dict[str, Any] = field(default_factory=dict, init=False)
    _watch: Watch | None = field(default=None, init=False)
    _lost: str = field(default="", init=False)
    _silence: tuple[float, str] | None = field(default=None, init=False)
    _notes: list[str] = field(default_factory=list, init=False)

    def locate(self) -> tuple[str, int]:
        """Address and port of its NetworkService; from now on its places are watched.

        Takes about two seconds, 20 at most.

        Raises:
            DeviceError: the place is unknown, not acquired, or somebody else's; the coordinator or the
                exporter is away; there is no such resource, or none that can be measured.
        """
        reply = ask(("locate", str(self.path), self.target), _LOCATE_S)
        if reply.problem:
            where = f"board {self.name} (target {self.target} of {self.path})"
            raise DeviceError(f"{where}: {reply.problem}")
        answer = reply.answer
        self._lost, self._silence = "", None
        self.places = tuple(answer["places"])
        self._facts = {name: answer[name] for name in ("resources", "exporter_host", "labgrid")}
        if self.patterns:
            self._start_watch()
        return answer["address"], answer["port"]

    def held(self) -> str:
        """Whether the board has been ours since it was located: "" where it has, else one sentence.

        Asks nobody, except where what watches has died: then another is started, in a second, 5 at most.

        Lost is what the coordinator calls released, deleted, or somebody else's, if only for a moment. A
        coordinator that was restarted is such a case: it forgets who holds what, and may give the place to
        anybody. One that does not answer has given it to nobody meanwhile, or cannot be heard from here:
        nothing is known, and the board is taken to be ours for :data:`GRACE_S`. A board whose address stands
        in the file is nobody's.
        """
        if self._watch is not None:
            self._hear(self._watch.news())
            if self._watch.ended and not self._lost:
                self._notes.append(
                    f"what watches {self._where()} had ended ({self._watch.ended}): started again"
                )
                self._start_watch()
        if self._lost or self._silence is None:
            return self._lost
        silent_s = self.clock() - self._silence[0]
        return "" if silent_s < GRACE_S else f"{self._unknown(silent_s)}: {self._silence[1]}"

    def describe(self) -> dict[str, Any]:
        """Facts for the artifact that the coordinator knows, and ``notes`` on how far that is certain."""
        notes = list(self._notes)
        if self._silence is not None and not self._lost:
            notes.append(f"{self._unknown(self.clock() - self._silence[0])}: {self._silence[1]}")
        return {"target": self.target, "names": list(self.places)} | self._facts | {"notes": notes}

    def close(self) -> None:
        """Watch no longer; idempotent."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _start_watch(self) -> None:
        self.close()
        self._watch = Watch(self.coordinator, self.places)
        news = self._watch.news(_WATCH_S)
        if not news and not self._watch.ended:
            news = [{"silent": f"the coordinator at {self.coordinator} does not answer", "at": self.clock()}]
        self._hear(news)

    def _hear(self, news: Iterable[dict[str, Any]]) -> None:
        for line in news:
            if "held" in line:
                if self._silence is not None:
                    self._notes.append(f"{self._unknown(line['at'] - self._silence[0])}: {self._silence[1]}")
                self._silence = None
            elif line.get("lost"):
                self._lost = self._lost or line["lost"]
            elif self._silence is None:
                why = line.get("silent") or line["problem"]
                self._silence = (line.get("at", self.clock()), why)

    def _unknown(self, silent_s: float) -> str:
        return f"for {silent_s:.0f} s it was not known whether {self._where()} was held"

    def _where(self) -> str:
        return f"place {' and '.join(self.places)}"


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
    if not is_file(path):
        raise UsageError(f"{source}: {path} is not there, or is no file: name a labgrid environment file")
    if sys.platform == "win32":
        raise UsageError(f"{source}: labgrid does not run on Windows; give the boards by --device-ip")
    spec = importlib.util.find_spec("labgrid")
    if spec is None or spec.origin is None:
        raise UsageError(
            f"{source}: {path} needs labgrid, which is not installed: pip install 'pytest-espperf[lab]'"
        )
    path = path.absolute()
    reply = ask(("read", str(path)), _READ_S)
    if reply.problem:
        raise UsageError(f"{source}: {path}: {reply.problem}")
    coordinator = reply.answer["coordinator"]
    boards = tuple(
        LabBoard(
            name=_identity(entry["target"], entry["places"]),
            target=entry["target"],
            path=path,
            coordinator=coordinator,
            patterns=tuple(entry["places"]),
            address=tuple(entry["address"]) if entry["address"] is not None else None,
        )
        for entry in reply.answer["targets"]
    )
    if twice := _same(boards):
        first, second = twice
        raise UsageError(
            f"{source}: {path}: the targets {first.target} and {second.target} are one board, "
            f"{_shared(first, second)}: give each board one target"
        )
    return Lab(path, boards)


def _same(boards: Sequence[LabBoard]) -> tuple[LabBoard, LabBoard] | None:
    """Two boards that are one: of one name, as any file system compares names, reservation, or address."""
    seen: dict[str, LabBoard] = {}
    for board in boards:
        reservations = {pattern for pattern in board.patterns if pattern.startswith("+")}
        addresses = {_address(board)} if board.address is not None else set()
        for key in {board.name.casefold(), *reservations, *addresses}:
            if key in seen:
                return seen[key], board
            seen[key] = board
    return None


def _address(board: LabBoard) -> str:
    """As HOST:PORT, "" where it does not stand in the file."""
    return "{}:{}".format(*board.address).casefold() if board.address is not None else ""


def _shared(first: LabBoard, second: LabBoard) -> str:
    """Describe what two boards that are one have in common."""
    address = _address(second)
    return address if address and address == _address(first) else second.name


def _identity(target: str, places: Sequence[str]) -> str:
    """Name a board by its place, or by its target where the place may change."""
    return next((place for place in places if not place.startswith("+")), target)
