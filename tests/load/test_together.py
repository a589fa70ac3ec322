"""Two phases at the same time: one loop drives both, and each has its own samples."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from support.board_server import served

from pytest_espperf import load
from pytest_espperf.errors import DeviceError, UsageError
from pytest_espperf.load import Job
from pytest_espperf.model.metrics import summarise
from pytest_espperf.model.workload import PhaseSpec, RequestSpec, Target
from pytest_espperf.session.twins import TwinLoad

PHASE = PhaseSpec("burst", clients=2, duration_s=0.4)
REQUESTS = (RequestSpec("/a"), RequestSpec("/b"))


def at(port: int) -> Target:
    return Target("http", "127.0.0.1", port, f"127.0.0.1:{port}")


def test_both_are_driven_at_the_same_time_and_apart() -> None:
    with served() as one, served() as other:
        one.delay_s, other.delay_s = 0.004, 0.02
        first, second = load.run_together(
            [Job(at(one.port), REQUESTS, PHASE), Job(at(other.port), REQUESTS, PHASE)]
        )
        assert len(first) > len(second) > 0
        assert not first.cut_short
        assert not second.cut_short
        assert len(first) == one.served
        assert len(second) == other.served
        began = [min(span.began for span in web.spans) for web in (one, other)]
        ended = [max(span.ended for span in web.spans) for web in (one, other)]
    # They overlap by far the most of their time.
    assert min(ended) - max(began) > 0.5 * (max(ended) - min(began))


def test_a_board_that_is_gone_is_an_outcome_of_its_own_phase() -> None:
    with served() as one:
        first, second = load.run_together(
            [Job(at(one.port), REQUESTS, PHASE), Job(at(1), REQUESTS, PHASE, request_timeout_s=0.5)]
        )
    assert summarise(first).ok == len(first) > 0
    assert summarise(second).ok == 0
    assert summarise(second).err > 0


def test_what_cannot_be_driven_is_refused_before_anything_is_asked() -> None:
    with served() as one:
        with pytest.raises(UsageError):
            load.run_together(
                [Job(at(one.port), REQUESTS, PHASE), Job(at(one.port), REQUESTS, replace(PHASE, clients=0))]
            )
        assert one.served == 0


def test_phases_of_different_length_end_each_at_its_time() -> None:
    with served() as one, served() as other:
        one.delay_s = other.delay_s = 0.005
        short = replace(PHASE, duration_s=0.1)
        first, second = load.run_together(
            [Job(at(one.port), REQUESTS, short), Job(at(other.port), REQUESTS, PHASE)]
        )
    assert first.elapsed_s < second.elapsed_s


# --- threads whose loads are one


def test_threads_get_each_their_own_samples() -> None:
    twins = TwinLoad()
    got: dict[int, int] = {}
    threads = set()
    with served() as one, served() as other:

        def part(port: int) -> None:
            samples = twins.run_phase(at(port), REQUESTS, PHASE)
            got[port] = len(samples)
            threads.add(threading.get_ident())

        twins.run([lambda: part(one.port), lambda: part(other.port)])
        assert got == {one.port: one.served, other.port: other.served}
    assert threading.get_ident() not in threads
    assert len(threads) == 2


def test_where_one_fails_before_its_load_the_other_is_not_driven() -> None:
    twins = TwinLoad()
    with served() as one:

        def fails() -> None:
            raise DeviceError("board B is away")

        with pytest.raises(DeviceError, match="board B is away"):
            twins.run([lambda: twins.run_phase(at(one.port), REQUESTS, PHASE), fails])
        assert one.served == 0
        # It can be used again.
        twins.run([lambda: twins.run_phase(at(one.port), REQUESTS, PHASE)])
        assert one.served > 0


def test_where_one_fails_behind_its_load_the_other_keeps_what_it_measured() -> None:
    twins = TwinLoad()
    kept: list[int] = []
    with served() as one, served() as other:

        def fails() -> None:
            twins.run_phase(at(one.port), REQUESTS, PHASE)
            raise DeviceError("board A rebooted")

        with pytest.raises(DeviceError, match="board A rebooted"):
            twins.run([fails, lambda: kept.append(len(twins.run_phase(at(other.port), REQUESTS, PHASE)))])
        assert kept == [other.served]


def test_an_interruption_ends_both(monkeypatch: pytest.MonkeyPatch) -> None:
    twins = TwinLoad()

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pytest_espperf.load.run_together", interrupted)
    ended: list[str] = []

    def part() -> None:
        try:
            twins.run_phase(at(1), REQUESTS, PHASE)
        except DeviceError as error:
            ended.append(str(error))
            raise

    with pytest.raises(KeyboardInterrupt):
        twins.run([part, part])
    assert ended == ["the comparison was interrupted"] * 2
