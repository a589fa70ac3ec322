"""Bytes are stamped when the kernel had them, not when the interpreter got round to reading."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter_ns

import pytest
from support.load_servers import (
    HANG_S,
    HELLO,
    LOOPS,
    LoopFactory,
    Peer,
    always,
    answer,
    delayed,
    drive,
    kinds,
    phase,
    serving,
    wait_until,
)
from support.paths import ROOT, SUPPORT, TESTS

from pytest_espperf.device import resolve_target
from pytest_espperf.device.http import get
from pytest_espperf.load import run_phase, stamped
from pytest_espperf.load.stamped import StampedTransport
from pytest_espperf.load.transport import Dial, Transport
from pytest_espperf.model.samples import Outcome
from pytest_espperf.system.dialing import begin_connect, numeric_address

pytestmark = pytest.mark.skipif(not stamped.kernel_stamps(), reason="this kernel stamps nothing")

HOUR_NS = 3600 * 1_000_000_000


class Heard:
    """A receiver that takes note."""

    def __init__(self) -> None:
        self.pieces: list[tuple[bytes, int]] = []
        self.ends: list[Exception | None] = []
        self.finished = False
        self.is_connected = False

    def connection_made(self, transport: Transport) -> None:
        self.transport = transport
        self.is_connected = True

    def received(self, data: bytes, arrived_ns: int) -> bool:
        self.pieces.append((data, arrived_ns))
        return True

    def eof_received(self) -> None:
        self.finished = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.ends.append(exc)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = LOOPS["fastest"]()
    yield loop
    loop.close()


def connect_to(port: int) -> Callable[[], socket.socket]:
    return lambda: begin_connect(numeric_address("127.0.0.1", port), StampedTransport.OPTIONS)


def fail(error: BaseException) -> None:
    raise AssertionError from error


@pytest.fixture
def ends(loop: asyncio.AbstractEventLoop) -> Iterator[tuple[Heard, socket.socket]]:
    """A stamped connection, and the server's end of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard = Heard()
        Dial(loop, connect_to(listener.getsockname()[1]), None, lambda: heard, StampedTransport, fail)
        settle(loop, lambda: heard.is_connected)
        theirs, _ = listener.accept()
        with theirs:
            yield heard, theirs
        heard.transport.abort()
        settle(loop)


def settle(loop: asyncio.AbstractEventLoop, until: Callable[[], object] = lambda: True) -> None:
    """Let the loop run for a moment, or for as long as what is waited for takes to come."""
    assert wait_until(lambda: loop.run_until_complete(asyncio.sleep(0.01, True)) and until())


def test_what_waited_for_the_reader_is_stamped_when_it_came(
    loop: asyncio.AbstractEventLoop, ends: tuple[Heard, socket.socket]
) -> None:
    heard, theirs = ends
    theirs.sendall(b"early")
    sent_ns = perf_counter_ns()
    time.sleep(0.3)
    settle(loop, lambda: heard.pieces)
    [(data, arrived_ns)] = heard.pieces
    assert data == b"early"
    assert arrived_ns < sent_ns + 150_000_000 < perf_counter_ns() - 100_000_000


@pytest.mark.parametrize("shift_ns", [-HOUR_NS, HOUR_NS])
def test_a_clock_that_is_set_moves_no_latency(shift_ns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamped, "time_ns", lambda: time.time_ns() + shift_ns)
    with serving(delayed(0.005)) as server:
        samples = run_phase(server.target, HELLO, phase(0.2, 2), deadline_s=20)
    assert len(samples) > 2
    assert 0.004 < min(samples.service_s) <= max(samples.service_s) < 20
    assert min(samples.ttfb_s) > 0.004


def test_a_busy_generator_does_not_show_in_latencies(loop_factory: LoopFactory) -> None:
    """Kept from reading for 0.2 s at a time, a process that stamps for itself measures 0.2 s.

    An answer takes longer than the 20 ms in between, so that each is met by such a time.
    """
    with serving(delayed(0.05)) as server:
        samples = run_phase(
            server.target,
            HELLO,
            phase(2.0, 1),
            heartbeat_s=0.001,
            on_heartbeat=lambda progress: time.sleep(0.2 if progress.completed else 0),  # not of connecting
            deadline_s=20,
            loop_factory=loop_factory,
        )
    assert samples.generator is not None
    assert samples.generator.lag_p99_ms is not None
    assert samples.generator.lag_p99_ms > 100
    slow = sum(service > 0.18 for service in samples.service_s) / len(samples)
    assert (slow < 0.5) if "kernel" in samples.generator.engine else (slow > 0.5)


def test_the_servers_end_and_ours(loop: asyncio.AbstractEventLoop, ends: tuple[Heard, socket.socket]) -> None:
    heard, theirs = ends
    theirs.sendall(b"bye")
    theirs.shutdown(socket.SHUT_WR)
    settle(loop, lambda: heard.ends)
    assert [data for data, _ in heard.pieces] == [b"bye"]
    assert heard.finished
    assert heard.ends == [None]
    heard.transport.abort()
    settle(loop)
    assert heard.ends == [None], "told once"
    assert theirs.recv(10) == b"", "closed on our side too"


def test_a_failing_write_is_told_as_a_loss(
    loop: asyncio.AbstractEventLoop, ends: tuple[Heard, socket.socket]
) -> None:
    heard, theirs = ends
    theirs.close()
    for _ in range(100):
        heard.transport.write(b"x")
        if heard.ends:
            break
        time.sleep(0.01)
        heard.transport.write(b"x")
        settle(loop)
    assert len(heard.ends) == 1


@pytest.mark.parametrize("size", [5, 300_000])
def test_a_reset_behind_data_is_heard_at_once(size: int, loop_factory: LoopFactory) -> None:
    """uvloop calls a reader once for an error, and the data before it is read first."""

    def half_and_reset(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(answer(b"x" * 2 * size)[:-size])
            peer.reset()

    samples = drive(half_and_reset, loop_factory)
    assert set(kinds(samples)) <= {"ReadError", "RemoteProtocolError"}


def test_link_local_zones_reach_their_board(loop_factory: LoopFactory) -> None:
    table = Path("/proc/net/if_inet6")
    zones = [line.split() for line in table.read_text().splitlines()] if table.exists() else []
    zones = [fields for fields in zones if fields[0].startswith("fe80")]
    if not zones:
        pytest.skip("this machine has no link-local address")
    digits, name = zones[0][0], zones[0][5]
    address = ":".join(digits[i : i + 4] for i in range(0, 32, 4)) + f"%{name}"
    with serving(always(answer()), host=address) as server:
        samples = run_phase(server.target, HELLO, phase(), deadline_s=20, loop_factory=loop_factory)
        assert get(resolve_target(address, server.port), "/", timeout_s=5).status == 200
    assert samples.outcomes == [Outcome(200, None)]


def test_an_answer_whose_first_part_was_lost_takes_as_long_as_it_took() -> None:
    """The last segment came in time and was stamped; the hole before it was filled 0.3 s later."""
    done = subprocess.run(
        ["unshare", "-n", sys.executable, str(SUPPORT / "lossy_server.py")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (TESTS, ROOT)))},
    )
    if "unshare:" in done.stderr or "PermissionError" in done.stderr:
        pytest.skip("needs a network namespace of its own, and root in it")
    assert done.returncode == 0, done.stderr
    stamped_here, statuses, service_s = json.loads(done.stdout)
    assert (stamped_here, statuses) == (True, [200])
    assert 0.29 < service_s[0] < HANG_S


def test_a_request_larger_than_any_socket_buffer_is_sent_whole(
    loop: asyncio.AbstractEventLoop, ends: tuple[Heard, socket.socket]
) -> None:
    heard, theirs = ends
    request = bytes(range(256)) * 65536
    theirs.setblocking(False)

    async def receive() -> bytes:
        data = b""
        while len(data) < len(request) and (piece := await loop.sock_recv(theirs, 1 << 20)):
            data += piece
        return data

    async def send() -> bytes:
        heard.transport.write(request[:-1])
        heard.transport.write(request[-1:])
        return await asyncio.wait_for(receive(), 20)

    assert loop.run_until_complete(send()) == request


def test_it_leaves_no_socket_behind_when_it_is_refused_or_given_up(loop: asyncio.AbstractEventLoop) -> None:
    refusals: list[BaseException] = []
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        Dial(loop, connect_to(reserved.getsockname()[1]), None, Heard, StampedTransport, refusals.append)
        settle(loop, lambda: refusals)
    assert isinstance(refusals[0], ConnectionRefusedError)
    made: list[Heard] = []

    def make() -> Heard:
        made.append(Heard())
        return made[-1]

    with serving(always(answer())) as server:
        dial = Dial(loop, connect_to(server.port), None, make, StampedTransport, fail)
        dial.cancel()
        settle(loop)
    assert made == []


def test_what_is_left_of_a_large_body_is_not_copied(
    loop: asyncio.AbstractEventLoop, ends: tuple[Heard, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the rest for each packet is a second for 10 MB, in which no other client is served."""
    heard, theirs = ends
    transport = heard.transport
    sent: list[object] = []
    really = Transport.send

    def spy(of: Transport, data: bytes | memoryview) -> int:
        sent.append(data)
        return really(of, data)

    monkeypatch.setattr(Transport, "send", spy)
    body = random.Random(1).randbytes(20_000_000)
    transport.write(b"head")
    transport.write(body)
    transport.write(b"tail")
    assert transport.unsent_bytes > 0
    got = bytearray()
    theirs.setblocking(False)

    def taken() -> bool:
        with contextlib.suppress(BlockingIOError):
            while data := theirs.recv(1 << 20):
                got.extend(data)
        return len(got) == len(body) + 8

    settle(loop, taken)
    assert bytes(got) == b"head" + body + b"tail"
    assert transport.unsent_bytes == 0
    views = [one for one in sent if isinstance(one, memoryview)]
    assert len(views) > 1
    assert all(view.obj is body or len(view) == 4 for view in views)


def test_an_answer_is_read_behind_a_failed_write(
    loop: asyncio.AbstractEventLoop, ends: tuple[Heard, socket.socket]
) -> None:
    """A server that refuses a body answers, and closes with the rest unread: the write meets a reset."""
    heard, theirs = ends
    heard.transport.write(b"x" * 20_000_000)
    theirs.sendall(b"no")
    theirs.close()  # with something unread
    settle(loop, lambda: heard.ends)
    assert b"".join(data for data, _ in heard.pieces) == b"no"
    assert isinstance(heard.ends[0], OSError)
    assert len(heard.ends) == 1


def test_a_write_behind_the_servers_end_is_told_as_a_loss(
    loop: asyncio.AbstractEventLoop, ends: tuple[Heard, socket.socket]
) -> None:
    """The end may have been read already, and not been reported yet."""
    heard, server = ends
    transport = heard.transport
    server.close()
    time.sleep(0.05)
    transport._read()
    transport.write(b"late")
    transport.write(b"r")
    assert transport.unsent_bytes == 5
    loop.run_until_complete(asyncio.sleep(0.01))
    assert heard.finished
    assert heard.ends == [None]
