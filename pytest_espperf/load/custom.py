"""Clients over a user's own httpx transport, one transport per client.

An ordinary ``await`` per request: as fast as that transport allows, with the same schedule, deadlines,
body checks and sample recorder as our own engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from time import perf_counter_ns
from typing import Any, TypeVar

import httpx

from pytest_espperf.load.faults import LoginError
from pytest_espperf.load.feed import ClosedFeed, Feed, backoff_s, pause_s
from pytest_espperf.load.login import DURING, ClientSession, Login
from pytest_espperf.load.recorder import Recorder
from pytest_espperf.load.requests import PreparedRequest, RawHeaders
from pytest_espperf.load.wire import BodyTooLargeError, chunks_of
from pytest_espperf.model.workload import PhaseSpec
from pytest_espperf.system.loops import Deliver

_CLOSE_PATIENCE_S = 1.0
_LONGEST_NAP_S = 0.1
_LOGIN_TURN_S = 0.01

TransportFactory = Callable[[], httpx.AsyncBaseTransport]

_Result = TypeVar("_Result")


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
        login: Login | None = None,
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
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._sessions = [None if login is None else ClientSession(login) for _ in range(phase.clients)]
        self._logging_in = 0
        self._login_trouble: BaseException | None = None
        self._begin: asyncio.Event | None = None
        self._asked: set[int] = set()
        self._answered: set[int] = set()

    async def log_in(self, deliver_signals: Deliver, deadline_ns: int | None) -> BaseException | None:
        """Have each client log in; one that cannot tries again before each of its requests."""
        self.loop = asyncio.get_running_loop()
        self._begin = asyncio.Event()
        self._logging_in = self._clients
        self._tasks = {self.loop.create_task(self._client(number)) for number in range(self._clients)}
        while self._logging_in and not any(task.done() for task in self._tasks):
            deliver_signals()
            await asyncio.sleep(_LOGIN_TURN_S)
            if deadline_ns is not None and perf_counter_ns() >= deadline_ns:
                break
        return self._login_trouble

    def start(self, loop: asyncio.AbstractEventLoop, done: Callable[[], None]) -> None:
        """Begin; ``done`` is called once, when nothing is left to start or to await."""
        self.loop = loop
        if self._begin is None:
            self._tasks = {loop.create_task(self._client(number)) for number in range(self._clients)}
        else:
            self._begin.set()
        for task in self._tasks:
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
            session = self._sessions[number]
            if session is not None and self._begin is not None and not self._begin.is_set():
                self._login_trouble = (
                    await self._bounded(self._log_in(transport, session)) or self._login_trouble
                )
                self._logging_in -= 1
                await self._begin.wait()
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
        """Make one request, from start to sample; False if no connection was made, or the login failed."""
        marks = [perf_counter_ns(), 0]
        session = self._sessions[number]
        self._in_flight += 1
        try:
            result = await self._bounded(self._exchange(transport, prepared, session, marks))
        finally:
            self._in_flight -= 1
        end_ns = perf_counter_ns()
        connected = True
        if isinstance(result, int):
            outcome = result
            self._answered.add(number)
        else:
            logged_in = session is None or session.ready
            outcome = prepared.failed(result, "" if logged_in else DURING)
            connected = not isinstance(result, (httpx.ConnectError, ConnectionRefusedError, LoginError))
        start_ns, first_ns = marks
        self._recorder.add(prepared.index, outcome, start_ns, first_ns, end_ns, intended_ns)
        return connected

    async def _bounded(self, work: Coroutine[Any, Any, _Result]) -> _Result | BaseException:
        """Do something within the time of a request; return its result, or what it raised."""
        task = self.loop.create_task(work)
        try:
            await asyncio.wait({task}, timeout=self._timeout_s)
        except asyncio.CancelledError:
            task.cancel()
            self._abandoned.add(task)
            raise
        if not task.done():
            # Not awaited: a transport that ignores cancellation must not stop the phase.
            task.cancel()
            self._abandoned.add(task)
            task.add_done_callback(self._abandoned.discard)
            return httpx.ReadTimeout("no complete response in time")
        exc = asyncio.CancelledError() if task.cancelled() else task.exception()
        if exc is None:
            return task.result()
        if isinstance(exc, Exception):
            return exc
        raise exc

    async def _log_in(self, transport: httpx.AsyncBaseTransport, session: ClientSession) -> None:
        login = session.begin()
        answer = await self._fetch(transport, login, login.request, session.feed, [0, 0])
        if trouble := session.end(*answer):
            raise LoginError(trouble)

    async def _exchange(
        self,
        transport: httpx.AsyncBaseTransport,
        prepared: PreparedRequest,
        session: ClientSession | None,
        marks: list[int],
    ) -> int:
        """Send the request, read the answer in full, judge it: its outcome's index.

        A login that has to come before it moves its start.
        """
        if session is not None and not session.ready:
            await self._log_in(transport, session)
            marks[0] = perf_counter_ns()
        request = prepared.request if session is None else session.request(prepared)
        check = prepared.new_check() if prepared.looks_at_body else None
        sink = None if check is None else check.feed
        status, body_bytes, headers = await self._fetch(transport, prepared, request, sink, marks)
        if session is not None:
            session.note(prepared, status, headers)
        return prepared.judge(status, body_bytes, check, headers)

    async def _fetch(
        self,
        transport: httpx.AsyncBaseTransport,
        prepared: PreparedRequest,
        request: httpx.Request,
        sink: Callable[[bytes], None] | None,
        marks: list[int],
    ) -> tuple[int, int, RawHeaders]:
        """Send a request and read the answer in full: its status, the length of its body, its headers."""
        # A transport may keep notes in a request's extensions: each gets its own.
        asked = httpx.Request(
            request.method,
            request.url,
            headers=request.headers,
            content=_content(prepared),
            extensions={"timeout": self._timeouts},
        )
        body_bytes = 0
        response = await transport.handle_async_request(asked)
        marks[1] = perf_counter_ns()
        # As HTTP/2: httpx's documented extension, which not every transport sets.
        self._protocols.add(response.extensions.get("http_version", b"HTTP/1.1").decode("ascii", "replace"))
        try:
            stream = response.stream
            assert isinstance(stream, httpx.AsyncByteStream)
            async for piece in stream:
                body_bytes += len(piece)
                if body_bytes > prepared.limit:
                    raise BodyTooLargeError(f"body above the limit of {prepared.limit} bytes")
                if sink is not None:
                    sink(piece)
        finally:
            await response.aclose()
        return response.status_code, body_bytes, response.headers.raw


def _content(prepared: PreparedRequest) -> bytes | AsyncIterator[bytes] | None:
    """Return the body as httpx wants it, which frames it."""
    body = prepared.spec.body
    if body is None or not prepared.spec.chunked:
        return body

    async def pieces() -> AsyncIterator[bytes]:
        for chunk in chunks_of(body):
            yield chunk

    return pieces()
