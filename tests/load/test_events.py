"""Listeners of server-sent events on servers that we did not write, and on servers of every bad kind."""

from __future__ import annotations

import asyncio
import gc
import itertools
import ssl
import time
import tracemalloc
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import pytest
import trustme
from support.load_servers import (
    HANG_S,
    LOOPS,
    NOWHERE,
    PATIENT_S,
    Handler,
    LoopFactory,
    Peer,
    answer,
    kinds,
    once,
    serving,
    target,
)
from support.stream_servers import aiohttp_server

from pytest_espperf.errors import UsageError
from pytest_espperf.load import run_phase
from pytest_espperf.model.metrics import summarise
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import PhaseSpec, StreamSpec, Target

SHORT_S = 0.3
"""Of silence, where time-outs are the subject."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
CHUNKED = HEAD[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"


def phase(duration_s: float = 0.5, clients: int = 2) -> PhaseSpec:
    return PhaseSpec("feed", clients, duration_s, kind="events", stream=StreamSpec("/events?rate=20"))


def check_heard(samples: PhaseSamples) -> None:
    """What must hold of any such phase whatever the server did."""
    for column in (samples.start_s, samples.ttfb_s, samples.path, samples.outcome):
        assert len(column) == len(samples)
    assert min(samples.start_s, default=0) >= 0
    assert min(samples.service_s, default=0) >= 0
    assert not samples.cut_short
    assert samples.elapsed_s >= samples.duration_s


def drive(where: Target, spec: PhaseSpec, timeout_s: float = PATIENT_S, **more: Any) -> PhaseSamples:
    begun = time.monotonic()
    samples = run_phase(where, (), spec, request_timeout_s=timeout_s, deadline_s=HANG_S, **more)
    assert time.monotonic() - begun < HANG_S
    check_heard(samples)
    return samples


def drive_bad(
    handler: Handler, spec: PhaseSpec | None = None, timeout_s: float = PATIENT_S, **more: Any
) -> PhaseSamples:
    with serving(handler) as server:
        return drive(server.target, spec or phase(), timeout_s, **more)


def event(number: int) -> bytes:
    return b"id: %d\ndata: {}\n\n" % number


def streams(work: Callable[[Peer, bytes], None], head: bytes = HEAD) -> Handler:
    """A handler that begins a stream; ``work`` gets the request."""

    def handle(peer: Peer) -> None:
        request = peer.request()
        if request is not None:
            peer.send(head)
            work(peer, request)

    return handle


def steady(peer: Peer, _request: bytes = b"", pause_s: float = 0.02, first: int = 1) -> None:
    number = first
    while not peer.stopping.wait(pause_s):
        peer.send(event(number))
        number += 1


# --- servers that we did not write


async def _aiohttp_events(request: Any) -> Any:
    from aiohttp import web

    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)  # in chunks
    number = int(request.headers.get("Last-Event-ID", "0"))
    rate = float(request.query.get("rate", "20"))
    while True:
        await asyncio.sleep(1 / rate)
        number += 1
        await response.write(event(number))


@pytest.fixture(scope="module")
def board() -> Iterator[Target]:
    with aiohttp_server(events=_aiohttp_events) as port:
        yield target(port)


@pytest.mark.parametrize("loop_factory", LOOPS.values(), ids=LOOPS)
def test_events_and_the_gaps_between_them(board: Target, loop_factory: LoopFactory) -> None:
    samples = drive(board, phase(duration_s=1.0, clients=3), loop_factory=loop_factory)
    report = summarise(samples)
    assert report.error_kinds == {}
    assert report.status_counts == {"200": report.ok}
    assert (report.kind, report.connects, report.never_answered) == ("events", 3, 0)
    assert 3 * 3 <= report.ok <= 3 * 20
    assert median(samples.service_s) >= 0.04  # the server sleeps for 0.05 s, and may be late
    assert report.figures["first_event_ms"] > 0
    assert "events_missed" not in report.figures
    assert report.rps_ok == pytest.approx(report.ok / samples.elapsed_s)
    assert report.stalled_s == 0


def test_events_of_a_warm_up_are_not_counted(board: Target) -> None:
    samples = drive(board, phase(duration_s=0.5, clients=1), warmup_s=0.5)
    assert set(kinds(samples)) == {None}
    assert len(samples) <= 10
    assert len(samples.connect_s) == 0


def test_tls() -> None:
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    with ca.cert_pem.tempfile() as ca_file, serving(streams(steady), context=context) as server:
        samples = drive(Target("https", "127.0.0.1", server.port, "x", ca_file=ca_file), phase())
    assert set(kinds(samples)) == {None}


def test_headers() -> None:
    requests: list[bytes] = []

    def note(peer: Peer, request: bytes) -> None:
        requests.append(request)
        steady(peer)

    with serving(streams(note)) as server:
        where = Target("http", "127.0.0.1", server.port, "board.local", headers=(("X-Board", "7"),))
        drive(where, phase(clients=1), headers=(("Authorization", "Bearer abc"),))
    lines = requests[0].split(b"\r\n")
    assert lines[0] == b"GET /events?rate=20 HTTP/1.1"
    for line in (
        b"Host: board.local",
        b"X-Board: 7",
        b"Authorization: Bearer abc",
        b"Accept: text/event-stream",
    ):
        assert line in lines
    assert not any(line.startswith(b"Last-Event-ID") for line in lines)


@pytest.mark.parametrize("head", [HEAD, CHUNKED], ids=["until close", "chunked"])
@pytest.mark.parametrize("loop_factory", LOOPS.values(), ids=LOOPS)
def test_where_the_stream_is_cut_does_not_matter(head: bytes, loop_factory: LoopFactory) -> None:
    """Also inside of CR LF, of a character and of a chunk's size; a cut makes no event and loses none."""

    def drip(peer: Peer, _request: bytes) -> None:
        number = 0
        while not peer.stopping.is_set():
            number += 1
            data = f"id: {number}\r\ndata: \u00e4\u20ac\r\n: x\r\n\r\n".encode()
            if head == CHUNKED:
                data = b"".join(b"1\r\n%c\r\n" % byte for byte in data)
            peer.drip(data, 0)

    samples = drive_bad(streams(drip, head), phase(2.0, clients=1), loop_factory=loop_factory)
    assert set(kinds(samples)) == {None}
    assert "events_missed" not in samples.figures


def test_events_that_come_together_have_no_gap() -> None:
    def pairs(peer: Peer, _request: bytes) -> None:
        number = 1
        while not peer.stopping.wait(0.05):
            peer.send(event(number) + event(number + 1))
            number += 2

    samples = drive_bad(streams(pairs), phase(clients=1))
    gaps = sorted(samples.service_s)
    assert gaps[0] == 0
    assert gaps[-1] >= 0.04


# --- ids


def test_ids_that_jump_are_missed_events() -> None:
    def jump(peer: Peer, _request: bytes) -> None:
        for number in (1, 2, 5, 6, 7, 100, 101):
            peer.send(event(number))
        peer.until_gone()

    samples = drive_bad(streams(jump), phase(clients=1))
    assert kinds(samples) == {None: 6, "event_missed": 2}
    assert samples.figures["events_missed"] == 2 + 92
    assert samples.reasons["event_missed", 0] == "id 5 followed id 2"


@pytest.mark.parametrize(
    "ids", [(3, 2, 1), (7, 7, 7), (b"a", b"b"), (1, b"x", 2), (b"9" * 40, 1), (b"\xd9\xa3", 9)]
)
def test_other_ids_are_no_missed_events(ids: tuple[Any, ...]) -> None:
    def send(peer: Peer, _request: bytes) -> None:
        for one in ids:
            peer.send(b"id: %s\ndata: x\n\n" % (one if isinstance(one, bytes) else b"%d" % one))
        peer.until_gone()

    samples = drive_bad(streams(send), phase(clients=1, duration_s=0.3))
    assert kinds(samples) == {None: len(ids) - 1}


# --- ends and new connections


def test_a_listener_that_is_dropped_connects_again_from_where_it_was() -> None:
    asked: list[bytes] = []

    def three(peer: Peer, request: bytes) -> None:
        last = next(
            (line[15:] for line in request.split(b"\r\n") if line.startswith(b"Last-Event-ID: ")), b""
        )
        asked.append(last)
        for number in range(int(last or 0) + 1, int(last or 0) + 4):
            peer.send(event(number))
            peer.stopping.wait(0.01)

    samples = drive_bad(streams(three), phase(clients=1))
    found = kinds(samples)
    assert set(found) == {None, "event_dropped"}
    assert found["event_dropped"] >= 2
    assert asked[:3] == [b"", b"3", b"6"]
    assert samples.reasons["event_dropped", 0] == "the board ended the stream"
    assert len(samples.connect_s) == len(asked)


@pytest.mark.parametrize(
    ("end", "kind"),
    [(lambda peer: None, "event_dropped"), (lambda peer: peer.reset(), "ReadError")],
    ids=["in order", "reset"],
)
@pytest.mark.parametrize("head", [HEAD, CHUNKED], ids=["until close", "chunked"])
def test_each_way_to_drop_a_listener(end: Callable[[Peer], None], kind: str, head: bytes) -> None:
    def work(peer: Peer, _request: bytes) -> None:
        data = event(1) + event(2)
        peer.send(b"%x\r\n%s\r\n" % (len(data), data) if head == CHUNKED else data)
        peer.stopping.wait(0.05)
        end(peer)

    found = kinds(drive_bad(streams(work, head), phase(clients=1)))
    assert set(found) == {None, kind}


def test_the_end_of_a_chunked_stream_drops_the_listener() -> None:
    def work(peer: Peer, _request: bytes) -> None:
        peer.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(event(1)) * 2, event(1) * 2))
        peer.until_gone()

    assert set(kinds(drive_bad(streams(work, CHUNKED)))) == {None, "event_dropped"}


@pytest.mark.parametrize("retry", [b"0", b"1", b"999999999", b"999999999999999999999", b"-5", b"soon"])
def test_the_time_to_wait_is_bounded_at_both_ends(retry: bytes) -> None:
    def drop(peer: Peer, _request: bytes) -> None:
        peer.send(b"retry: " + retry + b"\n" + event(1))

    samples = drive_bad(streams(drop), phase(clients=1, duration_s=0.5))
    assert set(kinds(samples)) == {"event_dropped"}
    # In half a second, with 10 ms between two connections at least; and one where it may wait long.
    assert len(samples.connect_s) <= 51
    if retry == b"999999999":
        assert len(samples.connect_s) == 1


def test_a_board_that_wants_a_pause_gets_it() -> None:
    times: list[float] = []

    def drop(peer: Peer, _request: bytes) -> None:
        times.append(time.monotonic())
        peer.send(b"retry: 200\n" + event(1))

    drive_bad(streams(drop), phase(clients=1, duration_s=0.7))
    assert len(times) >= 2
    assert min(b - a for a, b in itertools.pairwise(times)) >= 0.19


# --- what is no event stream


STATUSES = {
    b"204 No Content": "http_204",
    b"404 Not Found": "http_404",
    b"503 Busy": "http_503",
    b"302 X": "http_302",
}


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_another_status_counts_by_its_kind(status: bytes, kind: str) -> None:
    body = b"" if kind == "http_204" else b"no"
    samples = drive_bad(once(answer(body, status, b"Content-Type: text/event-stream")))
    assert set(kinds(samples)) == {kind}
    assert samples.never_answered == 2
    assert len(samples) < 60


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        HEAD[:-2] + b"Content-Encoding: gzip\r\n\r\n",
    ],
    ids=["other type", "no type", "packed"],
)
def test_a_wrong_content_type_is_told(head: bytes) -> None:
    samples = drive_bad(streams(steady, head))
    assert set(kinds(samples)) == {"body_type"}
    assert "text/event-stream" in samples.reasons["body_type", 0]


BAD_STREAMS: dict[str, Handler] = {
    "no HTTP": once(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "nothing": once(b""),
    "half a head": once(b"HTTP/1.1 200 O"),
    "malformed chunk": streams(lambda peer, _: peer.send(b"zz\r\n"), CHUNKED),
    "endless head": streams(lambda peer, _: endless(peer, b"X: " + b"y" * 5000 + b"\r\n"), HEAD[:-2]),
    "endless line": streams(lambda peer, _: endless(peer, b"x" * 20_000)),
    "endless event": streams(lambda peer, _: endless(peer, b"data: " + b"x" * 20_000 + b"\n")),
    "endless line in chunks": streams(lambda peer, _: endless(peer, b"1\r\nx\r\n" * 1000), CHUNKED),
}


def endless(peer: Peer, data: bytes) -> None:
    while not peer.stopping.is_set():
        peer.send(data)


@pytest.mark.parametrize("handler", BAD_STREAMS.values(), ids=BAD_STREAMS)
def test_a_bad_stream_is_a_protocol_error_and_bounded(handler: Handler) -> None:
    tracemalloc.start()
    try:
        samples = drive_bad(handler)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.collect()
    # Of the line in chunks a slow computer reads too little in the phase.
    assert set(kinds(samples)) <= {"RemoteProtocolError", "ReadError", "ReadTimeout"}
    assert samples.reasons
    assert peak < 64e6


@pytest.mark.parametrize(
    "flood", [event(1) * 1000, b": x\n" * 10_000, b"\n" * 10_000], ids=["events", "comments", "lines"]
)
def test_a_flood_does_not_starve_the_phase(flood: bytes) -> None:
    beats: list[float] = []
    samples = drive_bad(
        streams(lambda peer, _: endless(peer, flood)),
        phase(clients=1),
        heartbeat_s=0.05,
        on_heartbeat=lambda progress: beats.append(progress.elapsed_s),
    )
    assert beats
    assert samples.elapsed_s < 10 * samples.duration_s


# --- silence


def test_a_stream_that_says_nothing_times_out() -> None:
    samples = drive_bad(streams(lambda peer, _: peer.until_gone()), phase(duration_s=1.0), timeout_s=SHORT_S)
    assert set(kinds(samples)) == {"ReadTimeout"}
    assert samples.reasons["ReadTimeout", 0] == "no event in time"
    assert samples.never_answered == 2


def test_a_board_that_does_not_answer_times_out() -> None:
    def silent(peer: Peer) -> None:
        peer.request()
        peer.until_gone()

    samples = drive_bad(silent, phase(duration_s=1.0), timeout_s=SHORT_S)
    assert set(kinds(samples)) == {"ReadTimeout"}
    assert samples.reasons["ReadTimeout", 0] == "no answer in time"


def test_a_listener_without_an_event_in_the_whole_phase_is_an_error() -> None:
    samples = drive_bad(streams(lambda peer, _: peer.until_gone()), phase(duration_s=0.3))
    assert kinds(samples) == {"ReadTimeout": 2}
    assert samples.never_answered == 2


def test_comments_are_signs_of_life_and_no_events() -> None:
    def alive(peer: Peer, _request: bytes) -> None:
        peer.send(event(1) + event(2))
        while not peer.stopping.wait(0.02):
            peer.send(b": still here\n\n")

    samples = drive_bad(streams(alive), phase(clients=1, duration_s=1.5), timeout_s=1.0)
    assert kinds(samples) == {None: 1}


def test_a_line_that_drips_is_no_sign_of_life() -> None:
    samples = drive_bad(
        streams(lambda peer, _: peer.drip(b"x" * 1000, 0.02)),
        phase(clients=1, duration_s=1.0),
        timeout_s=SHORT_S,
    )
    assert set(kinds(samples)) == {"ReadTimeout"}


def test_silence_that_began_in_the_warm_up_is_an_error_of_the_phase() -> None:
    samples = drive_bad(
        streams(lambda peer, _: peer.until_gone()),
        phase(clients=1, duration_s=0.4),
        timeout_s=0.5,
        warmup_s=0.3,
    )
    assert kinds(samples)["ReadTimeout"] >= 1


def test_nobody_listens() -> None:
    samples = run_phase(NOWHERE, (), phase(), request_timeout_s=SHORT_S, deadline_s=HANG_S)
    assert set(kinds(samples)) == {"ConnectError"}
    assert len(samples) < 100


def test_the_deadline_ends_the_phase() -> None:
    with serving(streams(steady)) as server:
        samples = run_phase(server.target, (), phase(duration_s=30.0), request_timeout_s=60.0, deadline_s=0.5)
    assert samples.cut_short


def test_a_transport_of_the_projects_own_cannot_carry_it() -> None:
    with pytest.raises(UsageError, match="'feed' is of kind 'events'"):
        run_phase(NOWHERE, (), phase(), transport=lambda: pytest.fail("not used"))
