"""What the load engine's tests share: raw-socket servers (a thread per connection), and checks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from pytest_espperf.load import run_phase
from pytest_espperf.load.guard import fastest_loop
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import PhaseSpec, RequestSpec, Target

Handler = Callable[["Peer"], None]
LoopFactory = Callable[[], asyncio.AbstractEventLoop]

HELLO = (RequestSpec("/hello"),)
NOWHERE = Target("http", "127.0.0.1", 9, "x")
TIMEOUT_S = 0.3
"""Of a request, where time-outs are the subject."""
PATIENT_S = 20.0
"""Of a request anywhere else: no machine is so busy that an answer on loopback takes that long."""
HANG_S = 60.0
"""No performance: what takes longer hangs."""
WORK_S = 0.002
"""Of a server for each request, like a board's: without it a closed loop takes all of a processor, and shows
nothing more."""
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

LOOPS: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop, "fastest": fastest_loop()}


class Peer:
    """One accepted connection, seen by a handler. ``number`` counts a server's connections from 0."""

    def __init__(self, sock: socket.socket, number: int, stopping: threading.Event) -> None:
        self.sock = sock
        self.number = number
        self.stopping = stopping
        self._rest = b""

    def request(self) -> bytes | None:
        """The next request's head; None when the client is gone."""
        while b"\r\n\r\n" not in self._rest:
            data = self.sock.recv(65536)
            if not data:
                return None
            self._rest += data
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        time.sleep(WORK_S)
        return head

    def take(self, size: int) -> bytes:
        """So many bytes behind the head; raises ConnectionError when the client is gone."""
        pieces, left = [self._rest[:size]], size - len(self._rest)
        self._rest = self._rest[size:]
        while left > 0:
            data = self.sock.recv(min(left, 1 << 20))
            if not data:
                raise ConnectionError("the client is gone")
            pieces.append(data)
            left -= len(data)
        return b"".join(pieces)

    def line(self) -> bytes:
        """The bytes up to the next line end, without it."""
        while b"\r\n" not in self._rest:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("the client is gone")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\r\n")
        return line

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reset(self) -> None:
        """Close with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def until_gone(self) -> None:
        """Stay silent until the client closes or the server is stopped."""
        with contextlib.suppress(OSError):
            while not self.stopping.is_set() and self.sock.recv(65536):
                pass

    def drip(self, data: bytes, pause_s: float) -> None:
        """Send byte by byte."""
        for index in range(len(data)):
            if self.stopping.wait(pause_s):
                return
            self.sock.sendall(data[index : index + 1])


class Server:
    """Accepts on a loopback port of the system's choice until closed."""

    def __init__(
        self, handler: Handler, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._handler = handler
        self._context = context
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        place = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][4]
        self._listener.bind(place)  # with the zone of a link-local address
        self._listener.listen(64)
        self._listener.settimeout(0.05)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._socks: list[socket.socket] = []
        self.errors: list[Exception] = []
        self.accepted = 0
        self.host = host
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    @property
    def target(self) -> Target:
        return Target("https" if self._context else "http", self.host, self.port, f"{self.host}:{self.port}")

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                continue
            sock.settimeout(10)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(sock, self.accepted))
            self.accepted += 1
            self._socks.append(sock)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
                self._socks.append(sock)
            self._handler(Peer(sock, number, self._stopping))
        except OSError:
            pass  # the client went away
        except Exception as exc:  # noqa: BLE001 - reported by close()
            self.errors.append(exc)
        finally:
            sock.close()

    def close(self) -> None:
        self._stopping.set()
        self._accepting.join()
        self._listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        assert not self.errors


@contextlib.contextmanager
def serving(
    handler: Handler, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """A server for the time of the block."""
    server = Server(handler, host, context)
    try:
        yield server
    finally:
        server.close()


def answer(body: bytes = b"ok", status: bytes = b"200 OK", *lines: bytes) -> bytes:
    """A response with a Content-Length."""
    head = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def always(response: bytes) -> Handler:
    """A handler that keeps the connection alive and answers everything alike."""

    def handle(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(response)

    return handle


def once(response: bytes) -> Handler:
    """A handler that answers one request and closes."""

    def handle(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(response)

    return handle


def delayed(delay_s: float) -> Callable[[Peer], None]:
    def handle(peer: Peer) -> None:
        while peer.request() is not None:
            if peer.stopping.wait(delay_s):
                return
            peer.send(answer())

    return handle


def phase(duration_s: float = 0.3, clients: int = 2, rate_rps: float | None = None) -> PhaseSpec:
    """A phase; a busy machine may keep this process waiting for all of a shorter one."""
    return PhaseSpec("burst", clients, duration_s, rate_rps)


def wait_until(condition: Callable[[], object], patience_s: float = HANG_S) -> bool:
    """Poll until the condition holds; whether it did."""
    end = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@contextlib.contextmanager
def signalled(server: Server, after_s: float = 0.1) -> Iterator[None]:
    """Send SIGINT to this process so long after the server's first client came: while it is in use."""

    def press() -> None:
        if wait_until(lambda: server.accepted > 0):
            time.sleep(after_s)
            signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def open_descriptors() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        if os.path.isdir(folder):  # noqa: PTH112 - no path object is worth making here
            return len(os.listdir(folder))  # noqa: PTH208
    return 0  # Windows: the servers' end of each connection is still checked


def endless_body(peer: Peer) -> None:
    if peer.request() is not None:
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            peer.send(b"x" * 1_000_000)


def kinds(samples: PhaseSamples) -> Counter[str | None]:
    return Counter(samples.outcomes[index].error for index in samples.outcome)


def check_sound(samples: PhaseSamples, timeout_s: float = PATIENT_S) -> None:
    """What must hold of any phase whatever the server did."""
    count = len(samples)
    assert count > 0
    for column in (samples.start_s, samples.ttfb_s, samples.path, samples.outcome):
        assert len(column) == count
    assert min(samples.start_s) >= 0
    assert min(samples.service_s) >= 0
    # Taken in time; the start is the write, which may have had to wait for its connection.
    assert max(samples.start_s) <= samples.duration_s + timeout_s
    ends = [start + service for start, service in zip(samples.start_s, samples.service_s, strict=True)]
    assert samples.elapsed_s == pytest.approx(max(ends), abs=1e-4)
    assert not samples.cut_short
    for index, first in enumerate(samples.ttfb_s):
        if samples.outcomes[samples.outcome[index]].status is not None:
            assert 0 <= first <= samples.service_s[index] + 1e-6


def drive(
    handler: Handler,
    loop_factory: LoopFactory | None = None,
    spec: PhaseSpec | None = None,
    requests: tuple[RequestSpec, ...] = HELLO,
    timeout_s: float = PATIENT_S,
) -> PhaseSamples:
    with serving(handler) as server:
        begun = time.monotonic()
        samples = run_phase(
            server.target,
            requests,
            spec or phase(),
            request_timeout_s=timeout_s,
            deadline_s=HANG_S,
            loop_factory=loop_factory,
        )
        assert time.monotonic() - begun < HANG_S
    check_sound(samples, timeout_s)
    return samples


def target(port: int, address: str = "127.0.0.1") -> Target:
    return Target(scheme="http", address=address, port=port, host_header=f"{address}:{port}")
