"""Profiles of which some phases are paced by a schedule or by pauses, and others by the board."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from msgspec import structs
from support.gate_sessions import RPS, history, more_rounds, series_of, session, with_runs

from pytest_espperf.gate import GatePolicy, decide_early, judge, measure_again
from pytest_espperf.gate.changes import gate_limits, profile_changes
from pytest_espperf.gate.planning import bench_noise
from pytest_espperf.gate.rows import tolerance_of
from pytest_espperf.gate.series import COMPOSITES
from pytest_espperf.history.names import OrderKey
from pytest_espperf.history.rows import row_of
from pytest_espperf.model.artifact import GateRow, PhaseResult, RatioBudget, RawRun, SessionArtifact, Verdict
from pytest_espperf.model.findings import RATIO
from pytest_espperf.model.metrics import aggregate
from pytest_espperf.output.trends import make_trend
from pytest_espperf.report.html.data import TrendSession

HEAVY = "python_heavy"
PACES: dict[str, Mapping[str, Any]] = {
    "open loop": {"rate_rps": 10.0},
    "pauses": {"think_time_s": 2.0},
    "events": {"kind": "events"},
}
paces = pytest.mark.parametrize("pace", PACES.values(), ids=PACES)


def paced(
    artifact: SessionArtifact, pace: Mapping[str, Any], *, rate: float = 10.0, only: str = "long"
) -> SessionArtifact:
    """The session with one phase of one profile at the rate of a schedule."""

    def phase(result: PhaseResult) -> PhaseResult:
        if result.phase != only:
            return result
        return structs.replace(result, report=structs.replace(result.report, rps_ok=rate, **pace))

    def edited(run: RawRun) -> RawRun:
        return run if run.profile != HEAVY else structs.replace(run, results=[phase(r) for r in run.results])

    return with_runs(artifact, [edited(run) for run in artifact.raw_runs])


def without_phase(artifact: SessionArtifact, name: str) -> SessionArtifact:
    """The session without one phase of the profile."""
    runs = [
        structs.replace(run, results=[r for r in run.results if run.profile != HEAVY or r.phase != name])
        for run in artifact.raw_runs
    ]
    return with_runs(artifact, runs)


def gate_of(verdict: Verdict, metric: str) -> GateRow:
    return next(row for row in verdict.gates if row.name == f"{HEAVY}:{metric}")


@paces
def test_the_throughput_is_that_of_the_phases_without_a_schedule(pace: Mapping[str, Any]) -> None:
    rng = random.Random(1)
    past = [paced(one, pace) for one in history(rng, 20)]
    slow = paced(session(rng, slower={HEAVY: 2.0}), pace)
    row = gate_of(judge(slow, past), "rps_ok")
    assert row.verdict == "regressed"
    assert row.baseline == pytest.approx(RPS[HEAVY], rel=0.05)
    assert row.now == pytest.approx(RPS[HEAVY] / 2, rel=0.05)
    same = gate_of(judge(paced(session(rng), pace), past), "rps_ok")
    assert same.verdict == "unchanged"
    assert same.at_most_pct is not None
    assert same.at_most_pct < 25


@paces
def test_a_noisy_one_is_unclear_where_the_slowdown_is_not_excluded(pace: Mapping[str, Any]) -> None:
    """With a schedule alone the throughput has no tolerance: it must not lend that to the others."""
    rng = random.Random(2)
    past = [paced(one, pace) for one in history(rng, 8, shift=0.2)]
    now = paced(session(rng, slower={HEAVY: 1.3}), pace)
    verdict = judge(now, past)
    assert gate_of(verdict, "rps_ok").verdict in {"inconclusive", "regressed"}
    alone = [paced(paced(one, pace), pace, only="burst") for one in (*past, now)]
    assert gate_of(judge(alone[-1], alone[:-1]), "rps_ok").verdict == "unchanged"


@seed(20260301)
@settings(max_examples=40, deadline=None)
@given(
    number=st.integers(0, 10**6),
    slower=st.floats(0.8, 3.0),
    count=st.sampled_from([1, 3, 8, 20]),
    pace=st.sampled_from(list(PACES.values())),
)
def test_what_is_called_of_the_closed_loop_alone_is_called_of_a_mixed_profile(
    number: int, slower: float, count: int, pace: Mapping[str, Any]
) -> None:
    rng = random.Random(number)
    past = [paced(one, pace) for one in history(rng, count)]
    now = paced(session(rng, slower={HEAVY: slower}), pace)
    alone = judge(without_phase(now, "long"), [without_phase(one, "long") for one in past])
    mixed = judge(now, past)
    bare, row = gate_of(alone, "rps_ok"), gate_of(mixed, "rps_ok")
    assert (row.now, row.baseline, row.d_pct) == (bare.now, bare.baseline, bare.d_pct)
    # The alpha that two gates of a profile share is parted a little otherwise, by the noise of their p95.
    assert row.smallest_detectable_pct == pytest.approx(bare.smallest_detectable_pct, rel=0.2)
    if bare.verdict == "regressed" and (bare.d_pct or 0) > 1.2 * (bare.smallest_detectable_pct or 0):
        assert row.verdict == "regressed"


@paces
def test_the_p95_gate_excludes_the_tolerance_itself_for_the_phase_that_has_nothing_else(
    pace: Mapping[str, Any],
) -> None:
    rng = random.Random(4)
    now, past, policy = session(rng), history(rng, 3), GatePolicy(tolerance=0.25)

    def tolerance(candidate: SessionArtifact, earlier: list[SessionArtifact], metric: str) -> float:
        found = series_of(candidate, HEAVY, metric, earlier)
        assert found is not None
        return tolerance_of(found, policy)

    mixed = paced(now, pace), [paced(one, pace) for one in past]
    every = paced(mixed[0], pace, only="burst"), [paced(one, pace, only="burst") for one in mixed[1]]
    wanted = {"closed": (1.25, 1.5), "mixed": (1.25, 1.25), "paced": (math.inf, 1.25)}
    for name, (candidate, earlier) in {"closed": (now, past), "mixed": mixed, "paced": every}.items():
        both = tuple(math.exp(tolerance(candidate, earlier, metric)) for metric in COMPOSITES)
        assert both == pytest.approx(wanted[name]), name


@paces
def test_a_mixed_profile_ends_early_either_way(pace: Mapping[str, Any]) -> None:
    rng = random.Random(5)
    past = [paced(one, pace) for one in history(rng, 20)]

    def so_far(artifact: SessionArtifact, rounds: int) -> SessionArtifact:
        return with_runs(artifact, [run for run in artifact.raw_runs if run.run_index <= rounds])

    assert decide_early(so_far(paced(session(rng), pace), 2), past)[HEAVY].why == "calm"
    slow = paced(session(rng, slower={HEAVY: 2.0}), pace)
    assert decide_early(so_far(slow, 3), past)[HEAVY].why == "slower"


@paces
def test_a_slower_mixed_profile_is_confirmed_by_rounds_and_by_pairs(pace: Mapping[str, Any]) -> None:
    rng = random.Random(6)
    past = [paced(one, pace) for one in history(rng, 20)]
    slow = session(rng, slower={HEAVY: 1.5})
    assert HEAVY in measure_again(judge(paced(slow, pace), past))
    again = judge(paced(more_rounds(slow, HEAVY, [1.5] * 3), pace), past)
    assert gate_of(again, "rps_ok").confirmation == "rounds"
    pairs = more_rounds(slow, HEAVY, [1.0] * 6, "ab-baseline")
    same = judge(paced(more_rounds(pairs, HEAVY, [1.0] * 6, "ab-candidate"), pace), past)
    assert gate_of(same, "rps_ok").verdict == "environment-shift"
    slower = judge(paced(more_rounds(pairs, HEAVY, [1.5] * 6, "ab-candidate"), pace), past)
    assert (gate_of(slower, "rps_ok").verdict, gate_of(slower, "rps_ok").confirmation) == (
        "regressed",
        "pairs",
    )


@paces
def test_comparison_and_planning_see_the_closed_loop(pace: Mapping[str, Any]) -> None:
    rng = random.Random(7)
    a, b = paced(session(rng), pace), paced(session(rng, slower={HEAVY: 2.0}), pace)
    found = next(one for one in profile_changes(a, b, gate_limits(a, b)) if one.profile == HEAVY)
    assert (found.verdict, found.metric) == ("worse", "rps_ok")
    assert (found.a, found.b) == pytest.approx((RPS[HEAVY], RPS[HEAVY] / 2), rel=0.05)
    bench = [paced(one, pace) for one in history(rng, 8)]
    noise = {(one.profile, one.metric): one for one in bench_noise(bench)}
    assert noise[HEAVY, "rps_ok"].round_sigma_pct > 0.3, "not half of it"


@paces
def test_a_trend_shows_what_the_gate_compares(pace: Mapping[str, Any]) -> None:
    rng = random.Random(8)
    now = paced(session(rng, noise=0.0, shift=0.0), pace)
    now = structs.replace(now, aggregated=aggregate(now.raw_runs))
    row = row_of(now, OrderKey("20260101T000000Z", 1, ""))
    trend = make_trend(
        "", HEAVY, "rps_ok", [row], lambda name: TrendSession(file=name, when="", session_id="")
    )
    assert trend is not None
    assert trend.points[0].value == pytest.approx(RPS[HEAVY])


@paces
def test_a_ratio_over_all_phases_does_too(pace: Mapping[str, Any]) -> None:
    now = paced(session(random.Random(9), noise=0.0, shift=0.0), pace, rate=100.0)
    cells = {
        name: structs.replace(cell, phase=f"own_{cell.phase}") if cell.profile == HEAVY else cell
        for name, cell in aggregate(now.raw_runs).items()
    }
    budget = RatioBudget(profile=HEAVY, to="python_light", metric="rps_ok", limit=0.4)
    now = structs.replace(now, aggregated=cells, ratios=[budget])
    [finding] = [one for one in judge(now, [], GatePolicy()).findings if one.kind == RATIO]
    assert "20.0" in finding.message


def test_a_phase_that_was_paced_in_the_baseline_alone_is_no_throughput() -> None:
    """Their keys differ; a baseline from elsewhere must not mix two kinds of rates all the same."""
    rng = random.Random(10)
    past = [paced(one, PACES["pauses"]) for one in history(rng, 8)]
    row = gate_of(judge(session(rng), past), "rps_ok")
    assert row.baseline == pytest.approx(RPS[HEAVY], rel=0.05)
    assert row.now == pytest.approx(RPS[HEAVY], rel=0.05)


@paces
@pytest.mark.parametrize("rounds", [3, 6])
def test_a_profile_with_nothing_but_schedules_is_called_slower_and_excludes_by_latency(
    pace: Mapping[str, Any], rounds: int
) -> None:
    """Events that a listener no longer gets, requests that the board no longer keeps up with."""
    rng = random.Random(11)

    def scheduled(artifact: SessionArtifact, rate: float) -> SessionArtifact:
        return paced(paced(artifact, pace, rate=rate), pace, rate=rate, only="burst")

    past = [scheduled(one, 10.0 * 1.01 ** rng.gauss(0, 1)) for one in history(rng, 12, rounds=rounds)]
    fewer = gate_of(judge(scheduled(session(rng, rounds=rounds), 6.0), past), "rps_ok")
    assert fewer.verdict == "regressed"
    assert fewer.now == pytest.approx(6.0)
    same = gate_of(judge(scheduled(session(rng, rounds=rounds), 10.0), past), "rps_ok")
    assert same.verdict == "unchanged"
