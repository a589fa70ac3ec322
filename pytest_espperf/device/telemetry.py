"""Counters and heap figures that a board reports. Optional: a plain ESP-IDF board has none."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pytest_espperf.device.http import MAX_BODY_BYTES, HttpAnswer, get
from pytest_espperf.errors import DeviceError
from pytest_espperf.model.figures import (
    KNOWN,
    UNREAD,
    VERSION,
    count_values,
    find_figure,
    watched,
    within_bounds,
)
from pytest_espperf.model.text import one_line
from pytest_espperf.model.workload import Target, TelemetrySpec

BUSY = frozenset({429, 503, 504})
MOST_VALUES = 2_000
"""Values of one reading that are kept whole ..."""

MOST_BYTES = 64 * 1024
"""... and its length: a session keeps four readings per phase, and must be small enough to be read again."""

MOST_OF_A_VERSION = 80
MOST_VERSIONS = 100

GONE = frozenset({404, 405, 410, 501})

_NO_NUMBER = re.compile(
    rb"(?:\"([^\"]{1,60})\"\s*:\s*)?(?<![\w\"])[-+]?(nan|inf(?:inity)?)\b(?!\")", re.IGNORECASE
)
"""What ``printf`` and ``json.dumps`` write for a number that is none, and the key before it."""


@dataclass(frozen=True)
class TelemetryReading:
    """One reading; an empty dict where the board gave nothing.

    ``began_s`` and ``ended_s`` are when it was asked for and had come, on one monotonic clock; None where
    that is not known.
    """

    stats: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    began_s: float | None = field(default=None, compare=False)
    ended_s: float | None = field(default=None, compare=False)


@dataclass
class Telemetry:
    """Reads a board's telemetry; a path that answers 404 and never had a reading is not asked again.

    Attributes:
        retries: further tries where the board is busy (429, 503, 504) or drops the connection.
        retry_delay_s: before the first of them; grows linearly.
        notes: what could not be read and why, each once, for the report.
        absent: the paths that the board does not have.
        answered: the paths that had a reading: a later refusal (a login that ran out) is reported.
        versions: of the firmware that the board has reported, each once, in the order of their first
            readings.
        version: the last one that it reported; "" for none.
    """

    target: Target
    timeout_s: float
    spec: TelemetrySpec = field(default_factory=TelemetrySpec)
    retries: int = 20
    retry_delay_s: float = 0.1
    fetch: Callable[..., HttpAnswer] = get
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    notes: list[str] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    versions: list[str] = field(default_factory=list)
    version: str = ""

    def read(self, *, reset: bool = False, budget_s: float = float("inf")) -> TelemetryReading:
        """Read counters and memory; never raises for a board that does not answer.

        Args:
            reset: zero the counters first.
            budget_s: for both paths together.
        """
        began_s = self.clock()
        stats = self.read_stats(reset=reset, budget_s=budget_s)
        same = self.spec.memory == self.spec.stats
        memory = stats if same else self.read_memory(budget_s=began_s + budget_s - self.clock())
        return TelemetryReading(stats=stats, memory=memory, began_s=began_s, ended_s=self.clock())

    def read_stats(self, *, reset: bool = False, budget_s: float = float("inf")) -> dict[str, Any]:
        """Read the counters; {} where there are none. ``reset`` zeroes them first."""
        stats = self._json(self.spec.stats, self.spec.reset if reset else "", budget_s)
        self._note_version(find_figure(stats, VERSION))
        return stats

    def _note_version(self, reported: object) -> None:
        if isinstance(reported, str) and (version := one_line(reported, MOST_OF_A_VERSION)):
            self.version = version
            if version not in self.versions and len(self.versions) < MOST_VERSIONS:
                self.versions.append(version)

    def read_memory(self, *, budget_s: float = float("inf")) -> dict[str, Any]:
        """Read the heap figures; {} where there are none."""
        return self._json(self.spec.memory, "", budget_s)

    def _json(self, path: str, query: str, budget_s: float) -> dict[str, Any]:
        ends = self.clock() + budget_s
        if not path or path in self.absent:
            return {}
        joint = "&" if "?" in path else "?"
        asked = f"{path}{joint}{query}" if query else path
        reason = ""
        for attempt in range(1, self.retries + 2):
            left = ends - self.clock()
            if left <= 0:
                reason = reason or "no time was left"
                break
            try:
                answer = self.fetch(self.target, asked, timeout_s=min(self.timeout_s, left))
            except DeviceError as error:
                reason = str(error)
            else:
                if answer.status == 200:
                    self.answered.add(path)
                    return self._decode(path, answer.body)
                reason = f"status {answer.status}"
                if answer.status not in BUSY:
                    if answer.status in GONE and path not in self.answered:
                        self.absent.add(path)
                    break
            if attempt <= self.retries:
                self.sleep(max(0.0, min(self.retry_delay_s * attempt, ends - self.clock())))
        self._note(f"{UNREAD} {path}: {reason}")
        return {}

    def _decode(self, path: str, body: bytes) -> dict[str, Any]:
        if len(body) >= MAX_BODY_BYTES:
            self._note(f"{UNREAD} {path}: its answer is longer than {MAX_BODY_BYTES >> 20} MB")
            return {}
        try:
            decoded = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            self._note(f"{UNREAD} {path}: its answer is no JSON ({_no_number(body) or error})")
            return {}
        if not isinstance(decoded, dict):
            self._note(f"{UNREAD} {path}: its answer is no JSON object")
            return {}
        kept: dict[str, Any] = within_bounds(decoded)
        if kept != decoded:
            self._note(
                f"{path}: figures that are infinite, beyond 64 bits, or nested too deeply, were left out"
            )
        known = self.spec.known(kept)
        values = count_values(known)
        if values <= MOST_VALUES and len(body) <= MOST_BYTES:
            return known
        self._note(
            f"{path}: {values:,} values in {len(body):,} bytes are more than is kept of a reading; the "
            "figures that rules look at were kept"
        )
        return {KNOWN: watched(known)}

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _no_number(body: bytes) -> str:
    """Name the figure of a broken answer that is ``nan`` or infinite; "" if none is."""
    match = _NO_NUMBER.search(body)
    if match is None:
        return ""
    key = f"{match[1].decode(errors='replace')} is " if match[1] else "it has "
    return f"{key}{match[2].decode()}, which is no number in JSON"
