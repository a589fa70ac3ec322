"""Clients that log in: once each, before they are measured; with their own tokens and cookies."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest
from support.load_servers import (
    HANG_S,
    NOWHERE,
    PATIENT_S,
    TIMEOUT_S,
    Handler,
    LoopFactory,
    Peer,
    answer,
    check_sound,
    kinds,
    phase,
    serving,
    signalled,
)

from pytest_espperf.load import ask_each, run_phase
from pytest_espperf.load.custom import TransportFactory
from pytest_espperf.load.login import ClientSession, Login
from pytest_espperf.load.outcomes import OutcomeTable
from pytest_espperf.load.requests import RequestMaker, prepare_requests
from pytest_espperf.model.samples import Outcome, PhaseSamples
from pytest_espperf.model.workload import Header, LoginSpec, RequestSpec

SECRET = "t0ps3cret"
LOGIN = LoginSpec(
    RequestSpec("/login", method="POST", body=b'{"user":"bench"}'), {"token": "json:auth.token"}
)
BEARER = (("Authorization", "Bearer {token}"),)
STATE = (RequestSpec("/state"),)
TRANSPORTS: dict[str, TransportFactory | None] = {"own": None, "httpx": httpx.AsyncHTTPTransport}


class Board:
    """Gives each login a token and a cookie of its own, and notes who asks with what."""

    def __init__(self, login: Callable[[int], bytes] | None = None) -> None:
        self.logins = 0
        self.heads: list[tuple[int, bytes]] = []
        self._login = login or self.good

    @staticmethod
    def good(number: int) -> bytes:
        body = json.dumps({"auth": {"token": f"{SECRET}{number}"}}).encode()
        return answer(body, b"200 OK", b"Set-Cookie: sid=c%d; Path=/; HttpOnly" % number)

    def __call__(self, peer: Peer) -> None:
        while (head := peer.request()) is not None:
            self.heads.append((peer.number, head))
            if head.startswith(b"POST /login"):
                peer.take(len(LOGIN.request.body or b""))
                self.logins += 1
                peer.send(self._login(self.logins))
            else:
                known = re.search(rb"\r\nAuthorization: Bearer " + SECRET.encode() + rb"\d+", head)
                peer.send(answer() if known else answer(b"", b"401 Unauthorized"))

    def asked(self) -> list[tuple[int, bytes]]:
        return [(number, head) for number, head in self.heads if not head.startswith(b"POST /login")]


def drive_logged_in(
    board: Handler,
    *,
    transport: TransportFactory | None = None,
    login: LoginSpec = LOGIN,
    headers: tuple[Header, ...] = BEARER,
    requests: tuple[RequestSpec, ...] = STATE,
    timeout_s: float = PATIENT_S,
    clients: int = 3,
    duration_s: float = 0.3,
    rate_rps: float | None = None,
) -> PhaseSamples:
    with serving(board) as server:
        begun = time.monotonic()
        samples = run_phase(
            server.target,
            requests,
            phase(duration_s, clients, rate_rps),
            headers=headers,
            request_timeout_s=timeout_s,
            deadline_s=HANG_S,
            transport=transport,
            login=login,
        )
        assert time.monotonic() - begun < HANG_S
    check_sound(samples, timeout_s)
    assert SECRET not in repr(samples)
    return samples


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> TransportFactory | None:
    return TRANSPORTS[request.param]


@pytest.mark.parametrize("rate_rps", [None, 30])
def test_each_client_logs_in_once_and_has_its_own_token(
    transport: TransportFactory | None, rate_rps: float | None
) -> None:
    board = Board()
    samples = drive_logged_in(board, transport=transport, rate_rps=rate_rps)
    assert samples.outcomes == [Outcome(200, None)]
    assert board.logins == 3
    assert len(board.asked()) == len(samples) + samples.stale_retries, "the logins are not measured"
    by_connection: dict[int, set[bytes]] = {}
    for number, head in board.asked():
        by_connection.setdefault(number, set()).add(re.findall(rb"Bearer (\w+)", head)[0])
    assert {len(tokens) for tokens in by_connection.values()} == {1}
    logged = {number for number, head in board.heads if head.startswith(b"POST /login")}
    assert set(by_connection) <= logged, "on the connection that was logged in"


def test_the_login_has_no_header_that_it_brings_the_value_for() -> None:
    board = Board()
    drive_logged_in(board, headers=(*BEARER, ("X-All", "1")))
    first = next(head for _, head in board.heads if head.startswith(b"POST"))
    assert b"Authorization" not in first
    assert b"X-All: 1" in first


def test_a_session_outlives_its_connection(transport: TransportFactory | None) -> None:
    class Closing(Board):
        def __call__(self, peer: Peer) -> None:
            for _ in range(3):
                head = peer.request()
                if head is None:
                    return
                self.heads.append((peer.number, head))
                if head.startswith(b"POST /login"):
                    peer.take(16)
                    self.logins += 1
                    peer.send(self.good(self.logins))
                else:
                    peer.send(answer(b"ok", b"200 OK" if b"Bearer" in head else b"401 No"))

    board = Closing()
    samples = drive_logged_in(board, transport=transport)
    assert samples.outcomes[0] == Outcome(200, None)
    assert "http_401" not in kinds(samples)
    assert board.logins == 3


def test_values_in_paths_and_headers_of_requests(transport: TransportFactory | None) -> None:
    login = replace(LOGIN, take={"t": "json:auth.token", "c": "cookie:sid", "h": "header:X-Id"})

    def good(number: int) -> bytes:
        body = json.dumps({"auth": {"token": number}}).encode()
        return answer(body, b"200 OK", b"Set-Cookie: sid=a/b", b"X-Id: one two")

    def board(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            heads.append(head)
            if head.startswith(b"POST"):
                peer.take(16)
            peer.send(good(7))

    heads: list[bytes] = []
    spec = RequestSpec("/s/{t}?c={c}", headers=(("X-Me", "<{h}> {c}"),))
    samples = drive_logged_in(board, transport=transport, login=login, headers=(), requests=(spec,))
    assert samples.paths == ("/s/{t}?c={c}",), "a label has no value"
    head = next(one for one in heads if one.startswith(b"GET")).split(b"\r\n")
    assert head[0] == b"GET /s/7?c=a%2Fb HTTP/1.1"
    assert b"X-Me: <one two> a/b" in head
    assert b"Cookie: sid=a/b" in head


# --- a login that fails ------------------------------------------------------------------------------------


def silent_login(peer: Peer) -> None:
    if peer.request() is not None:
        peer.until_gone()


def closes(peer: Peer) -> None:
    peer.request()


BAD: dict[str, tuple[Handler, str, str]] = {
    "500": (Board(lambda _: answer(SECRET.encode(), b"500 Oops")), "login", "POST /login answers 500"),
    "401": (Board(lambda _: answer(b"", b"401 No")), "login", "POST /login answers 401"),
    "no key": (
        Board(lambda _: answer(json.dumps({"auth": {"tok": SECRET}}).encode())),
        "login",
        "answers 200, and there is no json:auth.token in it",
    ),
    "null": (Board(lambda _: answer(b'{"auth": {"token": null}}')), "login", "there is no json:auth.token"),
    "an object": (
        Board(lambda _: answer(b'{"auth": {"token": {}}}')),
        "login",
        "there is no json:auth.token",
    ),
    "no JSON": (Board(lambda _: answer(SECRET.encode())), "login", "there is no json:auth.token"),
    "empty": (Board(lambda _: answer(b"")), "login", "there is no json:auth.token"),
    "a line end in it": (
        Board(lambda _: answer(b'{"auth": {"token": "a\\r\\nX: y"}}')),
        "login",
        "its json:auth.token can stand in no header",
    ),
    "endless": (
        Board(lambda _: answer(b'{"auth": {"token": "' + b"x" * 10_000 + b'"}}')),
        "login",
        "can stand in no header",
    ),
    "never answers": (silent_login, "ReadTimeout", "login: no complete response in time"),
    "closes": (closes, "RemoteProtocolError", "login: "),
}


@pytest.mark.parametrize("name", BAD)
def test_a_login_that_fails_is_the_error_of_each_request(
    name: str, transport: TransportFactory | None
) -> None:
    handler, kind, why = BAD[name]
    timeout_s = TIMEOUT_S if "Timeout" in kind else PATIENT_S
    samples = drive_logged_in(handler, transport=transport, timeout_s=timeout_s)
    found = kinds(samples)
    assert set(found) <= {kind, "ReadError", "ReadTimeout"}
    assert found[kind] > 0
    assert why in samples.reasons[kind, 0]
    assert len(samples) < 200, "it does not spin"


def test_nobody_to_log_in_at() -> None:
    samples = run_phase(NOWHERE, STATE, phase(0.2), headers=BEARER, login=LOGIN, deadline_s=HANG_S)
    assert kinds(samples) == {"ConnectError": len(samples)}
    assert next(iter(samples.reasons.values())).startswith("login: ")


def test_a_login_that_comes_right_is_no_error_from_then_on(transport: TransportFactory | None) -> None:
    board = Board(lambda number: Board.good(number) if number > 4 else answer(b"", b"503 Busy"))
    samples = drive_logged_in(board, transport=transport, clients=1, duration_s=0.6)
    assert kinds(samples)["login"] == 3, "the first one was before the phase"
    assert kinds(samples)[None] > 0
    assert max(s for s, o in zip(samples.service_s, samples.outcome, strict=True) if not o) < PATIENT_S


def test_clients_that_the_board_has_no_place_for_hold_nobody_up() -> None:
    board = Board()

    def two_places(peer: Peer) -> None:
        if peer.number < 2:
            board(peer)
        else:
            peer.until_gone()

    begun = time.monotonic()
    samples = drive_logged_in(two_places, clients=3, timeout_s=30.0)
    assert samples.never_answered == 1
    assert kinds(samples)[None] > 0
    assert time.monotonic() - begun < 25, "the third login is given up long before its time-out"


def test_a_token_that_expires_is_counted() -> None:
    class Expiring(Board):
        def __call__(self, peer: Peer) -> None:
            while (head := peer.request()) is not None:
                self.heads.append((peer.number, head))
                if head.startswith(b"POST /login"):
                    peer.take(16)
                    peer.send(self.good(1))
                else:
                    expired = len(self.heads) > 5
                    peer.send(answer(b"", b"401 Unauthorized") if expired else answer())

    found = kinds(drive_logged_in(Expiring(), clients=1))
    assert found[None] == 4
    assert found["http_401"] > 0


def test_the_deadline_ends_a_login_too(transport: TransportFactory | None) -> None:
    with serving(silent_login) as server:
        begun = time.monotonic()
        samples = run_phase(
            server.target, STATE, phase(0.2), login=LOGIN, headers=BEARER, deadline_s=0.5, transport=transport
        )
    assert time.monotonic() - begun < 5
    assert samples.cut_short


def test_each_path_is_asked_once_by_a_client_that_is_logged_in() -> None:
    board = Board()
    specs = (RequestSpec("/a"), RequestSpec("/a", method="POST", body=b""), RequestSpec("/b"))
    with serving(board) as server:
        asked = ask_each(
            server.target, specs, headers=BEARER, timeout_s=PATIENT_S, budget_s=HANG_S, login=LOGIN
        )
    assert [one.status if one else None for one in asked] == [200, 200, 200]
    assert board.logins == 1
    assert [head.split()[:2] for _, head in board.asked()] == [
        [b"GET", b"/a"],
        [b"POST", b"/a"],
        [b"GET", b"/b"],
    ]


# --- cookies -----------------------------------------------------------------------------------------------


def logged_in(*set_cookies: str) -> tuple[ClientSession, Callable[[str], str]]:
    """A session after an answer with cookies; and what it sends to a path as ``Cookie``."""
    maker = RequestMaker(NOWHERE, (), own_connection=True)
    login = Login(
        LoginSpec(RequestSpec("/a/login", method="POST")), maker, replace(NOWHERE, host_header="board.local")
    )
    session = ClientSession(login)
    session.begin()
    headers = [(b"Set-Cookie", text.encode("latin-1")) for text in set_cookies]
    assert not session.end(200, 0, headers)

    def sent(path: str) -> str:
        (prepared,) = prepare_requests(maker, (RequestSpec(path),), OutcomeTable([]))
        session._wires.clear()
        session._requests.clear()
        return str(session.request(prepared).headers.get("cookie", ""))

    return session, sent


@pytest.mark.parametrize(
    ("cookies", "path", "expected"),
    [
        (["a=1"], "/a/x", {"a=1"}),
        (["a=1; Path=/"], "/x", {"a=1"}),
        (["a=1; Path=/a"], "/b", set()),
        (["a=1; Path=/a"], "/a/b", {"a=1"}),
        (["a=1; Path=/", "a=2; Path=/"], "/", {"a=2"}),
        (["a=1; Path=/", "b=2; Path=/; HttpOnly; SameSite=Lax"], "/", {"a=1", "b=2"}),
        (["a=1; Path=/; Max-Age=0"], "/", set()),
        (["a=1; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], "/", set()),
        (["a=1; Path=/; Max-Age=3600"], "/", {"a=1"}),
        (["a=1; Path=/; Secure"], "/", set()),
        (["a=1; Path=/; Domain=elsewhere.example"], "/", set()),
        (["a=\xe9; Path=/", "b=2; Path=/"], "/", {"b=2"}),
        (["", "=", ";;;", "a"], "/", set()),
    ],
)
def test_cookies_are_kept_as_browsers_do(cookies: list[str], path: str, expected: set[str]) -> None:
    _, sent = logged_in(*cookies)
    found = sent(path)
    assert {one for one in found.split("; ") if one and "=" in one and one[0] != "="} == expected


def test_a_later_answer_changes_a_cookie_and_ends_it() -> None:
    session, sent = logged_in("a=1; Path=/")
    (prepared,) = prepare_requests(session.login.maker, (RequestSpec("/"),), OutcomeTable([]))
    assert b"Cookie: a=1\r\n" in session.wire(prepared)
    session.note(prepared, 200, [(b"set-cookie", b"a=2; Path=/")])
    assert b"Cookie: a=2\r\n" in session.wire(prepared)
    session.note(prepared, 200, [(b"set-cookie", b"a=; Path=/; Max-Age=0")])
    assert b"Cookie" not in session.wire(prepared)
    assert sent("/") == ""


def test_a_cookie_stands_behind_those_of_a_header() -> None:
    session, _ = logged_in("a=1; Path=/")
    spec = RequestSpec("/", headers=(("Cookie", "own=1"),))
    (prepared,) = prepare_requests(session.login.maker, (spec,), OutcomeTable([]))
    assert b"Cookie: own=1; a=1\r\n" in session.wire(prepared)


def test_cookies_of_the_load_are_those_of_each_client() -> None:
    board = Board()
    drive_logged_in(board)
    cookies = Counter(
        (number, re.findall(rb"\r\nCookie: ([^\r]*)", head)[0]) for number, head in board.asked()
    )
    assert {cookie for _, cookie in cookies} == {b"sid=c1", b"sid=c2", b"sid=c3"}
    assert len(cookies) == 3


def test_signals_end_a_login(loop_factory: LoopFactory) -> None:

    with serving(silent_login) as server, signalled(server), pytest.raises(KeyboardInterrupt):
        run_phase(
            server.target,
            STATE,
            phase(),
            login=LOGIN,
            headers=BEARER,
            request_timeout_s=30,
            deadline_s=60,
            loop_factory=loop_factory,
        )
