"""What happens around a load, in which order and when: on a fake clock, on boards that a test makes up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_espperf.config.lookup import resolve
from pytest_espperf.config.profiles import load_profiles
from pytest_espperf.device import LinkReading, TelemetryReading
from pytest_espperf.errors import DeviceError, ProbeError
from pytest_espperf.model.artifact import LinkReport
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.session.context import make_context
from pytest_espperf.session.meter import FRESH_S, STEADY_BYTES, LoadEnd, Measured, Meter
from pytest_espperf.session.plan import make_plan
from pytest_espperf.session.time_budget import LINK_S, TELEMETRY_S, phase_budget

LOAD_S = 2.0
GET_S = 0.005
CONNECTS_S = 0.06


class Bench:
    """A board on a clock that moves only when something takes its time.

    Attributes:
        steps: what was asked of the board, and when.
        drain_s: seconds for which answers are awaited after a load.
        connects_s: seconds of a reading of the link.
        dies_s: when the board dies; it takes ``lost_s`` to find no counters.
        links: what each reading of the link gives; the last one for ever.
        heap: free bytes of the heap when it is asked for; by default they have not settled yet.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **words: str) -> None:
        self.now = 100.0
        self.steps: list[tuple[str, float]] = []
        self.drain_s = 0.05
        self.connects_s = CONNECTS_S
        self.dies_s = float("inf")
        self.links = [LinkReading(connect_ms=(1.0, 2.0))]
        self.heap: Callable[[float], dict[str, Any]] = lambda now: {"internal_free": round(1e5 * now)}
        self.slept: list[float] = []
        self.budgets_s: list[float] = []
        self.asked_for: list[str] = []
        self.answers: list[bool] = []
        defaults = {"perf_profiles": "python_light", "perf_burst_duration": str(LOAD_S)}
        self.settings = resolve({**defaults, **words}, {}, {})
        context = make_context(self.settings, folder, folder=folder, clock=lambda: self.now, sleep=self.sleep)
        self.plan = context.plan
        self.board = board = SimpleNamespace(
            target=None,
            link_probes=self.settings.perf_link_probes == "on",
            link_path="/hello",
            probe=self.probe,
            notes=[],
            heard=list,
            telemetry=SimpleNamespace(
                read=self.read,
                read_stats=self.read_stats,
                read_memory=self.read_memory,
                spec=SimpleNamespace(counter_names=()),
            ),
        )
        self.meter = Meter(cast("Any", board), context)
        monkeypatch.setattr("pytest_espperf.device.read_link", self.read_link)
        monkeypatch.setattr("pytest_espperf.load.run_phase", self.run_phase)

    def probe(self, budget_s: float, tries: int = 0) -> None:
        self.take("again" if tries == 0 else "probe", GET_S)
        if self.answers and not self.answers.pop(0):
            raise ProbeError("no healthy answer")

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds

    def take(self, step: str, seconds: float) -> None:
        self.steps.append((step, self.now))
        self.now += seconds

    def read(self, *, reset: bool, budget_s: float) -> TelemetryReading:
        assert reset
        self.take("zero", 2 * GET_S)
        return TelemetryReading(stats={"requests_started": 0}, memory={"internal_free": 90_000})

    def told(self, budget_s: float, figures: dict[str, Any]) -> dict[str, Any]:
        self.budgets_s.append(budget_s)
        if self.now < self.dies_s:
            return figures
        self.now += max(0.0, budget_s)
        return {}

    def read_stats(self, *, budget_s: float) -> dict[str, Any]:
        self.take("counters", GET_S)
        return self.told(budget_s, {"requests_started": 9})

    def read_memory(self, *, budget_s: float) -> dict[str, Any]:
        self.take("heap", GET_S)
        return self.told(budget_s, self.heap(self.now))

    def read_link(self, _: object, *, budget_s: float, path: str) -> LinkReading:
        self.asked_for.append(path)
        self.take("link", min(self.connects_s, budget_s))
        return self.links.pop(0) if len(self.links) > 1 else self.links[0]

    def run_phase(self, *_: object, **__: object) -> PhaseSamples:
        self.take("load", LOAD_S + self.drain_s)
        return PhaseSamples(("/",), 1, LOAD_S)

    def measure(self, left: Callable[[], float] = lambda: 40.0) -> Measured:
        """One phase; its steps are the last ones."""
        self.steps.clear()
        planned = self.plan.phases()[0]
        budget = phase_budget(self.settings, self.plan, planned)
        return self.meter.measure(planned, budget, left=left)

    def since_load(self, step: str) -> float:
        """Seconds from the planned end of the load to the last such step."""
        times = dict(self.steps)
        return times[step] - times["load"] - LOAD_S

    @property
    def order(self) -> list[str]:
        return [step for step, _ in self.steps]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_the_links_connects_stay_out_of_the_counters(bench: Bench) -> None:
    measured = bench.measure()
    assert bench.order == ["link", "zero", "load", "counters", "heap", "link", "heap", "heap"]
    assert measured.report.stats_after == {"requests_started": 9}
    assert measured.report.mem_after == bench.heap(bench.now)


def test_the_link_is_read_while_the_board_settles(bench: Bench) -> None:
    bench.measure()
    assert bench.since_load("link") == pytest.approx(0.05 + 2 * GET_S)
    assert bench.since_load("heap") == pytest.approx(0.25)
    assert bench.slept == pytest.approx([0.25 - 0.05 - 3 * GET_S - CONNECTS_S])


@pytest.mark.parametrize(
    ("moves", "waits"), [(0, False), (STEADY_BYTES, False), (-STEADY_BYTES, False), (STEADY_BYTES + 1, True)]
)
def test_a_heap_that_two_readings_agree_on_has_settled(bench: Bench, moves: int, waits: bool) -> None:
    readings = iter([{"heap": {"internal_free": 80_000 + moves * number}} for number in range(3)])
    bench.heap = lambda _: next(readings)
    measured = bench.measure()
    steps = ["link", "zero", "load", "counters", "heap", "link", "heap"]
    assert bench.order == steps + ["heap"] * waits
    assert measured.report.mem_after == {"heap": {"internal_free": 80_000 + moves * (1 + waits)}}
    early_s = 0.05 + 2 * GET_S + CONNECTS_S
    assert bench.since_load("heap") == pytest.approx(0.25 if waits else early_s)


def test_both_heaps_have_to_settle(bench: Bench) -> None:
    bench.heap = lambda now: {"internal_free": 80_000, "psram_free": round(1e6 * now)}
    bench.measure()
    assert bench.since_load("heap") == pytest.approx(0.25)


def test_a_fifth_of_the_settling_time_is_waited_for_whatever_the_heap_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, monkeypatch, perf_settle_ms="2000", perf_link_probes="off")
    bench.heap = lambda _: {"internal_free": 80_000}
    bench.measure()
    assert bench.order == ["zero", "load", "counters", "heap", "heap"]
    assert bench.since_load("heap") == pytest.approx(0.05 + 0.4)


def test_a_board_that_does_not_tell_its_heap_has_the_whole_time(bench: Bench) -> None:
    bench.heap = lambda _: {}
    bench.measure()
    assert bench.since_load("heap") == pytest.approx(0.25)


@pytest.mark.parametrize("drain_s", [0.2, 0.5, 3.0])
def test_a_fifth_of_the_settling_time_follows_the_last_answer(bench: Bench, drain_s: float) -> None:
    bench.drain_s = drain_s
    bench.connects_s = 0.01
    bench.measure()
    assert bench.since_load("heap") == pytest.approx(drain_s + 0.05)


def test_a_load_that_was_cut_short_has_ended_when_it_did(bench: Bench) -> None:
    bench.drain_s = -1.5
    ended = bench.measure().ended
    assert ended is not None
    assert ended.planned_s == ended.last_s == pytest.approx(100.0 + CONNECTS_S + 2 * GET_S + 0.5)
    assert bench.since_load("heap") == pytest.approx(-1.5 + 0.25)


def test_without_a_settling_time_nothing_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, monkeypatch, perf_settle_ms="0")
    bench.measure()
    assert bench.order == ["link", "zero", "load", "counters", "link", "heap"]
    assert bench.slept == []


def test_a_slow_link_is_read_to_its_end_and_no_longer_than_its_share(bench: Bench) -> None:
    bench.connects_s = 0.9
    bench.measure()
    assert bench.order == ["link", "zero", "load", "counters", "heap", "link", "heap"]
    assert bench.slept == []
    assert bench.since_load("heap") == pytest.approx(0.05 + 2 * GET_S + 0.9)
    bench.connects_s = 60.0
    bench.measure()
    assert bench.since_load("heap") == pytest.approx(0.05 + 2 * GET_S + LINK_S)


def test_a_board_that_dies_while_it_settles_takes_no_more_time_than_one_reading_may(bench: Bench) -> None:
    bench.dies_s = 100.0 + CONNECTS_S + 2 * GET_S + LOAD_S + bench.drain_s + 0.001
    bench.links = [LinkReading(connect_ms=(1.0,)), LinkReading(failed=4)]
    measured = bench.measure()
    assert measured.report.stats_after == measured.report.mem_after == {}
    assert measured.report.link == LinkReport(connect_ms=[1.0], failed=4)
    assert sum(max(0.0, budget_s) for budget_s in bench.budgets_s) == pytest.approx(12.0)


def test_a_board_that_dies_before_its_heap_is_read_has_told_its_counters(bench: Bench) -> None:
    bench.dies_s = 100.0 + CONNECTS_S + 2 * GET_S + LOAD_S + 0.2
    measured = bench.measure()
    assert measured.report.stats_after == {"requests_started": 9}
    assert measured.report.mem_after == {}
    assert bench.budgets_s == pytest.approx([12.0 - asked * GET_S for asked in range(4)])


def test_time_that_is_short_bounds_the_readings(bench: Bench) -> None:
    bench.connects_s = 60.0
    bench.measure(left=lambda: 0.5)
    assert bench.budgets_s == pytest.approx([1.0, 1.0 - GET_S, 1.0 - 2 * GET_S])
    assert bench.since_load("heap") == pytest.approx(0.05 + 2 * GET_S + 0.5)


class TestSharedLink:
    """One reading between two phases that follow each other."""

    def test_it_stands_behind_the_one_and_before_the_other(self, bench: Bench) -> None:
        bench.links = [
            LinkReading(connect_ms=(1.0, 2.0), failed=1),
            LinkReading(connect_ms=(3.0,), retransmitted=2),
            LinkReading(connect_ms=(4.0, 5.0), failed=3),
        ]
        first = bench.measure().report.link
        assert first == LinkReport(connect_ms=[1.0, 2.0, 3.0], retransmitted=2, failed=1)
        second = bench.measure().report.link
        assert bench.order == ["zero", "load", "counters", "heap", "link", "heap", "heap"]
        assert second == LinkReport(
            connect_ms=[3.0, 4.0, 5.0],
            retransmitted=2,
            failed=3,
            shared_connects=1,
            shared_retransmitted=2,
            shared_failed=0,
        )

    def test_it_is_made_anew_once_it_is_old(self, bench: Bench) -> None:
        bench.measure()
        bench.now += FRESH_S
        measured = bench.measure()
        assert bench.order[0] == "link"
        assert measured.report.link is not None
        assert measured.report.link.shared_connects == 0

    def test_it_is_not_of_another_firmware(self, bench: Bench) -> None:
        bench.measure()
        bench.meter.forget()
        bench.measure()
        assert bench.order[0] == "link"

    def test_it_is_not_taken_over_a_phase_that_broke_off(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object, **__: object) -> PhaseSamples:
            raise KeyboardInterrupt

        bench.measure()
        with monkeypatch.context() as patch:
            patch.setattr("pytest_espperf.load.run_phase", broken)
            with pytest.raises(KeyboardInterrupt):
                bench.measure()
        bench.measure()
        assert bench.order[0] == "link"


class TestLinkProbesOff:
    """``--perf-link-probes off``."""

    def test_no_connect_is_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bench = Bench(tmp_path, monkeypatch, perf_link_probes="off")
        for _ in range(2):
            measured = bench.measure()
            assert bench.order == ["zero", "load", "counters", "heap", "heap", "heap"]
            assert measured.report.link is None
            assert bench.since_load("heap") == pytest.approx(0.25)

    def test_their_share_of_the_budget_is_the_probes(self, tmp_path: Path) -> None:
        on, off = (resolve({"perf_link_probes": word}, {}, {}) for word in ("on", "off"))
        plan = make_plan(on, load_profiles(tmp_path))
        with_it, without = (phase_budget(settings, plan, plan.phases()[0]) for settings in (on, off))
        assert without.probe_s - with_it.probe_s == pytest.approx(2 * LINK_S)
        assert without.inner_s == with_it.inner_s
        assert with_it.probe_s + with_it.load_s + 2 * (LINK_S + TELEMETRY_S) <= with_it.inner_s


def test_a_pause_counts_from_the_planned_end_and_keeps_a_share_behind_the_last_answer() -> None:
    assert LoadEnd(planned_s=10.0, last_s=10.1).rested_s(0.5) == pytest.approx(10.5)
    assert LoadEnd(planned_s=10.0, last_s=12.0).rested_s(0.5) == pytest.approx(12.1)
    assert LoadEnd(planned_s=10.0, last_s=12.0).rested_s(0.0) == pytest.approx(12.0)


class TestEmptyConnections:
    """Connections without a request, which no client opens."""

    def test_none_is_opened_where_an_answer_is_quick(self, bench: Bench) -> None:
        bench.measure()
        assert set(bench.asked_for) == {"/hello"}
        assert "probe" not in bench.order

    def test_the_board_is_asked_behind_the_first_ones(self, bench: Bench) -> None:
        bench.board.link_path = ""
        bench.measure()
        assert bench.order[:3] == ["link", "probe", "zero"]
        bench.now += 2 * FRESH_S
        bench.measure()
        assert "probe" not in bench.order
        assert not bench.board.notes

    def test_a_board_that_they_silence_for_a_while_is_spared_them(self, bench: Bench) -> None:
        bench.board.link_path = ""
        bench.answers = [False, True]
        measured = bench.measure()
        assert bench.order.count("link") == 1
        assert not bench.board.link_probes
        (note,) = bench.board.notes
        assert "after an empty connection" in note
        assert "--perf-link-probes=off" in note
        assert measured.report.link is not None

    def test_a_board_that_they_kill_is_said_to_have_died_of_them(self, bench: Bench) -> None:
        bench.board.link_path = ""
        bench.answers = [False, False]
        with pytest.raises(DeviceError) as caught:
            bench.measure()
        assert "no answer any more after an empty connection" in str(caught.value)
        assert "--perf-link-probes=off" in str(caught.value)
        assert "load" not in bench.order
