"""How many connections a board serves at once: found before the load, said, and never hidden."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.few_sockets import few_sockets
from support.gate_sessions import change, history, session
from support.load_servers import HANG_S, HELLO, Peer, answer, delayed, once, phase, serving, target
from support.nginx_server import needs_nginx, nginx
from support.real_servers import microdot, needs_micropython
from support.sessions_at import artifacts, run_at

from pytest_espperf.gate import judge
from pytest_espperf.history import HistoryStore
from pytest_espperf.load import run_phase
from pytest_espperf.load.capacity import UNSERVED, Held, hold
from pytest_espperf.load.talk import Caller
from pytest_espperf.model.artifact import Capacity, ErrorReason, PhaseReport, SessionArtifact
from pytest_espperf.model.capacity import sentence
from pytest_espperf.model.findings import CAPACITY
from pytest_espperf.model.verdicts import CLIENTS_WITHOUT_ANSWER
from pytest_espperf.report.view import headline_of
from pytest_espperf.session.capacity import LEAST_WAIT_S, MOST_S, SLOWEST_TIMES
from pytest_espperf.session.earlier import firmware_of, remembered_capacity

pytestmark = pytest.mark.timeout(600)  # several sessions, on a machine that may be busy


@pytest.fixture
def rng() -> random.Random:
    print("seed 7")
    return random.Random(7)


def held(port: int, most: int = 12, known: int = 0, path: str = "/hello", timeout_s: float = MOST_S) -> Held:
    """What a session finds, with all the time that a busy machine takes over it."""
    ends = time.monotonic() + HANG_S
    return hold(
        Caller(target(port), path, timeout_s=timeout_s),
        most=most,
        patience_s=lambda slowest_s: max(LEAST_WAIT_S, SLOWEST_TIMES * slowest_s),
        left=lambda: ends - time.monotonic(),
        known=known,
    )


class TestHold:
    """What is found of boards."""

    @pytest.mark.parametrize(
        ("beyond", "ended"), [("waits", "unanswered"), ("closed", "closed"), ("busy", "busy")]
    )
    def test_the_limit_of_a_board_with_few_sockets(self, beyond: str, ended: str) -> None:
        with few_sockets(7, beyond=beyond) as board:
            assert held(board.port) == Held(7, ended)  # type: ignore[arg-type] # one of the words

    def test_no_more_connections_than_asked_for_are_opened(self) -> None:
        with few_sockets(100) as board:
            assert held(board.port, most=5) == Held(5)
            assert (board.accepted, board.most) == (5, 5)

    def test_a_limit_that_is_known_is_seen_by_one_connection(self) -> None:
        with few_sockets(7) as board:
            began = time.monotonic()
            assert held(board.port, known=7, timeout_s=20.0) == Held(7, "unanswered")
            alone_s = time.monotonic() - began
            board.sockets = 9
            assert held(board.port, known=7) == Held(9, "unanswered")
        assert alone_s < 20.0, "a second one would have waited so long"

    def test_a_connection_of_before_that_is_not_closed_yet_takes_no_socket(self) -> None:
        with few_sockets(4) as board:
            lingering = [held_open(board.port) for _ in range(2)]
            timer = threading.Timer(0.7, lambda: list(map(socket.socket.close, lingering)))
            timer.start()
            assert held(board.port, most=4) == Held(4)
            timer.join()

    def test_one_lost_connection_is_no_limit(self) -> None:
        def handle(peer: Peer) -> None:
            if peer.number == 3:
                peer.until_gone()
            while peer.request() is not None:
                peer.send(answer())

        with serving(handle) as server:
            assert held(server.port, most=6) == Held(6)

    def test_a_board_that_hangs_altogether_is_no_limit(self) -> None:
        hanging = threading.Event()

        def handle(peer: Peer) -> None:
            while peer.request() is not None:
                if peer.number >= 3:
                    hanging.set()
                if hanging.is_set():
                    peer.until_gone()
                    return
                peer.send(answer())

        with serving(handle) as server:
            found = held(server.port)
        assert found.connections == 3
        assert not is_limit(found)

    def test_a_slow_board_is_no_limit(self) -> None:
        with serving(delayed(0.25)) as server:
            found = held(server.port)
        assert found.connections >= 3
        assert not found.ended

    def test_a_board_that_closes_idle_connections_is_no_limit(self) -> None:
        with few_sockets(3, idle_s=0.3) as board:
            assert not is_limit(held(board.port))

    def test_a_board_that_closes_behind_each_answer_says_nothing(self) -> None:
        with serving(once(answer(b"ok", b"200 OK", b"Connection: close"))) as server:
            assert held(server.port) == Held(0, "not kept")

    @needs_nginx
    def test_nginx_serves_them_all(self, tmp_path: Path) -> None:
        with nginx(tmp_path) as port:
            assert held(port, path="/file") == Held(12)

    @needs_micropython
    def test_microdot_closes_behind_each_answer(self, tmp_path: Path) -> None:
        with microdot(tmp_path, 0.1) as server:
            assert not is_limit(held(server.port))


def held_open(port: int) -> socket.socket:
    """A connection that was answered, and is kept."""
    import socket

    sock = socket.create_connection(("127.0.0.1", port), timeout=HANG_S)
    sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
    sock.recv(100)
    return sock


class TestLoad:
    """Clients that get nothing, in a phase."""

    def test_they_do_not_make_a_phase_longer(self) -> None:
        with few_sockets(2) as board:
            samples = run_phase(
                target(board.port), HELLO, phase(1.6, 5), request_timeout_s=60.0, deadline_s=120
            )
        assert samples.never_answered == 3
        assert samples.elapsed_s < 60.0, "not its time-out"
        errors = [samples.outcomes[index].error for index in samples.outcome]
        assert sum(error is not None for error in errors) == 3

    def test_clients_that_are_served_in_turn_get_their_answer(self) -> None:
        """One loop, 0.25 s an answer, and eight clients: the last one waits longer than the phase lasts."""
        with few_sockets(8, answer_s=0.25) as board:
            samples = run_phase(
                target(board.port), HELLO, phase(0.3, 8), request_timeout_s=60.0, deadline_s=120
            )
        assert samples.never_answered == 0
        assert all(samples.outcomes[index].error is None for index in samples.outcome)

    def test_a_server_of_one_connection_at_a_time_that_closes_serves_all(self) -> None:
        turn = threading.Lock()

        def handle(peer: Peer) -> None:
            with turn:
                if peer.request() is not None and not peer.stopping.wait(0.25):
                    peer.send(answer(b"ok", b"200 OK", b"Connection: close"))

        with serving(handle) as server:
            samples = run_phase(server.target, HELLO, phase(0.3, 8), request_timeout_s=60.0, deadline_s=120)
        assert samples.never_answered == 0
        assert all(samples.outcomes[index].error is None for index in samples.outcome)

    def test_an_open_loop_needs_no_client_twice(self) -> None:
        with few_sockets(2) as board:
            spec = phase(0.3, 4, rate_rps=20.0)
            samples = run_phase(target(board.port), HELLO, spec, request_timeout_s=0.5, deadline_s=20)
        assert samples.never_answered == 0


LIMITED = Capacity(connections=7, ended="unanswered")


class TestVerdict:
    """What the gate makes of it."""

    @staticmethod
    def of(now: SessionArtifact, capacity: Capacity | None, clients: int = 12) -> SessionArtifact:

        def busy(_: int, old: PhaseReport) -> PhaseReport:
            return msgspec.structs.replace(old, clients=clients)

        for profile in now.profiles:
            now = change(now, profile, busy)
        return msgspec.structs.replace(now, capacity=capacity)

    def test_clients_that_get_nothing_are_never_green(self, rng: random.Random) -> None:
        past = [self.of(one, LIMITED) for one in history(rng, 8)]
        for before in (past, []):
            verdict = judge(self.of(session(rng), LIMITED), before)
            assert verdict.kind == "inconclusive"
            assert verdict.joins_baseline, "later sessions with the same board are compared with it"
            assert headline_of(verdict) == CLIENTS_WITHOUT_ANSWER
            (said,) = [finding.message for finding in verdict.findings if finding.kind == CAPACITY]
            assert said.startswith(
                "5 of 12 clients never get an answer: the board serves 7 connections at once;"
            )
            assert "--perf-burst-clients 7 --perf-long-clients 7" in said

    def test_a_slower_firmware_regresses_all_the_same(self, rng: random.Random) -> None:
        past = [self.of(one, LIMITED) for one in history(rng, 8)]
        slower = session(rng, slower={"python_heavy": 1.8})
        assert judge(self.of(slower, LIMITED), past).kind == "regressed"

    def test_fewer_than_the_baseline_served_fails_by_name(self, rng: random.Random) -> None:
        past = [self.of(one, Capacity(connections=12)) for one in history(rng, 8)]
        verdict = judge(self.of(session(rng), LIMITED), past)
        assert verdict.kind == "failed"
        (finding,) = [one for one in verdict.findings if one.kind == CAPACITY]
        assert finding.severity == "fail"
        assert "serves 7 connections at once, and served at least 12 in the baseline" in finding.message
        fewer = Capacity(connections=5, ended="refused")
        limited = [self.of(one, LIMITED) for one in history(rng, 8)]
        assert judge(self.of(session(rng), fewer), limited).kind == "failed"

    def test_enough_connections_are_no_news(self, rng: random.Random) -> None:
        past = [self.of(one, Capacity(connections=16), 7) for one in history(rng, 8)]
        for capacity in (Capacity(connections=7), None):
            verdict = judge(self.of(session(rng), capacity, 7), past)
            assert verdict.kind == "unchanged"
            assert not [one for one in verdict.findings if one.kind == CAPACITY]

    def test_what_a_phase_saw_is_said_where_nothing_was_found_before(self, rng: random.Random) -> None:

        now = session(rng)
        starving = change(
            now, "python_light", lambda _, old: msgspec.structs.replace(old, never_answered=2, clients=8)
        )
        verdict = judge(starving, history(rng, 8))
        assert verdict.kind == "inconclusive"
        assert any(
            finding.kind == CAPACITY
            and "2 of 8 clients never got an answer in 6 of 6 runs" in finding.message
            for finding in verdict.findings
        )

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            ("WriteTimeout", "the request's body was not taken in time: 9 bytes of it are left"),
            ("ConnectTimeout", "no TLS handshake in time on a connection that was up"),
            ("login", "login: POST /login answers 500"),
            ("ReadTimeout", "login: no complete response in time"),
        ],
    )
    def test_an_error_that_names_the_cause_stands_in_place_of_advice(
        self, kind: str, reason: str, rng: random.Random
    ) -> None:
        met = ErrorReason(kind=kind, path="/a", reason=reason, count=3, requests=9)
        message = self.starving(rng, None, met)
        assert "2 of 8 clients never got an answer in 6 of 6 runs, and met: " in message
        assert message.endswith(f"{reason} (/a, 3 of 9).")
        assert "sockets" not in message

    def test_a_board_that_served_all_when_asked_needs_no_more_sockets(self, rng: random.Random) -> None:
        met = ErrorReason(kind="ReadTimeout", path="/a", reason="no complete response in time", count=1)
        message = self.starving(rng, Capacity(connections=8), met)
        assert message.endswith("though the board served 8 connections at once when it was asked.")
        assert "or give the board more sockets" in self.starving(rng, None, met)

    def starving(self, rng: random.Random, capacity: Capacity | None, met: ErrorReason) -> str:
        now = change(
            session(rng),
            "python_light",
            lambda _, old: msgspec.structs.replace(old, never_answered=2, clients=8, error_reasons=(met,)),
        )
        verdict = judge(msgspec.structs.replace(now, capacity=capacity), history(rng, 8))
        return next(
            one.message for one in verdict.findings if one.kind == CAPACITY and "never got" in one.message
        )

    def test_one_unlucky_run_is_not_said(self, rng: random.Random) -> None:

        first = iter([1] + [0] * 100)
        now = change(
            session(rng),
            "python_light",
            lambda _, old: msgspec.structs.replace(old, never_answered=next(first)),
        )
        assert judge(now, history(rng, 8)).kind == "unchanged"


@pytest.mark.parametrize(
    ("clients", "advice"),
    [
        ({"a:burst": 12, "a:long": 7}, "pass --perf-burst-clients 7, or"),
        ({"a:burst": 12, "b:long": 8}, "pass --perf-burst-clients 7 --perf-long-clients 7, or"),
        ({"a:only": 12, "a:long": 3}, "give clients = 7 to phase 'only', or"),
        ({"a:only": 8, "a:burst": 12}, "pass --perf-burst-clients 7, give clients = 7 to phase 'only', or"),
    ],
)
def test_the_sentence_names_what_to_pass(clients: dict[str, int], advice: str) -> None:
    assert advice in sentence(LIMITED, clients)


def test_the_sentence_says_what_clients_beyond_meet() -> None:
    assert "5 of 12 clients are answered 503: the board serves 7 connections at once" in sentence(
        Capacity(connections=7, ended="busy"), {"a:burst": 12}
    )


def test_no_sentence_where_everybody_is_served() -> None:
    assert sentence(LIMITED, {"a:burst": 7}) == ""
    assert sentence(Capacity(connections=7), {"a:burst": 12}) == ""


class TestMemory:
    """What was found before saves time, and hides nothing."""

    @staticmethod
    def made(**changes: Any) -> SessionArtifact:
        import random

        return session(random.Random(7), rounds=1, **changes)

    def test_it_is_of_the_same_firmware_only(self, tmp_path: Path) -> None:
        store = HistoryStore(tmp_path)
        store.prepare()
        known = Capacity(connections=12)
        commit = {"git_commit": "abc", "git_dirty": False}
        store.save(
            self.made(
                capacity=known, environment=commit, timestamp_utc="20260101T000000Z", verdict="unchanged"
            ),
            "",
            latest=True,
        )
        assert remembered_capacity(store, self.made(environment=commit)) == known
        assert (
            remembered_capacity(store, self.made(environment={"git_commit": "abd", "git_dirty": False}))
            is None
        )
        assert (
            remembered_capacity(store, self.made(environment={"git_commit": "abc", "git_dirty": True}))
            is None
        )
        assert remembered_capacity(store, self.made(environment=commit, device={"firmware": "2"})) is None
        assert remembered_capacity(store, self.made()) is None, "nothing tells the firmware"

    def test_a_version_that_is_named_tells_a_firmware(self) -> None:
        assert firmware_of(self.made(device={"firmware": "1.2"})) == {"version": "1.2"}
        told = {"firmware": "1.2", "firmware_told": True}
        assert firmware_of(self.made(device=told)) == {}, "many builds may tell the same version"
        assert firmware_of(self.made(environment={"git_commit": "a", "git_dirty": None})) == {"commit": "a"}
        assert firmware_of(self.made(environment={"git_commit": None, "git_dirty": None})) == {}


def test_a_session_on_seven_sockets_says_it_before_the_load(tmp_path: Path) -> None:
    with few_sockets(7) as board:
        done = run_at(board.port, tmp_path, clients=12)
    said = "5 of 12 clients never get an answer: the board serves 7 connections at once"
    assert said in done.stdout
    assert done.stdout.index(said) < done.stdout.index("INCONCLUSIVE")
    assert "without an answer" not in done.stdout
    (made,) = artifacts(tmp_path)
    assert made.capacity == LIMITED
    assert made.gate is not None
    assert made.gate.kind == "inconclusive"


def test_a_firmware_with_fewer_sockets_fails(tmp_path: Path) -> None:
    with few_sockets(12) as board:
        assert run_at(board.port, tmp_path, clients=12).returncode == 0
        board.sockets = 9
        done = run_at(board.port, tmp_path, clients=12)
    assert done.returncode == 1
    assert "the board serves 9 connections at once, and served at least 12 in the baseline" in done.stdout


def test_what_is_remembered_hides_no_change(tmp_path: Path) -> None:
    """The same version by name, and fewer sockets: the first phase shows it."""
    with few_sockets(12) as board:
        run_at(board.port, tmp_path, "--device-firmware=1", clients=12)
        before = board.accepted
        run_at(board.port, tmp_path, "--device-firmware=1", clients=12)
        again = board.accepted - before
        board.sockets = 9
        done = run_at(board.port, tmp_path, "--device-firmware=1", clients=12)
    assert before - again >= 12, "the second session looked for nothing"
    assert done.returncode == 1
    assert "serves 9 connections at once" in done.stdout


PLAIN = """
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
class Board(BaseHTTPRequestHandler):
    protocol_version = sys.argv[2]
    def do_GET(self):
        time.sleep(0.002)
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *_):
        pass
server = {"one": HTTPServer, "many": ThreadingHTTPServer}[sys.argv[1]](("127.0.0.1", 0), Board)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.mark.parametrize(
    ("threads", "version"), [("one", "HTTP/1.0"), ("many", "HTTP/1.0"), ("many", "HTTP/1.1")]
)
def test_servers_that_serve_everybody_raise_no_alarm(threads: str, version: str, tmp_path: Path) -> None:

    command = [sys.executable, "-c", PLAIN, threads, version]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            done = run_at(int(process.stdout.readline()), tmp_path, clients=5)
        finally:
            process.kill()
    assert done.returncode == 0, done.stdout
    assert "clients never" not in done.stdout
    (made,) = artifacts(tmp_path)
    assert made.gate is not None
    assert made.gate.kind == "no-baseline", done.stdout


def is_limit(found: Held) -> bool:
    return found.connections > 0 and found.ended in UNSERVED
