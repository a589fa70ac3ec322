"""Our end of one connection: how an event loop makes it, reads into it and closes it.

What goes over it is decided elsewhere: a request and its answer (:mod:`~pytest_espperf.load.connection`), or
bytes both ways at any time (:mod:`~pytest_espperf.load.channel`).
"""

from __future__ import annotations

import asyncio
import ssl
from time import perf_counter_ns
from typing import Any, cast

from pytest_espperf.load.acks import Acknowledger
from pytest_espperf.load.stamped import StampedTransport

_BUFFER_BYTES = 64 * 1024


class Endpoint(asyncio.Protocol):
    """One connection, as an event loop sees it.

    A subclass that is an ``asyncio.BufferedProtocol`` as well brings its own buffer, for asyncio's own loops:
    for a plain protocol they allocate 256 KiB for each read of a few hundred bytes, which triples the cost of
    a request. (uvloop does not, and loses what a signal handler raises inside ``get_buffer``.)

    Args:
        all_open: the connections of the phase that are not seen closed yet.

    Attributes:
        connected_ns, opened_ns: when TCP was up, and when it was ready (TLS included); ``perf_counter_ns``
            values, ``opened_ns`` 0 before.
    """

    __slots__ = ("_acknowledger", "_all", "_buffer", "_transport", "connected_ns", "opened_ns")

    def __init__(self, all_open: set[Any]) -> None:
        self._all = all_open
        self._transport: asyncio.Transport | StampedTransport | None = None
        self._acknowledger: Acknowledger | None = None
        self._buffer: memoryview | None = None
        self.connected_ns = perf_counter_ns()
        self.opened_ns = 0

    # --- the subclass's

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        raise NotImplementedError

    def ready(self) -> None:
        """Tell the owner that it is ready."""
        raise NotImplementedError

    def received(self, data: bytes, arrived_ns: int) -> bool:
        """Take bytes of the server, and when they arrived; return whether more are due now."""
        raise NotImplementedError

    def eof_received(self) -> None:
        """Close our side when the server has ended its own, for the event loop."""
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up when the connection is gone, for the event loop."""
        raise NotImplementedError

    def close(self) -> None:
        """Close at once; the owner gets no more calls."""
        raise NotImplementedError

    # --- for the subclass

    def drop_transport(self) -> None:
        """Close the connection, and acknowledge nothing more on it."""
        self.stop_acknowledging()
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def stop_acknowledging(self) -> None:
        """Let this computer acknowledge as it does by itself."""
        if self._acknowledger is not None:
            self._acknowledger.close()
            self._acknowledger = None

    # --- what is known of it

    @property
    def closed(self) -> bool:
        """Whether it is closed, by either side."""
        return self._transport is None

    @property
    def _tls(self) -> ssl.SSLObject | None:
        transport = self._transport
        if transport is None or isinstance(transport, StampedTransport):
            return None
        found: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        return found

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS is spoken on it."""
        return self._tls is not None

    @property
    def is_resumed(self) -> bool:
        """Whether its TLS handshake took up an earlier session."""
        tls = self._tls
        return tls is not None and bool(tls.session_reused)

    @property
    def session(self) -> ssl.SSLSession | None:
        """What a later handshake can take up: of TLS 1.3 known once the server has sent something."""
        tls = self._tls
        return None if tls is None else tls.session

    # --- for the event loop

    def connection_made(self, transport: asyncio.BaseTransport | StampedTransport) -> None:
        """Start with a transport, for the event loop."""
        self.opened_ns = perf_counter_ns()
        self._transport = cast("asyncio.Transport | StampedTransport", transport)
        self._all.add(self)
        if self.is_given_up:
            self.close()
            return
        if not isinstance(transport, StampedTransport):
            self._acknowledger = Acknowledger(asyncio.get_running_loop(), transport)
        self.ready()

    def data_received(self, data: bytes) -> None:
        """Take bytes of the server, for the event loop."""
        self.received(data, perf_counter_ns())

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the event loop's interface
        """Give the event loop somewhere to read to."""
        if self._buffer is None:
            self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes of the server that are in the buffer, for the event loop."""
        assert self._buffer is not None
        self.data_received(bytes(self._buffer[:nbytes]))


def wants_buffer(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether an endpoint with a buffer of its own suits ``loop``."""
    return isinstance(loop, asyncio.BaseEventLoop)
