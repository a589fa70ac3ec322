"""Faults of the board: their times, and their effect on a connection."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from pytest_espperf.sim.config import Fault, FaultKind
from pytest_espperf.sim.messages import Response

REBOOT_S = 2.0
DRIP_S = 0.1
RESET_DELAY_S = 0.02
HUGE_BODY_BYTES = 256 * 1024 * 1024

DOWN: frozenset[FaultKind] = frozenset({"reboot", "refuse"})
"""Faults during which nobody listens."""
HANG: frozenset[FaultKind] = frozenset({"hang"})
SPOILING: frozenset[FaultKind] = frozenset(
    {"reset", "truncate", "malformed", "slowloris", "close", "garbage-length", "huge-body"}
)
"""Faults that spoil an answer that is due."""


@dataclass(frozen=True)
class Window:
    """A fault in device seconds: from ``start_s`` until before ``end_s``."""

    kind: FaultKind
    start_s: float
    end_s: float


class FaultPlan:
    """Which faults are active when. Pure; time comes in as an argument."""

    def __init__(self, faults: Iterable[Fault], anchor_s: float) -> None:
        self._windows: list[Window] = []
        self._begun: set[int] = set()
        for fault in faults:
            usual = REBOOT_S if fault.kind == "reboot" else math.inf
            duration = usual if fault.duration_s is None else fault.duration_s
            self.add(fault.kind, anchor_s + fault.at_s, duration)

    def add(self, kind: FaultKind, start_s: float, duration_s: float) -> None:
        """Plan one more."""
        self._windows.append(Window(kind, start_s, start_s + duration_s))

    def active(self, kinds: Collection[FaultKind], now_s: float) -> FaultKind | None:
        """Find the first planned fault among these kinds that is active."""
        for window in self._windows:
            if window.kind in kinds and window.start_s <= now_s < window.end_s:
                return window.kind
        return None

    def begun(self, now_s: float) -> list[FaultKind]:
        """List the faults that began since the last call, even those already over."""
        new = [i for i, w in enumerate(self._windows) if w.start_s <= now_s and i not in self._begun]
        self._begun.update(new)
        return [self._windows[index].kind for index in new]

    def next_change_s(self, now_s: float) -> float | None:
        """Find the time at which the next fault begins or ends; None if nothing more will change."""
        times = (time for window in self._windows for time in (window.start_s, window.end_s))
        return min((time for time in times if now_s < time < math.inf), default=None)


class Wire(Protocol):
    """The part of a connection that a fault plays with."""

    @property
    def alive(self) -> bool:
        """Whether bytes can still be sent."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def unsent(self) -> int:
        """Bytes written that wait in this process."""

    def close(self) -> None:
        """End the connection in order, after what was written."""

    def reset(self) -> None:
        """End the connection with a TCP reset."""

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something after so many device seconds, unless the connection is gone by then."""


class Spoiler:
    """Sends answers the way a fault wants. The connection serves nothing after it."""

    def __init__(self) -> None:
        self._lengths = 0

    def spoil(self, kind: FaultKind, wire: Wire, response: Response, lasts: Callable[[], bool]) -> None:
        """Spoil one answer; ``lasts`` says whether the fault is still active."""
        payload = response.payload()
        head = response.head(close=False)
        if kind == "close":
            wire.close()
        elif kind == "truncate":
            wire.write(head + payload[: len(payload) // 2])
            wire.close()
        elif kind == "reset":
            wire.write(head + payload[: len(payload) // 2])
            wire.later(RESET_DELAY_S, wire.reset)
        elif kind == "malformed":
            wire.write(b"\x00\xfeHTPP/one.banana 2OO\r\nno colon here\r\n\r\n\x1b[31m" + payload[:64])
            wire.close()
        elif kind == "garbage-length":
            wire.write(response.head(close=True, framing=self._garbage_length(len(payload))) + payload)
            wire.close()
        elif kind == "huge-body":
            wire.write(response.head(close=True, framing=(("Transfer-Encoding", "chunked"),)))
            _flood(wire, 0)
        else:
            _drip(wire, head + payload, lasts)

    def _garbage_length(self, length: int) -> tuple[tuple[str, str], ...]:
        """Alternate a length that is no number and two that contradict each other."""
        self._lengths += 1
        if self._lengths % 2:
            return (("Content-Length", f"{length}banana"),)
        return (("Content-Length", str(length)), ("Content-Length", str(length + 7)))


_CHUNK = b"10000\r\n" + b"x" * 65_536 + b"\r\n"


def _flood(wire: Wire, sent: int) -> None:
    """Send chunks as fast as they are taken; give up, without the last chunk, at the bound."""
    if sent >= HUGE_BODY_BYTES:
        wire.close()
        return
    if wire.unsent() < 4 * len(_CHUNK):
        wire.write(_CHUNK)
        sent += len(_CHUNK)
    wire.later(0.0 if wire.unsent() == 0 else 0.001, lambda: _flood(wire, sent))


def _drip(wire: Wire, data: bytes, lasts: Callable[[], bool]) -> None:
    """Send byte after byte; all of the rest at once when the fault is over."""
    if not lasts():
        wire.write(data)
        wire.close()
        return
    wire.write(data[:1])
    if len(data) == 1:
        wire.close()
        return
    wire.later(DRIP_S, lambda: _drip(wire, data[1:], lasts))
