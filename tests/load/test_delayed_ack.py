"""Answers in several writes: what the engine measures, and how long clients that delay an ACK wait."""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest
import trustme
from msgspec.structs import replace
from support.gate_sessions import session
from support.load_servers import (
    LOOPS,
    Handler,
    LoopFactory,
    Peer,
    always,
    answer,
    check_sound,
    kinds,
    once,
    phase,
    serving,
)

from pytest_espperf.gate import fails, judge, measure_again
from pytest_espperf.gate.delayed_ack import waits_ms
from pytest_espperf.gate.policy import GatePolicy
from pytest_espperf.load import find_delayed_acks, run_phase
from pytest_espperf.load.acks import prompt_acks
from pytest_espperf.load.delayed_ack import MOST_BYTES, DelayedAcks, Promptness, read_delayed_acks
from pytest_espperf.model.artifact import DELAYED_ACK, CellAggregate, PathAggregate, SessionArtifact
from pytest_espperf.model.workload import Profile, RequestSpec, Target

needs_prompt_acks = pytest.mark.skipif(not prompt_acks(), reason="this kernel has no TCP_QUICKACK")
TIMER_MS = 30.0
"""Below the shortest delay of an acknowledgement, 40 ms, and far above what several writes take."""


@pytest.fixture(scope="module")
def tls_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def in_pieces(*pieces: bytes, pause_s: float = 0.0, nodelay: bool = False) -> Handler:
    """A handler that sends an answer by a write for each piece, with Nagle's algorithm on."""

    def handle(peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(nodelay))
        while peer.request() is not None:
            for number, piece in enumerate(pieces):
                if number and pause_s and peer.stopping.wait(pause_s):
                    return
                peer.send(piece)

    return handle


def halves(body: bytes = b"x" * 400) -> tuple[bytes, bytes]:
    """Head and body."""
    whole = answer(body)
    head, middle, _ = whole.partition(b"\r\n\r\n")
    return head + middle, body


def in_broken_records(context: ssl.SSLContext, *answers: bytes) -> Handler:
    """A handler that sends each TLS record by two writes, as a stack does that a record does not fit into."""

    def handle(peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)

        def blocking(step: Callable[[], Any]) -> Any:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    if outgoing.pending:
                        peer.send(outgoing.read())
                    if not (data := peer.sock.recv(65536)):
                        raise ConnectionResetError from None
                    incoming.write(data)

        blocking(tls.do_handshake)
        while blocking(lambda: tls.read(65536)):
            for piece in answers:
                tls.write(piece)
                record = outgoing.read()
                peer.send(record[:100])
                peer.send(record[100:])

    return handle


def p50_ms(target: Target, loop_factory: LoopFactory) -> float:
    samples = run_phase(
        target,
        [RequestSpec("/")],
        phase(0.8, 2),
        deadline_s=60,
        loop_factory=loop_factory,
    )
    check_sound(samples)
    assert set(kinds(samples)) == {None}
    assert len(samples) > 2
    return 1e3 * median(samples.service_s)


def more_ms(target: Target, whole: Target, loop_factory: LoopFactory) -> float:
    """How much longer the answers of the one take than those of the other, which sends them by one write.

    So the time that a busy machine takes over both is not counted.
    """
    return p50_ms(target, loop_factory) - p50_ms(whole, loop_factory)


@needs_prompt_acks
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("pieces", [halves(), (b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n\r\n", b"ok")])
def test_an_answer_in_several_writes_is_not_measured_with_this_computers_timer(
    loop: str, pieces: tuple[bytes, ...]
) -> None:
    with serving(in_pieces(*pieces)) as server, serving(in_pieces(b"".join(pieces))) as whole:
        assert more_ms(server.target, whole.target, LOOPS[loop]) < TIMER_MS


@needs_prompt_acks
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("broken", [False, True])
def test_nor_is_one_inside_tls(loop: str, broken: bool, tls_context: ssl.SSLContext) -> None:
    if broken:
        serve = serving(in_broken_records(tls_context, answer(b"x" * 400)))
    else:
        serve = serving(in_pieces(*halves()), context=tls_context)
    with serve as server, serving(in_pieces(b"".join(halves())), context=tls_context) as whole:
        assert more_ms(replaced(server.target), replaced(whole.target), LOOPS[loop]) < TIMER_MS


def replaced(target: Target) -> Target:
    """The target over TLS, its certificate not checked."""
    return Target("https", target.address, target.port, target.host_header, insecure=True)


def at_last(find: Callable[[], DelayedAcks]) -> DelayedAcks:
    """What is found, tried a few times: a busy machine may hide 40 ms, and makes none up."""
    return next((found for found in (find() for _ in range(9)) if found.waits_ms), DelayedAcks())


KINDS: list[Promptness] = [*(["quickack"] if prompt_acks() else []), "nudge"]  # type: ignore[list-item] # literals


@needs_prompt_acks  # that is: on Linux, whose acknowledgements the servers' pieces wait 40 ms for
@pytest.mark.parametrize("prompt", KINDS)
def test_a_path_waits_where_its_pause_is_the_clients(prompt: Promptness) -> None:
    with serving(in_pieces(*halves())) as server:
        wire = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        found = at_last(lambda: read_delayed_acks(server.target, [("/", wire)], budget_s=20, prompt=prompt))
    assert found.asked == ("/",)
    assert found.waits_ms["/"] > 20  # 40 ms, and what a busy machine adds to either client
    assert not found.measured


@needs_prompt_acks
def test_a_path_waits_inside_tls_as_well(tls_context: ssl.SSLContext) -> None:
    with serving(in_broken_records(tls_context, answer(b"x" * 400))) as server:
        found = at_last(lambda: find_delayed_acks(replaced(server.target), [PROFILE], budget_s=20))
    assert set(found.waits_ms) == {"/"}


PROFILE = Profile("page", (RequestSpec("/"),), ())


@pytest.mark.parametrize(
    "handler",
    [
        always(answer(b"x" * 400)),
        in_pieces(*halves(), nodelay=True),
        in_pieces(*halves(), pause_s=0.03, nodelay=True),  # the handler's own time
        once(answer(b"x" * 400)),  # a new connection for each: those are acknowledged at once
    ],
)
def test_a_path_does_not_wait_where_the_client_is_not_the_cause(handler: Handler) -> None:
    with serving(handler) as server:
        found = find_delayed_acks(server.target, [PROFILE], budget_s=20)
    assert found.asked == ("/",)
    assert not found.waits_ms


def test_each_path_is_asked_for_once_and_in_small_answers_alone() -> None:
    def handle(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            peer.send(answer(b"x" * (MOST_BYTES + 1 if b"GET /large" in head else 10)))

    profiles = [
        Profile("one", (RequestSpec("/a"), RequestSpec("/large"), RequestSpec("/b")), ()),
        Profile("two", (RequestSpec("/b"), RequestSpec("/c")), ()),
    ]
    with serving(handle) as server:
        found = find_delayed_acks(server.target, profiles, budget_s=20)
    assert found.asked == ("/a", "/b", "/c")


@pytest.mark.parametrize(
    "handler",
    [
        Peer.until_gone,
        Peer.reset,
        once(b"nonsense\r\n\r\n"),
        lambda peer: peer.drip(answer(b"x" * 999), 0.05),
    ],
    ids=["silent", "resets", "nonsense", "drips"],
)
def test_a_board_that_does_not_answer_is_not_known(handler: Handler) -> None:
    with serving(handler) as server:
        found = find_delayed_acks(server.target, [PROFILE], budget_s=0.3)
    assert found.asked == ()
    assert not found.waits_ms


def test_a_board_that_closes_between_answers_is_asked_again() -> None:
    def handle(peer: Peer) -> None:
        for _ in range(3):
            if peer.request() is None:
                return
            peer.send(answer(b"x" * 400))

    with serving(handle) as server:
        assert find_delayed_acks(server.target, [PROFILE], budget_s=20).asked == ("/",)


# --- the gate ---------------------------------------------------------------------------------------


def told(name: str, seed: int, waits: dict[str, float] | None, *, measured: bool = False) -> SessionArtifact:
    """A session that knows of /a and /b; None: of none."""
    made = session(random.Random(seed), name, profiles=("python_light", "python_heavy"), verdict=None)
    found = {"asked": ["/a", "/b"], "waits_ms": waits, "measured": measured} if waits is not None else {}
    cells = {
        f"{profile}:long": CellAggregate(profile=profile, phase="long", path_metrics={path: PathAggregate()})
        for profile, path in (("python_light", "/a"), ("python_heavy", "/b"))
    }
    return replace(made, device={DELAYED_ACK: found} if found else {}, aggregated=cells)


def rows(*sessions: SessionArtifact) -> dict[str, str]:
    *history, now = sessions
    return {row.name: row.verdict for row in judge(now, history).gates if row.metric == "delayed_ack"}


def test_a_firmware_that_begins_to_wait_is_regressed() -> None:
    history = [told("one", 1, {}), told("two", 2, {})]
    now = told("now", 3, {"/a": 41.0})
    verdict = judge(now, history)
    assert rows(*history, now) == {"python_light:delayed_ack": "regressed"}
    assert verdict.kind == "regressed"
    assert fails(verdict, GatePolicy())
    row = next(row for row in verdict.gates if row.metric == "delayed_ack")
    assert "/a" in row.detail
    assert "41 ms" in row.detail
    assert "python_light" not in measure_again(verdict)  # more rounds would not change it


def test_one_that_waits_no_longer_is_improved_and_one_that_goes_on_is_neither() -> None:
    waiting = {"/a": 41.0, "/b": 40.0}
    assert rows(told("one", 1, waiting), told("now", 2, {"/b": 40.0})) == {
        "python_light:delayed_ack": "improved"
    }
    assert rows(told("one", 1, waiting), told("now", 2, waiting)) == {}


def test_what_is_not_known_is_not_compared() -> None:
    assert rows(told("one", 1, None), told("now", 2, {"/a": 41.0})) == {}
    assert rows(told("one", 1, {}), told("now", 2, None)) == {}
    # The newest session that knows counts.
    assert rows(told("one", 1, {"/a": 41.0}), told("two", 2, None), told("now", 3, {"/a": 41.0})) == {}


def test_answers_that_wait_are_said_and_warned_of_where_it_is_news() -> None:
    def said(*sessions: SessionArtifact) -> list[tuple[str, str]]:
        *history, now = sessions
        found = judge(now, history).findings
        return [(one.severity, one.message) for one in found if one.kind == "delayed-ack"]

    ((severity, message),) = said(told("now", 1, {"/a": 41.0}))
    assert severity == "warn"
    assert "/a" in message
    assert "TCP_NODELAY" in message
    assert "do not contain it" in message
    assert [severity for severity, _ in said(told("one", 1, {"/a": 41.0}), told("now", 2, {"/a": 41.0}))] == [
        "info"
    ]
    assert said(told("one", 1, {}), told("now", 2, {})) == []
    ((severity, message),) = said(
        told("one", 1, {"/a": 200.0}), told("now", 2, {"/a": 200.0, "/b": 199.0}, measured=True)
    )
    assert severity == "warn"
    assert "contain that wait" in message


def test_an_artifact_of_before_knows_nothing() -> None:
    assert waits_ms(SessionArtifact()) == {}
    assert waits_ms(SessionArtifact(device={DELAYED_ACK: None})) == {}
