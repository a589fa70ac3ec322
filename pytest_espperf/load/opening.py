"""Connections of a phase's clients while they are opened: a task each, which may be given up at any time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import httpx

from pytest_espperf.load.connection import Connection, Connector, Owner, connection_type
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
    """

    def __init__(self, connector: Connector, recorder: Recorder, *, resume: bool = False) -> None:
        self.connector = connector
        self.recorder = recorder
        self.resume = resume
        self._heads = HeadCache()
        self._open: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def use(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the event loop, which decides on the kind of connection."""
        self.loop = loop
        self._kind = connection_type(loop)

    def make(self, owner: Owner) -> Connection:
        """Make a connection that is yet to be opened."""
        return self._kind(owner, self._heads, self._open)

    def run(
        self, make: Callable[[], Connection], session: ssl.SSLSession | None, done: Callable[..., None]
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
        owner: of the connections.
        failed: takes the error where one cannot be opened.
        kept: of the client, which may have several places.

    Attributes:
        took_ns: what opening the latest connection took, TLS included.
    """

    __slots__ = ("_begun_ns", "_failed", "_kept", "_made", "_openings", "_owner", "_task", "took_ns")

    def __init__(
        self,
        openings: Openings,
        owner: Owner,
        failed: Callable[[httpx.TransportError], None],
        kept: KeptSession,
    ) -> None:
        self._openings = openings
        self._owner = owner
        self._failed = failed
        self._task: asyncio.Task[None] | None = None
        self._made: Connection | None = None
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

    def took_over(self, connection: Connection) -> bool:
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

    def _make(self) -> Connection:
        self._made = connection = self._openings.make(self._owner)
        return connection

    def _done(self, task: asyncio.Task[None]) -> None:
        exc = None if task.cancelled() else task.exception()
        if exc is None:
            return
        if not isinstance(exc, httpx.TransportError):
            raise exc
        if self._task is task:
            self._task = self._made = None
            self._failed(exc)
