"""One connection: bytes to requests, answers to bytes, and when it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote

import httptools

from pytest_espperf.sim.messages import Request, Response, error_response, parse_query
from pytest_espperf.sim.model import ScaledClock
from pytest_espperf.sim.uploads import expects, most_body_bytes, refuse_head

REQUESTS_PER_CONNECTION = 16
FIRST_IDLE_S = 5.0
IDLE_S = 10.0
MAX_HEADER_BYTES = 8_192
LINGER_S = 1.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_LINGER_ZERO = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


def _path_of(url: Any) -> str:
    return unquote((url.path or b"/").decode("ascii", errors="replace"))


class ConnectionHost(Protocol):
    """What a connection needs of its server."""

    clock: ScaledClock

    def count(self, name: str) -> None:
        """Raise a counter of the device."""

    def admit(self, connection: DeviceConnection) -> bool:
        """Whether there is a place for this new connection."""

    def on_request(self, connection: DeviceConnection, request: Request) -> None:
        """Take a request; answer it with :meth:`DeviceConnection.send`, now or later."""

    def on_closed(self, connection: DeviceConnection, *, by_device: bool) -> None:
        """Take note that an admitted connection is gone; called once."""


class DeviceConnection(asyncio.Protocol):
    """Serves requests in their order; one is in progress at a time.

    Attributes:
        cools: whether its place stays taken for the cool-down when the device closes it.
    """

    def __init__(self, owner: ConnectionHost) -> None:
        self.cools = True
        self._owner = owner
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._waiting: deque[Request] = deque()
        self._busy = False
        self._served = 0
        self._closing = False
        self._gone = False
        self._idle: asyncio.TimerHandle | None = None
        self._take: Callable[[bytes], None] | None = None
        self._begin()

    # From asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to wait for the first request, if there is a place."""
        self._transport = transport
        if self._owner.admit(self):
            self._await_request()
        else:
            self._gone = True
            self.close()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what it cannot read is answered 400."""
        if self._closing:
            return
        if self._take is not None:
            self._take(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # a client sends nothing more before the answer that switches protocols
        except httptools.HttpParserError:
            self._refuse(400, "Bad Request", "request_parse_errors")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget everything."""
        self._leave(by_device=self._closing)

    # From httptools

    def on_message_begin(self) -> None:
        """Start a request."""
        self._begin()

    def on_url(self, url: bytes) -> None:
        """Collect the target, which may come in parts."""
        self._grow(len(url))
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header."""
        self._grow(len(name) + len(value))
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Refuse a body that is not wanted before it comes, or let it come where the client asks."""
        if self._closing:
            return
        url = self._parsed_url()
        if url is None:
            return
        method = self._parser.get_method().decode("ascii")
        self._path = _path_of(url)
        refusal = refuse_head(method, self._path, self._headers)
        if refusal is not None:
            self._refuse_body(refusal)
        elif expects(self._headers) and not self._busy and not self._waiting:
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """Collect the body, within bounds."""
        if self._closing:
            return
        if len(self._body) + len(body) > most_body_bytes(self._path):
            self._refuse_body(error_response(413, "Content Too Large"))
        else:
            self._body += body

    def on_message_complete(self) -> None:
        """Serve the request, or line it up behind the one in progress."""
        if self._closing:
            return
        url = self._parsed_url()
        if url is None:
            return
        request = Request(
            self._parser.get_method().decode("ascii"),
            _path_of(url),
            parse_query(url.query),
            self._headers,
            bytes(self._body),
            self._parser.should_keep_alive(),
        )
        if self._busy:
            self._waiting.append(request)
            if len(self._waiting) >= REQUESTS_PER_CONNECTION:
                self._transport.pause_reading()
        else:
            self._serve(request)

    # For the server and the faults

    @property
    def alive(self) -> bool:
        """Whether an answer can still be sent."""
        return not (self._closing or self._gone)

    @property
    def local_address(self) -> str:
        """The address at which the client reached the device."""
        return str(self._transport.get_extra_info("sockname")[0])

    def send(self, response: Response, *, give_up: bool = False) -> None:
        """Answer the request in progress; close where the rules of the board say so."""
        if not self.alive:
            return
        self._served += 1
        if self._served == REQUESTS_PER_CONNECTION:
            self._owner.count("keepalive_limit_closes")
            give_up = True
        close = give_up or response.closes or not self._keep_alive
        self._transport.write(response.head(close=close) + response.payload())
        if close:
            self.close()
            return
        self._busy = False
        if self._waiting:
            self._transport.resume_reading()
            self._serve(self._waiting.popleft())
        else:
            self._await_request()

    def become(self, take: Callable[[bytes], None]) -> None:
        """Serve no further request: give all further bytes of the client to ``take``."""
        self._take = take

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self.alive:
            self._transport.write(data)

    def unsent(self) -> int:
        """Bytes written that wait in this process."""
        return int(self._transport.get_write_buffer_size())

    def close(self) -> None:
        """End the connection in order, after what was written."""
        self._closing = True
        self._transport.close()

    def reset(self) -> None:
        """End the connection with a TCP reset; it counts as gone at once."""
        self._closing = True
        self._owner.count("connection_resets_sent")
        self._leave(by_device=True)
        accepted = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._transport.abort()
        # One kind of event loop would send an orderly end before it closes, so the socket under
        # asyncio's wrapper is closed at once; the transport has let go of it.
        getattr(accepted, "_sock", accepted).close()

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something after so many device seconds, unless the connection is gone by then."""

        def act() -> None:
            if self.alive:
                action()

        asyncio.get_running_loop().call_later(self._owner.clock.real_s(delay_s), act)

    # Inside

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._path = "/"
        self._header_bytes = 0

    def _parsed_url(self) -> Any:
        """Parse the target; None where it is none, and refused."""
        try:
            return httptools.parse_url(self._url)
        except httptools.HttpParserInvalidURLError:
            self._refuse(400, "Bad Request", "request_parse_errors")
            return None

    def _grow(self, n_bytes: int) -> None:
        self._header_bytes += n_bytes
        if self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(431, "Request Header Fields Too Large", "request_too_large")

    def _refuse(self, status: int, sentence: str, counter: str) -> None:
        if not self._closing:
            self._owner.count(counter)
            response = error_response(status, sentence)
            self._transport.write(response.head(close=True) + response.payload())
            self.close()

    def _refuse_body(self, response: Response) -> None:
        """Refuse a request whose body is still to come; go on reading for a while, and close then.

        A close with something unread is a reset, which may take the answer away from the client.
        """
        if self._closing:
            return
        self._closing = True
        self._owner.count("request_too_large" if response.status == 413 else "request_parse_errors")
        self._transport.write(response.head(close=True) + response.payload())
        if self._transport.can_write_eof():
            self._transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, self._transport.close)

    def _serve(self, request: Request) -> None:
        self._busy = True
        self._keep_alive = request.keep_alive
        if self._served:
            self._owner.count("keepalive_reuses")
        self._owner.on_request(self, request)

    def _await_request(self) -> None:
        """Wait for a request, from now on for the idle time; one timer serves many waits."""
        loop = asyncio.get_running_loop()
        limit_s = self._owner.clock.real_s(IDLE_S if self._served else FIRST_IDLE_S)
        self._idle_until = loop.time() + limit_s
        if self._idle is None or self._idle.when() > self._idle_until:
            if self._idle is not None:
                self._idle.cancel()
            self._idle = loop.call_at(self._idle_until, self._check_idle)

    def _check_idle(self) -> None:
        self._idle = None
        if not self.alive or self._busy:
            return  # the wait after this request starts a new timer
        loop = asyncio.get_running_loop()
        if loop.time() < self._idle_until:
            self._idle = loop.call_at(self._idle_until, self._check_idle)
            return
        self._owner.count("keepalive_idle_closes")
        self._closing = True
        if self.unsent():
            self._transport.abort()  # the client does not read: closing in order would wait for it
        else:
            self._transport.close()

    def _leave(self, *, by_device: bool) -> None:
        if not self._gone:
            self._gone = True
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
            self._owner.on_closed(self, by_device=by_device)
