"""Connections of a phase's clients while they are opened: a task each, which may be given up at any time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import httpx

from pytest_espperf.load.channel import Channel, ChannelOwner, channel_type
from pytest_espperf.load.connection import Connection, Connector, Owner, connection_type
from pytest_espperf.load.endpoint import Endpoint
from pytest_espperf.load.guard import engine_label
from pytest_espperf.load.recorder import Recorder
from pytest_espperf.load.wire import HeadCache

_CLOSE_PATIENCE_S = 1.0
_CLOSE_TURNS = 100
_CLOSE_TURNS_AT_LEAST = 5


class Openings:
    """What all clients of a phase open connections with.

    Args:
        connector: opens them.
        recorder: takes how long that lasted.
        resume: whether a client's TLS handshake takes up the session of its connection before.

    Attributes:
        heads: what the answers on all of them began with.
    """

    def __init__(self, connector: Connector, recorder: Recorder, *, resume: bool = False) -> None:
        self.connector = connector
        self.recorder = recorder
        self.resume = resume
        self.heads = HeadCache()
        self._open: set[Endpoint] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def use(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the event loop, which decides on the kind of endpoint."""
        self.loop = loop
        self._connection_type, self._channel_type = connection_type(loop), channel_type(loop)

    @property
    def label(self) -> str:
        """The engine's name."""
        return engine_label(self.loop, stamped=self.connector.stamped)

    def connection(self, owner: Owner) -> Connection:
        """Make a connection that is yet to be opened."""
        return self._connection_type(owner, self.heads, self._open)

    def channel(self, owner: ChannelOwner) -> Channel:
        """Make a channel that is yet to be opened."""
        return self._channel_type(owner, self._open)

    def run(
        self, make: Callable[[], Endpoint], session: ssl.SSLSession | None, done: Callable[..., None]
    ) -> asyncio.Task[None]:
        """Open one in a task of its own."""
        task = self.loop.create_task(self.connector.open(make, session))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(done)
        return task

    async def close(self) -> None:
        """Close all connections, and see them closed (for at most a second)."""
        for connection in tuple(self._open):
            connection.close()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=_CLOSE_PATIENCE_S)
        # A connection made or given up this very moment takes the loop a few turns to be seen closed.
        for turn in range(_CLOSE_TURNS):
            await asyncio.sleep(0 if turn < _CLOSE_TURNS_AT_LEAST else _CLOSE_PATIENCE_S / _CLOSE_TURNS)
            if turn >= _CLOSE_TURNS_AT_LEAST and not self._open:
                break


class KeptSession:
    """What the next TLS handshake of a client may take up.

    Attributes:
        latest: of the connection that was closed last; None before.
    """

    __slots__ = ("latest",)

    def __init__(self) -> None:
        self.latest: ssl.SSLSession | None = None


class Opening:
    """A place for one connection, while there is none yet.

    Args:
        openings: of the phase.
        make: makes the endpoint of one.
        failed: takes the error where one cannot be opened.
        kept: of the client, which may have several places.

    Attributes:
        took_ns: what opening the latest connection took, TLS included.
    """

    __slots__ = ("_begun_ns", "_failed", "_kept", "_made", "_make_one", "_openings", "_task", "took_ns")

    def __init__(
        self,
        openings: Openings,
        make: Callable[[], Endpoint],
        failed: Callable[[httpx.TransportError], None],
        kept: KeptSession,
    ) -> None:
        self._openings = openings
        self._make_one = make
        self._failed = failed
        self._task: asyncio.Task[None] | None = None
        self._made: Endpoint | None = None
        self._kept = kept
        self._begun_ns = self.took_ns = 0

    @property
    def is_busy(self) -> bool:
        """Whether one is being opened."""
        return self._task is not None

    def begin(self, now_ns: int) -> None:
        """Begin to open a connection; its owner gets it once it is ready."""
        self._begun_ns = now_ns
        self._task = self._openings.run(self._make, self._kept.latest, self._done)

    def took_over(self, connection: Endpoint) -> bool:
        """Take note that a connection is ready; close it and return False where it was given up before."""
        if self._task is None:
            connection.close()
            return False
        self._task = self._made = None
        self.took_ns = connection.opened_ns - self._begun_ns
        self._openings.recorder.connected(self._begun_ns, connection)
        return True

    def what_lacks(self) -> str:
        """Say what of a connection is missing at its time-out."""
        if self._made is None or not self._openings.connector.encrypted:
            return "no connection in time"
        return "no TLS handshake in time on a connection that was up"

    def keep_session(self, connection: Connection) -> None:
        """Keep what the next TLS handshake may take up, before a connection is closed."""
        if self._openings.resume:
            self._kept.latest = connection.session or self._kept.latest

    def drop(self) -> None:
        """Give the connection up that is being opened."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._made is not None:  # ready in the very moment of being given up
            self._made.close()
            self._made = None

    def _make(self) -> Endpoint:
        self._made = endpoint = self._make_one()
        return endpoint

    def _done(self, task: asyncio.Task[None]) -> None:
        exc = None if task.cancelled() else task.exception()
        if exc is None:
            return
        if not isinstance(exc, httpx.TransportError):
            raise exc
        if self._task is task:
            self._task = self._made = None
            self._failed(exc)
