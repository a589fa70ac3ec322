"""How long a board may take, and what its worker says; on boards that take the time that a test says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import msgspec
import pytest
from support.list_sink import ListSink

from pytest_espperf.config.lookup import resolve
from pytest_espperf.device import Probe
from pytest_espperf.errors import DeviceError
from pytest_espperf.model.artifact import EndedEarly, PathAnswer, PhaseReport
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import Profile, TelemetrySpec
from pytest_espperf.plugin.state import PerfState
from pytest_espperf.session.board import BoardFacts
from pytest_espperf.session.confirming import confirmation_runs
from pytest_espperf.session.context import make_context
from pytest_espperf.session.driver import PhaseDriver
from pytest_espperf.session.meter import LoadEnd, Measured
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.session import PerfSession
from pytest_espperf.session.worker import Worker, WorkerResult

WORDS = {
    "perf_profiles": "python_light",
    "perf_runs": "2",
    "perf_between_runs_ms": "0",
    "perf_hard_timeout_s": "8",
}
LOST = "the control board b2 was lost at python_light:burst: no answer"


class Bench:
    """Time, and what boards take of it.

    Attributes:
        phase_s: seconds of each phase's load, where they are left.
        left_s: of each phase, the seconds that were left for it.
        said: lines for the user, of all.
        slept: seconds of each pause between runs; no time passes by them.
        ended: whether it is known when a load ended: half a second before its phase.
    """

    def __init__(self, folder: Path) -> None:
        self.now = 100.0
        self.phase_s = 1.5
        self.left_s: list[float] = []
        self.said: list[str] = []
        self.slept: list[float] = []
        self.ended = True
        self.folder = folder

    def how(self, boards: int, board: str) -> dict[str, Any]:
        return {"boards": boards, "board": board, "clock": lambda: self.now, "sleep": self.slept.append}

    def worker(self, boards: int, board: str = "", **more: str) -> Worker:
        told: dict[str, Any] = {"folder": str(self.folder), "session_id": "s1", "at_once": 2}
        return Worker(resolve({**WORDS, **more}, {}, {}), self.folder, **told, **self.how(boards, board))

    def session(self, boards: int, board: str = "", **more: str) -> PerfSession:
        settings = resolve({**WORDS, "perf_history": str(self.folder / "history"), **more}, {}, {})
        session = PerfSession(settings, self.folder, say=self.said.append, **self.how(boards, board))
        session.open(alone=False, reach=False)
        return session

    def measure(self, *_: object, left: Any, **__: object) -> Measured:
        self.left_s.append(left())
        self.now += min(self.phase_s, self.left_s[-1])
        ended = LoadEnd(planned_s=self.now - 0.5, last_s=self.now - 0.4) if self.ended else None
        return Measured(PhaseReport(requests_total=9, ok=9), PhaseSamples(("/",), 1, 1.0), [], ended)


class AnswersRight:
    """Asked for its paths, a board answers as it should."""

    reason = ""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, PathAnswer]] = {}

    def ask(self, profiles: Iterable[Profile], _budget_s: float) -> None:
        right = PathAnswer(status=200)
        self.answers = {one.name: {spec.path: right for spec in one.requests} for one in profiles}


class StandingBench:
    """A board that is there, and a reference beside it."""

    def __init__(self, bench: Bench) -> None:
        self.board = SimpleNamespace(
            console=None,
            telemetry=SimpleNamespace(spec=TelemetrySpec()),
            last_words=lambda: "",
            heard=list,
            probe=lambda _: Probe(1, 200, 0.01),
            find_delayed_acks=lambda *_: None,
            target=None,
        )
        self.meter = bench
        self.reference: Any = None

    def find_named(self) -> None:
        self.reference = SimpleNamespace(lost="")

    def facts(self) -> BoardFacts | None:
        if self.reference is None:
            return None
        return BoardFacts(identity="b", name="b", description={"reference": {"lost": self.reference.lost}})


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path)
    monkeypatch.setattr("pytest_espperf.session.driver.Bench", lambda *_: StandingBench(made))
    monkeypatch.setattr("pytest_espperf.session.preflight.find_capacity", lambda *_, **__: None)
    monkeypatch.setattr("pytest_espperf.session.preflight.Asker", lambda *_: AnswersRight())
    return made


def drive(worker: Worker, index: int) -> PlannedPhase:
    """Drive one phase of the plan."""
    planned = worker.driver.context.plan.phases()[index]
    again(worker.driver, planned)
    return planned


def again(driver: PhaseDriver, planned: PlannedPhase) -> None:
    """Drive one phase, planned or not."""
    driver.run_phase(planned, driver.context.budget(planned))


def sent(worker: Worker, planned: PlannedPhase) -> WorkerResult:
    """What a worker sends behind a phase."""
    return msgspec.json.decode(worker.result_of(planned), type=WorkerResult)


def test_a_driver_gives_each_phase_to_its_sink_and_asks_it_before_each_run(bench: Bench) -> None:
    sink = ListSink()
    sink.ends[2] = {"python_light": EndedEarly(after=1, planned=2, why="calm")}
    settings = resolve({**WORDS, "perf_save_samples": "true"}, {}, {})
    context = make_context(
        settings, bench.folder, folder=bench.folder, say=bench.said.append, **bench.how(1, "")
    )
    driver = PhaseDriver(context, sink)
    results = [driver.run_phase(planned, context.budget(planned)) for planned in context.plan.phases()]
    first, second = "run1-python_light-burst", "run1-python_light-long"
    assert sink.calls == [
        "decide before run 1",
        *(f"samples {first}", f"add {first}", "end"),
        *(f"samples {second}", f"add {second}", "end"),
        "decide before run 2",
    ]
    assert [one.report.samples_file if one is not None else None for one in results] == [
        *(f"{first}.csv", f"{second}.csv"),
        *(None, None),
    ]
    assert bench.said == ["python_light: unchanged after 1 of 2 runs"]


def test_the_time_of_one_board_runs_from_the_sessions_begin(bench: Bench) -> None:
    alone = bench.worker(1)
    bench.now += 5
    drive(alone, 0)
    bench.now += 1
    with pytest.raises(DeviceError) as stopped:
        drive(alone, 1)
    assert bench.left_s == pytest.approx([3, 0.5])
    assert "hard timeout: 8.0 s of 8 s (--perf-hard-timeout-s) had passed at" in str(stopped.value)


def test_the_pause_between_runs_counts_what_has_passed_since_the_last_load(bench: Bench) -> None:
    worker = bench.worker(1, perf_between_runs_ms="800", perf_hard_timeout_s="0")
    drive(worker, 0)
    drive(worker, 1)
    assert bench.slept == []  # within a run there is none
    bench.now += 0.1
    drive(worker, 2)
    assert bench.slept == pytest.approx([0.2])
    (confirmation, *_) = confirmation_runs(worker.driver.context.plan, {"python_light": 1})
    bench.now += 10
    again(worker.driver, confirmation)
    assert len(bench.slept) == 1


def test_the_pause_is_whole_where_it_is_not_known_when_the_last_load_ended(bench: Bench) -> None:
    bench.ended = False
    worker = bench.worker(1, perf_between_runs_ms="800", perf_hard_timeout_s="0")
    for index in range(3):
        drive(worker, index)
    assert bench.slept == pytest.approx([0.8])


def test_the_time_of_several_boards_is_that_of_their_own_phases(bench: Bench) -> None:
    boards = [bench.worker(3, name) for name in ("left", "middle", "right")]
    bench.now += 1000  # in the queue
    for index in range(4):
        for board in boards:
            drive(board, index)
    assert [board.driver.hard_timeout.spent_s for board in boards] == pytest.approx([6, 6, 6])
    assert [board.driver.state.hard_stop_reason for board in boards] == ["", "", ""]


def test_a_board_that_hangs_has_no_more_than_its_own_time(bench: Bench) -> None:
    hung, fine = bench.worker(2, "left"), bench.worker(2, "right")
    drive(hung, 0)
    drive(fine, 0)
    bench.phase_s = float("inf")
    with pytest.raises(DeviceError):
        drive(hung, 1)
    assert bench.left_s[-1] == pytest.approx(6.5)
    assert "8.0 s of 8 s" in hung.driver.state.hard_stop_reason
    assert "had passed in this board's own phases at" in hung.driver.state.hard_stop_reason
    bench.phase_s = 1.5
    drive(fine, 1)
    assert bench.left_s[-1] == pytest.approx(6.5)


@pytest.mark.parametrize("boards", [1, 2])
def test_confirmation_goes_on_with_the_time_that_workers_have_left(bench: Bench, boards: int) -> None:
    name = "left" if boards > 1 else ""
    session, worker = bench.session(boards, name), bench.worker(boards, name)
    for index in range(4):
        planned = drive(worker, index)
        session.receiver.receive(planned, worker.result_of(planned))
    assert session.driver.hard_timeout.spent_s == pytest.approx(6)
    bench.now += 0.25  # while nothing is measured
    (confirmation, *_) = confirmation_runs(session.context.plan, {"python_light": 1})
    again(session.driver, confirmation)
    assert bench.left_s[-1] == pytest.approx(2 if boards > 1 else 1.75)
    session.close()


def test_what_a_worker_says_is_said_once_and_of_which_board(bench: Bench) -> None:
    (bench.folder / "samples_s1").write_text("in the way", encoding="utf-8")
    session = bench.session(2, "left")
    worker = bench.worker(2, "left", perf_save_samples="true", perf_heartbeat_ms="100")
    planned = drive(worker, 0)
    session.receiver.receive(planned, worker.result_of(planned))
    (said,) = bench.said
    assert said.startswith("left: WARNING: ")
    assert "samples_s1" in said
    assert sent(worker, planned).lines == []
    session.close()


def test_a_worker_does_not_tell_how_a_phase_stands(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: object, on_heartbeat: Any, left: Any, **__: object) -> Measured:
        on_heartbeat(SimpleNamespace(p95_ms=1.0, elapsed_s=1.0, duration_s=2.0, errors=0, rps=9.0))
        return Bench.measure(bench, left=left)

    monkeypatch.setattr(bench, "measure", measure)
    worker = bench.worker(2, "left")
    assert sent(worker, drive(worker, 0)).lines == []


def test_a_reference_that_a_worker_lost_stays_lost_where_the_board_is_measured_again(bench: Bench) -> None:
    session, worker = bench.session(1), bench.worker(1)
    planned = worker.driver.context.plan.phases()[0]
    worker.driver.bench.find_named()
    reference = worker.driver.bench.reference
    assert reference is not None
    reference.lost = LOST
    session.receiver.receive(planned, worker.result_of(planned))
    session.receiver.take_over()
    assert session.driver.bench.facts() == worker.driver.bench.facts()
    session.close()


def test_what_is_said_is_one_line_whatever_a_board_has_put_into_it() -> None:
    config = MagicMock()
    config.get_terminal_writer.return_value.configure_mock(width_of_current_line=0, fullwidth=80)
    PerfState(config).say("lost: \x1b[2J\n::error::no")
    reporter = config.pluginmanager.getplugin("terminalreporter")
    reporter.write_line.assert_called_once_with("[espperf] lost: ?[2J ::error::no")
