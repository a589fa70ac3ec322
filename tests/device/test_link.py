"""The link to the board: connects while it is idle, and what the verdict says of them."""

from __future__ import annotations

import errno
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from support.gate_sessions import history, kinds, session, with_link
from support.load_servers import HANG_S, Peer, answer, serving, target
from support.sessions_at import run_at

from pytest_espperf.device import LinkReading, read_link
from pytest_espperf.device.link import PAUSE_S
from pytest_espperf.gate import judge
from pytest_espperf.gate.generator import idle_connect_ms
from pytest_espperf.model.artifact import LinkReport


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_connects_to_what_listens(family: socket.AddressFamily) -> None:
    address = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.create_server((address, 0), family=family) as server:
        slept: list[float] = []
        here = target(server.getsockname()[1], address)
        reading = read_link(here, budget_s=60.0, connects=3, sleep=slept.append)
    assert len(reading.connect_ms) == 3
    assert reading.retransmitted == reading.failed == 0
    assert slept == [PAUSE_S] * 3  # the last one, too: what is read next finds the connection closed


def test_nobody_there_is_a_figure_and_no_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    reading = read_link(target(port), budget_s=60.0, connects=3)
    assert reading.failed == 3
    assert reading.connect_ms == ()


def test_the_budget_bounds_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ticks = iter([0.0, 0.0, 0.001, 0.001, 9.0, 9.0, 9.0, 9.0])
        reading = read_link(target(port), budget_s=1.0, sleep=lambda _: None, clock=lambda: next(ticks))
        assert len(reading.connect_ms) == 1
        assert read_link(target(port), budget_s=0.0).connect_ms == ()


def test_a_connect_of_a_second_is_a_lost_packet_and_no_latency() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ticks = iter([0.0, 0.0, 0.0, 1.02, 1.02, 1.03, 1.04])
        reading = read_link(
            target(port), budget_s=60.0, connects=2, sleep=lambda _: None, clock=lambda: next(ticks)
        )
    assert reading.retransmitted == 1
    assert reading.connect_ms == pytest.approx([10.0])


def test_no_answer_at_all_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> socket.socket:
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", silent)
    reading = read_link(target(9), budget_s=60.0)
    assert (reading.retransmitted, reading.failed) == (1, 0)


@pytest.mark.parametrize("closes", [True, False])
def test_with_a_path_no_connection_is_empty(closes: bool) -> None:
    heads: list[bytes] = []
    empty: list[int] = []

    def handle(peer: Peer) -> None:
        head = peer.request()
        if head is None:
            empty.append(peer.number)
            return
        heads.append(head)
        peer.send(answer())
        if not closes:
            peer.until_gone()

    with serving(handle) as server:
        here = replace(server.target, headers=(("X-Key", "7"), ("Host", "board.test")))
        reading = read_link(here, budget_s=60.0, connects=3, path="/hello?a=1", sleep=lambda _: None)
    assert len(reading.connect_ms) == 3
    assert not empty
    assert len(heads) == 3
    assert heads[0].startswith(b"GET /hello?a=1 HTTP/1.1\r\n")
    assert b"Connection: close" in heads[0]
    assert b"Host: board.test" in heads[0]
    assert b"127.0.0.1" not in heads[0]
    assert b"X-Key: 7" in heads[0]


def test_an_answer_that_does_not_come_takes_no_longer_than_the_budget() -> None:
    with serving(Peer.until_gone) as server:
        began = time.monotonic()
        reading = read_link(server.target, budget_s=0.3, path="/")
        took_s = time.monotonic() - began
    assert len(reading.connect_ms) == 1
    assert 0.3 <= took_s < HANG_S


def test_what_this_computer_lacks_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object, **__: object) -> socket.socket:
        raise OSError(errno.EADDRNOTAVAIL, "no port")

    monkeypatch.setattr(socket, "create_connection", lacking)
    assert read_link(target(9), budget_s=60.0) == LinkReading()


class Fragile:
    """A server that dies of a connection without a request, as a few lines of MicroPython do."""

    def __init__(self, listener: socket.socket, answer_s: float, kind: str) -> None:
        self.listener = listener
        self.answer_s = answer_s
        self.kind = kind
        self.empty = self.requests = 0

    def serve(self) -> None:
        """Serve until the listener is closed."""
        with suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                with sock:
                    if sock.recv(1024):
                        time.sleep(self.answer_s)
                        self.requests += 1
                        sock.sendall(answer(b"hello", b"200 OK", b"Connection: close"))
                        continue
                self.empty += 1
                if self.kind == "dies":
                    self.listener.shutdown(socket.SHUT_RDWR)
                    self.listener.close()


@contextmanager
def fragile(answer_s: float = 0.002, kind: str = "dies") -> Iterator[tuple[int, Fragile]]:
    """Its port, and it."""
    with socket.create_server(("127.0.0.1", 0), backlog=8) as listener:
        port = listener.getsockname()[1]
        server = Fragile(listener, answer_s, kind)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        yield port, server
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@pytest.mark.skipif(sys.platform == "win32", reason="a listener cannot be shut down there")
@pytest.mark.parametrize("kind", ["dies", "blocks"])
def test_a_server_that_an_empty_connection_kills_is_measured(kind: str, tmp_path: Path) -> None:
    with fragile(kind=kind) as (port, server):
        done = run_at(port, tmp_path)
    assert done.returncode == 0, done.stdout
    assert server.empty == 0
    assert server.requests > 4


@pytest.mark.skipif(sys.platform == "win32", reason="a listener cannot be shut down there")
def test_a_slow_one_is_said_to_have_died_of_it(tmp_path: Path) -> None:
    with fragile(answer_s=0.3) as (port, _):
        done = run_at(port, tmp_path, "--perf-probe-retries=2", quick_s=0.25)
        assert done.returncode == 1
        told = " ".join(done.stdout.split())
        assert "after an empty connection" in told
        assert "--perf-link-probes=off" in told
    with fragile(answer_s=0.3) as (port, server):
        done = run_at(port, tmp_path, "--perf-link-probes=off", "--perf-max-p95-ms=9000")
    assert done.returncode == 0, done.stdout
    assert server.empty == 0


class TestVerdict:
    """What is reported."""

    @staticmethod
    def link(rng: random.Random, ms: float, lost: int = 0) -> LinkReport:
        return LinkReport(connect_ms=[ms * rng.lognormvariate(0, 0.3) for _ in range(8)], retransmitted=lost)

    def test_a_link_that_moved_is_said(self) -> None:
        rng = random.Random(20261125)
        past = [with_link(one, self.link(rng, 6.0)) for one in history(rng, 8)]
        calm = judge(with_link(session(rng), self.link(rng, 6.5)), past)
        assert "link" not in kinds(calm)
        for ms, word in ((30.0, "slower"), (1.5, "faster")):
            (finding,) = [
                f
                for f in judge(with_link(session(rng), self.link(rng, ms)), past).findings
                if f.kind == "link"
            ]
            assert finding.severity == "warn"
            assert word in finding.message

    def test_microseconds_on_a_wire_are_no_news(self) -> None:
        rng = random.Random(20261125)
        past = [with_link(one, self.link(rng, 0.1)) for one in history(rng, 8)]
        assert "link" not in kinds(judge(with_link(session(rng), self.link(rng, 0.5)), past))

    def test_lost_packets_are_said_without_a_history(self) -> None:
        rng = random.Random(20261125)
        verdict = judge(with_link(session(rng), self.link(rng, 5.0, lost=2)), [])
        assert "link" in kinds(verdict)

    def test_refusals_are_said(self) -> None:
        rng = random.Random(20261125)
        link = LinkReport(connect_ms=[5.0] * 10, failed=3)
        (said,) = [f.message for f in judge(with_link(session(rng), link), []).findings if f.kind == "link"]
        assert "refused 3 of 13" in said

    def test_a_connect_that_two_phases_share_counts_once(self) -> None:
        first = LinkReport(connect_ms=[9.0] * 2 + [5.0] * 8, retransmitted=1, failed=3)
        second = LinkReport(
            connect_ms=[5.0] * 8 + [9.0] * 7,
            retransmitted=1,
            failed=3,
            shared_connects=8,
            shared_retransmitted=1,
            shared_failed=3,
        )
        one = with_link(session(random.Random(20261125)), first, second)
        (said,) = [f.message for f in judge(one, []).findings if f.kind == "link"]
        assert "refused 3 of 21" in said
        assert idle_connect_ms(one) == 9.0

    def test_what_the_link_probes_did_to_the_board_is_said(self) -> None:
        now = session(random.Random(20261125), device={"notes": ["it fell silent"]})
        (said,) = [finding for finding in judge(now, []).findings if finding.kind == "link"]
        assert (said.severity, said.message) == ("warn", "it fell silent.")

    def test_without_probes_nothing_is_said(self) -> None:
        rng = random.Random(20261125)
        past = [with_link(one, self.link(rng, 6.0)) for one in history(rng, 8)]
        assert "link" not in kinds(judge(session(rng), past))
        blind = list(history(rng, 8))
        assert "link" not in kinds(judge(with_link(session(rng), self.link(rng, 60.0)), blind))

    def test_one_short_history_says_nothing(self) -> None:
        rng = random.Random(20261125)
        past = [with_link(one, self.link(rng, 6.0)) for one in history(rng, 2)]
        assert "link" not in kinds(judge(with_link(session(rng), self.link(rng, 60.0)), past))
