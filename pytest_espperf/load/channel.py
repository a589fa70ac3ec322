"""A connection on which bytes go both ways at any time: what WebSocket and event streams are carried on.

Driven by event-loop callbacks as :mod:`~pytest_espperf.load.connection` is, with the same time stamps, but
without a request and its answer: the owner makes sense of the bytes.
"""

from __future__ import annotations

import asyncio
from time import perf_counter_ns
from typing import Protocol, cast

from pytest_espperf.load.acks import Acknowledger
from pytest_espperf.load.stamped import StampedTransport

_BUFFER_BYTES = 64 * 1024


class ChannelOwner(Protocol):
    """The user of a channel. Every call comes from the event loop, never from inside ``write``."""

    def on_open(self, channel: Channel) -> None:
        """Take a channel that is ready (TLS included)."""

    def on_data(self, channel: Channel, data: bytes, arrived_ns: int) -> bool:
        """Take bytes and the ``perf_counter_ns`` at which they arrived; return whether more are due now."""

    def on_end(self, channel: Channel, exc: Exception | None) -> None:
        """Take note that the channel is gone: the server ended it, or ``exc`` broke it; it is closed."""


class Channel(asyncio.Protocol):
    """One connection; ``opened_ns`` is when it was ready, 0 before."""

    __slots__ = ("_acknowledger", "_all", "_last_ns", "_owner", "_transport", "opened_ns")

    def __init__(self, owner: ChannelOwner, open_channels: set[Channel]) -> None:
        self._owner: ChannelOwner | None = owner
        self._all = open_channels
        self._transport: asyncio.Transport | StampedTransport | None = None
        self._acknowledger: Acknowledger | None = None
        self._last_ns = 0
        self.opened_ns = 0

    def write(self, data: bytes) -> int:
        """Send bytes; return the time of it in ns."""
        transport = self._transport
        assert transport is not None
        now = perf_counter_ns()
        transport.write(data)
        return now

    @property
    def unsent_bytes(self) -> int:
        """Bytes written that wait in this process, because the server does not read."""
        transport = self._transport
        return 0 if transport is None else transport.get_write_buffer_size()

    @property
    def closed(self) -> bool:
        """Whether it is closed, by either side."""
        return self._transport is None

    def close(self) -> None:
        """Close at once; the owner gets no more calls."""
        self._owner = None
        if self._acknowledger is not None:
            self._acknowledger.close()
            self._acknowledger = None
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport | StampedTransport) -> None:
        """Start with a transport, for the event loop."""
        self.opened_ns = self._last_ns = perf_counter_ns()
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
        """Take bytes of the server, and when they arrived; whether more are due now."""
        if self._owner is None:
            return False
        if arrived_ns < self._last_ns:  # somebody set the clock that the kernel stamps with
            arrived_ns = perf_counter_ns()
        self._last_ns = arrived_ns
        return self._owner.on_data(self, data, arrived_ns)

    def eof_received(self) -> None:
        """Close our side when the server has ended its own, for the event loop."""
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up when the connection is gone, for the event loop."""
        self._all.discard(self)
        self._end(exc)

    def _end(self, exc: Exception | None) -> None:
        owner = self._owner
        self.close()
        if owner is not None:
            owner.on_end(self, exc)


class BufferedChannel(Channel, asyncio.BufferedProtocol):
    """A channel with a buffer of its own, as :class:`~pytest_espperf.load.connection.BufferedConnection`."""

    __slots__ = ("_buffer",)

    def __init__(self, owner: ChannelOwner, open_channels: set[Channel]) -> None:
        super().__init__(owner, open_channels)
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the event loop's interface
        """Give the event loop somewhere to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes of the server that are in the buffer, for the event loop."""
        self.data_received(bytes(self._buffer[:nbytes]))


def channel_type(loop: asyncio.AbstractEventLoop) -> type[Channel]:
    """Choose the kind of channel that suits ``loop``."""
    return BufferedChannel if isinstance(loop, asyncio.BaseEventLoop) else Channel
