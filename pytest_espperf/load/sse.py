"""Server-sent events as bytes: lines to events, as the HTML standard parses an event stream. Pure.

Only what a measurement needs is kept: that an event is complete, its id, and the time to wait before a new
connection. Of ``httpx-sse`` the parser is private, has no bounds, and takes the comments that keep a
connection alive for events once there was an id.
"""

from __future__ import annotations

import httpx

MAX_LINE_BYTES = 64 * 1024
MAX_EVENT_BYTES = 1 << 20

_BOM = b"\xef\xbb\xbf"
_MOST_RETRY_DIGITS = 15


class EventParser:
    """Takes an event stream apart, in whatever pieces it comes.

    Attributes:
        lines: complete lines so far, comments included: signs of life.
        last_id: what a new connection says it has seen, b"" for nothing.
        retry_ms: what the server wants a client to wait before a new connection; None where it says nothing.
    """

    def __init__(self) -> None:
        self.lines = 0
        self.last_id = b""
        self.retry_ms: int | None = None
        self._partial = bytearray()
        self._skip_lf = False
        self._has_data = False
        self._data_bytes = 0
        self._id: bytes | None = None

    def feed(self, piece: bytes) -> list[bytes | None]:
        """Take a piece; return the id of each event that it completes, None for one without.

        Raises:
            httpx.RemoteProtocolError: a line or an event is too long.
        """
        if self._skip_lf and piece:
            self._skip_lf = False
            piece = piece.removeprefix(b"\n")
        if b"\r" in piece:
            self._skip_lf = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *others = piece.split(b"\n")
        self._partial += first
        found: list[bytes | None] = []
        for other in others:
            self._take_line(bytes(self._partial), found)
            self._partial = bytearray(other)
        self._check_length(len(self._partial))
        return found

    def _take_line(self, line: bytes, found: list[bytes | None]) -> None:
        self._check_length(len(line))
        if not self.lines:
            line = line.removeprefix(_BOM)
        self.lines += 1
        if not line:
            self._end_event(found)
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._has_data = True
            self._data_bytes += len(value) + 1
            if self._data_bytes > MAX_EVENT_BYTES:
                raise httpx.RemoteProtocolError(f"an event above {MAX_EVENT_BYTES:,} bytes")
        elif name == b"id" and b"\0" not in value:
            self._id = value
        elif name == b"retry" and value.isdigit() and len(value) <= _MOST_RETRY_DIGITS:
            self.retry_ms = int(value)

    def _end_event(self, found: list[bytes | None]) -> None:
        if self._id is not None:
            self.last_id = self._id
        if self._has_data:
            found.append(self._id)
        self._has_data, self._data_bytes, self._id = False, 0, None

    @staticmethod
    def _check_length(size: int) -> None:
        if size > MAX_LINE_BYTES:
            raise httpx.RemoteProtocolError(f"a line above {MAX_LINE_BYTES:,} bytes in an event stream")
