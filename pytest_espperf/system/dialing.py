"""TCP connections to numeric addresses, of which a board's name may have several."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Any

HEAD_START_S = 0.25
"""How long an address is waited for before the next one is tried beside it (RFC 8305)."""

SocketAddress = tuple[socket.AddressFamily, Any]
"""The family of an address, and what ``socket.connect`` takes."""


def numeric_address(address: str, port: int) -> SocketAddress:
    """Resolve a numeric address, with the zone of a link-local one.

    Raises:
        OSError: it is no address.
    """
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return found[0][0], found[0][4]


def begin_connect(place: SocketAddress, options: Sequence[tuple[int, int, int]] = ()) -> socket.socket:
    """Begin to connect; return the non-blocking socket, which becomes writable when that has ended.

    Args:
        place: numeric.
        options: of the socket: level, name, value.

    Raises:
        OSError: that cannot even begin.
    """
    sock = socket.socket(place[0], socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option in options:
            sock.setsockopt(*option)
        with contextlib.suppress(BlockingIOError):
            sock.connect(place[1])
    except BaseException:
        sock.close()
        raise
    return sock


def connect_error(sock: socket.socket) -> OSError | None:
    """Return why a socket that has become writable has no connection; None where it has one."""
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if not number:
        return None
    known: dict[int, str] = getattr(
        socket, "errorTab", {}
    )  # of Windows, whose numbers strerror() does not know
    return OSError(number, known.get(number) or os.strerror(number))


async def connected(loop: asyncio.AbstractEventLoop, place: SocketAddress) -> socket.socket:
    """Connect by a loop that watches sockets.

    As ``loop.sock_connect`` does, which in uvloop loses the zone of an IPv6 address.

    Raises:
        OSError: there is no connection.
    """
    sock = begin_connect(place)
    try:
        writable = loop.create_future()
        loop.add_writer(sock, _settle, writable)
        try:
            await writable
        finally:
            loop.remove_writer(sock)
        error = connect_error(sock)
    except BaseException:
        sock.close()
        raise
    if error:
        sock.close()
        raise error
    return sock


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def first_connected(places: Sequence[SocketAddress]) -> tuple[int, socket.socket]:
    """Connect to the first of several places that answers.

    A place is tried as soon as those before it have failed, or :data:`HEAD_START_S` after the one before it.

    Returns:
        its index, and the connected non-blocking socket.

    Raises:
        OSError: none of them answers; the reason of the last one.
    """
    loop = asyncio.get_running_loop()
    trying: dict[asyncio.Task[socket.socket], int] = {}
    begun = 0
    try:
        while True:
            if begun < len(places):
                trying[loop.create_task(connected(loop, places[begun]))] = begun
                begun += 1
            patience = HEAD_START_S if begun < len(places) else None
            done, _ = await asyncio.wait(trying, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.exception() is None:
                    return trying.pop(task), task.result()
                if len(trying) == 1 and begun == len(places):
                    task.result()  # raises
                del trying[task]
    finally:
        for task in trying:
            if not task.cancel() and task.exception() is None:
                task.result().close()
        if trying:
            await asyncio.wait(trying)
