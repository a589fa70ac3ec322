"""The engine's connection behind httpx's documented extension point.

For users of ``httpx.AsyncClient``: requests go over the very connections, parser and error rules that a
phase uses. Bodies are read in full before the response is returned.
"""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import TypeVar

import httpx

from pytest_espperf.load.connection import Connection, Connector, connection_type
from pytest_espperf.load.wire import MAX_BODY_BYTES, HeadCache, request_bytes
from pytest_espperf.model.workload import DEFAULT_PORTS
from pytest_espperf.system.tls import tls_context

_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_CLOSE_TURNS = 100

_T = TypeVar("_T")
_Origin = tuple[str, str, int]


class _User:
    """Owns a connection while it is in use or waits in the pool."""

    def __init__(self, pool: EspperfTransport, origin: _Origin) -> None:
        self._pool = pool
        self._origin = origin
        self._awaited: asyncio.Future[Connection] | None = None

    def expect(self) -> asyncio.Future[Connection]:
        """The future of the next event: opened, answered or broken."""
        self._awaited = asyncio.get_running_loop().create_future()
        return self._awaited

    def on_open(self, connection: Connection) -> None:
        """See :class:`~pytest_espperf.load.connection.Owner`."""
        self._resolve(connection)

    def on_response(self, connection: Connection) -> None:
        """See :class:`~pytest_espperf.load.connection.Owner`."""
        self._resolve(connection)

    def on_broken(self, connection: Connection, exc: httpx.TransportError) -> None:  # noqa: ARG002 - see Owner
        """See :class:`~pytest_espperf.load.connection.Owner`."""
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_exception(exc)

    def on_idle_end(self, connection: Connection, data: bytes) -> None:  # noqa: ARG002 - see Owner
        """See :class:`~pytest_espperf.load.connection.Owner`."""
        self._pool.forget(self._origin, connection)

    def _resolve(self, connection: Connection) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(connection)


class EspperfTransport(httpx.AsyncBaseTransport):
    """An httpx transport over this package's connections, kept alive and reused one request at a time.

    The ``read`` timeout bounds the whole request, not each read; ``connect`` bounds connecting. A kept-alive
    connection that dies unanswered is replaced once. Times of a response, in seconds, stand in
    ``response.extensions["espperf"]``: ``ttfb_s`` and ``service_s``, from the request's last byte.

    Args:
        ca_file: certificates to trust instead of the system's.
        insecure: accept any certificate.
    """

    def __init__(self, *, ca_file: str | None = None, insecure: bool = False) -> None:
        self._ca_file = ca_file
        self._insecure = insecure
        self._context: ssl.SSLContext | None = None
        self._connectors: dict[_Origin, Connector] = {}
        self._idle: dict[_Origin, list[tuple[Connection, _User]]] = {}
        self._heads = HeadCache()
        self._open_connections: set[Connection] = set()

    async def __aenter__(self) -> EspperfTransport:  # noqa: PYI034 - the base class says so
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` and read its response in full.

        Raises:
            httpx.TransportError: no response; which subclass, as in a phase.
        """
        if request.url.scheme not in DEFAULT_PORTS:
            raise httpx.UnsupportedProtocol(f"scheme {request.url.scheme!r} is not http or https")
        assert isinstance(request.stream, httpx.AsyncByteStream)
        body = b"".join([piece async for piece in request.stream])
        wire = request_bytes(request, body)
        bodyless = request.method == "HEAD"
        timeouts = request.extensions.get("timeout", {})
        origin = (request.url.scheme, request.url.host, request.url.port or DEFAULT_PORTS[request.url.scheme])
        retry = request.method in _REPEATABLE
        while True:
            connection, user = await self._take(origin, timeouts.get("connect"))
            pieces: list[bytes] = []
            answered = user.expect()
            connection.send(wire, pieces.append, MAX_BODY_BYTES, bodyless=bodyless)
            try:
                late = httpx.ReadTimeout("no complete response in time")
                await _within(answered, timeouts.get("read"), late)
            except (httpx.RemoteProtocolError, httpx.ReadError):
                if retry and connection.stale:
                    retry = False
                    continue
                raise
            except BaseException:
                connection.close()
                raise
            return self._response(connection, user, origin, b"".join(pieces))

    async def aclose(self) -> None:
        """Close all connections, and see them closed."""
        self._idle.clear()
        for connector in self._connectors.values():
            connector.close()
        for connection in tuple(self._open_connections):
            connection.close()
        for _ in range(_CLOSE_TURNS):
            await asyncio.sleep(0)
            if not self._open_connections:
                break

    def forget(self, origin: _Origin, connection: Connection) -> None:
        """An idle connection has been closed."""
        idle = self._idle.get(origin, [])
        self._idle[origin] = [entry for entry in idle if entry[0] is not connection]

    def _response(self, connection: Connection, user: _User, origin: _Origin, body: bytes) -> httpx.Response:
        head = connection.reader.head
        assert head is not None
        if connection.reader.keep_alive and not connection.closed:
            self._idle.setdefault(origin, []).append((connection, user))
        else:
            connection.close()
        times = {
            "ttfb_s": (connection.first_ns - connection.sent_ns) * 1e-9,
            "service_s": (connection.last_ns - connection.sent_ns) * 1e-9,
        }
        return httpx.Response(
            head.status,
            headers=list(head.headers),
            stream=httpx.ByteStream(body),
            extensions={"http_version": f"HTTP/{head.version}".encode("ascii"), "espperf": times},
        )

    async def _take(self, origin: _Origin, timeout_s: float | None) -> tuple[Connection, _User]:
        """An idle connection, or a new one."""
        idle = self._idle.get(origin)
        if idle:
            return idle.pop()
        user = _User(self, origin)
        make = connection_type(asyncio.get_running_loop())
        opened = user.expect()
        opening = asyncio.ensure_future(
            self._connector(origin).open(lambda: make(user, self._heads, self._open_connections))
        )
        try:
            await _within(opening, timeout_s, httpx.ConnectTimeout("no connection in time"))
            return await opened, user
        except BaseException:
            if opened.done():
                opened.result().close()
            raise

    def _connector(self, origin: _Origin) -> Connector:
        connector = self._connectors.get(origin)
        if connector is None:
            scheme, host, port = origin
            if scheme == "https" and self._context is None:
                self._context = tls_context(self._ca_file, insecure=self._insecure)
            connector = Connector(host, port, self._context if scheme == "https" else None)
            self._connectors[origin] = connector
        return connector


async def _within(future: asyncio.Future[_T], timeout_s: float | None, late: httpx.TransportError) -> _T:
    """The future's result; after ``timeout_s`` it is cancelled and ``late`` raised."""
    try:
        done, _ = await asyncio.wait({future}, timeout=timeout_s)
    except asyncio.CancelledError:
        future.cancel()
        raise
    if not done:
        future.cancel()
        raise late
    return future.result()
