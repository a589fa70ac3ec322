"""The engine's clients: most are lanes, with at most one connection and one request at a time.

Lanes are driven by callbacks. When a response is complete, the next request is written before control
returns to the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter_ns

import httpx

from pytest_espperf.load.body_check import BodyCheck
from pytest_espperf.load.connection import Connection
from pytest_espperf.load.connector import Connector
from pytest_espperf.load.faults import LoginError
from pytest_espperf.load.feed import Feed, backoff_s, pause_s
from pytest_espperf.load.guard import SelfWatch
from pytest_espperf.load.login import DURING, ClientSession, Login
from pytest_espperf.load.opening import KeptSession, Opening, Openings
from pytest_espperf.load.recorder import Recorder
from pytest_espperf.load.requests import PreparedRequest
from pytest_espperf.model.workload import PhaseSpec
from pytest_espperf.system.loops import Deliver

NEVER = 1 << 62
"""A time that does not come."""

_TIMER_SLACK_S = 0.0012
"""Event loops round timers to milliseconds; the rest of the way to a start is polled."""

_LEAST_WAIT_S = 1.5
"""A client without an answer waits at least so long: one lost packet of a connect costs a second."""

_LOGIN_TURN_S = 0.01

_LONGER_THAN_OTHERS = 2.0
"""... and so many times as long as anybody waited for an answer to the same path. Where clients are served in
turn, the next one in turn never waits much longer than the last one did."""


class Client:
    """One client: when it asks. A subclass knows how.

    Attributes:
        number: the client's index.
        answered: whether it got any answer yet.
        deadline_ns: when what is in hand times out; far away without anything.
        session: what it took from its login; None without one.
    """

    __slots__ = (
        "_begin_ns",
        "_failures",
        "_intended_ns",
        "_pause",
        "_request",
        "_traffic",
        "answered",
        "deadline_ns",
        "number",
        "session",
    )

    def __init__(self, traffic: LaneTraffic, number: int, session: ClientSession | None = None) -> None:
        self._traffic = traffic
        self.session = session
        self.number = number
        self.answered = False
        self.deadline_ns = NEVER
        self._pause: asyncio.TimerHandle | None = None
        self._request: PreparedRequest | None = None
        self._begin_ns = self._intended_ns = 0
        self._failures = 0

    @property
    def in_flight(self) -> bool:
        """Whether a request is in hand."""
        return self.deadline_ns != NEVER

    @property
    def is_starving(self) -> bool:
        """Whether it asked, and never got an answer."""
        return self._request is not None and not self.answered

    @property
    def is_held(self) -> bool:
        """Whether a connection of it is kept alive and was answered more than once."""
        raise NotImplementedError

    def waits_in_vain(self, now_ns: int) -> bool:
        """Whether the request in hand has waited far longer than others waited for the same path."""
        assert self._request is not None
        waited_s = (now_ns - (self.deadline_ns - self._traffic.timeout_ns)) * 1e-9
        if waited_s < _LEAST_WAIT_S:
            return False
        longest_s = self._traffic.recorder.longest_answer_s(self._request.index)
        return longest_s is not None and waited_s > _LONGER_THAN_OTHERS * longest_s

    @property
    def is_logged_in(self) -> bool:
        """Whether it can ask for what it is to ask for."""
        return self.session is None or self.session.ready

    def door(self) -> Lane:
        """Return what logs this client in before the phase begins."""
        raise NotImplementedError

    def begin(self, after_s: float) -> None:
        """Take the first request, now or after a pause."""
        if after_s > 0:
            self._advance_in(after_s)
        else:
            self.advance()

    def advance(self) -> bool:
        """Take the next request if there is one (True), else rest until woken."""
        traffic = self._traffic
        if not traffic.has_begun:
            traffic.logging_in.discard(self)
            return False
        now = perf_counter_ns()
        taken = traffic.feed.take(self.number, now)
        if taken is None:
            traffic.rest(self)
            return False
        self._request, self._intended_ns = taken
        self._begin_ns = now
        self.deadline_ns = now + traffic.timeout_ns
        self._ask(now)
        return True

    def stop(self) -> None:
        """Drop everything at once."""
        self.deadline_ns = NEVER
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def expire(self, now_ns: int) -> None:
        """Time out what is in hand."""
        raise NotImplementedError

    def _ask(self, now_ns: int) -> None:
        """Ask for the request in hand."""
        raise NotImplementedError

    def _go_on(self) -> bool:
        """Take the next request, after the pause of a client that thinks; whether one was taken at once."""
        traffic = self._traffic
        pause_s = traffic.pause_s() if traffic.thinks and traffic.has_begun else 0.0
        if pause_s <= 0:
            return self.advance()
        self._advance_in(pause_s)
        return False

    def _back_off(self, *, free: int) -> None:
        """Pause, except after the first ``free`` failures in a row, and before the phase."""
        self._failures += 1
        if self._failures <= free or not self._traffic.has_begun:
            self._go_on()
        else:
            self._advance_in(max(backoff_s(self._failures - free), self._traffic.pause_s()))

    def _advance_in(self, pause_s: float) -> None:
        self._pause = self._traffic.loop.call_later(pause_s, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self.advance()


class Lane(Client):
    """A client with at most one connection and one request at a time."""

    __slots__ = ("_check", "_connection", "_opening", "_retried")

    def __init__(self, traffic: LaneTraffic, number: int, session: ClientSession | None = None) -> None:
        super().__init__(traffic, number, session)
        self._connection: Connection | None = None
        self._opening = Opening(
            traffic.openings, lambda: traffic.openings.connection(self), self._not_opened, KeptSession()
        )
        self._check: BodyCheck | None = None
        self._retried = False

    @property
    def is_held(self) -> bool:
        """See :class:`Client`."""
        return self._connection is not None and self._connection.served > 1

    def door(self) -> Lane:
        """See :class:`Client`."""
        return self

    def log_in(self) -> None:
        """Log in before the phase begins; a client that fails to tries again before its first request."""
        self._begin_ns = perf_counter_ns()
        self.deadline_ns = self._begin_ns + self._traffic.timeout_ns
        self._opening.begin(self._begin_ns)

    def _ask(self, now_ns: int) -> None:
        self._retried = False
        if self._connection is None:
            self._opening.begin(now_ns)
        else:
            self._begin_ns = self._send(self._connection)

    def stop(self) -> None:
        """See :class:`Client`."""
        super().stop()
        self._opening.drop()
        self._drop_connection()

    def expire(self, now_ns: int) -> None:
        """See :class:`Client`."""
        if self._opening.is_busy:
            lacks = self._opening.what_lacks()
            self._opening.drop()
            self._fail(httpx.ConnectTimeout(lacks), 0, now_ns)
        else:
            connection = self._connection
            first_ns = connection.first_ns if connection is not None else 0
            exc = (
                httpx.ReadTimeout("no complete response in time")
                if connection is None
                else connection.timed_out()
            )
            self._drop_connection()
            self._fail(exc, first_ns, now_ns)
        self._go_on()

    def on_open(self, connection: Connection) -> None:
        """See :class:`~pytest_espperf.load.connection.Owner`."""
        self._opening.took_over(connection)
        self._connection = connection
        sent_ns = self._send(connection)
        if not self._retried:
            self._begin_ns = sent_ns

    def on_response(self, connection: Connection) -> None:
        """See :class:`~pytest_espperf.load.connection.Owner`."""
        request, session, traffic = self._request, self.session, self._traffic
        reader = connection.reader
        head = reader.head
        assert head is not None
        if session is not None and not session.ready:
            trouble = session.end(head.status, reader.body_bytes, head.headers, connection.unsent_bytes)
            self._end_login(connection, trouble)
            return
        assert request is not None
        if session is not None:
            session.note(request, head.status, head.headers)
        check = self._check
        outcome = request.judge(head.status, reader.body_bytes, check, head.headers)
        if unsent := connection.unsent_bytes:
            outcome = request.judge_taken(outcome, head.status, unsent)
        end_ns = connection.last_ns
        self.deadline_ns = NEVER
        self.answered = True
        self._failures = 0
        traffic.recorder.add(
            request.index,
            outcome,
            self._begin_ns,
            connection.first_ns,
            end_ns,
            self._intended_ns,
            self._opening.took_ns,
        )
        if not (connection.keep_alive and traffic.reuse):
            self._opening.keep_session(connection)
            self._drop_connection()
            if reader.excess:
                self._count_garbage(request, reader.what_is_beyond(), end_ns)
        if self._go_on() and self._connection is not None:
            traffic.watch.turned(self._begin_ns - end_ns)

    def on_broken(self, connection: Connection, exc: httpx.TransportError) -> None:
        """See :class:`~pytest_espperf.load.connection.Owner`."""
        self._connection = None
        now = perf_counter_ns()
        # Whatever the method. A client may repeat a POST only where it knows that the first one was not
        # processed (RFC 9110 9.2.2), and here nobody knows. But a load repeats each of its requests by
        # design: once more does nothing that the next one would not do. Without it, a board that closes a
        # connection without announcing it would be charged with an error that browsers hide. It is counted.
        if connection.stale and not self._retried:
            self._retried = True
            self._traffic.recorder.stale(now)
            self._opening.begin(now)
            return
        self._fail(exc, connection.first_ns, now)
        if connection.first_ns:
            self._failures = 0
            self._go_on()
        else:
            self._back_off(free=1)

    def on_idle_end(self, connection: Connection, data: bytes) -> None:
        """See :class:`~pytest_espperf.load.connection.Owner`."""
        self._connection = None
        if data and self._request is not None and not is_idle_farewell(data):
            self._count_garbage(self._request, connection.reader.what_is_beyond(len(data)), perf_counter_ns())

    def _send(self, connection: Connection) -> int:
        """Send the request in hand, or the login that has to come before it."""
        session = self.session
        if session is not None and not session.ready:
            login = session.begin()
            return connection.send(
                login.wire,
                session.feed,
                login.limit,
                bodyless=login.bodyless,
                body=login.body,
                expects=login.spec.expect_continue,
            )
        request = self._request
        assert request is not None
        self._check = check = request.new_check() if request.looks_at_body else None
        return connection.send(
            request.wire if session is None else session.wire(request),
            None if check is None else check.feed,
            request.limit,
            bodyless=request.bodyless,
            body=request.body,
            expects=request.spec.expect_continue,
        )

    def _end_login(self, connection: Connection, trouble: str) -> None:
        """Go on with the request in hand, if there is one, or fail it."""
        if trouble or not (connection.keep_alive and self._traffic.reuse):
            self._opening.keep_session(connection)
            self._drop_connection()
        if trouble:
            self._fail(LoginError(trouble), connection.first_ns, perf_counter_ns())
            self._back_off(free=0)
            return
        self._failures = 0
        if self._request is None:
            self.deadline_ns = NEVER
            self.advance()
        elif self._connection is None:
            self._opening.begin(perf_counter_ns())
        else:
            self._begin_ns = self._send(self._connection)

    def _not_opened(self, exc: httpx.TransportError) -> None:
        self._fail(exc, 0, perf_counter_ns())
        self._back_off(free=0)

    def _fail(self, exc: httpx.TransportError, first_ns: int, end_ns: int) -> None:
        request = self._request
        self.deadline_ns = NEVER
        if request is None:  # it was to log in before the phase
            self._traffic.login_trouble = exc
            return
        outcome = request.failed(exc, "" if self.is_logged_in else DURING)
        self._traffic.recorder.add(
            request.index, outcome, self._begin_ns, first_ns, end_ns, self._intended_ns
        )

    def _count_garbage(self, request: PreparedRequest, what: str, now_ns: int) -> None:
        """Count bytes behind a response: it keeps its outcome, the garbage is an error of its own."""
        exc = httpx.RemoteProtocolError(what)
        self._traffic.recorder.add(request.index, request.failed(exc), now_ns, 0, now_ns, now_ns)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def is_idle_farewell(data: bytes) -> bool:
    """Check for a 408 sent with the close of an idle connection: some servers do that; it is no answer."""
    return data.startswith(b"HTTP/1.") and data[8:12] == b" 408"


class LaneTraffic:
    """All clients of a phase.

    Args:
        phase: how many there are, whether they use a connection again, and how they pause.
        feed: what they do.
        recorder: where samples go.
        connector: opens connections.
        timeout_s: total time a request may take, connecting included.
        watch: counts how late starts were made, and how fast clients turned round.
        login: what each client asks for first; None for nothing.
        make_client: makes each of them.

    Attributes:
        thinks: whether clients pause between an answer and their next request.
    """

    def __init__(
        self,
        *,
        phase: PhaseSpec,
        feed: Feed,
        recorder: Recorder,
        connector: Connector,
        timeout_s: float,
        watch: SelfWatch,
        login: Login | None = None,
        make_client: Callable[[LaneTraffic, int, ClientSession | None], Client] = Lane,
    ) -> None:
        self.feed = feed
        self.recorder = recorder
        self.openings = Openings(connector, recorder, resume=not phase.reuse and phase.tls_resumption)
        self.reuse = phase.reuse
        self.timeout_ns = round(timeout_s * 1e9)
        self.watch = watch
        self.has_begun = True
        self.logging_in: set[Client] = set()
        self.login_trouble: httpx.TransportError | None = None
        self.thinks = phase.think_time_s > 0
        self._think_s = phase.think_time_s
        self._lanes = [
            make_client(self, number, None if login is None else ClientSession(login))
            for number in range(phase.clients)
        ]
        self._resting: list[Client] = []
        self._timer: asyncio.Handle | None = None
        self._done: Callable[[], None] | None = None
        self._closed_loop = feed.next_due_ns() is None

    @property
    def label(self) -> str:
        """The engine's name."""
        return self.openings.label

    async def log_in(self, deliver_signals: Deliver, deadline_ns: int | None) -> BaseException | None:
        """Have each client log in; where one cannot, the phase begins without it, see :meth:`Lane.log_in`.

        Clients that get no answer are awaited no longer than :meth:`Lane.waits_in_vain` would: a board that
        serves fewer clients than there are would hold all of them up.
        """
        self.loop = asyncio.get_running_loop()
        self.openings.use(self.loop)
        self.has_begun = False
        began_ns = perf_counter_ns()
        doors = [lane.door() for lane in self._lanes]
        self.logging_in = set(doors)
        for door in doors:
            door.log_in()
        left, longest_ns = len(doors), 0
        while self.logging_in:
            deliver_signals()
            await asyncio.sleep(_LOGIN_TURN_S)
            now = perf_counter_ns()
            waited_ns = now - began_ns
            if len(self.logging_in) < left:
                left = len(self.logging_in)
                if any(lane.is_logged_in for lane in self._lanes):
                    longest_ns = waited_ns
            in_vain = longest_ns and waited_ns > max(_LEAST_WAIT_S * 1e9, _LONGER_THAN_OTHERS * longest_ns)
            over = in_vain or (deadline_ns is not None and now >= deadline_ns)
            for lane in tuple(self.logging_in):
                if over or lane.deadline_ns <= now:
                    lane.expire(now)
        for door in set(doors).difference(self._lanes):
            door.stop()
        self.has_begun = True
        return self.login_trouble

    def start(self, loop: asyncio.AbstractEventLoop, done: Callable[[], None]) -> None:
        """Begin; ``done`` is called once, when nothing is left to start or to await."""
        self.loop = loop
        self.openings.use(loop)
        self._done = done
        if self.feed.next_due_ns() is None:
            # Clients that pause begin one after the other: all at once they would ask in bursts ever after.
            apart_s = self.pause_s() / len(self._lanes)
            for lane in self._lanes:
                lane.begin(lane.number * apart_s)
        else:
            self._resting = self._lanes[::-1]
            self._pump()

    def pause_s(self) -> float:
        """Seconds for which a client pauses now between an answer and its next request."""
        return pause_s(self.feed, self._think_s, perf_counter_ns()) if self.thinks else 0.0

    def rest(self, lane: Client) -> None:
        """Put a lane aside that has nothing to do now."""
        self._resting.append(lane)
        if len(self._resting) == len(self._lanes) and self.feed.next_due_ns() is None:
            self._finish()
        elif self._timer is None and self.feed.next_due_ns() is not None:
            self._pump()

    def sweep(self, now_ns: int) -> None:
        """Time out what is overdue."""
        for lane in self._lanes:
            if lane.deadline_ns <= now_ns:
                lane.expire(now_ns)
        if self._closed_loop and self.feed.has_ended(now_ns):
            self._end_starving(now_ns)

    def _end_starving(self, now_ns: int) -> None:
        """Wait no longer, at the end of a phase, for clients that never got an answer.

        Only where others hold connections that the board answers: it has no place for these clients then. A
        board that closes each connection behind its answer serves them in turn, however long that takes.
        """
        starving = [lane for lane in self._lanes if lane.in_flight and lane.is_starving]
        if starving and any(lane.is_held for lane in self._lanes):
            for lane in starving:
                if lane.waits_in_vain(now_ns):
                    lane.expire(now_ns)

    def wake(self) -> None:
        """Finish if nothing is in flight, since the feed has ended early."""
        if len(self._resting) == len(self._lanes):
            self._finish()

    def never_answered(self) -> int:
        """How many clients asked and never got an answer; 0 in an open loop, which needs no client twice."""
        return sum(lane.is_starving for lane in self._lanes) if self._closed_loop else 0

    def in_flight(self) -> int:
        """Count the requests in flight."""
        return sum(lane.in_flight for lane in self._lanes)

    async def close(self) -> None:
        """Close everything."""
        self._done = None
        if self._timer is not None:
            self._timer.cancel()
        for lane in self._lanes:
            lane.stop()
        self.openings.close()

    def _finish(self) -> None:
        done, self._done = self._done, None
        if done is not None:
            done()

    def _pump(self) -> None:
        """Make the starts of an open loop that are due, and come back for the next."""
        self._timer = None
        due_ns = self.feed.next_due_ns()
        while due_ns is not None and self._resting:
            ahead_s = (due_ns - perf_counter_ns()) * 1e-9
            if ahead_s > 0:
                if ahead_s > _TIMER_SLACK_S:
                    self._timer = self.loop.call_later(ahead_s - _TIMER_SLACK_S, self._pump)
                else:
                    self._timer = self.loop.call_soon(self._pump)
                return
            self.watch.late(round(-ahead_s * 1e9))
            self._resting.pop().advance()
            due_ns = self.feed.next_due_ns()
