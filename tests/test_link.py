"""The link to the board: connects while it is idle, and what the verdict says of them."""

from __future__ import annotations

import random
import socket

import pytest
from gate_sessions import history, kinds, session, with_link

from pytest_espperf.artifact import LinkReport
from pytest_espperf.device import read_link
from pytest_espperf.device.link import PAUSE_S
from pytest_espperf.gate import judge
from pytest_espperf.gate.link import idle_connect_ms
from pytest_espperf.workload import Target


def target(port: int, address: str = "127.0.0.1") -> Target:
    return Target(scheme="http", address=address, port=port, host_header=f"{address}:{port}")


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_connects_to_what_listens(family: socket.AddressFamily) -> None:
    address = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.create_server((address, 0), family=family) as server:
        slept: list[float] = []
        here = target(server.getsockname()[1], address)
        reading = read_link(here, budget_s=5.0, connects=3, sleep=slept.append)
    assert len(reading.connect_ms) == 3
    assert reading.retransmitted == reading.failed == 0
    assert slept == [PAUSE_S] * 3  # the last one, too: what is read next finds the connection closed


def test_nobody_there_is_a_figure_and_no_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    reading = read_link(target(port), budget_s=5.0, connects=3)
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


class TestVerdict:
    """What is said."""

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
