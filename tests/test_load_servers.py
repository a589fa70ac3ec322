"""Bad, odd and old servers: each ends in its counted kind, none hangs a phase, none raises."""

from __future__ import annotations

import asyncio
import gzip
import http.server
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from load_servers import HELLO, Handler, Peer, Server, always, answer, once, phase, serving

from pytest_espperf.load import run_phase
from pytest_espperf.load.guard import fastest_loop
from pytest_espperf.samples import Outcome, PhaseSamples
from pytest_espperf.workload import PhaseSpec, RequestSpec, Target

TIMEOUT_S = 0.3

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=["asyncio", "fastest"])
def loop_factory(request: pytest.FixtureRequest) -> LoopFactory:
    return asyncio.new_event_loop if request.param == "asyncio" else fastest_loop()


def kinds(samples: PhaseSamples) -> Counter[str | None]:
    return Counter(samples.outcomes[index].error for index in samples.outcome)


def check_sound(samples: PhaseSamples) -> None:
    """What must hold of any phase whatever the server did."""
    count = len(samples)
    assert count > 0
    for column in (samples.start_s, samples.ttfb_s, samples.path, samples.outcome):
        assert len(column) == count
    assert min(samples.start_s) >= 0
    assert min(samples.service_s) >= 0
    # Taken in time; the start is the write, which may have had to wait for its connection.
    assert max(samples.start_s) <= samples.duration_s + TIMEOUT_S
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
) -> PhaseSamples:
    with serving(handler) as server:
        begun = time.monotonic()
        samples = run_phase(
            server.target,
            requests,
            spec or phase(),
            request_timeout_s=TIMEOUT_S,
            deadline_s=20,
            loop_factory=loop_factory,
        )
        assert time.monotonic() - begun < 20
    check_sound(samples)
    return samples


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


def endless_body(peer: Peer) -> None:
    if peer.request() is not None:
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            peer.send(b"x" * 1_000_000)


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
    samples = drive(handler, loop_factory)
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
    samples = drive(silent, loop_factory)
    assert all(TIMEOUT_S - 0.001 <= service for service in samples.service_s)
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
        samples = run_phase(target, HELLO, phase(0.1), request_timeout_s=3, deadline_s=20, loop_factory=loop_factory)
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
            Target("http", "127.0.0.1", port, "x"), HELLO, phase(0.1), request_timeout_s=TIMEOUT_S, deadline_s=20
        )
        for filler in fillers:
            filler.close()
    check_sound(samples)
    # macOS and Windows may refuse where Linux stays silent.
    assert set(kinds(samples)) <= {"ConnectTimeout", "ConnectError"}


def close_after(count: int, *, say_so: bool) -> Callable[[Peer], None]:
    def handle(peer: Peer) -> None:
        for number in range(1, count + 1):
            if peer.request() is None:
                return
            last = say_so and number == count
            peer.send(answer(b"ok", b"200 OK", *([b"Connection: close"] if last else [])))

    return handle


@pytest.mark.parametrize("say_so", [True, False])
def test_close_after_16_requests_is_no_error(loop_factory: LoopFactory, say_so: bool) -> None:
    with serving(close_after(16, say_so=say_so)) as server:
        samples = run_phase(
            server.target, HELLO, phase(0.4, 3), request_timeout_s=5, deadline_s=20, loop_factory=loop_factory
        )
    check_sound(samples)
    assert samples.outcomes == [Outcome(200, None)]
    assert len(samples) > 32
    # No lost sample: each connection but the last of each client has served its 16.
    connects = len(samples.connect_s)
    assert 16 * (connects - 3) <= len(samples) <= 16 * connects
    assert server.accepted == connects
    if say_so:
        assert samples.stale_retries == 0
    else:
        assert samples.stale_retries == connects - 3


def test_stale_retry_with_a_reset_and_latency_from_the_first_attempt() -> None:
    """A kept-alive connection that dies when the second request has been read."""

    def handle(peer: Peer) -> None:
        peer.request()
        peer.send(answer())
        if peer.request() is not None:
            time.sleep(0.05)
            peer.reset()

    samples = drive(handle, spec=phase(0.3, 1))
    assert samples.outcomes == [Outcome(200, None)]
    assert samples.stale_retries >= 1
    slow = [service for service in samples.service_s if service >= 0.05]
    assert len(slow) == samples.stale_retries


def test_one_stale_retry_only() -> None:
    """Every connection after the first dies unanswered: the retry's failure is an error."""

    def handle(peer: Peer) -> None:
        if peer.request() is None or peer.number:
            return
        peer.send(answer())
        peer.request()

    samples = drive(handle, spec=phase(0.1, 1))
    assert samples.stale_retries == 1
    assert kinds(samples)[None] == 1
    assert kinds(samples)["RemoteProtocolError"] == len(samples) - 1


@pytest.mark.parametrize("pause_s", [0.0, 0.02])
def test_garbage_behind_a_response_is_an_error_of_its_own(pause_s: float) -> None:
    def handle(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(answer() + (b"" if pause_s else b"HTTP/1.1 200 OK\r\nX"))
            if pause_s:
                time.sleep(pause_s)
                peer.send(b"garbage")

    samples = drive(handle, spec=phase(0.2, 1))
    assert set(kinds(samples)) == {None, "RemoteProtocolError"}
    assert abs(kinds(samples)[None] - kinds(samples)["RemoteProtocolError"]) <= 1


def test_unwanted_answers_follow_the_spec() -> None:
    strict = (RequestSpec("/hello", statuses=frozenset({404})),)
    assert drive(always(answer()), requests=strict).outcomes == [Outcome(200, "http_200")]
    assert drive(always(answer(b"", b"404 Not Found")), requests=strict).outcomes == [Outcome(404, None)]


def test_bodies_are_checked() -> None:
    wrong = [
        RequestSpec("/size", size_bytes=3),
        RequestSpec("/sha", sha256="0" * 64),
        RequestSpec("/contains", contains=b"ko"),
        RequestSpec("/right", size_bytes=2, contains=b"ok"),
    ]
    samples = drive(always(CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n"), requests=tuple(wrong))
    by_path: dict[str, set[str | None]] = {}
    for path, outcome in zip(samples.path, samples.outcome, strict=True):
        by_path.setdefault(samples.paths[path], set()).add(samples.outcomes[outcome].error)
        assert samples.outcomes[outcome].status == 200
    assert by_path == {"/size": {"body_size"}, "/sha": {"body_sha256"}, "/contains": {"body_contains"}, "/right": {None}}


def test_an_endless_body_where_a_size_was_wanted_is_a_body_error() -> None:
    samples = drive(endless_body, requests=(RequestSpec("/big", size_bytes=5),), spec=phase(0.05, 1))
    assert samples.outcomes == [Outcome(None, "body_size")]


def test_ipv6(loop_factory: LoopFactory) -> None:
    try:
        server = Server(always(answer()), "::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    try:
        samples = run_phase(server.target, HELLO, phase(0.1), deadline_s=20, loop_factory=loop_factory)
    finally:
        server.close()
    assert samples.outcomes == [Outcome(200, None)]


def test_names_are_looked_up_and_every_address_tried(loop_factory: LoopFactory) -> None:
    """``localhost`` is often ::1 first, where this server does not listen."""
    with serving(always(answer())) as server:
        target = Target("http", "localhost", server.port, "localhost")
        samples = run_phase(target, HELLO, phase(0.1), deadline_s=20, loop_factory=loop_factory)
    assert samples.outcomes == [Outcome(200, None)]


def test_requests_on_the_wire() -> None:
    heads: list[bytes] = []

    def handle(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            heads.append(head)
            peer.send(answer())

    with serving(handle) as server:
        target = Target("http", "127.0.0.1", server.port, "board.local", headers=(("X-Key", "1"), ("accept", "a/b")))
        run_phase(target, HELLO, phase(0.05, 1), headers=(("x-key", "2"),), deadline_s=20)
    lines = heads[0].split(b"\r\n")
    assert lines[0] == b"GET /hello HTTP/1.1"
    assert b"Host: board.local" in lines
    assert b"Accept-Encoding: identity" in lines
    assert b"x-key: 2" in lines
    assert b"accept: a/b" in lines
    assert [line.partition(b":")[0].lower() for line in lines].count(b"x-key") == 1
    assert [line.partition(b":")[0].lower() for line in lines].count(b"accept") == 1


@pytest.fixture(params=["HTTP/1.0", "HTTP/1.1"])
def stock_server(request: pytest.FixtureRequest) -> Iterator[int]:
    """A server we did not write: Python's own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = request.param

        def do_GET(self) -> None:  # noqa: N802 - the base class says so
            self.send_response(200 if self.path == "/hello" else 404)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class says so
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_server_we_did_not_write(stock_server: int, loop_factory: LoopFactory) -> None:
    target = Target("http", "127.0.0.1", stock_server, "127.0.0.1")
    requests = (RequestSpec("/hello", size_bytes=2), RequestSpec("/nope"))
    samples = run_phase(target, requests, phase(0.3, 4), deadline_s=20, loop_factory=loop_factory)
    check_sound(samples)
    assert set(samples.outcomes) == {Outcome(200, None), Outcome(404, "http_404")}
    assert samples.stale_retries == 0
