"""Kept-alive connections that end, wanted and unwanted answers, and servers we did not write."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from support.load_servers import (
    CHUNKED,
    HELLO,
    LoopFactory,
    Peer,
    Server,
    always,
    answer,
    check_sound,
    drive,
    endless_body,
    kinds,
    phase,
    serving,
)

from pytest_espperf.device import resolve_target
from pytest_espperf.load import run_phase
from pytest_espperf.model.samples import Outcome
from pytest_espperf.model.workload import RequestSpec, Target


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
        samples = run_phase(server.target, HELLO, phase(0.8, 3), deadline_s=60, loop_factory=loop_factory)
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
    assert len(slow) >= samples.stale_retries  # this machine may be slow by itself


def test_one_stale_retry_only() -> None:
    """Every connection after the first dies unanswered: the retry's failure is an error."""

    def handle(peer: Peer) -> None:
        if peer.request() is None or peer.number:
            return
        peer.send(answer())
        peer.request()

    samples = drive(handle, spec=phase(0.3, 1))
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
    handler = always(CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n")
    samples = drive(handler, spec=phase(0.4), requests=tuple(wrong))
    by_path: dict[str, set[str | None]] = {}
    for path, outcome in zip(samples.path, samples.outcome, strict=True):
        by_path.setdefault(samples.paths[path], set()).add(samples.outcomes[outcome].error)
        assert samples.outcomes[outcome].status == 200
    assert by_path == {
        "/size": {"body_size"},
        "/sha": {"body_sha256"},
        "/contains": {"body_contains"},
        "/right": {None},
    }


def test_an_endless_body_where_a_size_was_wanted_is_a_body_error() -> None:
    wanted = (RequestSpec("/big", size_bytes=5),)
    samples = drive(endless_body, requests=wanted, spec=phase(0.3, 1))
    assert samples.outcomes == [Outcome(None, "body_size")]


def test_ipv6(loop_factory: LoopFactory) -> None:
    try:
        server = Server(always(answer()), "::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    try:
        samples = run_phase(server.target, HELLO, phase(0.3), deadline_s=20, loop_factory=loop_factory)
    finally:
        server.close()
    assert samples.outcomes == [Outcome(200, None)]


def test_every_address_of_a_name_is_tried(loop_factory: LoopFactory) -> None:
    """``localhost`` is often ::1 first, where this server does not listen."""
    with serving(always(answer())) as server:
        target = resolve_target("localhost", server.port)
        samples = run_phase(target, HELLO, phase(0.3), deadline_s=20, loop_factory=loop_factory)
    assert samples.outcomes == [Outcome(200, None)]


def test_requests_on_the_wire() -> None:
    heads: list[bytes] = []

    def handle(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            heads.append(head)
            peer.send(answer())

    with serving(handle) as server:
        target = Target(
            "http", "127.0.0.1", server.port, "board.local", headers=(("X-Key", "1"), ("accept", "a/b"))
        )
        run_phase(target, HELLO, phase(0.3, 1), headers=(("x-key", "2"),), deadline_s=20)
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

        def do_GET(self) -> None:
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
