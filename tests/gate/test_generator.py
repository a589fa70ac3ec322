"""A computer that was short of processors: what is reported of it, once, and that it lets no regression
pass."""

from __future__ import annotations

import random

import msgspec
import pytest
from support.gate_sessions import change, history, session

from pytest_espperf.gate import host_finding, judge
from pytest_espperf.gate.generator import LOST
from pytest_espperf.gate.policy import MIN_CHANGE
from pytest_espperf.model.artifact import GeneratorReport, PhaseReport, SessionArtifact
from pytest_espperf.report import render_terminal
from pytest_espperf.report.boards import render_boards, without


@pytest.fixture
def rng() -> random.Random:
    print("seed 5")
    return random.Random(5)


def waiting(
    now: SessionArtifact, shares: list[float | None], *, boards: int = 1, bound: bool = False
) -> SessionArtifact:
    def told(index: int, old: PhaseReport) -> PhaseReport:
        share = shares[index % len(shares)]
        report = GeneratorReport(waited_share=share, lost_share=share, boards=boards, bound=bound)
        return msgspec.structs.replace(old, generator=report)

    return change(now, "python_light", told)


def messages(now: SessionArtifact, past: list[SessionArtifact]) -> list[str]:
    return [f.message for f in judge(now, past).findings if f.kind == "generator-bound"]


def test_what_could_be_called_a_change_is_told(rng: random.Random) -> None:
    assert pytest.approx(1 / 1.05) == 1 - LOST, (
        "throughput is that much too low where 5 % are the least change"
    )
    assert pytest.approx(1.05) == 2.718281828459045**MIN_CHANGE
    now = session(rng)
    assert messages(waiting(now, [LOST * 0.99]), []) == []
    assert messages(waiting(now, [None]), []) == []
    (told,) = messages(waiting(now, [0.2]), [])
    assert "cost python_light:burst 20 % of its throughput, which is compared all the same" in told
    assert "Use a faster one, or end other work on it." in told


def test_one_bad_run_is_not_told(rng: random.Random) -> None:
    now = session(rng)
    count = sum(run.profile == "python_light" for run in now.raw_runs)
    assert count > 2
    report = iter([0.5] + [0.0] * 100)

    def told(_: int, old: PhaseReport) -> PhaseReport:
        return msgspec.structs.replace(old, generator=GeneratorReport(lost_share=next(report)))

    assert messages(change(now, "python_light", told), []) == []


def test_it_is_said_how_many_boards_were_driven_and_with_how_many_workers_fewer_would_be(
    rng: random.Random,
) -> None:
    (told,) = messages(waiting(session(rng), [0.2], boards=5), [])
    assert "It drove up to 5 boards at once: use fewer workers (-n 2), a faster computer" in told


def test_a_regression_on_such_a_computer_is_one_all_the_same(rng: random.Random) -> None:
    past = history(rng, 10)
    slow = session(rng, slower={"python_light": 1.5})
    assert judge(slow, past).kind == "regressed"
    now = waiting(slow, [0.3], boards=4)
    verdict = judge(now, past)
    assert verdict.kind == "regressed"
    assert any("short of processors" in finding.message for finding in verdict.findings)


def test_of_several_boards_it_is_said_once(rng: random.Random) -> None:
    sessions = {
        "left": waiting(session(rng), [0.2], boards=3),
        "right": waiting(session(rng), [0.3], boards=3),
        "back": waiting(session(rng), [0.0], boards=3),
        "paced": waiting(session(rng), [0.0], boards=3, bound=True),
    }
    judged = {board: msgspec.structs.replace(one, gate=judge(one, [])) for board, one in sessions.items()}
    host = host_finding(judged)
    assert host is not None
    assert (
        "set the pace on 1 of 4 boards (2 phases of paced), in runs that are not compared; it was short"
        in host.message
    )
    assert (
        "short of processors on 2 of 4 boards: waiting for one cost python_light:burst of right 30 %"
        in host.message
    )
    assert "up to 3 boards at once: use fewer workers (-n 1)" in host.message
    shown = {board: without(one, "computer") for board, one in judged.items()}
    lines = [line.text for line in render_boards(shown, set(shown), host)]
    lines += [line.text for one in shown.values() for line in render_terminal(one)]
    assert sum("this computer" in line for line in lines) == 1
    assert host_finding({"back": sessions["back"]}) is None


def test_a_board_shown_in_brief_has_its_worst_gate_and_its_warnings(rng: random.Random) -> None:
    past = history(rng, 10)
    limited = change(
        session(rng), "python_light", lambda _, old: msgspec.structs.replace(old, status_counts={"429": 2})
    )
    sessions = {
        board: msgspec.structs.replace(one, gate=judge(one, past))
        for board, one in {"a": session(rng), "long-name": limited}.items()
    }
    plain = [line.text for line in render_boards(sessions)]
    assert plain == ["a          unchanged", "long-name  unchanged"]
    brief = [line.text for line in render_boards(sessions, {"long-name"})]
    assert brief[0] == "a          unchanged"
    worst = max(row.d_pct or 0.0 for row in judge(limited, past).gates if row.verdict == "unchanged")
    assert brief[1].startswith("long-name  unchanged  ")
    assert brief[1].endswith(f"{worst:+.1f} %")
    assert any("answers were 429" in line for line in brief[2:])
    assert not any("info:" in line for line in brief)
