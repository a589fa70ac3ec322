"""Servers of streams: WebSocket by hand, a byte at a time where wanted; and asyncio servers of others."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NamedTuple

from support.load_servers import HANG_S, Peer

TEXT, BINARY, CONTINUED, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def frame(
    payload: bytes = b"", opcode: int = TEXT, *, fin: bool = True, mask: bool = False, rsv: int = 0
) -> bytes:
    """A frame of a server, with whatever is wrong about it."""
    head = bytearray([(fin << 7) | (rsv << 4) | opcode])
    size = len(payload)
    if size < 126:
        head.append((mask << 7) | size)
    elif size < 65536:
        head += bytes([(mask << 7) | 126]) + struct.pack("!H", size)
    else:
        head += bytes([(mask << 7) | 127]) + struct.pack("!Q", size)
    return bytes(head) + (b"\0\0\0\0" if mask else b"") + payload


def accept_key(head: bytes) -> bytes:
    """The right Sec-WebSocket-Accept for a request."""
    lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    key = {name.lower(): value for name, value in lines.items()}[b"sec-websocket-key"]
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()  # RFC 6455 1.3
    return base64.b64encode(digest)


def switching(key: bytes, *more: bytes) -> bytes:
    """The answer to an upgrade."""
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + key,
        *more,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


class Received(NamedTuple):
    opcode: int
    payload: bytes


class WebSocketPeer:
    """A client that was upgraded."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.head = peer.request() or b""
        self._rest = b""
        if self.head:
            peer.send(switching(accept_key(self.head)))

    def send(self, payload: bytes, opcode: int = TEXT, **more: Any) -> None:
        self.peer.send(frame(payload, opcode, **more))

    def next(self) -> Received | None:
        """The client's next frame, unmasked; None when it is gone."""
        head = self._read(2)
        if not self.head or head is None:
            return None
        assert head[1] & 128, "a client masks its frames"
        size = head[1] & 127
        if size >= 126:
            long = self._read(2 if size == 126 else 8)
            assert long is not None
            size = int.from_bytes(long, "big")
        body = self._read(4 + size)
        if body is None:
            return None
        mask, payload = body[:4], body[4:]
        return Received(head[0] & 15, bytes(b ^ mask[i % 4] for i, b in enumerate(payload)))

    def message(self) -> bytes | None:
        """The client's next message; None when it is gone or closes."""
        while (got := self.next()) is not None:
            if got.opcode in {TEXT, BINARY}:
                return got.payload
            if got.opcode == CLOSE:
                return None
        return None

    def _read(self, size: int) -> bytes | None:
        while len(self._rest) < size:
            data = self.peer.sock.recv(65536)
            if not data:
                return None
            self._rest += data
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


@contextlib.contextmanager
def running(
    main: Callable[[Callable[[int], None], asyncio.Event], Coroutine[Any, Any, None]],
) -> Iterator[int]:
    """Run an asyncio server in a thread of its own; ``main`` tells its port, and ends with the event."""
    ready, ports, loop = threading.Event(), [0], asyncio.new_event_loop()
    until = asyncio.Event()

    def tell(port: int) -> None:
        ports[0] = port
        ready.set()

    def work() -> None:
        try:
            loop.run_until_complete(main(tell, until))
        finally:
            loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(HANG_S)
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(until.set)
        thread.join(HANG_S)


@contextlib.contextmanager
def websockets_server(handler: Callable[[Any], Coroutine[Any, Any, None]], **settings: Any) -> Iterator[int]:
    """A server of the ``websockets`` library."""
    from websockets.asyncio.server import serve

    async def main(tell: Callable[[int], None], until: asyncio.Event) -> None:
        async with serve(handler, "127.0.0.1", 0, **settings) as server:
            tell(next(iter(server.sockets)).getsockname()[1])
            await until.wait()

    with running(main) as port:
        yield port


async def echo(websocket: Any) -> None:
    """Send back what comes, as it comes."""
    async for message in websocket:
        await websocket.send(message)


@contextlib.contextmanager
def aiohttp_server(**routes: Any) -> Iterator[int]:
    """A server of aiohttp; each route by its name."""
    from aiohttp import web

    async def main(tell: Callable[[int], None], until: asyncio.Event) -> None:
        app = web.Application()
        app.add_routes([web.get(f"/{name}", handler) for name, handler in routes.items()])
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        tell(runner.addresses[0][1])
        await until.wait()
        await runner.cleanup()

    with running(main) as port:
        yield port
