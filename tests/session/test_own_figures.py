"""The firmware's own figures as they come: gauges behind phases, lines of the console, workers' results."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pytest_espperf.device import PrintedFigure
from pytest_espperf.model.artifact import OwnFigure, PhaseReport
from pytest_espperf.model.findings import FIGURES
from pytest_espperf.model.workload import Gauge, TelemetrySpec
from pytest_espperf.session.own_figures import MOST_SAID, OwnFigures
from pytest_espperf.session.state import SessionState

GAUGES = (
    Gauge("peak", "server.peak"),
    Gauge("free", "heap_free", unit="bytes", better="higher"),
    Gauge("text", "name"),
)


class Bench:
    """A board with gauges and a console, and what is gathered from them."""

    def __init__(self) -> None:
        self.state = SessionState()
        self.said: list[str] = []
        self.printed: list[PrintedFigure] = []
        console = SimpleNamespace(take_figures=self._take)
        telemetry = SimpleNamespace(spec=TelemetrySpec(gauges=GAUGES))
        board: Any = SimpleNamespace(console=console, telemetry=telemetry)
        context: Any = SimpleNamespace(say=self.said.append)
        self.own = OwnFigures(context, self.state, lambda: board)

    def _take(self) -> list[PrintedFigure]:
        taken, self.printed = self.printed, []
        return taken

    def phase(self, role: str = "run", **readings: Any) -> None:
        planned: Any = SimpleNamespace(role=role)
        self.own.take_behind(planned, PhaseReport(**readings))


STATS = {"server": {"peak": 7}, "name": "x"}
MEMORY = {"internal": {"heap_free": 1000}}


def test_each_phase_has_one_value_of_each_gauge() -> None:
    bench = Bench()
    for role in ("run", "confirm"):
        bench.phase(role, stats_after=STATS, mem_after=MEMORY)
    assert bench.state.figures == {
        "peak": OwnFigure(values=[7.0, 7.0], source="telemetry"),
        "free": OwnFigure(unit="bytes", better="higher", values=[1000.0, 1000.0], source="telemetry"),
    }
    assert bench.said == ["WARNING: the gauge text has no value: no number stands at name"]


def test_of_a_board_without_telemetry_each_gauge_is_missing_in_the_end() -> None:
    bench = Bench()
    bench.phase()
    assert bench.state.figures == {}
    assert bench.said == [], "behind each phase it would be noise"
    found = bench.own.missing_gauges()
    assert [one.where for one in found] == ["figure:peak", "figure:free", "figure:text"]
    assert {(one.severity, one.kind) for one in found} == {("warn", FIGURES)}
    assert "server.peak" in found[0].message


def test_a_gauge_that_was_read_once_is_not_missing() -> None:
    bench = Bench()
    bench.phase()
    bench.phase(stats_after=STATS, mem_after=MEMORY)
    bench.phase()
    assert [one.where for one in bench.own.missing_gauges()] == ["figure:text"]


def test_no_gauge_is_missing_where_nothing_was_measured_on_this_firmware() -> None:
    bench = Bench()
    assert bench.own.missing_gauges() == []
    bench.phase("ab-baseline")
    assert bench.own.missing_gauges() == []


def test_the_gauges_of_a_worker_are_known_to_the_controller() -> None:
    bench, controller = Bench(), Bench()
    bench.phase()
    sent = msgspec.json.decode(msgspec.json.encode(bench.state), type=SessionState)
    controller.state.merge(sent)
    assert controller.own.missing_gauges() == bench.own.missing_gauges() != []


def test_printed_figures_are_values_of_their_own() -> None:
    bench = Bench()
    bench.printed = [PrintedFigure("copy", 30.0, "MB/s"), PrintedFigure("copy", 31.0, "MB/s")]
    bench.own.take_printed()
    assert bench.state.figures == {
        "copy": OwnFigure(unit="MB/s", better="higher", values=[30.0, 31.0], source="console")
    }


def test_the_other_firmware_of_a_pair_adds_nothing() -> None:
    bench = Bench()
    bench.printed = [PrintedFigure("copy", 30.0, "")]
    bench.phase("ab-baseline", stats_after=STATS)
    bench.printed = [PrintedFigure("copy", 31.0, "")]
    bench.own.take_printed()
    bench.printed = [PrintedFigure("copy", 32.0, "")]
    bench.own.switched("ab-candidate")
    assert bench.state.figures == {}
    bench.printed = [PrintedFigure("copy", 33.0, "")]
    bench.own.take_printed()
    assert bench.state.figures["copy"].values == [33.0]


def test_what_cannot_be_added_is_said_once_and_at_most_some_times() -> None:
    bench = Bench()
    for unit in ("us", "ms", "ms"):
        bench.printed = [PrintedFigure("x", 1.0, unit)]
        bench.own.take_printed()
    assert bench.state.figures["x"].values == [1.0]
    assert len(bench.said) == 1
    bench.printed = [PrintedFigure("x", 1.0, f"u{number}") for number in range(100)]
    bench.own.take_printed()
    assert len(bench.said) == MOST_SAID


def test_what_workers_send_adds_up_in_the_controller() -> None:
    state = SessionState(figures={"a": OwnFigure(values=[1.0], source="file")})
    for value in (2.0, 3.0):
        sent = SessionState(figures={"b": OwnFigure(values=[value], source="test")}, booted=True)
        state.merge(msgspec.json.decode(msgspec.json.encode(sent), type=SessionState))
    assert state.figures["b"].values == [2.0, 3.0]
    assert state.figures["a"].values == [1.0]
    assert state.booted


@pytest.mark.parametrize("source", ["console", "telemetry"])
def test_a_source_does_not_spoil_the_figures_of_another(source: str) -> None:
    bench = Bench()
    bench.state.figures["a"] = OwnFigure(values=[1.0], source="test")
    bench.own.add("a", 2.0, source=source)
    assert bench.state.figures["a"].values == [1.0]
    assert source in bench.said[0]
