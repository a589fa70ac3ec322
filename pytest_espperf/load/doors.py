"""How clients of streams log in: each over a connection of its own, before its stream is opened."""

from __future__ import annotations

from pytest_espperf.load.connection import Connector
from pytest_espperf.load.feed import ClosedFeed
from pytest_espperf.load.guard import SelfWatch
from pytest_espperf.load.lanes import LaneTraffic
from pytest_espperf.load.login import ClientSession, Login
from pytest_espperf.load.recorder import Recorder
from pytest_espperf.load.requests import PreparedRequest
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import PhaseSpec
from pytest_espperf.system.loops import Deliver


class Doors:
    """The logins of all clients of a phase of streams.

    A client that could not log in opens its stream without what the login brings, and what the board answers
    to that is counted.

    Args:
        phase: whose clients they are.
        login: what each asks for.
        connector: opens connections.
        timeout_s: that a login may take.
    """

    def __init__(self, phase: PhaseSpec, login: Login, *, connector: Connector, timeout_s: float) -> None:
        self._lanes = LaneTraffic(
            phase=phase,
            feed=ClosedFeed((), 0, 0.0),
            recorder=Recorder(PhaseSamples((), phase.clients, phase.duration_s)),
            connector=connector,
            timeout_s=timeout_s,
            watch=SelfWatch(clients=phase.clients, open_loop=False),
            login=login,
        )
        self._sessions: dict[int, ClientSession] = {}

    async def log_in(self, deliver_signals: Deliver, deadline_ns: int | None) -> None:
        """Have each client log in, until a time at most."""
        try:
            await self._lanes.log_in(deliver_signals, deadline_ns)
        finally:
            await self._lanes.close()
        self._sessions = dict(enumerate(self._lanes.sessions()))

    def wire(self, number: int, request: PreparedRequest) -> bytes:
        """Return the bytes of a client's own request."""
        session = self._sessions.get(number)
        return request.wire if session is None or not session.ready else session.wire(request)
