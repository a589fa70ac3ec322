"""Listeners of server-sent events: each holds one streaming GET, and times what comes on it.

A sample is an event; its latency is the gap since the event before it on the same connection. The first event
of a connection has none, so it is no sample; how long it took is a figure of its own. When events come is the
board's decision: their rate says something about the board only where it falls behind its own schedule.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from time import perf_counter_ns

import httpx

from pytest_espperf.load.lanes import NEVER
from pytest_espperf.load.requests import header_value
from pytest_espperf.load.sse import EventParser
from pytest_espperf.load.streams import StreamClient, StreamSetup, StreamTraffic
from pytest_espperf.load.wire import ResponseReader
from pytest_espperf.model.workload import Header

ASKING: tuple[Header, ...] = (("Accept", "text/event-stream"), ("Cache-Control", "no-cache"))
"""Headers of the request, which a profile's own override."""

MISSED, DROPPED, WRONG_TYPE = "event_missed", "event_dropped", "body_type"
"""Error kinds: ids go up by more than one, the board ended the stream, the answer is no event stream."""

MOST_RETRY_S = 5.0
"""What a server may want a listener to wait at most before it connects again."""

OK = 200

REFUSED = "the stream was refused, 200 was wanted"
"""Reason of an error that is the status of another answer."""

_EVENT_STREAM = "text/event-stream"
_LONGEST_ID = 1024
_MOST_DIGITS = 18
_FULL_READ_BYTES = 64 * 1024


class EventListener(StreamClient):
    """One listener.

    Attributes:
        answered: whether it got any event yet.
    """

    def __init__(self, traffic: EventTraffic, number: int) -> None:
        super().__init__(traffic, number)
        self._traffic = traffic
        self.answered = False
        self._reader = ResponseReader(traffic.openings.heads)
        self._parser = EventParser()
        self._pieces: list[bytes] = []
        self._is_stream = False
        self._asked_ns = self._heard_ns = self._last_ns = 0
        self._number: int | None = None
        self._troubled = False

    def expire(self, now_ns: int) -> None:
        """Time out what is overdue: a connection, or a stream that shows no sign of life."""
        if self.is_opening:
            if now_ns - self.begun_ns >= self._traffic.timeout_ns and not self.expire_login(now_ns):
                self.give_up(httpx.ConnectTimeout("no connection in time"), now_ns)
        elif self.channel is not None and now_ns - self._heard_ns >= self._traffic.timeout_ns:
            what = "no event in time" if self._is_stream else "no answer in time"
            self.give_up(httpx.ReadTimeout(what), now_ns)

    def conclude(self, now_ns: int) -> None:
        """Count a listener that got no event in the whole phase, and no other error either."""
        if not self.answered and not self._troubled and not self.expire_login(now_ns):
            self._traffic.error(httpx.ReadTimeout("no event in the whole phase"), self.begun_ns, now_ns)

    # --- StreamClient

    def begin(self) -> None:
        """See :class:`StreamClient`."""
        wire = self._traffic.wire_of(self.number)
        last_id = self._parser.last_id
        if last_id and len(last_id) <= _LONGEST_ID:
            wire = wire[:-2] + b"Last-Event-ID: " + last_id + b"\r\n\r\n"
        earlier, self._parser = self._parser, EventParser()
        self._parser.last_id, self._parser.retry_ms = earlier.last_id, earlier.retry_ms
        self._reader.begin(self._pieces.append, NEVER)
        self._is_stream = False
        self._last_ns = 0
        assert self.channel is not None
        self._asked_ns = self._heard_ns = self.channel.write(wire)

    def take(self, data: bytes, arrived_ns: int) -> bool:
        """See :class:`StreamClient`."""
        complete = self._reader.feed(data)
        if not self._is_stream and not self._check_head():
            return self.channel is not None
        pieces = self._pieces[:]
        self._pieces.clear()
        parser = self._parser
        lines = parser.lines
        for piece in pieces:
            for event_id in parser.feed(piece):
                self._take_event(event_id, arrived_ns)
        if parser.lines > lines:
            self._heard_ns = arrived_ns
        if complete:
            self.drop()
            self.broke(None, perf_counter_ns())
            return False
        # What more is there is read at once, but not on and on while others wait.
        return len(data) < _FULL_READ_BYTES

    def broke(self, exc: httpx.TransportError | None, now_ns: int, during: str = "") -> None:
        """See :class:`StreamClient`."""
        self._pieces.clear()
        if exc is None and not self._is_stream:
            exc = httpx.RemoteProtocolError("the board closed the connection without an answer")
        since_ns = self.begun_ns if during else self._heard_ns or self.begun_ns
        if exc is None:
            self._traffic.count(DROPPED, None, since_ns, now_ns, lambda: "the board ended the stream")
        else:
            self._traffic.error(exc, since_ns, now_ns, during)
        self._connect_again()

    def resume(self) -> None:
        """See :class:`StreamClient`."""
        self.open()

    # --- inside

    def _check_head(self) -> bool:
        """Look at the head once it is there; return whether a stream follows."""
        head = self._reader.head
        if head is None:
            return False
        traffic = self._traffic
        now = perf_counter_ns()
        if head.status != OK:
            traffic.count(f"http_{head.status}", head.status, self._asked_ns, now, lambda: REFUSED)
        else:
            kind = header_value(head.headers, b"content-type").partition(";")[0].strip().lower()
            coding = header_value(head.headers, b"content-encoding").lower()
            if kind == _EVENT_STREAM and coding in {"", "identity"}:
                self._is_stream = True
                return True
            came = f"{kind or 'nothing'}{f' coded as {coding}' if coding else ''}"
            why = f"the content type is {came}, not {_EVENT_STREAM}"
            traffic.count(WRONG_TYPE, OK, self._asked_ns, now, lambda: why)
        self._pieces.clear()
        self.drop()
        self._connect_again()
        return False

    def _connect_again(self) -> None:
        self._troubled = True
        retry_ms = self._parser.retry_ms
        if self._last_ns:  # it was of use
            self.failures = 0
        self.back_off(0.0 if retry_ms is None else min(MOST_RETRY_S, retry_ms * 1e-3))

    def _take_event(self, event_id: bytes | None, arrived_ns: int) -> None:
        traffic = self._traffic
        self.answered = True
        if traffic.feed.has_ended(arrived_ns):
            return
        if self._last_ns:
            traffic.recorder.add(0, traffic.came, self._last_ns, 0, arrived_ns, arrived_ns)
        else:
            traffic.first_s.append((arrived_ns - self._asked_ns) * 1e-9)
        self._last_ns = arrived_ns
        if event_id is not None and event_id.isdigit() and len(event_id) <= _MOST_DIGITS:
            before, self._number = self._number, int(event_id)
            missed = 0 if before is None else self._number - before - 1
            if missed > 0:
                traffic.missed += missed
                why = f"id {self._number} followed id {before}"
                traffic.count(MISSED, OK, arrived_ns, arrived_ns, lambda: why)


class EventTraffic(StreamTraffic):
    """All listeners of a phase.

    Attributes:
        came: the outcome of an event.
        missed: events that ids say were left out.
        first_s: seconds from each request to its first event.
    """

    def __init__(self, setup: StreamSetup) -> None:
        super().__init__(setup)
        self.came = self.recorder.table.index(OK, None)
        self.missed = 0
        self.first_s: list[float] = []
        self._clients = [EventListener(self, number) for number in range(setup.clients)]
        self._done: Callable[[], None] | None = None

    # --- Traffic

    def start(self, loop: asyncio.AbstractEventLoop, done: Callable[[], None]) -> None:
        """Begin; ``done`` is called once, when the phase is over."""
        self._done = done
        self.openings.use(loop)
        for client in self._clients:
            client.open()

    def sweep(self, now_ns: int) -> None:
        """Time out what is overdue, and end the phase."""
        if not self.feed.has_ended(now_ns):
            self.sweep_logins(now_ns)
            for client in self._clients:
                client.expire(now_ns)
            return
        done, self._done = self._done, None
        if done is not None:
            for client in self._clients:
                client.conclude(now_ns)
            # The rate is one of the whole phase, whenever the last event came.
            self.recorder.last_end_ns = max(self.recorder.last_end_ns, now_ns)
            done()

    def wake(self) -> None:
        """Do nothing: there are no starts that could be given up."""

    def in_flight(self) -> int:
        """Count the listeners that wait for their first event."""
        return sum(not client.answered for client in self._clients)

    def never_answered(self) -> int:
        """Count the listeners that never got an event."""
        return sum(not client.answered for client in self._clients)

    async def close(self) -> None:
        """Close everything."""
        self._done = None
        for client in self._clients:
            client.stop()
        await self.close_connections()
        figures = self.recorder.samples.figures
        if self.first_s:
            figures["first_event_ms"] = statistics.median_high(self.first_s) * 1e3
        if self.missed:
            figures["events_missed"] = float(self.missed)

    # --- for the listeners

    def error(self, exc: httpx.TransportError, start_ns: int, now_ns: int, during: str = "") -> None:
        """Record that a stream broke, or could not be opened for what came before it."""
        self._add(self.request.failed(exc, during), start_ns, now_ns)

    def count(
        self, kind: str, status: int | None, start_ns: int, now_ns: int, reason: Callable[[], str]
    ) -> None:
        """Record an error of another kind."""
        self._add(self.recorder.table.error(status, kind, 0, reason), start_ns, now_ns)

    def _add(self, outcome: int, start_ns: int, now_ns: int) -> None:
        """Record an error: it is one of the phase where it shows in it, whenever it began."""
        if now_ns >= self.recorder.begin_ns:
            start_ns = max(start_ns, self.recorder.begin_ns)
        self.recorder.add(0, outcome, start_ns, 0, now_ns, now_ns)
