"""Disturbed rounds: found in either gate, left out of both, never too many of them."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st
from msgspec import structs
from support.gate_sessions import change, history, more_rounds, session

from pytest_espperf.gate import judge, measure_again
from pytest_espperf.gate.rounds import Disturbed, Readings, RoundKey, disturbance_limits, find_disturbed
from pytest_espperf.gate.stats import quiet_variance
from pytest_espperf.model.artifact import PhaseReport, SessionArtifact
from pytest_espperf.model.findings import DISTURBED

SEED = 20261128
HEAVY = "python_heavy"
LIMITS = {"rps_ok": 0.25, "p95_ms": 0.5}


@pytest.fixture
def rng() -> random.Random:
    print(f"seed {SEED}")
    return random.Random(SEED)


def readings(rps: list[float], p95: list[float] | None = None) -> Readings:
    tails = rps if p95 is None else p95
    return {
        "rps_ok": {("run", i): value for i, value in enumerate(rps, 1)},
        "p95_ms": {("run", i): value for i, value in enumerate(tails, 1)},
    }


def hung(artifact: SessionArtifact, runs: tuple[int, ...], lost: float = 3.0) -> SessionArtifact:
    """The session on a board that hung for some seconds in those runs: p95 says so, throughput less."""

    def edit(index: int, report: PhaseReport) -> PhaseReport:
        if index not in runs:
            return report
        return structs.replace(
            report, rps_ok=report.rps_ok * 0.6, p95_ms=(report.p95_ms or 0) * math.exp(lost)
        )

    return change(artifact, HEAVY, edit)


@pytest.mark.parametrize(
    ("values", "left_out"),
    [
        ([0.0, 0.0, 0.6], {3}),
        ([0.6, 0.01, 0.0], {1}),
        ([0.0, 0.6, 0.6], set()),  # more than half: the board is restless
        ([0.0, 0.0, 0.0, 0.9], {4}),
        ([0.0, 0.0, 0.9, 0.9], set()),
        ([0.0, 0.0, 0.0, 0.9, 0.9], {4, 5}),
        ([0.0, 0.0, 0.0, 0.0, 0.9, 0.9], {5, 6}),
        ([0.0, 0.0, 0.0, 0.0, 0.9, 0.9, 0.9, 0.9, 0.9], set()),
        ([0.0, 0.0, -0.9], set()),  # faster is no disturbance
        ([0.0, 0.1, 0.2], set()),
        ([0.9], set()),
        ([], set()),
    ],
)
def test_which_rounds_are_left_out(values: list[float], left_out: set[int]) -> None:
    found = find_disturbed(readings(values), LIMITS)
    assert {index for _, index in found.rounds} == left_out
    assert not found.unclear


def test_a_round_disturbed_at_one_gate_is_left_out_of_both() -> None:
    found = find_disturbed(readings([0.0, 0.01, 0.02], [0.0, 0.1, 3.0]), LIMITS)
    assert found.left(readings([0.0, 0.01, 0.02])) == readings([0.0, 0.01])


@pytest.mark.parametrize(("second", "unclear"), [(0.2, False), (0.3, True), (-0.3, True)])
def test_of_two_rounds_it_is_not_known_which(second: float, unclear: bool) -> None:
    assert find_disturbed(readings([0.0, second]), LIMITS) == Disturbed(unclear=unclear)
    assert Disturbed(unclear=unclear).count == int(unclear)


@seed(SEED)
@given(st.lists(st.floats(-3, 3), max_size=12))
def test_most_rounds_always_stay(values: list[float]) -> None:
    found = find_disturbed(readings(values), LIMITS)
    assert len(found.rounds) <= 2
    assert 2 * len(found.rounds) < max(1, len(values))
    if found.rounds:
        least = min(
            value for (_, i), value in readings(values)["rps_ok"].items() if ("run", i) in found.rounds
        )
        left = found.left(readings(values))["rps_ok"].values()
        assert least > sorted(left)[len(left) // 2], (
            "what is left out is slower than the median of what stays"
        )


def test_the_limit_does_not_see_what_disturbs(rng: random.Random) -> None:
    """One stalled round in each of twenty sessions moves the estimate of the noise by nothing."""
    calm = [[rng.gauss(0, 0.03) for _ in range(6)] for _ in range(20)]
    stalled = [[*rounds[:5], 3.0] for rounds in calm]
    clean, spoiled = (quiet_variance(one, 0.05**2, 2) for one in (calm, stalled))
    assert math.sqrt(clean) == pytest.approx(0.03, rel=0.15)
    assert math.sqrt(spoiled) == pytest.approx(0.03, rel=0.3)
    limits = disturbance_limits([readings(one) for one in stalled], ["rps_ok"])
    assert limits["rps_ok"] == math.log(1.25)


@pytest.mark.parametrize("rounds", [3, 6])
@pytest.mark.parametrize("count", [2, 20])
def test_a_hang_in_one_run_hides_no_slowdown(rng: random.Random, rounds: int, count: int) -> None:
    past = history(rng, count, rounds=rounds)
    slow = hung(session(rng, rounds=rounds, slower={HEAVY: 1.75}), (2,))
    verdict = judge(slow, past)
    assert verdict.kind == "regressed"
    assert verdict.disturbed == {HEAVY: 1}
    assert list(measure_again(verdict)) == [HEAVY]
    same = judge(hung(session(rng, rounds=rounds), (2,)), past)
    assert same.kind == "unchanged"
    assert measure_again(same) == {HEAVY: 1}
    assert all((row.threshold_pct or 0) < 40 for row in same.gates if row.threshold_pct is not None)


def test_a_hang_in_one_of_two_runs_is_measured_again(rng: random.Random) -> None:
    past = history(rng, 2, rounds=2)
    slow = hung(session(rng, rounds=2, slower={HEAVY: 1.75}), (2,))
    first = judge(slow, past)
    assert first.kind in {"inconclusive", "regressed"}
    assert measure_again(first) == {HEAVY: 3}
    assert judge(more_rounds(slow, HEAVY, [1.75, 1.74, 1.76]), past).kind == "regressed"
    same = hung(session(rng, rounds=2), (2,))
    assert judge(more_rounds(same, HEAVY, [1.0, 1.01, 1.0]), past).kind == "unchanged"


def test_a_hang_in_the_baseline_blinds_no_later_session(rng: random.Random) -> None:
    past = [hung(one, (1 + i % 3,)) for i, one in enumerate(history(rng, 20, rounds=3))]
    assert judge(session(rng, rounds=3, slower={HEAVY: 1.3}), past).kind == "regressed"
    assert judge(session(rng, rounds=3), past).kind == "unchanged"


def test_a_board_that_stalls_again_when_measured_again_is_never_green(rng: random.Random) -> None:
    """Two of four: nothing is left out, and the tail looks slower than the baseline's."""
    past = history(rng, 12, rounds=3)
    stalls = hung(session(rng, rounds=3), (2,))
    again = more_rounds(stalls, HEAVY, [1.0])
    again = change(
        again, HEAVY, lambda _, one: structs.replace(one, p95_ms=(one.p95_ms or 0) * 20), role="confirm"
    )
    verdict = judge(again, past)
    assert verdict.kind != "unchanged"
    assert not verdict.joins_baseline


def test_the_first_session_is_measured_again_before_it_becomes_the_baseline(rng: random.Random) -> None:
    first = hung(session(rng, rounds=3), (3,))
    verdict = judge(first, [])
    assert (verdict.kind, measure_again(verdict)) == ("no-baseline", {HEAVY: 1})
    found = [one.message for one in verdict.findings if one.kind == DISTURBED]
    assert found == [f"{HEAVY}: 1 run was far slower than the others (run 3) and left out."]
    done = judge(more_rounds(first, HEAVY, [1.0]), [])
    assert measure_again(done) == {}
    assert done.joins_baseline


@pytest.mark.parametrize(("rounds", "stalled"), [(1, (1,)), (2, (1, 2)), (3, (1, 2)), (3, (2, 3))], ids=str)
def test_slow_planned_rounds_are_not_explained_away_by_those_measured_again(
    rng: random.Random, rounds: int, stalled: tuple[int, ...]
) -> None:
    past = history(rng, 3, rounds=rounds)

    def edit(index: int, report: PhaseReport) -> PhaseReport:
        slower = {"rps_ok": report.rps_ok / 2, "p95_ms": (report.p95_ms or 0) * 2}
        return structs.replace(report, **slower) if index in stalled else report

    now = change(session(rng, rounds=rounds), HEAVY, edit)
    verdict = judge(more_rounds(now, HEAVY, [1.0, 1.0, 1.0]), past)
    assert not verdict.joins_baseline
    assert any("when measured again" in one.message or "looks" in one.message for one in verdict.findings)
    rows = {row.name: row.rounds for row in verdict.gates}
    assert rows[f"{HEAVY}:rps_ok"] >= rounds + 2, "of the planned rounds one is left out at most"


def test_a_stall_that_comes_again_is_left_in(rng: random.Random) -> None:
    def edit(index: int, one: PhaseReport) -> PhaseReport:
        return structs.replace(one, rps_ok=one.rps_ok / (3 if index == 2 else 1))

    again = more_rounds(change(session(rng), HEAVY, edit), HEAVY, [3.0, 1.0, 1.0])
    rounds: dict[RoundKey, float] = {("run", i): 0.0 for i in range(1, 7)}
    rounds |= {("run", 2): 1.1, ("confirm", 100): 1.1, ("confirm", 101): 0.0}
    assert find_disturbed({"rps_ok": rounds}, {"rps_ok": 0.25}) == Disturbed()
    assert judge(again, history(rng, 12)).disturbed == {}
