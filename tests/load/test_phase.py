"""A phase as a whole: its shape in time, what may go into it, and how it watches itself."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest
from support.load_servers import (
    HANG_S,
    HELLO,
    NOWHERE,
    LoopFactory,
    always,
    answer,
    delayed,
    phase,
    serving,
    wait_until,
)

from pytest_espperf.errors import UsageError
from pytest_espperf.load import ENGINE_VERSION, Progress, guard, run_phase
from pytest_espperf.load.acks import prompt_acks
from pytest_espperf.load.guard import SelfWatch, engine_label, fastest_loop
from pytest_espperf.load.stamped import kernel_stamps
from pytest_espperf.model.samples import Outcome
from pytest_espperf.model.workload import PhaseSpec, RequestSpec
from pytest_espperf.system.loops import new_loop


def test_requests_in_flight_at_the_end_are_awaited_and_counted(loop_factory: LoopFactory) -> None:
    with serving(delayed(0.3)) as server:
        samples = run_phase(server.target, HELLO, phase(0.25, 3), deadline_s=20, loop_factory=loop_factory)
    assert len(samples) == 3
    assert samples.outcomes == [Outcome(200, None)]
    assert min(samples.service_s) >= 0.299
    assert samples.elapsed_s >= 0.3
    assert not samples.cut_short


def test_weights_are_kept() -> None:
    requests = (RequestSpec("/a", weight=3), RequestSpec("/b"))
    with serving(delayed(0.001)) as server:
        samples = run_phase(server.target, requests, phase(0.6, 1), deadline_s=20)
    assert list(samples.path[:8]) == [0, 0, 1, 0, 0, 0, 1, 0]


def test_warmup_is_discarded_and_its_connections_are_kept(loop_factory: LoopFactory) -> None:
    with serving(delayed(0.005)) as server:
        begun = time.monotonic()
        samples = run_phase(
            server.target, HELLO, phase(0.15, 2), warmup_s=0.3, deadline_s=20, loop_factory=loop_factory
        )
        assert time.monotonic() - begun >= 0.44
        assert server.accepted == 2
    assert len(samples.connect_s) == 0
    assert 0 < len(samples) <= 2 * 31


def test_a_warm_closed_loop_lasts_as_long_as_it_starts_requests(loop_factory: LoopFactory) -> None:
    """Else the last answers' way home, in which nothing is started, would count as slowness."""
    with serving(delayed(0.2)) as server:
        warm = run_phase(
            server.target, HELLO, phase(0.5, 4), warmup_s=0.3, deadline_s=20, loop_factory=loop_factory
        )
        cold = run_phase(server.target, HELLO, phase(0.5, 4), deadline_s=20, loop_factory=loop_factory)
    assert warm.elapsed_s == pytest.approx(0.5)
    ends = [
        max(start + took for start, took in zip(samples.start_s, samples.service_s, strict=True))
        for samples in (warm, cold)
    ]
    assert min(ends) > 0.5
    assert cold.elapsed_s == pytest.approx(ends[1])


def test_the_inner_deadline_ends_a_phase_cleanly(loop_factory: LoopFactory) -> None:
    with serving(lambda peer: peer.until_gone()) as server:
        begun = time.monotonic()
        samples = run_phase(
            server.target,
            HELLO,
            phase(300, 3),
            request_timeout_s=600,
            deadline_s=0.2,
            loop_factory=loop_factory,
        )
        took_s = time.monotonic() - begun
        assert wait_until(lambda: server.accepted == 3)
    assert samples.cut_short == "inner deadline reached with 3 requests unanswered"
    assert len(samples) == 0
    assert 0 < samples.elapsed_s <= took_s
    assert 0.2 <= took_s < HANG_S


def test_a_deadline_inside_the_warmup() -> None:
    with serving(delayed(0.01)) as server:
        samples = run_phase(server.target, HELLO, phase(5), warmup_s=30, deadline_s=0.1)
    assert samples.cut_short
    assert len(samples) == 0
    assert samples.elapsed_s == 0


def test_heartbeats_tell_how_a_phase_stands() -> None:
    beats: list[Progress] = []
    with serving(delayed(0.005)) as server:
        samples = run_phase(
            server.target, HELLO, phase(0.4, 2), heartbeat_s=0.1, on_heartbeat=beats.append, deadline_s=20
        )
    assert beats
    assert [beat.completed for beat in beats] == sorted(beat.completed for beat in beats)
    last = beats[-1]
    assert (last.clients, last.duration_s, last.errors) == (2, 0.4, 0)
    assert last.completed <= len(samples)
    assert last.rps == pytest.approx(last.completed / last.elapsed_s)
    assert last.p95_ms is not None
    assert last.p95_ms >= 5


def test_heartbeats_count_errors() -> None:
    beats: list[Progress] = []
    with serving(always(answer(b"", b"503 Busy"))) as server:
        run_phase(
            server.target, HELLO, phase(0.3, 1), heartbeat_s=0.05, on_heartbeat=beats.append, deadline_s=20
        )
    assert beats[-1].errors == beats[-1].completed > 0


def test_a_phase_needs_neither_uvloop_nor_winloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    monkeypatch.setitem(sys.modules, "winloop", None)
    assert fastest_loop() is new_loop
    loop = asyncio.new_event_loop()
    prompt = "+quickack" if prompt_acks() else ""
    assert engine_label(loop, stamped=False) == f"asyncio+httptools{prompt}/{ENGINE_VERSION}"
    assert engine_label(loop, stamped=True) == f"asyncio+httptools+kernel{prompt}/{ENGINE_VERSION}"
    loop.close()


def test_the_generator_watches_itself() -> None:
    with serving(delayed(0.01)) as server:
        samples = run_phase(server.target, HELLO, phase(0.3, 1), deadline_s=20)
    health = samples.generator
    assert health is not None
    assert health.cpu_share >= 0
    assert health.lag_p99_ms is not None
    assert health.turnaround_ms is not None
    # What the client did not spend on answers, of 10 ms each, it spent on turning round, and on connecting.
    count = len(samples)
    assert 0 < health.turnaround_ms * (count - 1) < 1e3 * samples.elapsed_s - (10 - 0.1) * count
    stamped = "+kernel" if kernel_stamps() else ""
    prompt = "+quickack" if prompt_acks() else ""
    assert health.engine.endswith(f"+httptools{stamped}{prompt}/{ENGINE_VERSION}")


def test_a_late_generator_is_bound() -> None:
    watch = SelfWatch(clients=1, open_loop=True)
    for _ in range(100):
        watch.late(1_000_000)
    assert not watch.health("x").bound
    for _ in range(5):
        watch.late(50_000_000)
    assert watch.health("x").bound


@pytest.mark.parametrize(
    ("open_loop", "label", "bound"),
    [
        (False, "uvloop+httptools+kernel+quickack/2", False),
        (True, "uvloop+httptools+kernel+quickack/2", True),
        (False, "uvloop+httptools/2", True),
        (False, "HTTPTransport/2", True),
    ],
)
def test_being_late_spoils_what_the_process_itself_has_to_time(
    open_loop: bool, label: str, bound: bool
) -> None:
    watch = SelfWatch(clients=1, open_loop=open_loop)
    for _ in range(100):
        watch.late(50_000_000)
    time.sleep(0.02)  # else the processor time of this very test is most of it
    assert watch.health(label).bound is bound


def test_a_generator_that_lets_answers_wait_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    spent_ns = 60_000_000_000
    for open_loop in (False, True):
        clock = iter([0, spent_ns, spent_ns])
        monkeypatch.setattr(guard, "perf_counter_ns", lambda clock=clock: next(clock))
        watch = SelfWatch(clients=2, open_loop=open_loop)
        watch.turned(round(0.9 * spent_ns))
        assert not watch.health("x").bound
        watch.turned(round(1.1 * spent_ns))
        health = watch.health("x")
        # Both clients together had twice the time: 0.9 of one of them is less than half of it.
        assert health.bound is (not open_loop)
        assert health.turnaround_ms == pytest.approx(spent_ns * 1e-6)


def test_a_blocked_generator_is_bound() -> None:
    with serving(delayed(0.001)) as server:
        samples = run_phase(
            server.target,
            HELLO,
            phase(4.0, 1),
            heartbeat_s=0.001,
            on_heartbeat=lambda _: time.sleep(0.6),  # far longer than a busy machine lets an answer wait
            deadline_s=20,
        )
    assert samples.generator is not None
    assert samples.generator.bound


@pytest.mark.parametrize(
    ("requests", "spec", "timeout_s", "headers"),
    [
        ((), phase(), 6, ()),
        (HELLO, phase(clients=0), 6, ()),
        (HELLO, phase(), 0, ()),
        (HELLO, phase(rate_rps=0), 6, ()),
        ((RequestSpec("/", weight=0),), phase(), 6, ()),
        (tuple(RequestSpec(f"/{n}") for n in range(256)), phase(), 6, ()),
        (HELLO, phase(), 6, (("X", "a\r\nb"),)),
        (HELLO, phase(), 6, (("X", "\u2603"),)),
    ],
)
def test_what_cannot_be_driven_is_a_usage_error(
    requests: tuple[RequestSpec, ...], spec: PhaseSpec, timeout_s: float, headers: tuple[tuple[str, str], ...]
) -> None:
    with pytest.raises(UsageError):
        run_phase(NOWHERE, requests, spec, request_timeout_s=timeout_s, headers=headers)
