"""A client for checks: one request at a time over the load engine's own kind of connection."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from time import perf_counter_ns

import httpx

from pytest_espperf.load.connection import Connection
from pytest_espperf.load.connector import Connector, connector_to
from pytest_espperf.load.lanes import is_idle_farewell
from pytest_espperf.load.outcomes import OutcomeTable
from pytest_espperf.load.requests import RequestMaker, prepare_requests
from pytest_espperf.load.wire import HeadCache
from pytest_espperf.model.workload import RequestSpec, Target
from pytest_espperf.system.loops import run_async

_MOMENT_S = 0.05


@dataclass(frozen=True)
class TimedAnswer:
    """A complete answer.

    Attributes:
        status: its status.
        version: of HTTP, ``1.1``.
        encoding: its Content-Encoding, "" where it has none.
        took_ms: until its last byte, from the request, or from where a connection had to be opened for it.
        keeps: whether the board announces that the connection stays open.
        beyond: what came behind its end, in words; "" where nothing did.
    """

    status: int
    version: str
    encoding: str
    took_ms: float
    keeps: bool
    beyond: str = ""


class Caller:
    """A board and the one request that is made to it.

    Args:
        target: the board.
        path: of the request.
        timeout_s: of opening a connection, and of a request.

    Raises:
        UsageError: the request cannot be made, or the CA file not be used.
    """

    def __init__(self, target: Target, path: str, *, timeout_s: float) -> None:
        maker = RequestMaker(target, (), own_connection=True)
        (prepared,) = prepare_requests(maker, (RequestSpec(path),), OutcomeTable([]))
        self.timeout_s = timeout_s
        self._wire = prepared.wire
        self._connector = connector_to(target)

    def client(self, timeout_s: float | None = None) -> CheckClient:
        """Make a client with no connection yet."""
        return CheckClient(self._connector, self._wire, self.timeout_s if timeout_s is None else timeout_s)


class CheckClient:
    """A client: at most one connection, opened when it is needed; see :class:`Caller`."""

    def __init__(self, connector: Connector, wire: bytes, timeout_s: float) -> None:
        self._connector = connector
        self._wire = wire
        self._timeout_s = timeout_s
        self._heads = HeadCache()
        self._open_connections: set[Connection] = set()
        self._connection: Connection | None = None
        self._awaited: asyncio.Future[None] | None = None
        self._beyond = ""

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that neither side has closed."""
        return self._connection is not None and not self._connection.closed

    @property
    def has_heard(self) -> bool:
        """Whether anything came in return for the last request."""
        return self._connection is not None and self._connection.first_ns > 0

    @property
    def died_unanswered(self) -> bool:
        """Whether what broke was a kept-alive connection that the board closed without a word."""
        return self._connection is not None and self._connection.stale

    async def open(self) -> None:
        """Open a connection.

        Raises:
            httpx.TransportError: none can be had.
        """
        opened = self._expect()
        dial = self._connector.begin(
            asyncio.get_running_loop(),
            lambda: Connection(self, self._heads, self._open_connections),
            self._fail,
        )
        try:
            await asyncio.wait_for(opened, self._timeout_s)
        except asyncio.TimeoutError:
            raise httpx.ConnectTimeout(f"no connection within {self._timeout_s:g} s") from None
        finally:
            dial.cancel()

    async def ask(self) -> TimedAnswer:
        """Make the request; opens a connection where there is none.

        Raises:
            httpx.TransportError: there was no complete answer in time; the connection is closed.
        """
        began_ns = perf_counter_ns()
        if not self.is_open:
            await self.open()
        connection = self._connection
        if connection is None or connection.closed:
            raise httpx.RemoteProtocolError("the board closed the connection at once")
        answered = self._expect()
        connection.send(self._wire)
        try:
            await asyncio.wait_for(answered, self._timeout_s)
        except asyncio.TimeoutError:
            self.close()
            came = connection.reader.what_came()
            late = f"no complete answer within {self._timeout_s:g} s"
            raise httpx.ReadTimeout(f"{late}: {came}" if came else late) from None
        head = connection.reader.head
        assert head is not None
        keeps = connection.reader.keep_alive
        if not keeps:
            self.close()
        encodings = [value for name, value in head.headers if name.lower() == b"content-encoding"]
        return TimedAnswer(
            status=head.status,
            version=head.version,
            encoding=b", ".join(encodings).decode("latin-1"),
            took_ms=(connection.last_ns - began_ns) * 1e-6,
            keeps=keeps,
            beyond=connection.reader.what_is_beyond() if connection.reader.excess else "",
        )

    async def beyond(self) -> str:
        """Describe what comes behind the end of the last answer within a moment; "" if nothing does."""
        await asyncio.sleep(_MOMENT_S)
        return self._beyond

    async def ask_again(self) -> TimedAnswer:
        """Ask, and once more if a kept-alive connection had died unanswered: that is no fault.

        Raises:
            httpx.TransportError: there was no complete answer in time.
        """
        try:
            return await self.ask()
        except (httpx.RemoteProtocolError, httpx.ReadError):
            if not self.died_unanswered:
                raise
            return await self.ask()

    def close(self) -> None:
        """Close what is open."""
        if self._connection is not None:
            self._connection.close()

    async def __aenter__(self) -> CheckClient:  # noqa: PYI034 - typing.Self is younger than 3.10
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    # --- the engine's Owner

    def on_open(self, connection: Connection) -> None:
        """See :class:`~pytest_espperf.load.connection.Owner`."""
        self._connection = connection
        self._resolve()

    def on_response(self, connection: Connection) -> None:  # noqa: ARG002 - see Owner
        """See :class:`~pytest_espperf.load.connection.Owner`."""
        self._resolve()

    def on_broken(self, connection: Connection, exc: httpx.TransportError) -> None:  # noqa: ARG002 - see Owner
        """See :class:`~pytest_espperf.load.connection.Owner`."""
        self._fail(exc)

    def on_idle_end(self, connection: Connection, data: bytes) -> None:
        """See :class:`~pytest_espperf.load.connection.Owner`; the connection knows that it is closed."""
        if data and not is_idle_farewell(data):
            self._beyond = connection.reader.what_is_beyond(len(data))

    def _expect(self) -> asyncio.Future[None]:
        self._awaited = asyncio.get_running_loop().create_future()
        return self._awaited

    def _fail(self, exc: httpx.TransportError) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_exception(exc)

    def _resolve(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)


def first_answer(caller: Caller) -> TimedAnswer | str:
    """Get one answer, and what comes right behind it; or a sentence why there is none."""

    async def ask() -> TimedAnswer | str:
        async with caller.client() as client:
            try:
                answer = await client.ask()
                return answer if answer.beyond else replace(answer, beyond=await client.beyond())
            except httpx.TransportError as error:
                return words(error)

    return run_async(ask())


def why_unreadable(caller: Caller) -> str:
    """Explain why the board's bytes are no complete answer; "" if one comes, or nothing at all."""

    async def ask() -> str:
        async with caller.client() as client:
            try:
                await client.ask()
            except httpx.TransportError as error:
                return words(error) if client.has_heard else ""
            return ""

    return run_async(ask())


def words(error: httpx.TransportError) -> str:
    """Describe a transport error: ``ReadTimeout: no complete answer within 6 s``."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
