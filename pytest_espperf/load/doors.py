"""How clients of streams log in: each over a connection of its own, before its stream is opened."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from pytest_espperf.load.connector import Connector
from pytest_espperf.load.feed import ClosedFeed
from pytest_espperf.load.guard import SelfWatch
from pytest_espperf.load.lanes import NEVER, Lane, LaneTraffic
from pytest_espperf.load.login import ClientSession, Login
from pytest_espperf.load.recorder import Recorder
from pytest_espperf.load.requests import PreparedRequest
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import PhaseSpec
from pytest_espperf.system.loops import Deliver

Entered = Callable[[httpx.TransportError | None], None]
"""Takes the end of a login: what it met, None where the client is logged in."""


class Door(Lane):
    """The login of one client: a lane that asks for nothing else, and has no connection behind it.

    Attributes:
        trouble: what the last login met; None where it met nothing.
    """

    __slots__ = ("_entered", "trouble")

    def __init__(self, traffic: LaneTraffic, number: int, session: ClientSession | None = None) -> None:
        super().__init__(traffic, number, session)
        self.trouble: httpx.TransportError | None = None
        self._entered: Entered | None = None

    def knock(self, entered: Entered) -> None:
        """Log in during the phase."""
        self.trouble = None
        self._entered = entered
        self.log_in()

    def advance(self) -> bool:
        """Leave: the login has ended, in whatever way."""
        super().advance()
        self._drop_connection()
        entered, self._entered = self._entered, None
        if entered is not None:
            entered(self.trouble)
        return False

    def stop(self) -> None:
        """See :class:`~pytest_espperf.load.lanes.Client`."""
        super().stop()
        self._entered = None

    def _fail(self, exc: httpx.TransportError, first_ns: int, end_ns: int) -> None:  # noqa: ARG002 - a lane's
        self.deadline_ns = NEVER
        self.trouble = exc


class Doors:
    """The logins of all clients of a phase of streams.

    A client whose login failed before the phase logs in again before it opens its stream, until it can.

    Args:
        phase: whose clients they are.
        login: what each asks for.
        connector: opens connections.
        timeout_s: that a login may take.
    """

    def __init__(self, phase: PhaseSpec, login: Login, *, connector: Connector, timeout_s: float) -> None:
        self._doors: list[Door] = []
        self._lanes = LaneTraffic(
            phase=phase,
            feed=ClosedFeed((), 0, 0.0),
            recorder=Recorder(PhaseSamples((), phase.clients, phase.duration_s)),
            connector=connector,
            timeout_s=timeout_s,
            watch=SelfWatch(clients=phase.clients, open_loop=False),
            login=login,
            make_client=self._make,
        )

    def _make(self, traffic: LaneTraffic, number: int, session: ClientSession | None) -> Door:
        door = Door(traffic, number, session)
        self._doors.append(door)
        return door

    async def log_in(self, deliver_signals: Deliver, deadline_ns: int | None) -> BaseException | None:
        """Have each client log in before the phase, until a time at most; return what a login met."""
        try:
            await self._lanes.log_in(deliver_signals, deadline_ns)
        finally:
            await self._lanes.close()
        self._lanes.has_begun = False  # doors never have anything else to do
        return next((door.trouble for door in self._doors if door.trouble is not None), None)

    def is_open(self, number: int) -> bool:
        """Whether a client is logged in."""
        return self._doors[number].is_logged_in

    def knock(self, number: int, entered: Entered) -> None:
        """Have a client log in again; ``entered`` is called once, unless it leaves before."""
        self._doors[number].knock(entered)

    def leave(self, number: int) -> None:
        """Give a login up that is under way."""
        self._doors[number].stop()

    def expire(self, number: int, now_ns: int) -> None:
        """Time a login out that is under way."""
        self._doors[number].expire(now_ns)

    def sweep(self, now_ns: int) -> None:
        """Time out what is overdue."""
        for door in self._doors:
            if door.deadline_ns <= now_ns:
                door.expire(now_ns)

    async def close(self) -> None:
        """Close everything."""
        await self._lanes.close()

    def wire(self, number: int, request: PreparedRequest) -> bytes:
        """Return the bytes of the own request of a client that is logged in."""
        session = self._doors[number].session
        assert session is not None
        return session.wire(request)
