"""Counters and heap figures that the board tells of itself. Optional: a plain ESP-IDF board has none."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pytest_espperf.device.http import Answer, get
from pytest_espperf.errors import DeviceError
from pytest_espperf.workload import Target

SERVER_STATS = "/debug/server-stats"
MEMORY_STATS = "/debug/memory-stats"
RESET = "?reset=1"
BUSY = frozenset({429, 503, 504})


@dataclass(frozen=True)
class TelemetryReading:
    """One reading; an empty dict where the board told nothing."""

    stats: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)


@dataclass
class Telemetry:
    """Reads a board's telemetry; a path that answers 404 once is not asked again.

    Attributes:
        retries: further tries where the board is busy (429, 503, 504) or drops the connection.
        retry_delay_s: before the first of them; grows linearly.
        notes: what could not be read and why, each once, for the report.
    """

    target: Target
    timeout_s: float
    retries: int = 20
    retry_delay_s: float = 0.1
    fetch: Callable[..., Answer] = get
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    notes: list[str] = field(default_factory=list)
    _absent: set[str] = field(default_factory=set)

    def read(self, *, reset: bool = False, budget_s: float = float("inf")) -> TelemetryReading:
        """Counters and memory, as the board tells them; never raises for a board that does not.

        Args:
            reset: zero the counters first.
            budget_s: for both paths together.
        """
        ends = self.clock() + budget_s
        stats = self._json(SERVER_STATS, RESET if reset else "", ends)
        return TelemetryReading(stats=stats, memory=self._json(MEMORY_STATS, "", ends))

    def _json(self, path: str, query: str, ends: float) -> dict[str, Any]:
        if path in self._absent:
            return {}
        reason = ""
        for attempt in range(1, self.retries + 2):
            left = ends - self.clock()
            if left <= 0:
                reason = reason or "no time was left"
                break
            try:
                answer = self.fetch(self.target, path + query, timeout_s=min(self.timeout_s, left))
            except DeviceError as error:
                reason = str(error)
            else:
                if answer.status == 200:
                    return self._decode(path, answer.body)
                reason = f"status {answer.status}"
                if answer.status not in BUSY:
                    self._absent.add(path)
                    break
            if attempt <= self.retries:
                self.sleep(max(0.0, min(self.retry_delay_s * attempt, ends - self.clock())))
        self._note(f"no telemetry from {path}: {reason}")
        return {}

    def _decode(self, path: str, body: bytes) -> dict[str, Any]:
        try:
            decoded = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            self._note(f"no telemetry from {path}: its answer is no JSON ({error})")
            return {}
        if not isinstance(decoded, dict):
            self._note(f"no telemetry from {path}: its answer is no JSON object")
            return {}
        return decoded

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
