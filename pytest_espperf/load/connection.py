"""One HTTP/1.1 connection, driven by event-loop callbacks: no task, no await, no object per request.

Time is stamped here, where bytes leave and arrive; where the kernel knows the arrival better
(:mod:`~pytest_espperf.load.stamped`), its time stamp counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, Protocol

import httpx

from pytest_espperf.load.endpoint import Endpoint
from pytest_espperf.load.faults import transport_error
from pytest_espperf.load.wire import MAX_BODY_BYTES, HeadCache, ResponseReader, no_response

CONTINUE_S = 1.0
"""Seconds that a body is held back for ``100 Continue``: a server need not know it (RFC 9110 10.1.1)."""

_NOTHING = memoryview(b"")


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


class Connection(Endpoint):
    """A connection and the response it waits for.

    Attributes:
        reader: takes the response apart.
        served: complete responses so far.
        sent_ns, first_ns, last_ns: when the request began to be written (an upload takes its time from then
            on), when the response's first and its latest byte arrived, those of ``100 Continue`` not counted;
            ``perf_counter_ns`` values, ``first_ns`` 0 before that byte.
    """

    __slots__ = (
        "_awaiting",
        "_body",
        "_has_body",
        "_heard",
        "_owner",
        "_patience",
        "first_ns",
        "last_ns",
        "reader",
        "sent_ns",
        "served",
    )

    def __init__(self, owner: Owner, heads: HeadCache, open_connections: set[Any]) -> None:
        super().__init__(open_connections)
        self._owner: Owner | None = owner
        self._awaiting = False
        self._body = _NOTHING
        self._has_body = self._heard = False
        self._patience: asyncio.TimerHandle | None = None
        self.reader = ResponseReader(heads)
        self.served = 0
        self.sent_ns = self.first_ns = self.last_ns = 0

    def send(
        self,
        wire: bytes,
        sink: Callable[[bytes], None] | None = None,
        limit: int = MAX_BODY_BYTES,
        *,
        bodyless: bool = False,
        body: bytes = b"",
        expects: bool = False,
    ) -> int:
        """Write a request and await its response; return the time at which writing began, in ns.

        Args:
            wire: the head, and the body where it is short.
            sink: gets the pieces of the response's body.
            limit: the longest one accepted, in bytes.
            bodyless: the request is a HEAD.
            body: what is sent behind ``wire``.
            expects: hold it back until the server says ``100 Continue``, for :data:`CONTINUE_S` at most.
        """
        transport = self._transport
        assert transport is not None
        assert not self._awaiting
        self.reader.begin(sink, limit, bodyless=bodyless)
        self.first_ns = 0
        self._heard = False
        self._awaiting = True
        self._has_body = bool(body)
        self.sent_ns = self.last_ns = now = perf_counter_ns()
        transport.write(wire)
        if body:
            self._body = memoryview(body)
            if expects:
                self._patience = asyncio.get_running_loop().call_later(CONTINUE_S, self._go_on)
            else:
                self._go_on()
        return now

    @property
    def unsent_bytes(self) -> int:
        """Bytes of the request's body, as it is framed, that are not with the kernel yet.

        No server can have read them: an answer that is there now came before the body was taken. What the
        kernel has counts as sent, whether the server reads it or not.
        """
        if not self._has_body:
            return 0
        transport = self._transport
        return len(self._body) + (transport.unsent_bytes if transport is not None else 0)

    @property
    def keep_alive(self) -> bool:
        """Whether it may carry another request: not one whose answer came before the body was sent.

        A server that has refused a long body may read the rest of it all the same, or not: what it would take
        the next request for is its secret, and how much of the body it has is the kernel's.
        """
        reader = self.reader
        head = reader.head
        if head is None or not head.keep_alive or reader.excess:
            return False
        return not self._has_body or (head.status < 400 and not self.unsent_bytes)

    def timed_out(self) -> httpx.TimeoutException:
        """Describe a time-out now: what came instead of an answer, or how far the body got."""
        left = self.unsent_bytes
        if left and self._patience is None and not self._heard:
            return httpx.WriteTimeout(
                f"the request's body was not taken in time: {left:,} bytes of it are left"
            )
        return httpx.ReadTimeout(no_response(self.reader.what_came()))

    def close(self) -> None:
        """Close at once; the owner gets no more calls."""
        self._owner = None
        self._awaiting = False
        self._stop_patience()
        self.drop_transport()

    @property
    def stale(self) -> bool:
        """Whether a break now is that of a kept-alive connection which died unanswered."""
        return self.served > 0 and not self._heard

    def ready(self) -> None:
        """See :class:`~pytest_espperf.load.endpoint.Endpoint`."""
        assert self._owner is not None
        self._owner.on_open(self)

    def received(self, data: bytes, arrived_ns: int) -> bool:
        """Take bytes of the server, and when they arrived; whether the answer in hand lacks more."""
        if not self._awaiting:
            self._end_idle(data)
            return False
        if arrived_ns < self.last_ns:  # somebody set the clock that the kernel stamps with
            arrived_ns = perf_counter_ns()
        if not self.first_ns:
            self.first_ns = arrived_ns
            self._heard = True
        self.last_ns = arrived_ns
        try:
            complete = self.reader.feed(data)
        except httpx.TransportError as exc:
            self._break(exc)
            return False
        if complete:
            self._complete()
        elif self.reader.continues and self.reader.is_before_head:
            self.first_ns = 0
            if self._patience is not None:
                self._go_on()
        return not complete

    def eof_received(self) -> None:
        """See :class:`~pytest_espperf.load.transport.Receiver`."""
        self._ended()

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`~pytest_espperf.load.transport.Receiver`."""
        if self._owner is None:
            return
        if exc is None or (self._awaiting and self._is_refusal()):
            self._ended()
        elif self._awaiting:
            self._break(transport_error(exc, httpx.ReadError))
        else:
            self._end_idle(b"")

    def _go_on(self) -> None:
        """Send the body that was held back."""
        self._stop_patience()
        if self._transport is not None:
            body, self._body = self._body, _NOTHING
            self._transport.write(body)

    def _stop_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _is_refusal(self) -> bool:
        """Whether a reset now is the end of an answer that refuses the request's body, and has no length.

        A server that closes with some of the body unread resets the connection.
        """
        head = self.reader.head
        return self._has_body and self.reader.is_until_close and head is not None and head.status >= 400

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
            if self._patience is not None:
                self._stop_patience()
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
