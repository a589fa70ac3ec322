"""The chunked transfer coding, read incrementally. Pure.

Own code instead of the head parser's, because the place where a body *ends* must be known to the byte
(what follows is garbage, and counted), however the bytes were split on their way.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx

MAX_LINE_BYTES = 4096
MAX_TRAILER_BYTES = 64 * 1024

# Each of these also matches every beginning of a right line, so that a wrong one is found at its first
# wrong byte and not when a timeout ends the wait for its end.
_SIZE_LINE = re.compile(rb"[0-9A-Fa-f]{1,16}[ \t]*(?:;[^\r\n]*)?(?:\r\n?)?\Z")
_CHUNK_END = re.compile(rb"(?:\r\n?)?\Z")
_TRAILER = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?::[^\r\n\0]*)?)?(?:\r\n?)?\Z")

_SIZE, _DATA, _END, _TRAILERS = range(4)
_LINES = {_SIZE: _SIZE_LINE, _END: _CHUNK_END, _TRAILERS: _TRAILER}
_NAMES = {_SIZE: "chunk size", _END: "end of chunk", _TRAILERS: "trailer"}


class ChunkedReader:
    """Takes a chunked body apart.

    Args:
        emit: called with each piece of body data, in order; it may raise to refuse the body.
    """

    __slots__ = ("_emit", "_left", "_line", "_state", "_trailer_bytes")

    def __init__(self, emit: Callable[[bytes], None]) -> None:
        self._emit = emit
        self._state = _SIZE
        self._left = 0
        self._line = b""
        self._trailer_bytes = 0

    def feed(self, data: bytes, start: int) -> int:
        """Consume ``data[start:]``; the index behind the body's last byte, or -1 if more must come.

        Raises:
            httpx.RemoteProtocolError: malformed or oversized chunk size, chunk end or trailer.
        """
        size = len(data)
        while True:
            if self._state == _DATA:
                take = min(self._left, size - start)
                if take:
                    self._emit(data[start : start + take])
                    start += take
                    self._left -= take
                if self._left:
                    return -1
                self._state = _END
            if start == size:
                return -1
            newline = data.find(b"\n", start)
            stop = size if newline < 0 else newline + 1
            line = self._line + data[start:stop]
            start = stop
            self._check(line)
            if newline < 0:
                self._line = line
                return -1
            self._line = b""
            if self._end_of_line(line[:-2]):
                return start

    def _check(self, line: bytes) -> None:
        if len(line) > MAX_LINE_BYTES:
            raise httpx.RemoteProtocolError(f"{_NAMES[self._state]} line above {MAX_LINE_BYTES} bytes")
        if not _LINES[self._state].match(line):
            raise httpx.RemoteProtocolError(f"malformed {_NAMES[self._state]}: {line[:40]!r}")

    def _end_of_line(self, line: bytes) -> bool:
        """Act on a whole line; True if it was the body's last."""
        if self._state == _SIZE:
            if not line:
                raise httpx.RemoteProtocolError("empty chunk size")
            self._left = int(line.partition(b";")[0].strip(), 16)
            self._state = _DATA if self._left else _TRAILERS
            return False
        if self._state == _END:
            self._state = _SIZE
            return False
        if not line:
            return True
        if b":" not in line:
            raise httpx.RemoteProtocolError(f"malformed trailer: {line[:40]!r}")
        self._trailer_bytes += len(line)
        if self._trailer_bytes > MAX_TRAILER_BYTES:
            raise httpx.RemoteProtocolError(f"trailers above {MAX_TRAILER_BYTES} bytes")
        return False
