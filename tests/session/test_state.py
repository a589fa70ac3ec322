"""What a session knows besides its phases, what it adds from its workers, and what it takes back."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support.list_sink import ListSink

from pytest_espperf.config.lookup import resolve
from pytest_espperf.model.artifact import Capacity, EndedEarly, PathAnswer, PhaseReport, PhaseResult
from pytest_espperf.session.board import BoardFacts
from pytest_espperf.session.context import Context, make_context
from pytest_espperf.session.driver import PhaseDriver
from pytest_espperf.session.hard_timeout import HardTimeout
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.receiving import PhaseReceiver
from pytest_espperf.session.state import SessionState
from pytest_espperf.session.worker import MeasuredPhase, WorkerResult

ENDED = {"python_light": EndedEarly(after=1, planned=3, why="calm")}


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def context(tmp_path: Path, said: list[str]) -> Context:
    settings = resolve({"perf_profiles": "python_light", "perf_runs": "3"}, {}, {})
    return make_context(settings, tmp_path, folder=tmp_path, boards=2, board="left", say=said.append)


def result(planned: PlannedPhase, state: SessionState, *, lines: tuple[str, ...] = ()) -> str:
    """A worker's result of a phase, and of the control board's beside it."""
    measured = PhaseResult(
        profile=planned.profile.name, phase=planned.phase.name, passed=True, report=PhaseReport()
    )
    both = [
        MeasuredPhase(role="run", board="", result=measured),
        MeasuredPhase(role="reference", board="b2", result=measured),
    ]
    sent = WorkerResult(phase=planned.id, measured=both, state=state, lines=list(lines), spent_s=2.0)
    return msgspec.json.encode(sent).decode()


def test_what_a_worker_sends_is_added_in_order(context: Context, said: list[str]) -> None:
    sink = ListSink()
    driver = PhaseDriver(context, sink)
    receiver = PhaseReceiver(driver, sink)
    first, *_ = context.plan.phases()
    receiver.receive(first, result(first, SessionState(hard_stop_reason="no answer"), lines=("slow",)))
    assert sink.calls == [
        f"add {first.id}",
        f"add {first.id.replace('run1', 'reference1')} b2",
        "end no answer",
    ]
    assert said == ["left: slow"]
    assert driver.hard_timeout.spent_s == pytest.approx(2.0)


def test_a_run_behind_the_end_of_its_profile_does_not_count(context: Context) -> None:
    sink = ListSink()
    driver = PhaseDriver(context, sink)
    receiver = PhaseReceiver(driver, sink)
    driver.state.ended |= ENDED
    second = next(planned for planned in context.plan.phases() if planned.run == 2)
    receiver.receive(second, result(second, SessionState()))
    assert sink.calls == ["end"]


def test_a_phase_whose_worker_died_is_taken_back(context: Context) -> None:
    sink = ListSink()
    receiver = PhaseReceiver(PhaseDriver(context, sink), sink)
    first, *_ = context.plan.phases()
    receiver.discard(first)
    assert sink.calls == [f"discard {first.id}", "end"]
    assert receiver.void == [f"{first.cell} of run 1"]


def test_a_later_state_adds_to_what_is_known_and_takes_nothing_away() -> None:
    right, wrong = PathAnswer(status=200), PathAnswer(status=404)
    known = SessionState(
        facts=BoardFacts(identity="a", name="a"),
        console=["after one, it died"],
        capacity=Capacity(connections=4, ended=""),
        answers={"one": {"/": right}},
    )
    known.merge(SessionState(hard_stop_reason="first", ended=ENDED, console=["after two, it died"]))
    known.merge(SessionState(hard_stop_reason="second", answers={"two": {"/": wrong}}))
    assert known == SessionState(
        facts=BoardFacts(identity="a", name="a"),
        hard_stop_reason="first",
        ended=ENDED,
        console=["after one, it died", "after two, it died"],
        capacity=Capacity(connections=4, ended=""),
        answers={"one": {"/": right}, "two": {"/": wrong}},
    )


@pytest.mark.parametrize(("boards", "left_s"), [(1, 5.0), (2, 6.0)])
def test_the_time_of_a_worker_counts_once(tmp_path: Path, boards: int, left_s: float) -> None:
    times = iter((100.0, 103.0, 103.0))  # a phase in a worker, which says that it took two
    context = make_context(
        resolve({"perf_hard_timeout_s": "8"}, {}, {}),
        tmp_path,
        folder=tmp_path,
        boards=boards,
        clock=lambda: next(times),
    )
    timeout = HardTimeout(context)
    timeout.add(2.0)
    assert timeout.left_s == pytest.approx(left_s)
