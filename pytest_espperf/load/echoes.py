"""WebSocket messages and their echoes. Pure: which message an echo answers, and whether it is right.

A message that has a number is found again whatever order the echoes come in, and by whatever else the board
sends in between. One without a number is answered by the next message of the same length.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from pytest_espperf.model.workload import DIGITS, NUMBER, StreamSpec

FIRST_NUMBER = 1_000_000_000
"""Ten digits from the first one on, and a whole number of 32 bits for the first 10^9 messages."""

LOST, REORDERED, WRONG = "ws_lost", "ws_reordered", "ws_payload"
"""Error kinds: no echo came in time, it came behind that of a later message, it is not what was sent."""

_LETTERS = b"abcdefghijklmnopqrstuvwxyz "


class Messages:
    """What is sent, message by message.

    Args:
        stream: its ``message``, padded to its ``size``; without a message the number, and padding.

    Attributes:
        numbered: whether messages have a number.
    """

    def __init__(self, stream: StreamSpec) -> None:
        before, found, behind = stream.message.partition(NUMBER)
        if not stream.message and stream.size >= DIGITS:
            found = NUMBER
        self.numbered = bool(found)
        self._before, self._behind = before.encode(), behind.encode()
        length = len(self._before) + len(self._behind) + (DIGITS if found else 0)
        self._behind += _padding(max(0, stream.size - length), binary=stream.binary)

    def make(self, number: int) -> bytes:
        """Make the message of a number, counted from 0."""
        if not self.numbered:
            return self._before + self._behind
        return b"%s%d%s" % (self._before, FIRST_NUMBER + number, self._behind)

    def number_of(self, echo: bytes) -> int | None:
        """Find the number in what may be an echo; None without one."""
        start = len(self._before)
        digits = bytes(echo[start : start + DIGITS])
        if not self.numbered or len(digits) < DIGITS or not digits.isdigit():
            return None
        return int(digits) - FIRST_NUMBER if bytes(echo[:start]) == self._before else None


def _padding(size: int, *, binary: bool) -> bytes:
    """Make bytes that are the same each time and hardly compress; letters and blanks unless ``binary``."""
    noise = random.Random(0).randbytes(size)  # noqa: S311 - not for secrets
    return noise if binary else noise.translate(_TO_LETTERS)


_TO_LETTERS = bytes(_LETTERS[byte % len(_LETTERS)] for byte in range(256))


class SentMessage(NamedTuple):
    """A message in flight; times are ``perf_counter_ns`` values."""

    payload: bytes
    start_ns: int
    intended_ns: int
    deadline_ns: int


class InFlight:
    """The messages of one connection that have no echo yet.

    Attributes:
        foreign: messages that came and answer none of ours.
        first_foreign: the first of them, shortened.
    """

    _SHOWN = 40

    def __init__(self, messages: Messages, *, binary: bool) -> None:
        self._messages = messages
        self._binary = binary
        self._sent: dict[int, SentMessage] = {}
        self._highest = -1
        self.foreign = 0
        self.first_foreign = b""

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, number: int, sent: SentMessage) -> None:
        """Take a message that was sent; numbers rise."""
        self._sent[number] = sent

    def echoed(self, echo: bytes, *, binary: bool) -> tuple[SentMessage, str | None] | None:
        """Find the message that is answered, and the kind of error of the echo; None where it is none."""
        right_type = binary == self._binary
        number = next(iter(self._sent), None)
        if number is None or echo != self._sent[number].payload:
            number = self._answered(echo, number)
        if number is None:
            self.foreign += 1
            if self.foreign == 1:
                self.first_foreign = bytes(echo[: self._SHOWN])
            return None
        sent = self._sent.pop(number)
        overtaken, self._highest = number < self._highest, max(number, self._highest)
        if not right_type or echo != sent.payload:
            return sent, WRONG
        return sent, REORDERED if overtaken else None

    def _answered(self, echo: bytes, oldest: int | None) -> int | None:
        """Find the number of the message that an echo answers which is not that of the oldest one."""
        number = self._messages.number_of(echo)
        if number is not None:
            return number if number in self._sent else None
        # Spoilt, or what a board says of itself, which would have the same length by chance only.
        return oldest if oldest is not None and len(echo) == len(self._sent[oldest].payload) else None

    def overdue(self, now_ns: int) -> SentMessage | None:
        """Take out the oldest message if its deadline is over."""
        number = next(iter(self._sent), None)
        if number is None or self._sent[number].deadline_ns > now_ns:
            return None
        return self._sent.pop(number)

    def take_all(self) -> list[SentMessage]:
        """Take all out: their connection is gone."""
        sent = list(self._sent.values())
        self._sent.clear()
        return sent

    def what_came(self) -> str:
        """Describe what came instead of an echo; "" where nothing did."""
        if not self.foreign:
            return ""
        return f"{self.foreign:,} other messages came, the first of them {self.first_foreign!r}"
