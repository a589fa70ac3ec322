"""Plain blocking sockets, a process per client: the control beside the percentiles of the other benches.

What it reads above the truth is the device's, the kernel's and the machine's: it has no event loop. It reads
the clock right before it gives the kernel the first byte, and right behind the last that came. POSIX only.
"""

from __future__ import annotations

import os
import re
import socket
import time
from array import array
from collections.abc import Callable

Exchange = Callable[[], float]
"""Ask once; the seconds that it took."""

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_NO_MASK = bytes(4)
_TEXT = 0x81


def times_of(make: Callable[[], Exchange], clients: int, seconds: float, warmup_s: float) -> list[float]:
    """Run a closed loop of so many clients, each in a process of its own; the seconds of each exchange.

    Args:
        make: connects a client, in its process.
        clients: that ask at once.
        seconds: that are measured.
        warmup_s: that come before, and are not.
    """
    begin = time.perf_counter() + warmup_s
    children = [_child(make, begin, begin + seconds) for _ in range(clients)]
    times = array("d")
    for pid, pipe in children:
        with os.fdopen(pipe, "rb") as read:
            times.frombytes(read.read())
        _, status = os.waitpid(pid, 0)
        if status:
            raise SystemExit(f"a blocking client ended with {status}")
    if not times:
        raise SystemExit("the blocking clients got no turn: this computer is too busy to measure")
    return list(times)


def _child(make: Callable[[], Exchange], begin: float, end: float) -> tuple[int, int]:
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    code = 1
    try:
        os.close(read)
        exchange, times = make(), array("d")
        while (now := time.perf_counter()) < end:
            took = exchange()
            if now >= begin:
                times.append(took)
        with os.fdopen(write, "wb") as file:
            file.write(times.tobytes())
        code = 0
    finally:
        os._exit(code)  # neither the parent's buffers nor its handlers are this process's


def asking(place: tuple[str, int], request: bytes, *, reconnect: bool) -> Exchange:
    """Connect a client that sends a request and reads its answer, which has a Content-Length."""
    sock = _connected(place)

    def exchange() -> float:
        nonlocal sock
        begun = time.perf_counter()
        sock.sendall(request)
        came = sock.recv(65536)
        while not _is_complete(came):
            came += sock.recv(65536)
        took = time.perf_counter() - begun
        if reconnect:
            sock.close()
            sock = _connected(place)
        return took

    return exchange


def echoed(place: tuple[str, int], size: int) -> Exchange:
    """Open a WebSocket to a device that sends each message back, for messages of less than 126 bytes."""
    sock = _connected(place)
    sock.sendall(
        b"GET /ws HTTP/1.1\r\nHost: device\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    came = b""
    while not came.endswith(b"\r\n\r\n"):
        came += sock.recv(4096)
    message = b"x" * size
    frame = bytes((_TEXT, 0x80 | size)) + _NO_MASK + message
    wanted = bytes((_TEXT, size)) + message

    def exchange() -> float:
        begun = time.perf_counter()
        sock.sendall(frame)
        echo = sock.recv(4096)
        while len(echo) < len(wanted):
            echo += sock.recv(4096)
        took = time.perf_counter() - begun
        assert echo == wanted
        return took

    return exchange


def _connected(place: tuple[str, int]) -> socket.socket:
    sock = socket.create_connection(place, timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _is_complete(came: bytes) -> bool:
    head, gap, body = came.partition(b"\r\n\r\n")
    if not came:
        raise ConnectionResetError("the device closed the connection")
    length = _LENGTH.search(head) if gap else None
    return length is not None and len(body) >= int(length[1])
