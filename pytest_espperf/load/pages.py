"""Clients that load pages as a browser does: the page, then its assets over a few connections at once.

A sample is a whole page, from its request to the last byte of its last asset. What is asked for waits in a
queue, and a connection that is free takes the next of it; so a board that serves its first connections fast
is asked less over the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import perf_counter_ns

import httpx

from pytest_espperf.load.body_check import BodyCheck
from pytest_espperf.load.connection import Connection
from pytest_espperf.load.faults import LoginError
from pytest_espperf.load.lanes import NEVER, Client, Lane, LaneTraffic, is_idle_farewell
from pytest_espperf.load.login import DURING, ClientSession
from pytest_espperf.load.opening import KeptSession, Opening
from pytest_espperf.load.recorder import Recorder
from pytest_espperf.load.requests import PreparedRequest
from pytest_espperf.load.wire import Headers
from pytest_espperf.model.samples import Outcome
from pytest_espperf.model.workload import PageSpec

_END = b"\r\n"
_ASKED_BACK = ((b"etag", b"If-None-Match"), (b"last-modified", b"If-Modified-Since"))
"""What an answer is known by, and how a later request says that it is known."""


class Browsing:
    """What all clients of a phase of pages have in common.

    Args:
        page: the page; its own request is what the feed hands out.
        assets: the requests for its assets.
        parts: takes their samples, which are none of the phase.
    """

    def __init__(self, page: PageSpec, assets: Sequence[PreparedRequest], parts: Recorder) -> None:
        self.page = page
        self.assets = tuple(assets)
        self.parts = parts
        self._conditional = self._not_modified = 0

    def client(self, traffic: LaneTraffic, number: int, session: ClientSession | None) -> Browser:
        """Make a client."""
        return Browser(traffic, number, session, self)

    def revalidated(self, recorder: Recorder, *, holds: bool, sent_ns: int) -> None:
        """Count the answer to a request that said what is known: whether that still holds."""
        if sent_ns >= recorder.begin_ns:
            self._conditional += 1
            self._not_modified += holds
            recorder.samples.figures["not_modified_share"] = 100.0 * self._not_modified / self._conditional


class Browser(Client):
    """A client with a few connections, which it keeps from one visit to the next."""

    __slots__ = (
        "_barred",
        "_browsing",
        "_first_ns",
        "_known",
        "_left",
        "_opening_ns",
        "_outcome",
        "_queue",
        "_retried",
        "_seats",
    )

    def __init__(
        self, traffic: LaneTraffic, number: int, session: ClientSession | None, browsing: Browsing
    ) -> None:
        super().__init__(traffic, number, session)
        self._browsing = browsing
        kept = KeptSession()
        self._seats = [_Seat(self, traffic, kept) for _ in range(browsing.page.connections)]
        self._known: dict[PreparedRequest, bytes] = {}
        self._queue: deque[PreparedRequest] = deque()
        self._retried: set[PreparedRequest] = set()
        self._barred: set[_Seat] = set()
        self._left = 0
        self._outcome: int | None = None
        self._first_ns = self._opening_ns = 0

    @property
    def is_held(self) -> bool:
        """See :class:`~pytest_espperf.load.lanes.Client`."""
        return any(seat.connection is not None and seat.connection.served > 1 for seat in self._seats)

    def stop(self) -> None:
        """See :class:`~pytest_espperf.load.lanes.Client`."""
        super().stop()
        for seat in self._seats:
            seat.drop()

    def expire(self, now_ns: int) -> None:
        """See :class:`~pytest_espperf.load.lanes.Client`: each request in hand is timed out."""
        for seat in self._seats:
            connection = seat.connection
            if seat.request is not None and connection is not None:
                late = connection.timed_out()
                self._count_failure(seat.request, late, seat.begin_ns, connection.first_ns, now_ns)
        # What waits for a connection was not lost: it counts where nothing else is late.
        if self._outcome is None or not self._traffic.recorder.table.wrong[self._outcome]:
            opening = next((seat.opening for seat in self._seats if seat.opening.is_busy), None)
            lacks = opening.what_lacks() if opening is not None else "no connection in time"
            again = next((seat.again for seat in self._seats if seat.again is not None), None)
            self._count_failure(
                again or self._queue[0], httpx.ConnectTimeout(lacks), self._begin_ns, 0, now_ns
            )
        for seat in self._seats:
            if seat.is_at_work:
                seat.drop()
        self._finish(now_ns)
        self._go_on()

    def door(self) -> Lane:
        """See :class:`~pytest_espperf.load.lanes.Client`."""
        return Lane(self._traffic, self.number, self.session)

    def _ask(self, now_ns: int) -> None:
        page = self._request
        assert page is not None
        self._retried.clear()
        self._barred.clear()
        self._outcome = None
        self._first_ns = self._opening_ns = 0
        if not self.is_logged_in:
            self._outcome = page.failed(LoginError("the client did not get in before the phase"), DURING)
            self._finish(now_ns)
            self._back_off(free=0)
            return
        self._left = 1
        self._queue.append(page)
        self.share_out(now_ns)

    def share_out(self, now_ns: int) -> None:
        """Give what waits to free connections, and open as many more as there is work for."""
        for seat in self._seats:
            if self._queue and seat.is_free:
                self.fetch(seat, self._queue.popleft())
        coming = sum(seat.opening.is_busy and seat.again is None for seat in self._seats)
        lacking = len(self._queue) - coming
        for seat in self._seats:
            if lacking > 0 and seat.is_empty and seat not in self._barred:
                seat.opening.begin(now_ns)
                lacking -= 1

    def take_seat(self, seat: _Seat) -> None:
        """Use a connection that is ready; one that nothing waits for any more is kept, where any is."""
        again, seat.again = seat.again, None
        if again is not None:
            self.fetch(seat, again)
        elif self._queue:
            self.fetch(seat, self._queue.popleft())
        elif not self._traffic.reuse:
            seat.drop()

    def fetch(self, seat: _Seat, request: PreparedRequest) -> None:
        """Send a request over a free connection."""
        known = self._known.get(request, b"") if self._browsing.page.revalidate else b""
        wire = request.wire if self.session is None else self.session.wire(request)
        sent_ns = seat.send(request, wire, known)
        if request is self._request and request not in self._retried:
            self._begin_ns = sent_ns
            self._opening_ns = seat.opening.took_ns

    def take_answer(self, seat: _Seat) -> None:
        """Take the complete answer to a seat's request, and go on with the visit."""
        request, connection = seat.request, seat.connection
        assert request is not None
        assert connection is not None
        reader, end_ns = connection.reader, connection.last_ns
        head = reader.head
        assert head is not None
        seat.request = None
        holds = bool(seat.known) and head.status == 304
        if seat.known:
            self._browsing.revalidated(self._traffic.recorder, holds=holds, sent_ns=seat.begin_ns)
        if self.session is not None:
            self.session.note(request, head.status, head.headers)
        if holds:
            outcome = request.not_modified()
        else:
            outcome = request.judge(head.status, reader.body_bytes, seat.check, head.headers)
            self._known[request] = _lines(head.headers) if head.status == 200 else b""
        excess = reader.what_is_beyond() if reader.excess else ""
        if not (connection.keep_alive and self._traffic.reuse):
            seat.opening.keep_session(connection)
            seat.drop()
        self._count(request, outcome, seat.begin_ns, connection.first_ns, end_ns)
        if excess:
            self._count_failure(request, httpx.RemoteProtocolError(excess), end_ns, 0, end_ns)
        if request is self._request:
            self.answered = True
            self._failures = 0
            if not self._traffic.recorder.table.wrong[outcome]:
                self._queue.extend(self._browsing.assets)
                self._left += len(self._browsing.assets)
        self._ended(end_ns)

    def take_break(self, seat: _Seat, connection: Connection, exc: httpx.TransportError) -> None:
        """Ask again where a kept connection died unanswered; else the seat's request has failed."""
        request, seat.request = seat.request, None
        assert request is not None
        now = perf_counter_ns()
        if connection.stale and request not in self._retried:
            self._retried.add(request)
            self._traffic.recorder.stale(now)
            seat.again = request  # on a new connection: other kept ones may be as dead
            seat.opening.begin(now)
            return
        self._count_failure(request, exc, seat.begin_ns, connection.first_ns, now)
        if request is self._request:
            self._finish(now)
            if connection.first_ns:
                self._failures = 0
                self._go_on()
            else:
                self._back_off(free=1)
        else:
            self._ended(now)

    def take_refusal(self, seat: _Seat, exc: httpx.TransportError) -> None:
        """Fail what the connection was for; another one is not tried in this place during this visit."""
        now = perf_counter_ns()
        self._barred.add(seat)
        request, seat.again = seat.again, None
        if request is None and self._queue:
            request = self._queue.popleft()
        if request is None:
            return
        self._count_failure(request, exc, now, 0, now)
        if request is self._request:
            self._finish(now)
            self._back_off(free=0)
        else:
            self._ended(now)

    def take_garbage(self, connection: Connection, data: bytes) -> None:
        """Count bytes that came unasked on a connection at rest."""
        if self._request is not None and not is_idle_farewell(data):
            now = perf_counter_ns()
            exc = httpx.RemoteProtocolError(connection.reader.what_is_beyond(len(data)))
            self._traffic.recorder.add(self._request.index, self._request.failed(exc), now, 0, now, now)

    def _ended(self, end_ns: int) -> None:
        """Go on behind the end of a request: with what waits, or with the next visit behind the last one."""
        self._left -= 1
        if self._left:
            self.share_out(perf_counter_ns())
            if any(seat.is_at_work for seat in self._seats):
                return
            # No connection is left for what waits: it is not asked for, and the page is wrong already.
        self._finish(end_ns)
        if self._go_on() and any(seat.request is not None for seat in self._seats):
            self._traffic.watch.turned(self._begin_ns - end_ns)

    def _finish(self, end_ns: int) -> None:
        """Record the page."""
        page = self._request
        assert page is not None
        assert self._outcome is not None
        self.deadline_ns = NEVER
        self._queue.clear()
        self._traffic.recorder.add(
            page.index,
            self._outcome,
            self._begin_ns,
            self._first_ns,
            end_ns,
            self._intended_ns,
            self._opening_ns,
        )

    def _count(
        self, request: PreparedRequest, outcome: int, begin_ns: int, first_ns: int, end_ns: int
    ) -> None:
        """Count the end of a request; the first wrong one is the page's outcome."""
        recorder, parts = self._traffic.recorder, self._browsing.parts
        if request is self._request:
            self._first_ns = first_ns or self._first_ns
            if self._outcome is None or not recorder.table.wrong[self._outcome]:
                self._outcome = outcome
            return
        parts.add(request.index, outcome, begin_ns, first_ns, end_ns, 0)
        assert self._request is not None
        if parts.table.wrong[outcome] and (self._outcome is None or not recorder.table.wrong[self._outcome]):
            met = parts.table.outcomes[outcome]
            self._outcome = self._request.part_failed(met, self._asset_reason(request, met))

    def _asset_reason(self, request: PreparedRequest, met: Outcome) -> str:
        why = self._browsing.parts.table.reasons.get((met.error or "", request.index), "")
        path = self._browsing.parts.samples.paths[request.index]
        return f"asset {path}: {why}".rstrip(": ")

    def _count_failure(
        self,
        request: PreparedRequest,
        exc: httpx.TransportError,
        begin_ns: int,
        first_ns: int,
        end_ns: int,
    ) -> None:
        self._count(request, request.failed(exc), begin_ns, first_ns, end_ns)


class _Seat:
    """A place for one of a browser's connections.

    Attributes:
        opening: opens them.
        connection: the one that is up.
        request: what it waits for.
        again: what is sent again, once a new connection is ready.
        known: the lines of that request which say what is known.
        check: looks at the answer's body.
        begin_ns: when the request was sent.
    """

    __slots__ = ("_browser", "again", "begin_ns", "check", "connection", "known", "opening", "request")

    def __init__(self, browser: Browser, traffic: LaneTraffic, kept: KeptSession) -> None:
        self._browser = browser
        self.opening = Opening(
            traffic.openings, lambda: traffic.openings.connection(self), self._not_opened, kept
        )
        self.connection: Connection | None = None
        self.request: PreparedRequest | None = None
        self.again: PreparedRequest | None = None
        self.known = b""
        self.check: BodyCheck | None = None
        self.begin_ns = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is no connection, nor will be."""
        return self.connection is None and not self.opening.is_busy

    @property
    def is_free(self) -> bool:
        """Whether a request can be sent."""
        return self.connection is not None and self.request is None

    @property
    def is_at_work(self) -> bool:
        """Whether something is awaited."""
        return self.request is not None or self.opening.is_busy

    def send(self, request: PreparedRequest, wire: bytes, known: bytes) -> int:
        """Send the bytes of a request, with lines that say what is known; return when."""
        assert self.connection is not None
        self.request, self.known = request, known
        if known:
            wire = wire[: -len(_END)] + known + _END
        self.check = request.new_check() if request.looks_at_body else None
        sink = None if self.check is None else self.check.feed
        self.begin_ns = self.connection.send(wire, sink, request.limit)
        return self.begin_ns

    def drop(self) -> None:
        """Drop everything at once."""
        self.request = self.again = None
        self.opening.drop()
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def on_open(self, connection: Connection) -> None:
        """See :class:`~pytest_espperf.load.connection.Owner`."""
        self.opening.took_over(connection)
        self.connection = connection
        self._browser.take_seat(self)

    def on_response(self, connection: Connection) -> None:  # noqa: ARG002 - the owner's interface
        """See :class:`~pytest_espperf.load.connection.Owner`."""
        self._browser.take_answer(self)

    def on_broken(self, connection: Connection, exc: httpx.TransportError) -> None:
        """See :class:`~pytest_espperf.load.connection.Owner`."""
        self.connection = None
        self._browser.take_break(self, connection, exc)

    def on_idle_end(self, connection: Connection, data: bytes) -> None:
        """See :class:`~pytest_espperf.load.connection.Owner`."""
        self.connection = None
        if data:
            self._browser.take_garbage(connection, data)

    def _not_opened(self, exc: httpx.TransportError) -> None:
        self._browser.take_refusal(self, exc)


def _lines(headers: Headers) -> bytes:
    """Make the lines of a later request that say what is known of an answer."""
    found = {name.lower(): value for name, value in headers}
    return b"".join(b"%s: %s\r\n" % (line, found[name]) for name, line in _ASKED_BACK if found.get(name))
