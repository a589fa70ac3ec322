"""The listening socket, which can be taken down and put up again on the same port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable

from pytest_espperf.sim.origin import is_loopback

_BACKLOG = 64
_STEPS = 4
"""Turns of the event loop from an accepted socket to its connection, with one to spare."""

_RETRY_S = 0.05
_RETRIES = 100


class Listener:
    """Accepts connections while it is up.

    While it is down the port stays bound but nobody listens, so that connecting is refused and no
    other process can take the port.
    """

    def __init__(
        self,
        host: str,
        port: int,
        make_protocol: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        """Bind the port.

        Raises:
            OSError: the port or the address cannot be had.
        """
        self._make_protocol = make_protocol
        self._server: asyncio.AbstractServer | None = None
        self._socket = _bound(host, port)
        self.host = host
        self.port: int = self._socket.getsockname()[1]

    @property
    def is_loopback(self) -> bool:
        """Whether only this computer can reach it."""
        return is_loopback(self._socket.getsockname()[0])

    @property
    def is_up(self) -> bool:
        """Whether connections are accepted."""
        return self._server is not None

    async def up(self) -> None:
        """Start to listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._make_protocol, sock=self._socket, backlog=_BACKLOG)

    async def down(self) -> None:
        """Stop to listen, and keep the port.

        Raises:
            OSError: the port could not be bound again, for some seconds.
        """
        await self._stop_accepting()
        self.close()
        for _ in range(_RETRIES):
            with contextlib.suppress(OSError):
                self._socket = _bound(self.host, self.port)
                return
            await asyncio.sleep(_RETRY_S)
        self._socket = _bound(self.host, self.port)

    async def _stop_accepting(self) -> None:
        """Let what was accepted by now become connections.

        asyncio forgets, open and unread, a socket that it has accepted when its server is closed before it
        has made a transport of it: its client would wait for ever.
        """
        with contextlib.suppress(NotImplementedError):  # where an event loop has no readers
            asyncio.get_running_loop().remove_reader(self._socket)
        for _ in range(_STEPS):
            await asyncio.sleep(0)

    def close(self) -> None:
        """Stop to listen and give up the port."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._socket.close()


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _name, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        if sys.platform == "win32":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound
