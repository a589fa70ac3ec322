"""Clients over a user's own httpx transport, one transport per client.

An ordinary ``await`` per request: as fast as that transport allows, with the same schedule, deadlines,
body checks and sample recorder as our own engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter_ns

import httpx

from pytest_espperf.load.feed import ClosedFeed, Feed, backoff_s, pause_s
from pytest_espperf.load.recorder import Recorder
from pytest_espperf.load.requests import PreparedRequest
from pytest_espperf.load.wire import BodyTooLargeError
from pytest_espperf.model.workload import PhaseSpec

_CLOSE_PATIENCE_S = 1.0
_LONGEST_NAP_S = 0.1

TransportFactory = Callable[[], httpx.AsyncBaseTransport]


class CustomTraffic:
    """All clients of a phase over transports that ``make_transport`` makes.

    Time to first byte is taken when the transport hands over the response's head.
    """

    def __init__(
        self,
        *,
        phase: PhaseSpec,
        feed: Feed,
        recorder: Recorder,
        make_transport: TransportFactory,
        timeout_s: float,
    ) -> None:
        self.feed = feed
        self._clients = phase.clients
        self._reuse = phase.reuse
        self._think_s = phase.think_time_s
        self._recorder = recorder
        self._make_transport = make_transport
        self._timeout_s = timeout_s
        self._timeouts = {"connect": timeout_s, "read": timeout_s, "write": timeout_s, "pool": timeout_s}
        self._kind = getattr(make_transport, "__name__", type(make_transport).__name__)
        self._protocols: set[str] = set()
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._abandoned: set[asyncio.Task[int]] = set()
        self._asked: set[int] = set()
        self._answered: set[int] = set()

    def start(self, loop: asyncio.AbstractEventLoop, done: Callable[[], None]) -> None:
        """Begin; ``done`` is called once, when nothing is left to start or to await."""
        self.loop = loop
        for number in range(self._clients):
            task = loop.create_task(self._client(number))
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._ended(task, done))

    def sweep(self, now_ns: int) -> None:
        """Do nothing: requests are timed one by one."""

    def wake(self) -> None:
        """Do nothing: clients see the early end of the feed when they next look."""

    def never_answered(self) -> int:
        """Count the clients that asked and never got an answer; 0 in an open loop."""
        closed_loop = isinstance(self.feed, ClosedFeed)
        return len(self._asked - self._answered) if closed_loop else 0

    def in_flight(self) -> int:
        """Count the requests in flight."""
        return self._in_flight

    @property
    def label(self) -> str:
        """The engine's name: the transport's class, and the protocol where it was not HTTP/1.1."""
        return "+".join([self._kind, *sorted(self._protocols - {"HTTP/1.1"})])

    async def close(self) -> None:
        """Cancel what still runs, and wait for it (for at most a second)."""
        tasks = [*self._tasks, *self._abandoned]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_PATIENCE_S)

    def _ended(self, task: asyncio.Task[None], done: Callable[[], None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        exc = task.exception()
        if exc is not None:
            raise exc
        if not self._tasks:
            done()

    async def _client(self, number: int) -> None:
        await asyncio.sleep(self._pause_s() * number / self._clients)
        while await self._requests(number):
            pass  # a transport for the next request

    async def _requests(self, number: int) -> bool:
        """Make requests over one transport: all of them, or one where none is reused; whether more follow."""
        async with self._make_transport() as transport:
            self._kind = type(transport).__name__
            failures = 0
            while True:
                taken = self.feed.take(number, perf_counter_ns())
                if taken is not None:
                    prepared, intended_ns = taken
                    self._asked.add(number)
                    if await self._request(transport, prepared, intended_ns, number):
                        failures = 0
                    else:
                        failures += 1
                    pause_s = max(self._pause_s(), backoff_s(failures) if failures else 0.0)
                    if pause_s:
                        await asyncio.sleep(pause_s)
                    if not self._reuse:
                        return True
                    continue
                due_ns = self.feed.next_due_ns()
                if due_ns is None:
                    return False
                await asyncio.sleep(min(_LONGEST_NAP_S, max(0.0, (due_ns - perf_counter_ns()) * 1e-9)))

    def _pause_s(self) -> float:
        return pause_s(self.feed, self._think_s, perf_counter_ns())

    async def _request(
        self, transport: httpx.AsyncBaseTransport, prepared: PreparedRequest, intended_ns: int, number: int
    ) -> bool:
        """Make one request, from start to sample; False if no connection was made."""
        marks = [0]
        start_ns = perf_counter_ns()
        self._in_flight += 1
        task = self.loop.create_task(self._exchange(transport, prepared, marks))
        try:
            await asyncio.wait({task}, timeout=self._timeout_s)
        except asyncio.CancelledError:
            task.cancel()
            self._abandoned.add(task)
            raise
        finally:
            self._in_flight -= 1
        end_ns = perf_counter_ns()
        connected = True
        if not task.done():
            # Not awaited: a transport that ignores cancellation must not stop the phase.
            task.cancel()
            self._abandoned.add(task)
            task.add_done_callback(self._abandoned.discard)
            outcome = prepared.failed(httpx.ReadTimeout("no complete response in time"))
        else:
            exc = asyncio.CancelledError() if task.cancelled() else task.exception()
            if exc is None:
                outcome = task.result()
                self._answered.add(number)
            elif isinstance(exc, Exception):
                outcome = prepared.failed(exc)
                connected = not isinstance(exc, (httpx.ConnectError, ConnectionRefusedError))
            else:
                raise exc
        self._recorder.add(prepared.index, outcome, start_ns, marks[0], end_ns, intended_ns)
        return connected

    async def _exchange(
        self, transport: httpx.AsyncBaseTransport, prepared: PreparedRequest, marks: list[int]
    ) -> int:
        """Send the request, read the answer in full, judge it: its outcome's index."""
        # A transport may keep notes in a request's extensions: each gets its own.
        request = httpx.Request(
            prepared.request.method,
            prepared.request.url,
            headers=prepared.request.headers,
            extensions={"timeout": self._timeouts},
        )
        check = prepared.new_check() if prepared.looks_at_body else None
        body_bytes = 0
        response = await transport.handle_async_request(request)
        marks[0] = perf_counter_ns()
        # As HTTP/2: httpx's documented extension, which not every transport sets.
        self._protocols.add(response.extensions.get("http_version", b"HTTP/1.1").decode("ascii", "replace"))
        try:
            stream = response.stream
            assert isinstance(stream, httpx.AsyncByteStream)
            async for piece in stream:
                body_bytes += len(piece)
                if body_bytes > prepared.limit:
                    raise BodyTooLargeError(f"body above the limit of {prepared.limit} bytes")
                if check is not None:
                    check.feed(piece)
        finally:
            await response.aclose()
        return prepared.judge(response.status_code, body_bytes, check, response.headers.raw)
