"""The load bench's own device: answers every GET after an exact service time.

    python tools/bench_load_device.py --mode fifo --service-ms 2 --port 0

Prints its port. Completion times come from a virtual queue (``fifo``: one request at a time; ``parallel``:
each by itself) and not from sleeps, and the last two milliseconds before one are polled: the wake-up error
of the machine does not add up. It needs a core of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import os
import selectors
import socket
import sys
from time import perf_counter_ns

_POLLED_NS = 2_500_000
_END = b"\r\n\r\n"


class Device:
    """One listening socket, and the requests that wait for their completion times.

    Args:
        mode: ``fifo`` or ``parallel``.
        service_ns: what one request takes.
        stall: (every, length) in ns: ``length`` long it serves nothing, once per ``every``; (0, 0) for never.
        close_after: requests after which a connection is closed without a word; 0 for never.
        body_bytes: length of the answers' bodies.
    """

    def __init__(
        self, *, mode: str, service_ns: int, stall: tuple[int, int], close_after: int, body_bytes: int
    ) -> None:
        self._fifo = mode == "fifo"
        self._service_ns = service_ns
        self._stall = stall
        self._close_after = close_after
        self._answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % body_bytes + b"x" * body_bytes
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[int, int, socket.socket]] = []
        self._last_ns = 0
        self._count = 0
        self._served: dict[socket.socket, int] = {}
        self._origin_ns = perf_counter_ns()

    def listen(self, port: int) -> int:
        """Listen on loopback; the port."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(512)
        listener.setblocking(False)
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ)
        return int(listener.getsockname()[1])

    def serve(self) -> None:
        """Serve until killed."""
        while True:
            now = perf_counter_ns()
            while self._due and self._due[0][0] <= now:
                self._send(heapq.heappop(self._due)[2])
                now = perf_counter_ns()
            timeout = 0.2
            if self._due:
                ahead = self._due[0][0] - now
                timeout = 0.0 if ahead < _POLLED_NS else (ahead - _POLLED_NS) * 1e-9
            for key, _ in self._selector.select(timeout):
                assert isinstance(key.fileobj, socket.socket)
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._read(key.fileobj)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            sock, _ = self._listener.accept()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._served[sock] = 0
            self._selector.register(sock, selectors.EVENT_READ)

    def _read(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._close(sock)
        elif data.endswith(_END):  # a bench's requests are small and come whole
            now = perf_counter_ns()
            begin = max(now, self._last_ns) if self._fifo else now
            done = self._skip_stall(begin) + self._service_ns
            self._last_ns = done
            self._count += 1
            heapq.heappush(self._due, (done, self._count, sock))

    def _skip_stall(self, begin_ns: int) -> int:
        """When service can begin: now, or at the end of the stall that is on."""
        every, length = self._stall
        if not every:
            return begin_ns
        into = (begin_ns - self._origin_ns) % every
        return begin_ns + max(0, length - into)

    def _send(self, sock: socket.socket) -> None:
        if sock not in self._served:
            return
        try:
            sock.send(self._answer)
        except OSError:
            self._close(sock)
            return
        self._served[sock] += 1
        if self._served[sock] == self._close_after:
            self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        if self._served.pop(sock, None) is not None:
            self._selector.unregister(sock)
            sock.close()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mode", choices=("fifo", "parallel"), default="fifo")
    parser.add_argument("--service-ms", type=float, default=2.0)
    parser.add_argument("--stall-every-s", type=float, default=0.0)
    parser.add_argument("--stall-s", type=float, default=0.0)
    parser.add_argument("--close-after", type=int, default=0)
    parser.add_argument("--body-bytes", type=int, default=64)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--core", type=int, default=None)
    args = parser.parse_args()
    if args.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {args.core})
    device = Device(
        mode=args.mode,
        service_ns=round(args.service_ms * 1e6),
        stall=(round(args.stall_every_s * 1e9), round(args.stall_s * 1e9)),
        close_after=args.close_after,
        body_bytes=args.body_bytes,
    )
    sys.stdout.write(f"{device.listen(args.port)}\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        device.serve()


if __name__ == "__main__":
    main()
