"""Connections of a phase's clients while they are opened, which may be given up at any time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import httpx

from pytest_espperf.load.channel import Channel, ChannelOwner
from pytest_espperf.load.connection import Connection, Owner
from pytest_espperf.load.connector import Connector
from pytest_espperf.load.endpoint import Endpoint
from pytest_espperf.load.guard import engine_label
from pytest_espperf.load.recorder import Recorder
from pytest_espperf.load.transport import Dial
from pytest_espperf.load.wire import HeadCache


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

    def use(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the event loop that runs."""
        self.loop = loop

    @property
    def label(self) -> str:
        """The engine's name."""
        return engine_label(self.loop, stamped=self.connector.stamped)

    def connection(self, owner: Owner) -> Connection:
        """Make a connection that is yet to be opened."""
        return Connection(owner, self.heads, self._open)

    def channel(self, owner: ChannelOwner) -> Channel:
        """Make a channel that is yet to be opened."""
        return Channel(owner, self._open)

    def close(self) -> None:
        """Close all connections."""
        for connection in tuple(self._open):
            connection.close()


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

    __slots__ = ("_begun_ns", "_dial", "_failed", "_kept", "_made", "_make_one", "_openings", "took_ns")

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
        self._dial: Dial | None = None
        self._made = False
        self._kept = kept
        self._begun_ns = self.took_ns = 0

    @property
    def is_busy(self) -> bool:
        """Whether one is being opened."""
        return self._dial is not None

    def begin(self, now_ns: int) -> None:
        """Begin to open a connection; its owner gets it once it is ready."""
        self._begun_ns = now_ns
        self._made = False
        openings = self._openings
        self._dial = openings.connector.begin(openings.loop, self._make, self._not_opened, self._kept.latest)

    def took_over(self, connection: Endpoint) -> None:
        """Take note that a connection is ready."""
        self._dial = None
        self.took_ns = connection.opened_ns - self._begun_ns
        self._openings.recorder.connected(self._begun_ns, connection)

    def what_lacks(self) -> str:
        """Say what of a connection is missing at its time-out."""
        if not self._made or not self._openings.connector.encrypted:
            return "no connection in time"
        return "no TLS handshake in time on a connection that was up"

    def keep_session(self, connection: Connection) -> None:
        """Keep what the next TLS handshake may take up, before a connection is closed."""
        if self._openings.resume and (self._kept.latest is None or connection.has_new_session):
            self._kept.latest = connection.session or self._kept.latest

    def drop(self) -> None:
        """Give the connection up that is being opened."""
        dial, self._dial = self._dial, None
        if dial is not None:
            dial.cancel()

    def _make(self) -> Endpoint:
        self._made = True
        return self._make_one()

    def _not_opened(self, exc: httpx.TransportError) -> None:
        self._dial = None
        self._failed(exc)
