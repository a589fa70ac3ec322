"""HTTP/1.1 as bytes: requests out, responses in. Pure: bytes in, facts or an httpx exception out.

Heads are parsed by httptools, and remembered: a board's heads are mostly the same bytes again and again,
and then cost one dictionary lookup. Bodies are counted, and given to a *sink* only where one is set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import httptools
import httpx

from pytest_espperf.load.chunked import ChunkedReader

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024
CHUNK_BYTES = 4096
"""Of a body that is sent in chunks, as a client reads a file."""

_REMEMBERED_HEADS = 1024
_REMEMBERED_HEAD_BYTES = 8 * 1024
_SHOWN_NAME = 60
_END_OF_HEAD = b"\r\n\r\n"
_START = b"HTTP/1."
_WANTS_CR = "Missing expected CR"
_CR_LF = "its lines end in LF alone, not in CR LF"

BODYLESS, LENGTH, CHUNKED, UNTIL_CLOSE = range(4)
_AWAIT_HEAD, _IN_LENGTH, _IN_CHUNKS, _IN_UNTIL_CLOSE, _DONE = range(5)

Headers = tuple[tuple[bytes, bytes], ...]


class BodyTooLargeError(httpx.RemoteProtocolError):
    """A response body went beyond the limit that was set for it."""


def no_response(came: str) -> str:
    """Describe a time-out, with what came instead (:meth:`ResponseReader.what_came`)."""
    return f"no complete response in time: {came}" if came else "no complete response in time"


def request_head(request: httpx.Request) -> bytes:
    """Encode the head of ``request``, with the empty line behind it; its framing is that of its headers.

    Raises:
        httpx.LocalProtocolError: a method, target or header that would break the message apart.
    """
    lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [name + b": " + value for name, value in request.headers.raw]
    for line in lines:
        if b"\r" in line or b"\n" in line or b"\0" in line:
            name = line.partition(b":")[0][:_SHOWN_NAME]  # a value may be a credential
            raise httpx.LocalProtocolError(f"control character in {name!r}")
    return b"\r\n".join(lines) + _END_OF_HEAD


def chunks_of(body: bytes) -> list[bytes]:
    """Cut a body as it is sent without its length: into chunks of 4 KB, and into two at least."""
    size = max(1, min(CHUNK_BYTES, (len(body) + 1) // 2))
    return [body[start : start + size] for start in range(0, len(body), size)]


def chunked_bytes(body: bytes) -> bytes:
    """Encode a body in the chunked transfer coding."""
    framed = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks_of(body)]
    return b"".join(framed) + b"0\r\n\r\n"


class ResponseHead(NamedTuple):
    """A parsed response head. ``length`` is the declared one, 0 unless ``framing`` is LENGTH."""

    status: int
    framing: int
    length: int
    keep_alive: bool
    version: str
    headers: Headers


class _HeadParser:
    """One head through httptools, in as many pieces as it came."""

    __slots__ = ("_complete", "_headers", "_keep_alive", "_parser")

    def __init__(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._complete = False
        self._keep_alive = False
        self._parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self._complete = True
        self._keep_alive = self._parser.should_keep_alive()

    def feed(self, piece: bytes) -> None:
        """Take a piece; raise httpx.RemoteProtocolError at the first wrong byte."""
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            raise httpx.RemoteProtocolError("the server switched protocols unasked") from None
        except httptools.HttpParserError as exc:
            hint = f" ({_CR_LF})" if _WANTS_CR in str(exc) else ""
            raise httpx.RemoteProtocolError(f"malformed response head: {exc}{hint}") from None

    def finish(self) -> ResponseHead:
        """Return the head, once all of its bytes, and no more, were fed."""
        if not self._complete:
            raise httpx.RemoteProtocolError("malformed response head")
        status = self._parser.get_status_code()
        if status < 100 or status == 101:
            raise httpx.RemoteProtocolError(f"status {status} makes no sense here")
        framing, length = self._framing(status)
        return ResponseHead(
            status=status,
            framing=framing,
            length=length,
            keep_alive=self._keep_alive and framing != UNTIL_CLOSE,
            version=self._parser.get_http_version(),
            headers=tuple(self._headers),
        )

    def _framing(self, status: int) -> tuple[int, int]:
        if status < 200 or status in (204, 304):
            return BODYLESS, 0
        coding: bytes | None = None
        length: int | None = None
        for name, value in self._headers:
            lowered = name.lower()
            if lowered == b"transfer-encoding":
                coding = value.rpartition(b",")[2].strip().lower()
            elif lowered == b"content-length":
                length = int(value)  # httptools has refused all but one row of digits
        if coding is not None:
            return (CHUNKED, 0) if coding == b"chunked" else (UNTIL_CLOSE, 0)
        return (UNTIL_CLOSE, 0) if length is None else (LENGTH, length)


class HeadCache(dict[bytes, ResponseHead]):
    """Heads by their bytes; bounded, and shared by all connections of a phase."""

    def parse(self, raw: bytes) -> ResponseHead:
        """Parse a whole head, and remember it.

        Raises:
            httpx.RemoteProtocolError: malformed.
        """
        _check_start(raw)
        parser = _HeadParser()
        parser.feed(raw)
        head = parser.finish()
        if len(raw) <= _REMEMBERED_HEAD_BYTES:
            if len(self) >= _REMEMBERED_HEADS:
                self.clear()
            self[raw] = head
        return head


def _check_start(data: bytes | bytearray) -> None:
    if not _START.startswith(data[: len(_START)]):
        raise httpx.RemoteProtocolError(f"not an HTTP/1 response: {bytes(data[:40])!r}")


class ResponseReader:
    """Reads one response after the other from a connection's bytes.

    Attributes:
        head: the final (not 1xx) head; None before it was read.
        body_bytes: length of the body so far, with the transfer coding removed.
        excess: bytes that came behind the response's end, in the piece that completed it.
        continues: whether ``100 Continue`` came.
    """

    __slots__ = (
        "_bodyless",
        "_chunks",
        "_head_bytes",
        "_heads",
        "_left",
        "_limit",
        "_parser",
        "_partial",
        "_sink",
        "_state",
        "body_bytes",
        "continues",
        "excess",
        "head",
    )

    def __init__(self, heads: HeadCache | None = None) -> None:
        self._heads = HeadCache() if heads is None else heads
        self._partial: bytearray | None = None
        self._parser: _HeadParser | None = None
        self._chunks: ChunkedReader | None = None
        self._left = 0
        self.begin()

    def begin(
        self,
        sink: Callable[[bytes], None] | None = None,
        limit: int = MAX_BODY_BYTES,
        *,
        bodyless: bool = False,
    ) -> None:
        """Expect a new response.

        Args:
            sink: gets the body's pieces; None counts them only.
            limit: the longest body accepted, in bytes.
            bodyless: the request was a HEAD.
        """
        self._sink = sink
        self._limit = limit
        self._bodyless = bodyless
        self._state = _AWAIT_HEAD
        self._partial = None
        self._head_bytes = 0
        self.head: ResponseHead | None = None
        self.body_bytes = 0
        self.excess = 0
        self.continues = False

    @property
    def is_before_head(self) -> bool:
        """Whether nothing has come yet but interim responses (1xx)."""
        return self._state == _AWAIT_HEAD and not self._partial

    @property
    def is_until_close(self) -> bool:
        """Whether only the connection's end will tell where the body ends."""
        return self._state == _IN_UNTIL_CLOSE

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may carry another request after this response."""
        return self.head is not None and self.head.keep_alive and not self.excess

    def feed(self, data: bytes) -> bool:
        """Consume received bytes; True when the response is complete.

        Raises:
            httpx.RemoteProtocolError: not HTTP, or beyond a limit (:class:`BodyTooLargeError`).
        """
        state = self._state
        if state == _AWAIT_HEAD:
            return self._feed_head(data)
        if state == _IN_LENGTH:
            return self._feed_length(data, 0)
        if state == _IN_CHUNKS:
            return self._feed_chunks(data, 0)
        if state == _IN_UNTIL_CLOSE:
            self._emit(data)
            return False
        self.excess += len(data)
        return True

    def eof(self) -> bool:
        """Take the end of the server's side; True if that completes the response.

        Raises:
            httpx.RemoteProtocolError: it does not.
        """
        if self._state == _IN_UNTIL_CLOSE:
            self._state = _DONE
            return True
        if self._state == _DONE:
            return True
        if self._state != _AWAIT_HEAD:
            raise httpx.RemoteProtocolError(f"connection closed, {self.what_came()}")
        if self._partial or self._head_bytes:
            raise httpx.RemoteProtocolError("connection closed inside the response head")
        raise httpx.RemoteProtocolError("connection closed without a response")

    def what_came(self) -> str:
        """Describe what has come of an incomplete response; "" before its first byte."""
        if self._state == _AWAIT_HEAD:
            size = self._head_bytes + len(self._partial or b"")
            return f"{size:,} bytes came of a head without an end" if size else ""
        if self._state == _IN_LENGTH:
            declared = self.body_bytes + self._left
            return f"{self.body_bytes:,} bytes of the body came, and Content-Length says {declared:,}"
        if self._state == _IN_CHUNKS:
            return f"{self.body_bytes:,} bytes of a chunked body came, and no last chunk"
        body = f"{self.body_bytes:,} bytes of the body came"
        return f"{body}, without Content-Length, and the connection was not closed"

    def what_is_beyond(self, size: int = 0) -> str:
        """Describe what came behind the end of a response: ``size`` bytes, or what this reader has seen."""
        head = self.head
        many = f"{size or self.excess:,} bytes"
        if head is not None and head.framing == LENGTH and not self._bodyless:
            return f"{many} came beyond Content-Length, which says {head.length:,}"
        return f"{many} came behind the end of the response"

    def _feed_head(self, data: bytes) -> bool:
        start = 0
        while True:
            if self._partial is None:
                stop = data.find(_END_OF_HEAD, start) + 4
                if stop > 3:
                    if stop - start + self._head_bytes > MAX_HEAD_BYTES:
                        raise httpx.RemoteProtocolError(f"response head above {MAX_HEAD_BYTES} bytes")
                    raw = data[start:stop]
                    head = self._heads.get(raw)
                    if head is None:
                        head = self._heads.parse(raw)
                    self._head_bytes += stop - start
                    start = stop
                elif start == len(data):
                    return False
                else:
                    self._partial = bytearray()
                    self._parser = _HeadParser()
                    continue
            else:
                found = self._feed_partial_head(data, start)
                if found is None:
                    return False
                head, start = found
            if head.status >= 200:
                return self._enter_body(head, data, start)
            self.continues = self.continues or head.status == 100

    def _feed_partial_head(self, data: bytes, start: int) -> tuple[ResponseHead, int] | None:
        """Take a piece of a head: return it and where the data goes on behind it, or None yet."""
        partial, parser = self._partial, self._parser
        assert partial is not None
        assert parser is not None
        seen = len(partial)
        partial += data[start:] if start else data
        if seen < len(_START):
            _check_start(partial)
        end = partial.find(_END_OF_HEAD, max(0, seen - 3))
        size = len(partial) if end < 0 else end + 4
        if size + self._head_bytes > MAX_HEAD_BYTES:
            raise httpx.RemoteProtocolError(f"response head above {MAX_HEAD_BYTES} bytes")
        stop = start + size - seen
        parser.feed(data[start:stop])
        if end < 0:
            return None
        self._partial = self._parser = None
        self._head_bytes += size
        return parser.finish(), stop

    def _enter_body(self, head: ResponseHead, data: bytes, start: int) -> bool:
        self.head = head
        framing = BODYLESS if self._bodyless else head.framing
        if framing == LENGTH:
            if head.length > self._limit:
                raise BodyTooLargeError(f"body of {head.length} bytes, limit {self._limit}")
            if self._sink is None and len(data) - start == head.length:  # as nearly all answers come
                self.body_bytes = head.length
                self._state = _DONE
                return True
            self._left = head.length
            self._state = _IN_LENGTH
            return self._feed_length(data, start)
        if framing == BODYLESS:
            self._state = _DONE
            self.excess = len(data) - start
            return True
        if framing == CHUNKED:
            self._chunks = ChunkedReader(self._emit)
            self._state = _IN_CHUNKS
            return self._feed_chunks(data, start)
        self._state = _IN_UNTIL_CLOSE
        if start < len(data):
            self._emit(data[start:])
        return False

    def _feed_length(self, data: bytes, start: int) -> bool:
        here = len(data) - start
        left = self._left
        take = min(here, left)
        if self._sink is not None and take:
            self._sink(data[start : start + take])
        self.body_bytes += take
        self._left = left - take
        if take < left:
            return False
        self._state = _DONE
        self.excess = here - take
        return True

    def _feed_chunks(self, data: bytes, start: int) -> bool:
        assert self._chunks is not None
        stop = self._chunks.feed(data, start)
        if stop < 0:
            return False
        self._state = _DONE
        self.excess = len(data) - stop
        return True

    def _emit(self, piece: bytes) -> None:
        self.body_bytes += len(piece)
        if self.body_bytes > self._limit:
            raise BodyTooLargeError(f"body above the limit of {self._limit} bytes")
        if self._sink is not None:
            self._sink(piece)
