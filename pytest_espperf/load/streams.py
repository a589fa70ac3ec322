"""What the clients of WebSocket and of event streams have in common: how a channel is opened and given up.

A client has at most one channel. It opens one when it has something to do on it, and after a failure only
behind a pause (:func:`~pytest_espperf.load.feed.backoff_s`), as the clients of requests do.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter_ns

import httpx

from pytest_espperf.load.channel import Channel
from pytest_espperf.load.connector import Connector
from pytest_espperf.load.doors import Doors
from pytest_espperf.load.faults import transport_error
from pytest_espperf.load.feed import Feed, backoff_s
from pytest_espperf.load.login import DURING
from pytest_espperf.load.opening import KeptSession, Opening, Openings
from pytest_espperf.load.recorder import Recorder
from pytest_espperf.load.requests import PreparedRequest
from pytest_espperf.system.loops import Deliver

MOST_UNSENT_BYTES = 4 << 20
"""Bytes that may wait for a server to read them; beyond them its connection is given up."""


@dataclass(frozen=True)
class StreamSetup:
    """What all kinds of streams are made of.

    Attributes:
        clients: how many.
        feed: what they do, and when the phase ends.
        recorder: where samples go.
        connector: opens connections.
        timeout_s: for a connection, and for what is awaited on it.
        request: what opens a stream.
        doors: how the clients log in first; None for not at all.
    """

    clients: int
    feed: Feed
    recorder: Recorder
    connector: Connector
    timeout_s: float
    request: PreparedRequest
    doors: Doors | None


class StreamTraffic:
    """The clients of a phase of streams: what does not depend on what they send and read.

    Args:
        setup: what it is made of.
    """

    def __init__(self, setup: StreamSetup) -> None:
        self.feed = setup.feed
        self.recorder = setup.recorder
        self.openings = Openings(setup.connector, setup.recorder)
        self.timeout_ns = round(setup.timeout_s * 1e9)
        self.request = setup.request
        self.doors = setup.doors

    @property
    def label(self) -> str:
        """The engine's name."""
        return self.openings.label

    async def log_in(self, deliver_signals: Deliver, deadline_ns: int | None) -> BaseException | None:
        """Have each client log in, where the profile says so."""
        return None if self.doors is None else await self.doors.log_in(deliver_signals, deadline_ns)

    def sweep_logins(self, now_ns: int) -> None:
        """Time out the logins that are overdue."""
        if self.doors is not None:
            self.doors.sweep(now_ns)

    def wire_of(self, number: int) -> bytes:
        """Return the request with which a client opens its stream."""
        return self.request.wire if self.doors is None else self.doors.wire(number, self.request)

    async def close_connections(self) -> None:
        """Close everything."""
        self.openings.close()
        if self.doors is not None:
            await self.doors.close()


class StreamClient:
    """One client and its channel; what is sent and read on it is the subclass's.

    Attributes:
        number: the client's index.
        channel: None while there is none.
        failures: how often in a row it got nothing.
        begun_ns: when the last opening began.
    """

    def __init__(self, host: StreamTraffic, number: int) -> None:
        self._host = host
        self.number = number
        self.channel: Channel | None = None
        self.failures = 0
        self.begun_ns = 0
        self._opening = Opening(
            host.openings, lambda: host.openings.channel(self), self._not_opened, KeptSession()
        )
        self._logs_in = False
        self._pause: asyncio.TimerHandle | None = None

    # --- the subclass's

    def begin(self) -> None:
        """Send what opens the stream: the channel is ready."""
        raise NotImplementedError

    def take(self, data: bytes, arrived_ns: int) -> bool:
        """Take bytes; return whether more are due now.

        Raises:
            httpx.TransportError: they make no sense.
        """
        raise NotImplementedError

    def broke(self, exc: httpx.TransportError | None, now_ns: int, during: str = "") -> None:
        """Count that there is no channel any more, or none yet.

        Args:
            exc: what went wrong; None where the server ended the channel in order.
            now_ns: when.
            during: what was done then, for the reason; "" for the stream itself.
        """
        raise NotImplementedError

    def resume(self) -> None:
        """Go on behind a pause."""
        raise NotImplementedError

    # --- for the subclass

    @property
    def is_idle(self) -> bool:
        """Whether it neither has a channel, nor opens one, nor pauses."""
        return self.channel is None and not self.is_opening and self._pause is None

    @property
    def is_opening(self) -> bool:
        """Whether a connection is being opened, or what comes before it is done."""
        return self._opening.is_busy or self._logs_in

    def open(self) -> None:
        """Begin to open a channel; behind a login, where the client has to log in and is not."""
        self.begun_ns = perf_counter_ns()
        doors = self._host.doors
        if doors is None or doors.is_open(self.number):
            self._connect()
        else:
            self._logs_in = True
            doors.knock(self.number, self._entered)

    def expire_login(self, now_ns: int) -> bool:
        """Time a login out that is under way, which breaks the client; return whether there is one."""
        if not self._logs_in:
            return False
        assert self._host.doors is not None
        self._host.doors.expire(self.number, now_ns)
        return True

    def back_off(self, at_least_s: float = 0.0) -> None:
        """Pause, and resume."""
        self.failures += 1
        delay_s = max(at_least_s, backoff_s(self.failures))
        self._pause = self._host.openings.loop.call_later(delay_s, self._paused)

    def drop(self) -> None:
        """Close the channel, or give up opening it."""
        if self._logs_in and self._host.doors is not None:
            self._host.doors.leave(self.number)
            self._logs_in = False
        self._opening.drop()
        if self.channel is not None:
            self.channel.close()
            self.channel = None

    def give_up(self, exc: httpx.TransportError, now_ns: int) -> None:
        """Drop the channel for what went wrong on it."""
        self.drop()
        self.broke(exc, now_ns)

    def stop(self) -> None:
        """Drop everything at once."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self.drop()

    # --- the channel's owner

    def on_open(self, channel: Channel) -> None:
        """See :class:`~pytest_espperf.load.channel.ChannelOwner`."""
        self._opening.took_over(channel)
        self.channel = channel
        self.begin()

    def on_data(self, channel: Channel, data: bytes, arrived_ns: int) -> bool:
        """See :class:`~pytest_espperf.load.channel.ChannelOwner`."""
        try:
            more = self.take(data, arrived_ns)
            if channel.unsent_bytes > MOST_UNSENT_BYTES:
                raise httpx.WriteError(f"the board does not read: {channel.unsent_bytes:,} bytes wait")
        except httpx.TransportError as exc:
            self.give_up(exc, perf_counter_ns())
            return False
        return more

    def on_end(self, channel: Channel, exc: Exception | None) -> None:  # noqa: ARG002 - see ChannelOwner
        """See :class:`~pytest_espperf.load.channel.ChannelOwner`."""
        self.channel = None
        self.broke(None if exc is None else transport_error(exc, httpx.ReadError), perf_counter_ns())

    def _entered(self, trouble: httpx.TransportError | None) -> None:
        self._logs_in = False
        if trouble is None:
            self._connect()
        else:
            self.broke(trouble, perf_counter_ns(), DURING)

    def _connect(self) -> None:
        self.begun_ns = perf_counter_ns()
        self._opening.begin(self.begun_ns)

    def _not_opened(self, exc: httpx.TransportError) -> None:
        self.broke(exc, perf_counter_ns())

    def _paused(self) -> None:
        self._pause = None
        self.resume()


def end_of_head(data: bytes | bytearray, limit: int) -> int:
    """Find where the head ends that ``data`` begins with; 0 if it does not yet.

    Raises:
        httpx.RemoteProtocolError: it is longer than ``limit``.
    """
    end = data.find(b"\r\n\r\n", 0, limit) + 4
    if end > 3:
        return end
    if len(data) >= limit:
        raise httpx.RemoteProtocolError(f"response head above {limit} bytes")
    return 0
