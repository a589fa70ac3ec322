"""A connection on which bytes go both ways at any time: what WebSocket and event streams are carried on.

Driven by event-loop callbacks as :mod:`~pytest_espperf.load.connection` is, with the same time stamps, but
without a request and its answer: the owner makes sense of the bytes.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any, Protocol

from pytest_espperf.load.endpoint import Endpoint


class ChannelOwner(Protocol):
    """The user of a channel. Every call comes from the event loop, never from inside ``write``."""

    def on_open(self, channel: Channel) -> None:
        """Take a channel that is ready (TLS included)."""

    def on_data(self, channel: Channel, data: bytes, arrived_ns: int) -> bool:
        """Take bytes and the ``perf_counter_ns`` at which they arrived; return whether more are due now."""

    def on_end(self, channel: Channel, exc: Exception | None) -> None:
        """Take note that the channel is gone: the server ended it, or ``exc`` broke it; it is closed."""


class Channel(Endpoint):
    """One connection."""

    __slots__ = ("_last_ns", "_owner")

    def __init__(self, owner: ChannelOwner, open_channels: set[Any]) -> None:
        super().__init__(open_channels)
        self._owner: ChannelOwner | None = owner
        self._last_ns = 0

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
        return 0 if transport is None else transport.unsent_bytes

    def close(self) -> None:
        """Close at once; the owner gets no more calls."""
        self._owner = None
        self.drop_transport()

    def ready(self) -> None:
        """See :class:`~pytest_espperf.load.endpoint.Endpoint`."""
        assert self._owner is not None
        self._last_ns = self.opened_ns
        self._owner.on_open(self)

    def received(self, data: bytes, arrived_ns: int) -> bool:
        """Take bytes of the server, and when they arrived; whether more are due now."""
        if self._owner is None:
            return False
        if arrived_ns < self._last_ns:  # somebody set the clock that the kernel stamps with
            arrived_ns = perf_counter_ns()
        self._last_ns = arrived_ns
        return self._owner.on_data(self, data, arrived_ns)

    def eof_received(self) -> None:
        """See :class:`~pytest_espperf.load.transport.Receiver`."""
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`~pytest_espperf.load.transport.Receiver`."""
        self._end(exc)

    def _end(self, exc: Exception | None) -> None:
        owner = self._owner
        self.close()
        if owner is not None:
            owner.on_end(self, exc)
