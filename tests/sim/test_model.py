"""The timing model, telemetry and fault plan of the reference device on a fake clock."""

from __future__ import annotations

import heapq
import math
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_espperf.sim.catalog import COSTS, STATIC_BYTES
from pytest_espperf.sim.config import Fault, NoiseName, SimConfig
from pytest_espperf.sim.device import SERVER_COUNTERS, Device
from pytest_espperf.sim.faults import DOWN, HANG, SPOILING, FaultPlan
from pytest_espperf.sim.model import LINK_BYTES_PER_S, RateLimiter, ScaledClock, TimingModel
from pytest_espperf.sim.noise import LEVELS, LINK_S, Spells, Wander, stream

HELLO, PING, HEAVY, FILE = (COSTS[p] for p in ("/hello", "/api/ping", "/template-compat", "/file"))
LIGHT = ("/hello", "/api/ping", "/deps", "/query-typed")


def quiet(**more: object) -> SimConfig:
    return SimConfig().merged({"noise": "none", **more})


def closed_loop(model: TimingModel, clients: int, duration_s: float, start_s: float = 0.0) -> list[float]:
    """Drive the light routes; return the response times."""
    events = [(start_s, client, client) for client in range(clients)]
    times: list[float] = []
    while events:
        now_s, client, turn = heapq.heappop(events)
        if now_s >= start_s + duration_s:
            continue
        ticket = model.python_job(COSTS[LIGHT[turn % 4]], now_s)
        times.append(ticket.due_s - now_s)
        heapq.heappush(events, (ticket.due_s, client, turn + 1))
    return times


@given(st.lists(st.tuples(st.floats(0, 0.05), st.sampled_from(LIGHT)), max_size=60))
def test_without_noise_completions_are_the_fifo_formula(arrivals: list[tuple[float, str]]) -> None:
    model, now_s, free_s = TimingModel(quiet(queue_limit=1000)), 0.0, 0.0
    for gap_s, path in arrivals:
        now_s += gap_s
        free_s = max(now_s, free_s) + COSTS[path].service_s
        assert model.python_job(COSTS[path], now_s).due_s == pytest.approx(free_s + LINK_S)


def test_capacity_is_one_over_the_mean_service_time() -> None:
    served = len(closed_loop(TimingModel(quiet()), clients=12, duration_s=20))
    mean_s = statistics.fmean(COSTS[path].service_s for path in LIGHT)
    assert served == pytest.approx(20 / mean_s, rel=0.01)


def test_static_files_share_the_link_and_not_the_worker() -> None:
    model = TimingModel(quiet())
    transfer_s = FILE.service_s + STATIC_BYTES / LINK_BYTES_PER_S
    assert model.transfer(FILE, STATIC_BYTES, 0.0).due_s == pytest.approx(transfer_s + LINK_S)
    assert model.transfer(FILE, STATIC_BYTES, 0.0).due_s == pytest.approx(2 * transfer_s + LINK_S)
    assert model.python_job(HELLO, 0.0).due_s == pytest.approx(HELLO.service_s + LINK_S)


def test_slowdown_is_exact_and_only_where_it_is_asked_for() -> None:
    model = TimingModel(quiet(slowdown={"python_heavy": 1.3}))
    heavy = model.python_job(HEAVY, 0.0)
    assert heavy.due_s == pytest.approx(1.3 * HEAVY.service_s + LINK_S)
    assert model.python_job(HELLO, 1.0).due_s == pytest.approx(1.0 + HELLO.service_s + LINK_S)
    model.reconfigure(quiet(slowdown={}))
    assert model.python_job(HEAVY, 2.0).due_s == pytest.approx(2.0 + HEAVY.service_s + LINK_S)


def test_a_full_queue_refuses_and_drains() -> None:
    model = TimingModel(quiet(queue_limit=3))
    assert [model.python_job(HELLO, 0.0).fate for _ in range(4)] == ["served"] * 3 + ["queue-full"]
    assert model.pressed(0.0)
    assert model.depth(HELLO.service_s) == 2
    assert model.python_job(HELLO, HELLO.service_s).fate == "served"
    assert model.depth(1.0) == 0


def test_a_job_that_would_wait_too_long_is_given_up_after_five_seconds() -> None:
    model = TimingModel(quiet(slowdown={"/hello": 1000}))
    first, second, third = (model.python_job(HELLO, 0.0) for _ in range(3))
    assert (first.fate, second.fate, third.fate) == ("served", "served", "timed-out")
    assert third.due_s == pytest.approx(5 + LINK_S)
    assert model.depth(4.9) == 2
    # It never ran, so it is not in the way.
    assert model.python_job(PING, 6.5).due_s == pytest.approx(6.5 + PING.service_s + LINK_S)


@pytest.mark.parametrize("noise", ["low", "medium", "high"])
def test_the_same_seed_gives_the_same_session_and_another_seed_another(noise: NoiseName) -> None:
    def times(seed: int) -> list[float]:
        return closed_loop(TimingModel(SimConfig(seed=seed, noise=noise)), 12, 3)

    assert times(5) == times(5)
    assert times(5) != times(6)


@pytest.mark.parametrize("noise", ["low", "medium", "high"])
def test_runs_and_sessions_vary_as_the_level_says(noise: NoiseName) -> None:
    level = LEVELS[noise]
    within, between = [], []
    for seed in range(16):
        model = TimingModel(SimConfig(seed=seed, noise=noise))
        runs = [math.log(len(closed_loop(model, 12, 2, 30.0 * run))) for run in range(8)]
        within.append(statistics.stdev(runs))
        between.append(statistics.fmean(runs))
    assert 0.6 * level.run_sigma < statistics.fmean(within) < 1.5 * level.run_sigma + 0.01
    expected = math.hypot(level.session_sigma, level.run_sigma / math.sqrt(8))
    assert 0.4 * expected < statistics.stdev(between) < 2.5 * expected


def test_p95_of_a_short_phase_is_no_coin_toss_at_low_noise() -> None:
    model = TimingModel(SimConfig(seed=3, noise="low"))
    p95s = []
    for run in range(20):
        times = sorted(closed_loop(model, 12, 2, 30.0 * run))
        p95s.append(math.log(times[int(0.95 * len(times))]))
    assert statistics.stdev(p95s) < 0.05


def test_wander_has_the_same_variance_at_and_between_its_knots() -> None:
    for at_s in (0.0, 7.0, 10.0, 20.0):
        logs = [math.log(Wander(stream(seed, "w"), 0.05).factor(at_s)) for seed in range(600)]
        assert statistics.stdev(logs) == pytest.approx(0.05, rel=0.1)


def test_spells_take_their_share_of_time_and_come_in_clusters() -> None:
    spells = Spells(stream(1, "s"), 0.02)
    hits = [spells.hit(index * 0.005) for index in range(200_000)]
    assert sum(hits) / len(hits) == pytest.approx(0.02, rel=0.25)
    followed = sum(a and b for a, b in pairwise(hits))
    assert followed / sum(hits) > 0.8
    assert not spells.hit(0.0)  # the past can be asked again


def test_a_collection_pauses_the_worker_when_the_heap_is_due_for_it() -> None:
    model = TimingModel(SimConfig(noise="low"))
    for number in range(200):
        model.python_job(HELLO, float(number))
    assert model.collections == 200 * HELLO.alloc_bytes // (54 * HELLO.alloc_bytes)
    assert model.gc_pause_s == pytest.approx(model.collections * LEVELS["low"].gc_pause_s)


def test_the_clock_is_continuous_when_its_scale_changes() -> None:
    real_s = 100.0
    clock = ScaledClock(0.1, lambda: real_s)
    real_s = 101.0
    assert clock.now() == pytest.approx(10)
    clock.rescale(2.0)
    assert clock.now() == pytest.approx(10)
    assert clock.real_until(11) == pytest.approx(2.0)
    assert clock.real_until(3) == 0
    real_s = 103.0
    assert clock.now() == pytest.approx(11)
    clock.restart()
    assert clock.now() == 0


def test_the_rate_limiter_allows_its_burst_and_then_its_rate() -> None:
    limiter = RateLimiter()
    assert sum(limiter.allows(0.0) for _ in range(500)) == 400
    assert sum(limiter.allows(0.5) for _ in range(500)) == 100


def test_a_restart_frees_worker_and_link() -> None:
    model = TimingModel(quiet(slowdown={"all": 1000}))
    model.python_job(HELLO, 0.0)
    model.transfer(FILE, STATIC_BYTES, 0.0)
    model.restart(1.0)
    model.reconfigure(quiet())
    again = model.python_job(HELLO, 1.0)
    assert (again.fate, again.start_s) == ("served", 1.0)
    assert again.due_s == pytest.approx(1.0 + HELLO.service_s + LINK_S)
    assert model.transfer(FILE, 0, 1.0).start_s == 1.0


def test_heap_shows_leak_sawtooth_watermark_and_a_reboot() -> None:
    config = SimConfig(noise="none", leak_bytes=100)
    model = TimingModel(config)
    device = Device(config, model)
    fresh = device.memory_stats()
    device.connected(+1)
    frees = []
    for number in range(120):
        device.request_started()
        model.python_job(HELLO, float(number))
        frees.append(device.memory_stats()["gc_mem_free"])
    device.connected(-1)
    worn = device.memory_stats()
    assert sum(b > a for a, b in pairwise(frees)) == 2  # two collections
    lost = fresh["heap"]["internal_free"] - worn["heap"]["internal_free"]
    assert 12_000 <= lost <= 12_000 + 8_192
    assert fresh["heap"]["internal_largest"] - worn["heap"]["internal_largest"] == 12_000
    assert worn["heap"]["internal_min_free"] < worn["heap"]["internal_free"]
    assert device.server_stats(5.0)["server"]["requests_started"] == 120
    model.restart(5.0)
    device.reboot(5.0, "software")
    assert device.memory_stats() == fresh
    assert device.server_stats(5.0)["server"]["requests_started"] == 0


def test_an_endless_leak_ends_at_a_floor() -> None:
    config = SimConfig(leak_bytes=10**9)
    device = Device(config, TimingModel(config))
    device.request_started()
    heap = device.memory_stats()["heap"]
    assert 0 < heap["internal_largest"] <= heap["internal_free"] == heap["internal_min_free"]


def test_fragmentation_and_boot_info_show() -> None:
    config = SimConfig(fragmentation=0.75, boot_info=True)
    device = Device(config, TimingModel(config))
    heap = device.memory_stats()["heap"]
    assert heap["internal_largest"] < 0.25 * heap["internal_free"]
    device.reboot(2.0, "software")
    stats = device.server_stats(3.5)
    assert (stats["uptime_ms"], stats["boot_id"], stats["reset_reason"]) == (1500, 2, "software")


def test_there_are_56_counters_of_distinct_names() -> None:
    assert len(SERVER_COUNTERS) == len(set(SERVER_COUNTERS)) == 56


def test_the_fault_plan_knows_what_is_active_and_what_comes_next() -> None:
    plan = FaultPlan((Fault("hang", 3, 2), Fault("reboot", 4), Fault("reset", 10)), 100.0)
    assert plan.active(HANG, 102.9) is None
    assert plan.active(HANG, 103.0) == "hang"
    assert plan.active(HANG, 105.0) is None
    assert plan.active(DOWN, 105.9) == "reboot"
    assert plan.active(DOWN, 106.0) is None
    assert plan.active(SPOILING, 1e9) == "reset"
    assert plan.next_change_s(0.0) == 103.0
    assert plan.next_change_s(103.0) == 104.0
    assert plan.next_change_s(110.0) is None
    assert plan.begun(104.0) == ["hang", "reboot"]
    assert plan.begun(104.0) == []
    assert plan.begun(1000.0) == ["reset"]
