"""The listening socket, which can be taken down and put up again on the same port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable

_BACKLOG = 64
_RETRY_S = 0.05


class Listener:
    """Accepts connections while it is up.

    While it is down the port stays bound but nobody listens, so that connecting is refused and no
    other process can take the port.
    """

    def __init__(
        self, host: str, port: int, on_accept: Callable[[socket.socket], None], on_error: Callable[[], None]
    ) -> None:
        self._on_accept = on_accept
        self._on_error = on_error
        self._task: asyncio.Task[None] | None = None
        self._socket = _bound(host, port)
        self._host = host
        self.port: int = self._socket.getsockname()[1]

    @property
    def is_up(self) -> bool:
        """Whether connections are accepted."""
        return self._task is not None

    def up(self) -> None:
        """Start to listen."""
        self._socket.listen(_BACKLOG)
        self._task = asyncio.get_running_loop().create_task(self._accept())

    async def down(self) -> None:
        """Stop to listen, and keep the port.

        Raises:
            OSError: another process took the port in the moment between.
        """
        await self.close()
        self._socket = _bound(self._host, self.port)

    async def close(self) -> None:
        """Stop to listen and give up the port."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._socket.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _address = await loop.sock_accept(self._socket)
            except OSError:  # the client gave up in the backlog, or descriptors ran out
                self._on_error()
                await asyncio.sleep(_RETRY_S)
            else:
                self._on_accept(accepted)


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
