"""Bad and odd servers: each ends in its counted kind, none hangs a phase, none raises."""

from __future__ import annotations

import gzip
import random
import socket
import time

import pytest
from support.load_servers import (
    CHUNKED,
    HELLO,
    PATIENT_S,
    TIMEOUT_S,
    Handler,
    LoopFactory,
    Peer,
    always,
    answer,
    check_sound,
    drive,
    endless_body,
    kinds,
    once,
    phase,
)

from pytest_espperf.load import run_phase
from pytest_espperf.model.samples import Outcome
from pytest_espperf.model.workload import Target


def silent(peer: Peer) -> None:
    peer.request()
    peer.until_gone()


def stalled_body(peer: Peer) -> None:
    if peer.request() is not None:
        peer.send(answer(b"x" * 10)[:-5])
        peer.until_gone()


def dripping_head(peer: Peer) -> None:
    if peer.request() is not None:
        peer.drip(answer(b"x" * 4000), 0.02)


def dripping_body(peer: Peer) -> None:
    if peer.request() is not None:
        peer.send(answer(b"x" * 4000)[:-4000])
        peer.drip(b"x" * 4000, 0.02)


def dripping_chunks(peer: Peer) -> None:
    if peer.request() is not None:
        peer.send(CHUNKED)
        while not peer.stopping.wait(0.02):
            peer.send(b"1\r\nx\r\n")


def reset_before_answer(peer: Peer) -> None:
    peer.request()
    peer.reset()


def reset_in_body(peer: Peer) -> None:
    if peer.request() is not None:
        peer.send(answer(b"x" * 10)[:-5])
        time.sleep(0.02)  # let the first half arrive: an RST discards what was not read
        peer.reset()


def endless_header(peer: Peer) -> None:
    if peer.request() is not None:
        peer.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            peer.send(b"X-Filler: " + b"x" * 8000 + b"\r\n")


def half_closed(peer: Peer) -> None:
    """Ends its own side without a word, and goes on reading."""
    if peer.request() is not None:
        peer.sock.shutdown(socket.SHUT_WR)
        peer.until_gone()


MEGABYTE_HEADER = answer(b"ok", b"200 OK", b"X: " + b"x" * 1_000_000)

BAD: dict[str, tuple[Handler, str]] = {
    "closes without a word": (once(b""), "RemoteProtocolError"),
    "half-closes without a word": (half_closed, "RemoteProtocolError"),
    "closes inside the head": (once(b"HTTP/1.1 200 OK\r\nCont"), "RemoteProtocolError"),
    "truncated content-length": (once(answer(b"x" * 10)[:-5]), "RemoteProtocolError"),
    "truncated chunked": (once(CHUNKED + b"5\r\nab"), "RemoteProtocolError"),
    "no last chunk": (once(CHUNKED + b"2\r\nab\r\n"), "RemoteProtocolError"),
    "malformed status line": (once(b"HTTP/1.1 OK 200\r\n\r\n"), "RemoteProtocolError"),
    "malformed header": (once(b"HTTP/1.1 200 OK\r\nwhat is this\r\n\r\n"), "RemoteProtocolError"),
    "malformed chunk": (once(CHUNKED + b"zz\r\nab\r\n"), "RemoteProtocolError"),
    "conflicting content-lengths": (
        once(answer(b"ok", b"200 OK", b"Content-Length: 3")),
        "RemoteProtocolError",
    ),
    "not http": (once(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), "RemoteProtocolError"),
    "1 MB header": (once(MEGABYTE_HEADER), "RemoteProtocolError"),
    "endless header": (endless_header, "RemoteProtocolError"),
    "endless body": (endless_body, "RemoteProtocolError"),
    "huge content-length": (once(answer(b"")[:-5] + b"99999999999\r\n\r\n"), "RemoteProtocolError"),
    "switches protocols": (
        once(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
        "RemoteProtocolError",
    ),
    "resets before an answer": (reset_before_answer, "ReadError"),
    "resets in the body": (reset_in_body, "ReadError"),
    "never answers": (silent, "ReadTimeout"),
    "stalls in the body": (stalled_body, "ReadTimeout"),
    "drips the head": (dripping_head, "ReadTimeout"),
    "drips the body": (dripping_body, "ReadTimeout"),
    "drips chunks": (dripping_chunks, "ReadTimeout"),
    "busy": (always(answer(b"busy", b"503 Server Busy")), "http_503"),
    "rate limit": (always(answer(b"slow", b"429 Too Many Requests", b"Retry-After: 1")), "http_429"),
    "invalid host": (once(answer(b"Invalid Host", b"400 Bad Request", b"Connection: close")), "http_400"),
    "odd status": (always(answer(b"", b"799 Odd")), "http_799"),
}

ODD: dict[str, tuple[Handler, int]] = {
    "content-length": (always(answer()), 200),
    "closes after every answer": (once(answer(b"ok", b"200 OK", b"Connection: close")), 200),
    "until close": (once(b"HTTP/1.1 200 OK\r\n\r\nok"), 200),
    "http/1.0": (once(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"), 200),
    "http/1.0 until close": (once(b"HTTP/1.0 200 OK\r\n\r\nok"), 200),
    "redirect": (always(answer(b"", b"302 Found", b"Location: http://127.0.0.1:1/")), 302),
    "not modified": (always(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"), 304),
    "no content": (always(b"HTTP/1.1 204 No Content\r\n\r\n"), 204),
    "100 continue": (always(b"HTTP/1.1 100 Continue\r\n\r\n" + answer()), 200),
    "chunked with extensions and trailers": (
        always(CHUNKED + b"2;x=y\r\nok\r\n0;last\r\nServer-Timing: a\r\n\r\n"),
        200,
    ),
    "gzip though identity was asked for": (
        always(answer(gzip.compress(b"x" * 1000), b"200 OK", b"Content-Encoding: gzip")),
        200,
    ),
    "mixed line of cases": (always(b"HTTP/1.1 200 OK\r\ncOnTeNt-LeNgTh:   2  \r\n\r\nok"), 200),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_server(name: str, loop_factory: LoopFactory) -> None:
    handler, kind = BAD[name]
    # What ends by itself has the time that a busy machine takes over it: megabytes, of some.
    samples = drive(handler, loop_factory, timeout_s=TIMEOUT_S if kind == "ReadTimeout" else PATIENT_S)
    assert set(kinds(samples)) == {kind}
    expected = int(kind[5:]) if kind.startswith("http_") else None
    assert samples.outcomes == [Outcome(expected, kind)]


def test_reset_at_once(loop_factory: LoopFactory) -> None:
    """An RST may come so soon that connecting itself is what fails."""
    assert set(kinds(drive(lambda peer: peer.reset(), loop_factory))) <= {"ReadError", "ConnectError"}


@pytest.mark.parametrize("name", ODD)
def test_odd_server(name: str, loop_factory: LoopFactory) -> None:
    handler, status = ODD[name]
    samples = drive(handler, loop_factory)
    assert samples.outcomes == [Outcome(status, None)]
    assert samples.stale_retries == 0


def test_timeouts_last_as_long_as_they_should(loop_factory: LoopFactory) -> None:
    samples = drive(silent, loop_factory, timeout_s=TIMEOUT_S)
    # Connecting is part of it, and of no service time; both clients begin with the phase.
    ends = [start + service for start, service in zip(samples.start_s, samples.service_s, strict=True)]
    assert len(ends) == 2
    assert min(ends) >= TIMEOUT_S
    assert all(first != first for first in samples.ttfb_s)  # noqa: PLR0124 - NaN


def test_refused_connections_back_off(loop_factory: LoopFactory) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = Target("http", "127.0.0.1", unused.getsockname()[1], "x")
        samples = run_phase(
            target, HELLO, phase(0.5), request_timeout_s=TIMEOUT_S, deadline_s=20, loop_factory=loop_factory
        )
    check_sound(samples)
    assert set(kinds(samples)) == {"ConnectError"}
    assert len(samples) <= 2 * 8  # 10 ms, 20, 40, ...: at most 7 pauses fit


def test_unknown_names_are_connect_errors(loop_factory: LoopFactory) -> None:
    for name in ("no-such-board.invalid", "a" * 70 + ".invalid"):
        target = Target("http", name, 80, "x")
        samples = run_phase(
            target, HELLO, phase(0.3), request_timeout_s=3, deadline_s=20, loop_factory=loop_factory
        )
        assert set(kinds(samples)) <= {"ConnectError", "ConnectTimeout"}


def test_connect_timeout() -> None:
    """A listener whose queue is full leaves connects hanging."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(64):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        time.sleep(0.05)
        samples = run_phase(
            Target("http", "127.0.0.1", port, "x"),
            HELLO,
            phase(0.3),
            request_timeout_s=TIMEOUT_S,
            deadline_s=20,
        )
        for filler in fillers:
            filler.close()
    check_sound(samples)
    # macOS and Windows may refuse where Linux stays silent.
    assert set(kinds(samples)) <= {"ConnectTimeout", "ConnectError"}


def test_any_bytes_end_in_counted_outcomes(loop_factory: LoopFactory) -> None:
    """The fuzz of ``test_load_wire``, through sockets: pieces, pauses, resets and ends at random."""
    seed = 20261124
    print("seed", seed)
    fragments = (
        *(
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.0 200 OK\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"\r\n",
            b"\r\n\r\n",
        ),
        *(
            b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: close\r\n",
            b"hello",
            b"0",
        ),
        *(b"5\r\n", b"\r", b"\n", b"\0", b"\xff" * 3, answer(), answer(b"x" * 70_000), CHUNKED),
    )

    def handle(peer: Peer) -> None:
        rng = random.Random(f"{seed}-{peer.number}")
        while peer.request() is not None:
            for piece in rng.choices(fragments, k=rng.randint(0, 5)):
                peer.send(piece)
                if rng.random() < 0.2:
                    peer.stopping.wait(0.01)
            if rng.random() < 0.5:
                if rng.random() < 0.3:
                    peer.reset()
                return

    samples = drive(handle, loop_factory, phase(1.0, 8), timeout_s=TIMEOUT_S)
    assert set(kinds(samples)) <= {
        None, "RemoteProtocolError", "ReadError", "ReadTimeout", "ConnectError", "ConnectTimeout"
    }  # fmt: skip
    assert len(set(kinds(samples))) >= 3
