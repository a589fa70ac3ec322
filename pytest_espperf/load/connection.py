"""One HTTP/1.1 connection, driven by event-loop callbacks: no task, no await, no object per request.

Time is stamped here, where bytes leave and arrive; where the kernel knows the arrival better
(:mod:`~pytest_espperf.load.stamped`), its time stamp counts.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from time import perf_counter_ns
from typing import Protocol, cast

import httpx

from pytest_espperf.load.acks import Acknowledger
from pytest_espperf.load.channel import Channel
from pytest_espperf.load.faults import transport_error
from pytest_espperf.load.stamped import StampedTransport, connect_stamped, kernel_stamps
from pytest_espperf.load.wire import MAX_BODY_BYTES, HeadCache, ResponseReader
from pytest_espperf.model.workload import Target
from pytest_espperf.system.tls import tls_for

_BUFFER_BYTES = 64 * 1024


class Owner(Protocol):
    """The user of a connection. Every call comes from the event loop, never from inside ``send``."""

    def on_open(self, connection: Connection) -> None:
        """Take a connection that is ready (TLS included)."""

    def on_response(self, connection: Connection) -> None:
        """Take the awaited response, which is complete: ``connection.reader`` has it."""

    def on_broken(self, connection: Connection, exc: httpx.TransportError) -> None:
        """Give up the awaited response: it will not come any more, and the connection is closed."""

    def on_idle_end(self, connection: Connection, data: bytes) -> None:
        """Drop an idle connection: the server closed it, or sent ``data`` on it, and it is closed."""


class Connection(asyncio.Protocol):
    """A connection and the response it waits for.

    Attributes:
        reader: takes the response apart.
        served: complete responses so far.
        opened_ns, sent_ns, first_ns, last_ns: when it was ready, when the request's last byte was
            handed to the kernel's side, when the response's first and its latest byte arrived;
            ``perf_counter_ns`` values, ``first_ns`` 0 before that byte.
    """

    __slots__ = (
        "_acknowledger",
        "_all",
        "_awaiting",
        "_owner",
        "_transport",
        "first_ns",
        "last_ns",
        "opened_ns",
        "reader",
        "sent_ns",
        "served",
    )

    def __init__(self, owner: Owner, heads: HeadCache, open_connections: set[Connection]) -> None:
        self._owner: Owner | None = owner
        self._all = open_connections
        self._transport: asyncio.Transport | StampedTransport | None = None
        self._acknowledger: Acknowledger | None = None
        self._awaiting = False
        self.reader = ResponseReader(heads)
        self.served = 0
        self.opened_ns = self.sent_ns = self.first_ns = self.last_ns = 0

    def send(
        self,
        wire: bytes,
        sink: Callable[[bytes], None] | None = None,
        limit: int = MAX_BODY_BYTES,
        *,
        bodyless: bool = False,
    ) -> int:
        """Write a request and await its response; return the time of writing in ns."""
        transport = self._transport
        assert transport is not None
        assert not self._awaiting
        self.reader.begin(sink, limit, bodyless=bodyless)
        self.first_ns = 0
        self._awaiting = True
        self.sent_ns = self.last_ns = now = perf_counter_ns()
        transport.write(wire)
        return now

    def close(self) -> None:
        """Close at once; the owner gets no more calls."""
        self._owner = None
        self._awaiting = False
        self._stop_acknowledging()
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    @property
    def closed(self) -> bool:
        """Whether it is closed, by either side."""
        return self._transport is None

    @property
    def stale(self) -> bool:
        """Whether a break now is that of a kept-alive connection which died unanswered."""
        return self.served > 0 and self.first_ns == 0

    def connection_made(self, transport: asyncio.BaseTransport | StampedTransport) -> None:
        """Start with a transport, for the event loop."""
        self.opened_ns = perf_counter_ns()
        self._transport = cast("asyncio.Transport | StampedTransport", transport)
        self._all.add(self)
        if self._owner is None:
            self.close()
            return
        if not isinstance(transport, StampedTransport):
            self._acknowledger = Acknowledger(asyncio.get_running_loop(), transport)
        self._owner.on_open(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the server, for the event loop."""
        self.received(data, perf_counter_ns())

    def received(self, data: bytes, arrived_ns: int) -> bool:
        """Take bytes of the server, and when they arrived; whether the answer in hand lacks more."""
        if not self._awaiting:
            self._end_idle(data)
            return False
        if arrived_ns < self.last_ns:  # somebody set the clock that the kernel stamps with
            arrived_ns = perf_counter_ns()
        if not self.first_ns:
            self.first_ns = arrived_ns
        self.last_ns = arrived_ns
        try:
            complete = self.reader.feed(data)
        except httpx.TransportError as exc:
            self._break(exc)
            return False
        if complete:
            self._complete()
        return not complete

    def eof_received(self) -> None:
        """Close our side when the server has ended its own, for the event loop."""
        self._ended()

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up when the connection is gone, for the event loop."""
        self._all.discard(self)
        self._stop_acknowledging()
        if self._owner is None:
            return
        if exc is None:
            self._ended()
        elif self._awaiting:
            self._break(transport_error(exc, httpx.ReadError))
        else:
            self._end_idle(b"")

    def _stop_acknowledging(self) -> None:
        if self._acknowledger is not None:
            self._acknowledger.close()
            self._acknowledger = None

    def _ended(self) -> None:
        if self._owner is None:
            return
        if not self._awaiting:
            self._end_idle(b"")
            return
        try:
            self.reader.eof()
        except httpx.TransportError as exc:
            self._break(exc)
        else:
            self.last_ns = perf_counter_ns()
            self._complete()

    def _complete(self) -> None:
        owner = self._owner
        if owner is not None:
            self._awaiting = False
            self.served += 1
            owner.on_response(self)

    def _break(self, exc: httpx.TransportError) -> None:
        owner = self._owner
        self.close()
        if owner is not None:
            owner.on_broken(self, exc)

    def _end_idle(self, data: bytes) -> None:
        owner = self._owner
        self.close()
        if owner is not None:
            owner.on_idle_end(self, data)


class BufferedConnection(Connection, asyncio.BufferedProtocol):
    """A connection that brings its own buffer, for asyncio's own loops.

    For a plain protocol they allocate 256 KiB for each read of a few hundred bytes, which triples the cost
    of a request. (uvloop does not, and loses what a signal handler raises inside ``get_buffer``.)
    """

    __slots__ = ("_buffer",)

    def __init__(self, owner: Owner, heads: HeadCache, open_connections: set[Connection]) -> None:
        super().__init__(owner, heads, open_connections)
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the event loop's interface
        """Give the event loop somewhere to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes of the server that are in the buffer, for the event loop."""
        self.data_received(bytes(self._buffer[:nbytes]))


def connection_type(loop: asyncio.AbstractEventLoop) -> type[Connection]:
    """Choose the kind of connection that suits ``loop``."""
    return BufferedConnection if isinstance(loop, asyncio.BaseEventLoop) else Connection


class Connector:
    """Opens connections to one address.

    Args:
        address: the board's, numeric: no look-up of a name is part of a measurement.
        port: TCP port.
        context: TLS settings, None for plain TCP.
        tls_name: what a certificate is checked against, "" for the address.

    Attributes:
        stamped: whether the kernel says when bytes arrived: plain TCP, where it can.
    """

    def __init__(
        self, address: str, port: int, context: ssl.SSLContext | None = None, *, tls_name: str = ""
    ) -> None:
        self.stamped = context is None and kernel_stamps()
        self._address = address
        self._port = port
        self._context = context
        self._tls_name = None if context is None else tls_name or address

    async def open(self, make: Callable[[], Connection | Channel]) -> None:
        """Open a connection; ``make`` is called once TCP is up, its ``on_open`` once it is ready.

        Raises:
            httpx.ConnectError: refused, unreachable, or no TLS.
            LocalError: this computer lacks what a connection needs.
        """
        loop = asyncio.get_running_loop()
        error: OSError | UnicodeError | None = None
        try:
            if self.stamped:
                await connect_stamped(self._address, self._port, make)
            else:
                await loop.create_connection(
                    make, self._address, self._port, ssl=self._context, server_hostname=self._tls_name
                )
        # ssl.SSLError is an OSError too; UnicodeError: a certificate's name that no encoding fits.
        except (OSError, UnicodeError) as exc:
            error = exc
        else:
            return
        try:
            raise transport_error(error, httpx.ConnectError)
        finally:
            error = None  # a traceback that holds its own frame would live until the next collection


def connector_to(target: Target) -> Connector:
    """Make what opens connections to a board.

    Raises:
        UsageError: the CA file cannot be used.
    """
    return Connector(target.address, target.port, tls_for(target), tls_name=target.tls_name)
