"""A comparison of two firmwares: series, gates, and what each of the firmwares is blamed for."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import median
from typing import Any

import pytest
from msgspec import structs
from support.gate_sessions import run

from pytest_espperf.gate.contest import (
    NEW,
    OLD,
    Judged,
    Trouble,
    board_gaps,
    half,
    judge_contest,
    pair_count,
    series_of,
)
from pytest_espperf.gate.policy import GatePolicy
from pytest_espperf.gate.sequential import PairPlan, decide
from pytest_espperf.model.artifact import BodySizes, RawRun, RunRole, SessionArtifact, Verdict
from pytest_espperf.model.contest import Contest

PROFILES = ("python_light", "python_heavy")
LAST = PairPlan(most_pairs=6)


def contest(
    pairs: int = 6,
    *,
    slower: float = 1.0,
    boards: float | None = None,
    swaps: int = 3,
    noise: float = 0.005,
    profiles: Sequence[str] = PROFILES,
    **changes: Any,
) -> SessionArtifact:
    """Pairs of old and new; the new one is slower in python_heavy, the second board in everything."""
    rng = random.Random(1)
    runs: list[RawRun] = []
    for index in range(1, pairs + 1):
        swapped = boards is not None and (index - 1) // swaps % 2 == 1
        for role in (OLD, NEW):
            second = boards is not None and (role == NEW) != swapped
            for profile in profiles:
                factor = slower if role == NEW and profile == "python_heavy" else 1.0
                factor *= boards if second and boards is not None else 1.0
                factors = [factor * math.exp(rng.gauss(0, noise)) for _ in range(2)]
                board = ("B" if second else "A") if boards is not None else ""
                runs.append(structs.replace(run(profile, index, factors, role), board=board))
    base = SessionArtifact(
        session_id="ab",
        profiles=list(profiles),
        runs_per_profile=pairs,
        raw_runs=runs,
        contest=Contest(kind="ab"),
    )
    return structs.replace(base, **changes)


def judged(session: SessionArtifact, policy: GatePolicy | None = None, **more: Any) -> Verdict:
    series = series_of(session)
    facts = Judged(series=series, answers=decide(series, LAST), **more)
    return judge_contest(session, facts, policy or GatePolicy())


def broken(session: SessionArtifact, role: RunRole, reason: str) -> SessionArtifact:
    def edited(one: RawRun) -> RawRun:
        if one.role != role or one.profile != "python_light":
            return one
        results = [structs.replace(x, passed=False, fail_reasons=[reason]) for x in one.results]
        return structs.replace(one, results=results)

    return structs.replace(session, raw_runs=[edited(one) for one in session.raw_runs])


# --- series


def test_a_pair_counts_once_both_halves_are_measured() -> None:
    session = contest(4)
    session = structs.replace(session, raw_runs=session.raw_runs[:-1])
    pairs = {one.name: len(one.pairs) for one in series_of(session)}
    assert pairs["python_light:rps_ok"] == 4
    assert pairs["python_heavy:rps_ok"] == pairs["python_heavy:p95_ms"] == 3
    assert pair_count(session) == 4


@pytest.mark.parametrize("pairs", [1, 4])
def test_a_pair_that_ended_in_its_midst_is_none(pairs: int) -> None:
    session = contest(pairs, profiles=("python_heavy",), slower=1.5)
    last = session.raw_runs[-1]
    assert len(last.results) == 2  # burst and long
    crashed = structs.replace(last, results=last.results[:1])
    session = structs.replace(session, raw_runs=[*session.raw_runs[:-1], crashed])
    assert {len(one.pairs) for one in series_of(session)} == {pairs - 1}
    assert pair_count(session) == pairs - 1
    rows = {row.name: row for row in judged(session).gates}
    assert rows["python_heavy:rps_ok"].verdict == ("not-gateable" if pairs == 1 else "regressed")
    assert (rows["python_heavy:rps_ok"].d_pct is None) == (pairs == 1)


def test_new_over_old_is_the_change() -> None:
    series = {one.name: one for one in series_of(contest(slower=1.2, noise=0.0))}
    old, new = series["python_heavy:rps_ok"].pairs[0]
    assert math.exp(new - old) == pytest.approx(1.2)
    old, new = series["python_heavy:p95_ms"].pairs[0]
    assert math.exp(new - old) == pytest.approx(1.2)


def test_a_half_is_a_session_of_its_own() -> None:
    new = half(contest(3, slower=1.2, noise=0.0), NEW)
    assert {one.role for one in new.raw_runs} == {"run"}
    assert new.aggregated["python_heavy:burst"].sample_count == 3


@pytest.mark.parametrize(
    ("counts", "clients", "step"),
    [
        ((80, 82, 96, 94, 94, 96, 90, 96), 2, 2),
        ((80, 81, 96, 94, 95, 96, 90, 97), 2, 1),
        ((80, 84, 96, 93, 88, 92), 4, 4),  # one answer came too late
        ((160, 168, 160, 152), 8, 8),
        ((150, 150, 150), 8, 8),  # nobody knows
        ((3, 3, 3), 8, 3),
        ((151, 163, 158, 149, 170, 161), 1, 1),
    ],
)
def test_the_step_of_the_throughput_follows_from_the_numbers(
    counts: Sequence[int], clients: int, step: int
) -> None:
    runs = [
        run("python_light", 1 + i // 2, [1.0], OLD if i % 2 == 0 else NEW, ok=count, clients=clients)
        for i, count in enumerate(counts)
    ]
    session = structs.replace(contest(0, profiles=["python_light"]), raw_runs=runs)
    grains = {one.metric: one.grain for one in series_of(session)}
    assert grains["rps_ok"] == pytest.approx(math.log1p(step / median(counts)))
    assert grains["p95_ms"] == 0.0


def test_two_boards_swap_and_their_gap_is_told_apart() -> None:
    session = contest(boards=1.3, noise=0.0)
    series = series_of(session)
    assert series[0].swapped == (False, False, False, True, True, True)
    answers = decide(series, LAST)
    assert {answer.word for answer in answers.values()} == {"same"}
    assert board_gaps(answers) == pytest.approx(dict.fromkeys(PROFILES, 30.0))


def test_a_slowdown_on_two_unlike_boards_is_found_with_its_size() -> None:
    verdict = judged(contest(boards=1.3, slower=1.15))
    row = next(one for one in verdict.gates if one.name == "python_heavy:rps_ok")
    assert row.verdict == "regressed"
    assert row.d_pct == pytest.approx(15, abs=2)
    assert next(one for one in verdict.gates if one.name == "python_light:rps_ok").verdict == "unchanged"


# --- the verdict


@pytest.mark.parametrize(("slower", "kind"), [(1.12, "regressed"), (1.0, "unchanged"), (0.85, "improved")])
def test_the_verdict_follows_the_gates(slower: float, kind: str) -> None:
    assert judged(contest(slower=slower)).kind == kind


def test_too_few_pairs_leave_it_open() -> None:
    verdict = judged(contest(2, slower=1.5))
    assert verdict.kind == "inconclusive"
    assert {row.verdict for row in verdict.gates if row.metric != "error_rate"} == {"inconclusive"}


def test_nothing_measured_is_not_the_same() -> None:
    assert judged(contest(0)).kind == "inconclusive"


def test_values_are_the_old_firmwares_and_the_change() -> None:
    row = next(
        one for one in judged(contest(slower=1.25, noise=0.0)).gates if one.name == "python_heavy:rps_ok"
    )
    assert row.baseline is not None
    assert row.now is not None
    assert row.baseline / row.now == pytest.approx(1.25, rel=1e-6)
    assert row.d_pct == pytest.approx(25, rel=1e-6)
    assert row.confirmation == "pairs"


def test_a_change_within_the_users_floor_is_none() -> None:
    session = contest(slower=1.12, noise=0.0)
    policy = GatePolicy(min_effect={"rps_ok": 1e6, "p95_ms": 1e6})
    assert judged(session, policy).kind == "unchanged"


def test_a_rule_of_the_users_holds_between_the_firmwares() -> None:
    session = contest(slower=1.015, noise=0.0)
    assert judged(session).kind == "unchanged"
    verdict = judged(session, GatePolicy(fail_on=(("rps_ok", 1.0),)))
    assert verdict.kind == "regressed"
    assert any(row.rule == "fail-on" and row.verdict == "regressed" for row in verdict.gates)


def test_more_errors_of_the_new_firmware_fail_it() -> None:
    def failing(one: RawRun) -> RawRun:
        if one.role != NEW:
            return one
        results = [
            structs.replace(x, report=structs.replace(x.report, err=20, ok=x.report.ok - 20))
            for x in one.results
        ]
        return structs.replace(one, results=results)

    session = contest()
    verdict = judged(structs.replace(session, raw_runs=[failing(one) for one in session.raw_runs]))
    assert verdict.kind == "regressed"
    assert any(row.metric == "error_rate" and row.verdict == "regressed" for row in verdict.gates)


# --- who is blamed


def test_a_budget_of_the_new_firmware_fails_it() -> None:
    verdict = judged(broken(contest(), NEW, "p95 2500.0 ms > 2000.0 ms"))
    assert verdict.kind == "failed"
    assert any("the new firmware" in one.message for one in verdict.findings if one.severity == "fail")


def test_what_the_old_firmware_does_as_well_fails_nothing() -> None:
    session = broken(broken(contest(), NEW, "p95 2500.0 ms > 2000.0 ms"), OLD, "p95 2500.0 ms > 2000.0 ms")
    verdict = judged(session)
    assert verdict.kind == "unchanged"
    assert any("the old firmware does, too" in one.message for one in verdict.findings)


def test_a_budget_of_the_old_firmware_is_a_warning() -> None:
    verdict = judged(broken(contest(), OLD, "p95 2500.0 ms > 2000.0 ms"))
    assert verdict.kind == "unchanged"
    assert [one.severity for one in verdict.findings if "the old firmware" in one.message] == ["warn", "warn"]


def test_a_reboot_of_the_new_firmware_is_named() -> None:
    verdict = judged(broken(contest(), NEW, "the board shows signs of a reboot: uptime fell"))
    assert verdict.kind == "failed"
    assert any("reboot" in one.message and "the new firmware" in one.message for one in verdict.findings)


def test_trouble_names_its_firmware_once() -> None:
    verdict = judged(contest(), trouble=Trouble("new", "the board gave no answer"))
    assert verdict.kind == "failed"
    (finding,) = [one for one in verdict.findings if one.severity == "fail"]
    assert finding.message == "the new firmware: the board gave no answer."
    again = judged(contest(), trouble=Trouble("new", "after the new firmware was put on it"))
    assert [one.message for one in again.findings if one.severity == "fail"] == [
        "after the new firmware was put on it."
    ]


def test_other_answers_are_no_speed() -> None:
    def shorter(one: RawRun) -> RawRun:
        size = 10 if one.role == NEW else 4000
        sizes = BodySizes(least=size, median=size, most=size)
        results = []
        for x in one.results:
            paths = {
                "/page": structs.replace(
                    x.report, path_metrics={}, body_bytes=sizes, status_counts={"200": 100}
                )
            }
            results.append(structs.replace(x, report=structs.replace(x.report, path_metrics=paths)))
        return structs.replace(one, results=results)

    session = contest(slower=0.5)
    verdict = judged(structs.replace(session, raw_runs=[shorter(one) for one in session.raw_runs]))
    assert verdict.kind == "inconclusive"
    assert any("4,000 -> 10 bytes" in one.message for one in verdict.findings)


def test_an_interrupted_comparison_is_incomplete() -> None:
    assert judged(contest(slower=1.5, partial=True)).kind == "incomplete"
