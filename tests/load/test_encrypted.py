"""Ends of encrypted connections: resets, farewells, and what OpenSSL wants in the midst of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import socket
import ssl
import struct
import sys
import weakref
from collections.abc import Callable, Iterator

import pytest
import trustme
from support.load_servers import (
    HELLO,
    LOOPS,
    LoopFactory,
    Peer,
    kinds,
    phase,
    serving,
    wait_until,
)

from pytest_espperf.load import limits, run_phase
from pytest_espperf.load.transport import EncryptedTransport, Transport
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import PhaseSpec, Target

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: a close resets the connection."""

WITHOUT_LENGTH = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server and of its client."""
    authority = trustme.CA()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(ours)
    return theirs, ours


class Served:
    """The server's side of TLS on a connection, each record as a call wants it.

    Args:
        peer: whose.
        context: of the server.
    """

    def __init__(self, peer: Peer, context: ssl.SSLContext) -> None:
        self.peer = peer
        self._in, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self.out, server_side=True)
        self._blocking(self.tls.do_handshake)

    def request(self) -> bytes:
        return bytes(self._blocking(lambda: self.tls.read(65536)))

    def records(self, data: bytes, size: int) -> bytes:
        """Encrypt data in records of so many bytes."""
        for start in range(0, len(data), size):
            self.tls.write(data[start : start + size])
        return self.out.read()

    def farewell(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.out.read()

    def _blocking(self, step: Callable[[], object]) -> bytes:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                if self.out.pending:
                    self.peer.send(self.out.read())
                data = self.peer.sock.recv(65536)
                if not data:
                    raise ConnectionResetError from None
                self._in.write(data)
            else:
                if self.out.pending:
                    self.peer.send(self.out.read())
                return done if isinstance(done, bytes) else b""


def reset(peer: Peer) -> None:
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    peer.sock.close()


def measured(
    handle: Callable[[Peer], None], loop_factory: LoopFactory, spec: PhaseSpec | None = None
) -> PhaseSamples:
    with serving(handle) as server:
        target = server.target
        board = Target("https", target.address, target.port, target.host_header, insecure=True)
        return run_phase(
            board,
            HELLO,
            spec or phase(0.4, 2),
            request_timeout_s=5.0,
            deadline_s=60,
            loop_factory=loop_factory,
        )


def test_an_answer_that_a_reset_cuts_is_no_success(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], loop_factory: LoopFactory
) -> None:
    def handle(peer: Peer) -> None:
        served = Served(peer, contexts[0])
        served.request()
        peer.send(served.records(WITHOUT_LENGTH + b"half", 1000))
        peer.stopping.wait(0.05)  # it is read before the reset comes
        reset(peer)

    samples = measured(handle, loop_factory)
    assert kinds(samples) == {"ReadError": len(samples)}
    assert "ConnectionResetError" in samples.reasons["ReadError", 0]


def test_the_servers_end_without_a_farewell_ends_an_answer(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], loop_factory: LoopFactory
) -> None:
    def handle(peer: Peer) -> None:
        served = Served(peer, contexts[0])
        served.request()
        peer.send(served.records(WITHOUT_LENGTH + b"all of it", 1000))
        peer.sock.shutdown(socket.SHUT_WR)
        peer.until_gone()

    samples = measured(handle, loop_factory)
    assert kinds(samples) == {None: len(samples)}


def test_hundreds_of_records_before_a_reset_are_read(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], loop_factory: LoopFactory
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\nConnection: close\r\n\r\n"

    def handle(peer: Peer) -> None:
        served = Served(peer, contexts[0])
        served.request()
        peer.send(served.records(head + b"x" * 3000, 10))
        reset(peer)

    samples = measured(handle, loop_factory)
    # The reset may take away what was not read yet, but nothing waits for its time-out.
    assert kinds(samples).keys() <= {None, "ReadError"}


def test_a_farewell_is_read_before_the_connection_is_closed(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], loop_factory: LoopFactory
) -> None:
    """Closed with something unread, a socket resets the connection, which a board sees."""
    ends: list[str] = []

    def handle(peer: Peer) -> None:
        served = Served(peer, contexts[0])
        served.request()
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
        peer.send(served.records(whole, 1000) + served.farewell())
        try:
            while peer.sock.recv(1000):
                pass
        except ConnectionResetError:
            ends.append("reset")
        else:
            ends.append("end")

    samples = measured(handle, loop_factory, PhaseSpec("one", 1, 0.4, reuse=False))
    assert kinds(samples) == {None: len(samples)}
    assert ends
    assert set(ends) == {"end"}


class Heard:
    """A receiver that takes note."""

    def __init__(self) -> None:
        self.ends: list[Exception | None] = []

    def connection_made(self, transport: Transport) -> None:
        self.transport = transport

    def received(self, data: bytes, arrived_ns: int) -> bool:
        return True

    def eof_received(self) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self.ends.append(exc)


@pytest.fixture
def ends(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[tuple[ssl.SSLSocket, socket.socket]]:
    """Both ends of a connection, with the handshake done."""
    theirs, ours = contexts
    mine, other = socket.socketpair()
    mine.setblocking(False)
    other.setblocking(False)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    served = theirs.wrap_bio(incoming, outgoing, server_side=True)
    client = ours.wrap_socket(
        mine, server_hostname="127.0.0.1", do_handshake_on_connect=False, suppress_ragged_eofs=False
    )
    todo: list[ssl.SSLSocket | ssl.SSLObject] = [client, served]
    for _ in range(20):
        for side in tuple(todo):
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                side.do_handshake()
                todo.remove(side)
        if outgoing.pending:
            other.send(outgoing.read())
        with contextlib.suppress(BlockingIOError):
            incoming.write(other.recv(65536))
    assert not todo
    yield client, other
    client.close()
    other.close()


def settle(loop: asyncio.AbstractEventLoop, until: Callable[[], object] = lambda: True) -> None:
    assert wait_until(lambda: loop.run_until_complete(asyncio.sleep(0.01, True)) and until())


@pytest.mark.parametrize("name", LOOPS)
def test_what_openssl_has_to_send_first_is_sent_once_there_is_room(
    name: str,
    ends: tuple[ssl.SSLSocket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, other = ends
    loop = LOOPS[name]()
    heard = Heard()
    EncryptedTransport(loop, client, heard)
    asked: list[str] = []

    def recv(sock: ssl.SSLSocket, size: int = 0, flags: int = 0) -> bytes:
        asked.append("recv")
        if len(asked) == 1:
            raise ssl.SSLWantWriteError
        raise ssl.SSLWantReadError

    monkeypatch.setattr(ssl.SSLSocket, "recv", recv)
    other.send(b"something")
    settle(loop, lambda: len(asked) > 1)
    heard.transport.abort()
    settle(loop)
    loop.close()


def test_a_failed_send_keeps_nothing_alive(
    ends: tuple[ssl.SSLSocket, socket.socket],
) -> None:
    client, other = ends
    loop = LOOPS["asyncio"]()
    heard = Heard()
    transport = EncryptedTransport(loop, client, heard)
    gone = weakref.ref(heard)
    other.close()
    gc.disable()
    try:
        for _ in range(5):
            transport.write(b"x" * 100_000)
            loop.run_until_complete(asyncio.sleep(0.01))
        assert len(heard.ends) == 1
        assert isinstance(heard.ends[0], ConnectionResetError | BrokenPipeError)
        loop.close()
        heard.ends.clear()
        del heard.transport
        del heard, transport
        assert gone() is None
    finally:
        gc.enable()


def test_windows_watches_512_sockets_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert limits.raise_file_limit(400) == ""
    assert "pip install winloop" in limits.raise_file_limit(600)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert limits.raise_file_limit(600) == ""
