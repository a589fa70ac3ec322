"""Clients of streams that log in first: those whose login fails, and those with a stream of their own."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from support.load_servers import HANG_S, PATIENT_S, TIMEOUT_S, Handler, Peer, answer, kinds, serving
from support.stream_servers import WebSocketPeer

from pytest_espperf.load import ask_login, run_phase
from pytest_espperf.model.artifact import ErrorReason
from pytest_espperf.model.metrics import summarise
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import LoginSpec, PhaseKind, PhaseSpec, RequestSpec, StreamSpec

LOGIN = LoginSpec(RequestSpec("/login", method="POST", body=b"{}"), {"token": "json:token"})
PATH = "/stream?t={token}"
KINDS: tuple[PhaseKind, ...] = ("websocket", "events")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


class Board:
    """Streams for clients that are logged in; notes the paths that it is asked for."""

    def __init__(self, login: Callable[[int], bytes] | None = None) -> None:
        self.paths: list[str] = []
        self.logins = 0
        self._login = login or self.good

    @staticmethod
    def good(number: int) -> bytes:
        return answer(b'{"token": "a/%d"}' % number)

    def __call__(self, peer: Peer) -> None:
        head = peer.request()
        if head is None:
            return
        self.paths.append(head.decode().split()[1])
        if head.startswith(b"POST"):
            peer.take(2)
            self.logins += 1
            peer.send(self._login(self.logins))
            peer.until_gone()
        elif b"Upgrade: websocket" in head:
            peer._rest = head + b"\r\n\r\n"
            upgraded = WebSocketPeer(peer)
            while (message := upgraded.message()) is not None:
                upgraded.send(message)
        else:
            peer.send(HEAD)
            number = 0
            while not peer.stopping.wait(0.02):
                number += 1
                peer.send(b"id: %d\ndata: {}\n\n" % number)

    @property
    def streams(self) -> list[str]:
        return [path for path in self.paths if path != "/login"]


def drive(
    board: Handler,
    kind: PhaseKind,
    *,
    duration_s: float = 0.4,
    clients: int = 2,
    rate: float | None = None,
    timeout_s: float = PATIENT_S,
) -> PhaseSamples:
    stream = StreamSpec(PATH, size=32) if kind == "websocket" else StreamSpec(PATH)
    spec = PhaseSpec("talk", clients, duration_s, rate, kind=kind, stream=stream)
    with serving(board) as server:
        begun = time.monotonic()
        samples = run_phase(
            server.target, (), spec, request_timeout_s=timeout_s, deadline_s=HANG_S, login=LOGIN
        )
        assert time.monotonic() - begun < HANG_S
    return samples


def hangs(peer: Peer) -> None:
    if (head := peer.request()) is not None:
        assert head.startswith(b"POST /login")
        peer.until_gone()


def closes(peer: Peer) -> None:
    if (head := peer.request()) is not None:
        assert head.startswith(b"POST /login")
        peer.take(2)


@pytest.mark.parametrize("kind", KINDS)
def test_each_client_has_a_stream_of_its_own(kind: PhaseKind) -> None:
    board = Board()
    samples = drive(board, kind)
    assert kinds(samples) == {None: len(samples)}
    assert len(samples) > 0
    assert set(board.streams) == {"/stream?t=a%2F1", "/stream?t=a%2F2"}
    assert board.logins == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("login", "why"),
    [
        (answer(b"no", b"500 Oops"), "login: POST /login answers 500"),
        (answer(b"{}"), "login: POST /login answers 200, and there is no json:token in it"),
    ],
)
def test_a_login_that_is_refused_is_the_error_of_each_try(kind: PhaseKind, login: bytes, why: str) -> None:
    board = Board(lambda _: login)
    samples = drive(board, kind)
    assert kinds(samples) == {"login": len(samples)}
    assert samples.reasons["login", 0] == why
    assert 2 <= len(samples) < 200, "it does not spin"
    assert board.logins >= len(samples), "each error is that of a login"
    assert board.streams == []
    assert samples.never_answered == 2
    assert str(summarise(samples).error_reasons[0]).startswith(f"{why} (")


@pytest.mark.parametrize("rate", [20.0, 200.0])
def test_messages_at_a_rate_meet_the_login_too(rate: float) -> None:
    board = Board(lambda _: answer(b"", b"401 No"))
    samples = drive(board, "websocket", rate=rate, timeout_s=1.0)
    assert set(kinds(samples)) == {"login"}
    assert board.streams == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("duration_s", [0.15, 0.8])
def test_a_login_that_hangs_is_told_as_one(kind: PhaseKind, duration_s: float) -> None:
    """Also in a phase that ends before its time-out."""
    samples = drive(hangs, kind, duration_s=duration_s, timeout_s=TIMEOUT_S)
    assert kinds(samples) == {"ReadTimeout": len(samples)}
    assert len(samples) >= 2
    assert samples.reasons == {("ReadTimeout", 0): "login: no complete response in time"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_that_ends_in_the_login_is_told_as_one(kind: PhaseKind) -> None:
    samples = drive(closes, kind)
    assert set(kinds(samples)) <= {"RemoteProtocolError", "ReadError"}
    assert len(samples) >= 2
    assert all(reason.startswith("login: ") for reason in samples.reasons.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [None, 40.0])
def test_a_login_that_comes_right_is_no_error_from_then_on(kind: PhaseKind, rate: float | None) -> None:
    board = Board(lambda number: Board.good(number) if number > 3 else answer(b"", b"503 Busy"))
    samples = drive(board, kind, clients=1, duration_s=1.0, rate=rate if kind == "websocket" else None)
    found = kinds(samples)
    assert found["login"] >= 2, "the first one was before the phase"
    assert found[None] > 0
    assert set(found) == {"login", None}
    assert board.streams == ["/stream?t=a%2F4"]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("websocket", "/stream?t={token}: 200, the upgrade was refused, 101 was wanted"),
        ("events", "/stream?t={token}: 204, the stream was refused, 200 was wanted"),
    ],
)
def test_a_refusal_says_what_was_wanted(kind: PhaseKind, why: str) -> None:
    def handle(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            if head.startswith(b"POST"):
                peer.take(2)
                peer.send(Board.good(1))
            else:
                peer.send(answer(b"", b"200 OK" if kind == "websocket" else b"204 No Content"))

    samples = drive(handle, kind)
    assert set(kinds(samples)) == {f"http_{200 if kind == 'websocket' else 204}"}
    assert str(summarise(samples).error_reasons[0]).startswith(f"{why} (")


def test_a_login_alone_is_tried_without_a_path() -> None:
    board = Board()
    with serving(board) as server:
        found = ask_login(server.target, LOGIN, timeout_s=PATIENT_S, budget_s=HANG_S)
    assert found is not None
    assert (found.error, board.paths) == ("", ["/login"])
    with serving(hangs) as server:
        found = ask_login(server.target, LOGIN, timeout_s=TIMEOUT_S, budget_s=HANG_S)
        assert found is not None
        assert (found.error, found.reason) == ("ReadTimeout", "login: no complete response in time")
        assert ask_login(server.target, LOGIN, timeout_s=PATIENT_S, budget_s=0.3) is None


def test_what_a_reason_says_is_not_said_twice() -> None:
    twice = ErrorReason(kind="login", path="/a", reason="login: POST /login answers 500", count=1, requests=2)
    assert str(twice) == "login: POST /login answers 500 (/a, 1 of 2)"
    other = ErrorReason(kind="ReadTimeout", path="/a", reason="login: late", count=1, requests=2)
    assert str(other) == "ReadTimeout: login: late (/a, 1 of 2)"
