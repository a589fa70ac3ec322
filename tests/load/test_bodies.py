"""Requests with methods and bodies: what is sent, byte by byte, and servers that take bodies badly."""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import replace

import httpx
import pytest
import trustme
from support.load_servers import (
    NOWHERE,
    PATIENT_S,
    TIMEOUT_S,
    Handler,
    LoopFactory,
    Peer,
    answer,
    check_sound,
    drive,
    kinds,
    phase,
    serving,
    wait_until,
)

from pytest_espperf.load import ask_each, run_phase
from pytest_espperf.load.outcomes import OutcomeTable
from pytest_espperf.load.requests import RequestMaker, framed_body, prepare_requests
from pytest_espperf.model.metrics import summarise
from pytest_espperf.model.samples import Outcome, PhaseSamples
from pytest_espperf.model.workload import RequestSpec

LARGE = bytes(range(256)) * 12_000
"""3 MB: more than the buffers of both sides take."""
BIG = RequestSpec("/upload", method="PUT", body=LARGE)
SMALL = RequestSpec("/item", method="POST", body=b'{"id":1}', headers=(("Content-Type", "application/json"),))
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def body_of(peer: Peer, head: bytes) -> bytes:
    """Read the body of a request by its head; chunks are taken apart by their lengths."""
    fields = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    if fields.get(b"transfer-encoding") == b"chunked":
        body = b""
        while size := int(peer.line(), 16):
            body += peer.take(size)
            assert peer.take(2) == b"\r\n"
        assert peer.take(2) == b"\r\n"
        return body
    return peer.take(int(fields.get(b"content-length", b"0")))


def collecting(found: list[tuple[bytes, bytes]], response: bytes = answer()) -> Handler:
    def handle(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            if b"\r\nExpect: 100-continue" in head:
                peer.send(CONTINUE)
            found.append((head, body_of(peer, head)))
            peer.send(response)

    return handle


KINDS = {
    "small": SMALL,
    "empty": replace(SMALL, body=b""),
    "large": BIG,
    "chunked": replace(BIG, chunked=True),
    "small chunked": replace(SMALL, chunked=True),
    "expecting": replace(SMALL, expect_continue=True),
    "large expecting": replace(BIG, expect_continue=True),
    "chunked expecting": replace(BIG, chunked=True, expect_continue=True),
    "delete": RequestSpec("/item", method="DELETE"),
    "post without a body": RequestSpec("/reset", method="POST"),
    "own method": RequestSpec("/dav", method="PROPFIND", body=b"<x/>"),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_server_gets_what_was_asked(name: str, loop_factory: LoopFactory) -> None:
    spec = KINDS[name]
    found: list[tuple[bytes, bytes]] = []
    samples = drive(collecting(found), loop_factory, requests=(spec, RequestSpec("/hello")))
    assert kinds(samples) == {None: len(samples)}
    assert samples.paths == (spec.label, "/hello")
    sent = [(head, body) for head, body in found if not head.startswith(b"GET")]
    assert sent
    for head, body in sent:
        lines = head.split(b"\r\n")
        assert lines[0] == f"{spec.method} {spec.path} HTTP/1.1".encode()
        assert body == (spec.body or b"")
        assert (b"Expect: 100-continue" in lines) is spec.expect_continue
        assert (b"Transfer-Encoding: chunked" in lines) is spec.chunked
        length = None if spec.chunked else f"Content-Length: {len(spec.body or b'')}".encode()
        assert [line for line in lines if line.lower().startswith(b"content-length")] == (
            [length] if length and (spec.body is not None or spec.method == "POST") else []
        )
    assert {head.split(b"\r\n")[0] for head, _ in found if head.startswith(b"GET")} == {
        b"GET /hello HTTP/1.1"
    }


@pytest.mark.parametrize("name", KINDS)
def test_a_users_transport_sends_the_same(name: str) -> None:
    spec = KINDS[name]
    found: list[tuple[bytes, bytes]] = []
    with serving(collecting(found)) as server:
        samples = run_phase(
            server.target,
            (spec,),
            phase(0.2),
            deadline_s=60,
            transport=lambda: httpx.AsyncHTTPTransport(retries=0),
        )
    assert kinds(samples) == {None: len(samples)}
    assert {body for _, body in found} == {spec.body or b""}
    lines = found[0][0].split(b"\r\n")
    assert lines[0] == f"{spec.method} {spec.path} HTTP/1.1".encode()
    assert (b"Transfer-Encoding: chunked" in lines) is spec.chunked
    assert all(any(line == f"{n}: {v}".encode() for line in lines) for n, v in spec.headers)


def test_headers_of_a_request_win_over_the_profiles() -> None:
    found: list[tuple[bytes, bytes]] = []
    spec = replace(SMALL, headers=(("X-A", "own"), ("Content-Type", "a/b")))
    with serving(collecting(found)) as server:
        run_phase(
            server.target,
            (spec, RequestSpec("/")),
            phase(),
            headers=(("x-a", "all"), ("X-B", "all")),
            deadline_s=60,
        )
    own = next(head for head, _ in found if head.startswith(b"POST"))
    other = next(head for head, _ in found if head.startswith(b"GET"))
    assert b"X-A: own" in own
    assert b"x-a: all" not in own
    assert b"X-B: all" in own
    assert b"x-a: all" in other
    assert b"a/b" not in other


def test_short_bodies_leave_with_their_head() -> None:
    (prepared,) = prepare_requests(RequestMaker(NOWHERE, (), own_connection=True), (SMALL,), OutcomeTable([]))
    assert prepared.wire.endswith(b'\r\n\r\n{"id":1}')
    assert prepared.body == b""


def head_only(peer: Peer) -> None:
    while (head := peer.request()) is not None:
        assert head.startswith(b"HEAD ")
        peer.send(answer(b"x" * 100)[:-100])


def test_the_answer_to_a_head_has_no_body(loop_factory: LoopFactory) -> None:
    samples = drive(head_only, loop_factory, requests=(RequestSpec("/file", method="HEAD"),))
    assert samples.outcomes == [Outcome(200, None)]
    assert len(samples.connect_s) == 2, "connections are kept"


# --- servers that take bodies badly ------------------------------------------------------------------------


def half_then_close(peer: Peer) -> None:
    if peer.request() is not None:
        peer.take(len(LARGE) // 2)


def half_then_reset(peer: Peer) -> None:
    if peer.request() is not None:
        peer.take(len(LARGE) // 2)
        peer.reset()


def refuse_and_close(status: bytes, *lines: bytes) -> Handler:
    """Answers before it has read the body, and closes with the rest unread: a reset."""

    def handle(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(answer(b"no", status, b"Connection: close", *lines))
            peer.stopping.wait(0.05)

    return handle


def refuse_and_reset_at_once(peer: Peer) -> None:
    if peer.request() is not None:
        peer.take(100_000)
        peer.send(answer(b"no", b"413 Content Too Large", b"Connection: close"))
        peer.reset()


def refuse_without_length(peer: Peer) -> None:
    if peer.request() is not None:
        peer.send(b"HTTP/1.1 413 Content Too Large\r\n\r\ntoo large")
        peer.stopping.wait(0.05)


def refuse_and_keep(peer: Peer) -> None:
    """Says 413, and that the connection stays; a second request on it would be read as the body's rest."""
    if peer.request() is not None:
        peer.send(answer(b"no", b"413 Content Too Large"))
        peer.until_gone()


def never_reads(peer: Peer) -> None:
    if peer.request() is not None:
        peer.stopping.wait(PATIENT_S)


def reads_and_is_silent(peer: Peer) -> None:
    if peer.request() is not None:
        peer.until_gone()


def cut_off_answer(peer: Peer) -> None:
    if peer.request() is not None:
        peer.send(answer(b"x" * 100, b"413 Content Too Large")[:-50])
        peer.stopping.wait(0.05)


BAD: dict[str, tuple[Handler, set[str]]] = {
    "half a body, then close": (half_then_close, {"ReadError", "RemoteProtocolError"}),
    "half a body, then reset": (half_then_reset, {"ReadError"}),
    "413 and close": (refuse_and_close(b"413 Content Too Large"), {"http_413"}),
    "411 and close": (refuse_and_close(b"411 Length Required"), {"http_411"}),
    "401 and close": (refuse_and_close(b"401 Unauthorized"), {"http_401"}),
    "413 without a length": (refuse_without_length, {"http_413"}),
    "413 and keep-alive": (refuse_and_keep, {"http_413"}),
    "never reads": (never_reads, {"WriteTimeout", "ReadTimeout"}),
    "reads and is silent": (reads_and_is_silent, {"ReadTimeout"}),
    "half a refusal": (cut_off_answer, {"ReadError", "RemoteProtocolError"}),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_bad_server_is_counted(name: str, chunked: bool, loop_factory: LoopFactory) -> None:
    handler, expected = BAD[name]
    slow = expected & {"WriteTimeout", "ReadTimeout"}
    spec = replace(BIG, chunked=chunked)
    samples = drive(handler, loop_factory, requests=(spec,), timeout_s=TIMEOUT_S if slow else PATIENT_S)
    assert set(kinds(samples)) <= expected, samples.reasons
    assert all(reason or kind.startswith("http_") for (kind, _), reason in samples.reasons.items())


def test_an_upload_that_is_not_taken_says_so(loop_factory: LoopFactory) -> None:
    """More than the buffers of a kernel take."""
    spec = replace(BIG, body=LARGE * 16)
    samples = drive(never_reads, loop_factory, requests=(spec,), timeout_s=TIMEOUT_S)
    assert kinds(samples) == {"WriteTimeout": len(samples)}
    (reason,) = samples.reasons.values()
    assert "bytes of it are left" in reason


def test_a_refusal_is_read_behind_a_reset(loop_factory: LoopFactory) -> None:
    """The kernel may drop it with the reset: then it is a read error, and nothing else."""
    samples = drive(refuse_and_reset_at_once, loop_factory, requests=(BIG,))
    assert set(kinds(samples)) <= {"http_413", "ReadError"}


def answers_before_reading(peer: Peer) -> None:
    while (head := peer.request()) is not None:
        peer.send(answer())
        body_of(peer, head)


def accept_and_close(peer: Peer) -> None:
    """Says 200 behind some 10 KB of the body, and closes."""
    if peer.request() is not None:
        peer.take(10_000)
        peer.send(answer(b"ok", b"200 OK", b"Connection: close"))
        peer.stopping.wait(0.05)


HUGE = replace(BIG, body=LARGE * 7)
"""21 MB."""


@pytest.mark.parametrize("handler", [answers_before_reading, accept_and_close])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_success_before_the_body_was_taken_is_an_error(
    handler: Handler, chunked: bool, loop_factory: LoopFactory
) -> None:
    """A reset behind the answer may take it away before it is read: then it is a transport error."""
    spec = replace(HUGE, chunked=chunked)
    samples = drive(handler, loop_factory, phase(0.2, 1), requests=(spec,))
    found = kinds(samples)
    assert found["body_not_taken"] > 0
    assert set(found) <= {"body_not_taken", None, "ReadError", "RemoteProtocolError"}
    assert Outcome(200, "body_not_taken") in samples.outcomes
    reason = samples.reasons["body_not_taken", 0]
    left, whole = (int(one.replace(",", "")) for one in re.findall(r"[\d,]*\d", reason))
    assert 0 < left < whole
    assert whole == len(framed_body(spec))
    assert reason.startswith("it answered before it had taken the body: ")
    if handler is accept_and_close:  # the other one may have read all of it before its answer is
        assert None not in found
        assert "upload_mb_s" not in summarise(samples).figures


@pytest.mark.parametrize("status", [b"302 Found", b"304 Not Modified", b"413 Content Too Large"])
def test_another_answer_before_the_body_was_taken_stays_what_it_is(
    status: bytes, loop_factory: LoopFactory
) -> None:
    def early(peer: Peer) -> None:
        if (head := peer.request()) is not None:
            peer.send(answer(b"", status))
            body_of(peer, head)

    code = int(status[:3])
    samples = drive(early, loop_factory, requests=(replace(HUGE, statuses=frozenset({code})),))
    assert samples.outcomes == [Outcome(code, None)]
    assert not summarise(samples).figures


def test_a_wrong_success_stays_what_it_is() -> None:
    """The status, or the body, of the answer comes first."""
    wanted = replace(HUGE, statuses=frozenset({201}))
    assert set(kinds(drive(answers_before_reading, requests=(wanted,)))) == {"http_200"}
    wrong = replace(HUGE, contains=b"done")
    assert set(kinds(drive(answers_before_reading, requests=(wrong,)))) == {"body_contains"}


def test_a_success_in_place_of_100_has_not_taken_the_body(loop_factory: LoopFactory) -> None:
    def accept(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(answer())
            peer.until_gone()

    spec = replace(SMALL, expect_continue=True)
    samples = drive(accept, loop_factory, requests=(spec,))
    assert kinds(samples) == {"body_not_taken": len(samples)}
    assert samples.reasons["body_not_taken", 0].endswith("8 of 8 bytes were left")


def test_a_path_that_does_not_take_its_body_is_told_before_the_load() -> None:
    with serving(answers_before_reading) as server:
        asked = ask_each(server.target, (HUGE,), timeout_s=PATIENT_S, budget_s=PATIENT_S)
    assert asked[0] is not None
    assert (asked[0].status, asked[0].error) == (200, "body_not_taken")


@pytest.mark.parametrize("status", [b"417 Expectation Failed", b"413 Content Too Large", b"401 Unauthorized"])
def test_a_final_status_in_place_of_100_spares_the_body(status: bytes, loop_factory: LoopFactory) -> None:
    bodies: list[bytes] = []

    def refuse(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(answer(b"no", status))
            bodies.append(peer.sock.recv(65536))

    samples = drive(refuse, loop_factory, requests=(replace(SMALL, expect_continue=True),))
    assert kinds(samples) == {f"http_{int(status[:3])}": len(samples)}
    assert set(bodies) == {b""}
    assert len(samples.connect_s) >= len(samples) - 2, "the connection is not used again"


def never_continues(peer: Peer) -> None:
    while (head := peer.request()) is not None:
        body_of(peer, head)
        peer.send(answer())


def test_a_body_is_held_back_for_a_second_at_most(loop_factory: LoopFactory) -> None:
    samples = drive(never_continues, loop_factory, requests=(replace(SMALL, expect_continue=True),))
    assert samples.outcomes == [Outcome(200, None)]
    assert min(samples.service_s) >= 0.9
    assert len(samples) <= 4


def late_continue(peer: Peer) -> None:
    while (head := peer.request()) is not None:
        peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        peer.stopping.wait(0.05)
        peer.send(CONTINUE)
        body_of(peer, head)
        peer.stopping.wait(0.05)
        peer.send(answer())


def test_the_first_byte_is_that_of_the_answer(loop_factory: LoopFactory) -> None:
    samples = drive(late_continue, loop_factory, requests=(replace(SMALL, expect_continue=True),))
    assert samples.outcomes == [Outcome(200, None)]
    assert min(samples.ttfb_s) >= 0.09


@pytest.mark.parametrize("spec", [SMALL, BIG, replace(SMALL, chunked=True)], ids=lambda spec: spec.label)
def test_a_connection_that_closes_unannounced_is_no_error_of_a_post(
    spec: RequestSpec, loop_factory: LoopFactory
) -> None:
    def sixteen(peer: Peer) -> None:
        for _ in range(16):
            head = peer.request()
            if head is None:
                return
            body_of(peer, head)
            peer.send(answer())

    samples = drive(sixteen, loop_factory, phase(0.6), requests=(spec,))
    assert samples.outcomes == [Outcome(200, None)]
    assert samples.stale_retries > 0 or len(samples) < 32


def test_a_board_that_dies_of_a_post_is_not_hidden() -> None:
    def dies(peer: Peer) -> None:
        head = peer.request()
        if head is not None:
            body_of(peer, head)

    samples = drive(dies, requests=(SMALL,))
    assert kinds(samples) == {"RemoteProtocolError": len(samples)}


# --- over TLS


@pytest.fixture(scope="module")
def tls_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def drive_tls(
    handler: Handler, context: ssl.SSLContext, factory: LoopFactory, spec: RequestSpec
) -> PhaseSamples:
    with serving(handler, context=context) as server:
        there = replace(server.target, insecure=True)
        samples = run_phase(there, (spec,), phase(), deadline_s=60, loop_factory=factory)
    check_sound(samples)
    return samples


@pytest.mark.parametrize("name", ["small", "large", "chunked", "large expecting"])
def test_bodies_over_tls(name: str, tls_context: ssl.SSLContext, loop_factory: LoopFactory) -> None:
    found: list[tuple[bytes, bytes]] = []
    samples = drive_tls(collecting(found), tls_context, loop_factory, KINDS[name])
    assert kinds(samples) == {None: len(samples)}, samples.reasons
    assert {body for _, body in found} == {KINDS[name].body}


def test_a_success_before_the_body_was_taken_over_tls(
    tls_context: ssl.SSLContext, loop_factory: LoopFactory
) -> None:
    def accept(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(answer())
            peer.stopping.wait(0.2)

    samples = drive_tls(accept, tls_context, loop_factory, HUGE)
    assert set(kinds(samples)) <= {"body_not_taken", "ReadError", "RemoteProtocolError"}, samples.reasons
    assert kinds(samples)["body_not_taken"] > 0
    assert "upload_mb_s" not in summarise(samples).figures


@pytest.mark.parametrize("name", ["413 and close", "413 and keep-alive", "half a body, then close"])
def test_bad_servers_over_tls(name: str, tls_context: ssl.SSLContext, loop_factory: LoopFactory) -> None:
    """A reset may take the answer away before it is read."""
    handler, expected = BAD[name]
    samples = drive_tls(handler, tls_context, loop_factory, BIG)
    assert set(kinds(samples)) <= expected | {"ReadError", "RemoteProtocolError"}, samples.reasons


# --- large bodies ------------------------------------------------------------------------------------------


def test_a_large_upload_holds_nobody_up(loop_factory: LoopFactory) -> None:
    """An upload that is not taken goes on once others have been answered."""
    others: list[int] = []
    went_on: list[bool] = []

    def one_is_slow(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            if peer.number == 0 and not went_on:
                went_on.append(wait_until(lambda: len(others) >= 10, PATIENT_S / 2))
            body_of(peer, head)
            others.append(peer.number)
            peer.send(answer())

    specs = (RequestSpec("/upload", method="PUT", body=LARGE * 4), RequestSpec("/hello", weight=20))
    samples = drive(one_is_slow, loop_factory, phase(1.0, 3), requests=specs)
    assert samples.outcomes == [Outcome(200, None)]
    assert went_on == [True]


def test_rates_of_large_bodies() -> None:
    def both(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            body_of(peer, head)
            peer.send(answer(b"x" * 200_000 if b"/download" in head else b"ok"))

    specs = (BIG, RequestSpec("/download"), SMALL, RequestSpec("/hello"))
    samples = drive(both, requests=specs)
    report = summarise(samples)
    assert set(report.figures) == {"upload_mb_s", "download_mb_s"}
    for label, size, name in (("PUT /upload", len(LARGE), "upload"), ("/download", 200_000, "download")):
        path = samples.paths.index(label)
        took = [s for s, of in zip(samples.service_s, samples.path, strict=True) if of == path]
        assert report.figures[f"{name}_mb_s"] == pytest.approx(len(took) * size / 1e6 / sum(took))
    assert not summarise(drive(both, requests=(SMALL, RequestSpec("/hello")))).figures


def test_a_refused_upload_has_no_rate() -> None:
    refused = replace(BIG, statuses=frozenset({413}))
    samples = drive(refuse_and_keep, requests=(refused,))
    assert samples.outcomes == [Outcome(413, None)]
    assert not summarise(samples).figures


# --- JSON --------------------------------------------------------------------------------------------------


def with_json(body: bytes, wanted: object) -> PhaseSamples:
    def handle(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(answer(body))

    return drive(handle, spec=phase(0.1, 1), requests=(RequestSpec("/", json_contains=json.dumps(wanted)),))


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'{"ok": true, "more": 1}', {"ok": True}),
        (b'{"a": {"b": {"c": 1, "d": 2}}}', {"a": {"b": {"c": 1.0}}}),
        (b"[1, 2]", [1, 2]),
        (b'"x"', "x"),
        (b"{}", {}),
        ('{"n": "é"}'.encode(), {"n": "é"}),
        (b'{"list": [{"a": 1}]}', {"list": [{"a": 1}]}),
    ],
)
def test_json_that_has_it(body: bytes, wanted: object) -> None:
    assert with_json(body, wanted).outcomes == [Outcome(200, None)]


@pytest.mark.parametrize(
    ("body", "wanted", "why"),
    [
        (b'{"ok": false}', {"ok": True}, "ok is false, not true"),
        (b'{"ok": 1}', {"ok": True}, "ok is 1, not true"),
        (b'{"a": {"b": 1}}', {"a": {"c": 1}}, "a.c is not in the JSON"),
        (b'{"a": 5}', {"a": {"c": 1}}, "a is no JSON object"),
        (b"[1, 2, 3]", [1, 2], "the JSON is another value, not [1,2]"),
        (b'{"t": "s3cr3t"}', {"t": "x"}, 't is another value, not "x"'),
        (b'{"a": 1', {"a": 1}, "the body of 7 bytes is no JSON"),
        (b"\xff", {"a": 1}, "is no JSON"),
        (b"[" * 100_000, {"a": 1}, "is no JSON"),
        (b"", {"a": 1}, "the body of 0 bytes is no JSON"),
        (b'{"a": 1}' + b" " * 1_100_000, {"a": 1}, "is not looked into as JSON"),
    ],
    ids=range(11),
)
def test_json_that_has_it_not(body: bytes, wanted: object, why: str) -> None:
    samples = with_json(body, wanted)
    assert kinds(samples) == {"body_json": len(samples)}
    (reason,) = samples.reasons.values()
    assert why in reason
    assert "s3cr3t" not in reason
