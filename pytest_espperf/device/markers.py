"""What the lines of a serial console mean: panics, resets, warnings. Pure.

Markers are those of ESP-IDF's ROM, panic handler and watchdogs, and of MicroPython.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pytest_espperf.model import text

LONGEST_LINE = 1000
"""Bytes after which a line is broken: a board that sends no line ends must not fill the memory."""

BACKTRACE_WITHIN = 40
"""Lines after a panic in which its backtrace is looked for."""

RESETS = {
    0x1: "power-on",
    0x3: "software reset",
    0x7: "main watchdog",
    0x8: "main watchdog",
    0x9: "RTC watchdog",
    0xC: "software reset of the CPU",
    0xF: "brown-out",
    0x15: "reset over USB",
}
"""Reset codes of the ESP32-S3's ROM."""

_MARKERS: tuple[tuple[str, bool, re.Pattern[str]], ...] = (
    ("panic", True, re.compile(r"Guru Meditation Error: Core")),
    ("abort()", True, re.compile(r"abort\(\) was called")),
    ("crash", True, re.compile(r"assert failed: |A stack overflow in task ")),
    ("brownout", True, re.compile(r"Brownout detector was triggered")),
    ("reboot", True, re.compile(r"\brst:0x(?P<code>[0-9a-fA-F]+)")),
    ("soft reboot", True, re.compile(r"MPY: soft reboot")),
    ("task watchdog", False, re.compile(r"Task watchdog got triggered")),
    ("exception", False, re.compile(r"Traceback \(most recent call last\):")),
)
DEATHS = frozenset({"panic", "abort()", "crash"})
"""Kinds that a backtrace follows."""

_BACKTRACE = re.compile(r"^\s*Backtrace:")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


@dataclass
class ConsoleEvent:
    """A line that means something.

    Attributes:
        at_s: monotonic seconds at which it was read.
        kind: ``panic``, ``abort()``, ``crash``, ``brownout``, ``reboot``, ``soft reboot``, ``task watchdog``,
            ``exception`` or ``lost`` (the port is gone).
        fatal: whether the board did not survive it.
        text: the line.
        backtrace: the line of a panic's backtrace, "" where none came.
    """

    at_s: float
    kind: str
    fatal: bool
    text: str
    backtrace: str = ""

    def __str__(self) -> str:
        tail = f" | {self.backtrace}" if self.backtrace else ""
        return f"{self.kind}: {self.text}{tail}"


def printable(line: bytes) -> str:
    """Decode a console line to text that no terminal takes for commands."""
    return text.printable(_ESCAPES.sub("", line.decode("utf-8", errors="replace")), instead="�")


@dataclass
class Scanner:
    """Makes lines and events of the bytes of a console."""

    _rest: bytes = field(default=b"", init=False)
    _died: ConsoleEvent | None = field(default=None, init=False)
    _since_death: int = field(default=0, init=False)

    def feed(self, data: bytes, at_s: float) -> tuple[list[str], list[ConsoleEvent]]:
        """Take bytes that were read at a time: the lines complete by now, and the events among them."""
        *whole, self._rest = re.split(rb"\r\n|\n|\r(?!$)", self._rest + data)
        if len(self._rest) > LONGEST_LINE:
            keep = len(self._rest) // LONGEST_LINE * LONGEST_LINE
            whole.append(self._rest[:keep])
            self._rest = self._rest[keep:]
        lines = [
            printable(line[start : start + LONGEST_LINE])
            for line in whole
            for start in range(0, max(1, len(line)), LONGEST_LINE)
        ]
        events = [event for line in lines if (event := self._event(line, at_s)) is not None]
        return lines, events

    def end(self, at_s: float) -> tuple[list[str], list[ConsoleEvent]]:
        """Take the line that was left without an end, when no more will come."""
        return self.feed(b"\n", at_s) if self._rest else ([], [])

    def _event(self, line: str, at_s: float) -> ConsoleEvent | None:
        self._since_death += 1
        if _BACKTRACE.match(line):
            died, self._died = self._died, None
            if died is None or self._since_death > BACKTRACE_WITHIN:
                # A board that dies in a way that is not known here leaves this much.
                return ConsoleEvent(at_s, "crash", True, line.strip())
            died.backtrace = line.strip()
            return None
        for kind, fatal, pattern in _MARKERS:
            match = pattern.search(line)
            if match is None:
                continue
            text = line.strip()
            if kind == "reboot" and (why := RESETS.get(int(match["code"][:8], 16))):
                text = f"{text} ({why})"
            event = ConsoleEvent(at_s, kind, fatal, text)
            if kind in DEATHS:
                self._died, self._since_death = event, 0
            return event
        return None
