"""Ending a profile early: on good news, on bad news, and what keeps it going."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from msgspec import structs
from support.gate_sessions import PHASES, PROFILES, change, history, session

from pytest_espperf.gate import GatePolicy, decide_early, judge, measure_again
from pytest_espperf.gate import policy as p
from pytest_espperf.gate.noise import gate_error, history_noise
from pytest_espperf.gate.stats import median_variance
from pytest_espperf.model.artifact import EndedEarly, PhaseReport, SessionArtifact

SEED = 20261128
HEAVY = "python_heavy"


@pytest.fixture
def rng() -> random.Random:
    print(f"seed {SEED}")
    return random.Random(SEED)


def so_far(whole: SessionArtifact, rounds: int) -> SessionArtifact:
    """A session after so many of its planned rounds."""
    kept = [run for run in whole.raw_runs if run.run_index <= rounds]
    return structs.replace(whole, raw_runs=kept, partial=True)


def ended(whole: SessionArtifact, early: dict[str, EndedEarly]) -> SessionArtifact:
    """The session as it is judged: profiles that ended have no later rounds."""
    kept = [
        run for run in whole.raw_runs if run.profile not in early or run.run_index <= early[run.profile].after
    ]
    return structs.replace(whole, raw_runs=kept, ended_early=early, partial=False)


def early_history(rng: random.Random, count: int) -> list[SessionArtifact]:
    """Sessions that ended after two of six rounds, on good news."""
    calm = dict.fromkeys(PROFILES, EndedEarly(after=2, planned=6, why="calm"))
    return [ended(one, calm) for one in history(rng, count)]


def test_a_calm_session_ends_after_two_rounds(rng: random.Random) -> None:
    past = history(rng, 6)
    now = session(rng)
    decided = decide_early(so_far(now, 2), past)
    assert decided == dict.fromkeys(PROFILES, EndedEarly(after=2, planned=6, why="calm"))
    verdict = judge(ended(now, decided), past)
    assert verdict.kind in {"unchanged", "improved"}
    assert verdict.joins_baseline
    (said,) = [one.message for one in verdict.findings if one.kind == "ended-early"]
    assert said.startswith("ended after 2 of 6 runs: c_static_only, python_light, python_heavy")
    assert not any(one.kind == "not-measured" for one in verdict.findings)


def test_what_is_far_slower_ends_after_three_rounds_and_fails(rng: random.Random) -> None:
    past = history(rng, 6)
    now = session(rng, slower={HEAVY: 1.4})
    assert HEAVY not in decide_early(so_far(now, 2), past)
    decided = decide_early(so_far(now, 3), past)
    assert decided[HEAVY] == EndedEarly(after=3, planned=6, why="slower")
    verdict = judge(ended(now, decided), past)
    assert verdict.kind == "regressed"
    assert measure_again(verdict) == {}
    (row,) = [row for row in verdict.gates if row.name == f"{HEAVY}:rps_ok"]
    assert (row.confirmation, row.rounds) == ("rounds", 3)
    assert "each of its 3 runs" in row.detail


def test_a_tail_alone_ends_nothing(rng: random.Random) -> None:
    def edit(_: int, report: PhaseReport) -> PhaseReport:
        return structs.replace(report, p95_ms=(report.p95_ms or 0) * 1.6)

    now = change(session(rng), HEAVY, edit)
    for rounds in range(2, 6):
        assert HEAVY not in decide_early(so_far(now, rounds), history(rng, 8))


def test_calm_needs_the_tolerance_excluded(rng: random.Random) -> None:
    past, now = history(rng, 6, noise=0.03), session(rng, noise=0.03)
    assert decide_early(so_far(now, 2), past)
    assert not decide_early(so_far(now, 2), past, GatePolicy(tolerance=0.01))


@pytest.mark.parametrize("count", [0, 1, 4])
def test_few_earlier_sessions_want_every_round(rng: random.Random, count: int) -> None:
    assert decide_early(so_far(session(rng), 3), history(rng, count)) == {}


def test_previous_and_switched_off_want_every_round(rng: random.Random) -> None:
    past, now = history(rng, 20), so_far(session(rng), 3)
    for policy in (GatePolicy(baseline="previous"), GatePolicy(enabled=False), GatePolicy(max_history=4)):
        assert decide_early(now, past, policy) == {}


def test_a_plan_of_two_rounds_has_no_early_end(rng: random.Random) -> None:
    past = history(rng, 8, rounds=2)
    assert decide_early(so_far(session(rng, rounds=2), 2), past) == {}
    assert decide_early(so_far(session(rng, rounds=3), 2), history(rng, 8, rounds=3))


def held(rng: random.Random, edit: object, profile: str = HEAVY) -> bool:
    """Whether a change of one profile's rounds keeps just that profile going."""
    past = history(rng, 8)
    now = change(session(rng), profile, edit)  # type: ignore[arg-type] # of the tests below
    decided = decide_early(so_far(now, 2), past)
    assert set(decided) >= set(PROFILES) - {profile}
    return profile not in decided


def test_a_disturbed_round_holds(rng: random.Random) -> None:
    assert held(rng, lambda i, one: structs.replace(one, rps_ok=one.rps_ok * (0.5 if i == 2 else 1)))


def test_errors_hold(rng: random.Random) -> None:
    assert held(rng, lambda _, one: structs.replace(one, err=2, requests_total=one.requests_total + 2))


def test_a_round_without_a_figure_holds(rng: random.Random) -> None:
    assert held(rng, lambda i, one: structs.replace(one, p95_ms=None) if i == 2 else one)


def test_a_broken_budget_holds_its_profile(rng: random.Random) -> None:
    past, now = history(rng, 8), session(rng)
    runs = [
        structs.replace(
            run,
            results=[
                structs.replace(r, passed=False, fail_reasons=["p95 is above the budget"])
                for r in run.results
            ],
        )
        if run.profile == HEAVY and run.run_index == 1
        else run
        for run in now.raw_runs
    ]
    decided = decide_early(so_far(structs.replace(now, raw_runs=runs), 2), past)
    assert set(decided) == set(PROFILES) - {HEAVY}


def test_a_broken_rule_holds(rng: random.Random) -> None:
    past, now = history(rng, 8), session(rng)
    policy = GatePolicy(fail_on=(("p95_ms", 0.0001),))
    rows = judge(so_far(now, 2), past, policy).gates
    slower = {row.profile for row in rows if row.rule == "fail-on" and row.verdict == "regressed"}
    assert slower
    assert not slower & set(decide_early(so_far(now, 2), past, policy))


def test_falling_heap_holds_everything(rng: random.Random) -> None:
    past, now = history(rng, 8), session(rng)
    for profile in PROFILES:
        now = change(
            now,
            profile,
            lambda i, one: structs.replace(one, mem_after={"heap": {"internal_free": 200_000 - 20_000 * i}}),
        )
    assert decide_early(so_far(now, 2), past) == {}


@pytest.mark.parametrize("schedule", [{"rate_rps": 5.0}, {"kind": "events"}], ids=["open loop", "events"])
def test_a_load_with_a_schedule_ends_calm_and_never_slower(
    rng: random.Random, schedule: dict[str, Any]
) -> None:
    def paced(one: SessionArtifact) -> SessionArtifact:
        return change(one, HEAVY, lambda _, report: structs.replace(report, **schedule))

    past = [paced(one) for one in history(rng, 8)]
    slow = paced(session(rng, slower={HEAVY: 2.0}))
    for rounds in range(2, 6):
        assert decide_early(so_far(slow, rounds), past).get(HEAVY) is None
    assert decide_early(so_far(paced(session(rng)), 2), past)[HEAVY].why == "calm"


def test_a_profile_that_has_ended_is_not_decided_again(rng: random.Random) -> None:
    past, now = history(rng, 8), session(rng)
    decided = decide_early(so_far(now, 2), past)
    rest = ended(now, {HEAVY: decided[HEAVY]})
    again = decide_early(so_far(rest, 3), past)
    assert HEAVY not in again
    assert {one.after for one in again.values()} == {3}


class TestBaselineOfEarlyEnds:
    """Sessions that ended early are baselines like others, with a correction for how they ended."""

    def test_the_formulas_by_hand(self) -> None:
        past = [(0.0, 0.02), (0.01, 0.03, 0.0, 0.02, 0.01, 0.0)]
        plain = history_noise(past, planned=6)
        mixed = history_noise(past, planned=6, calm=(True, False))
        assert plain.median_share == pytest.approx((median_variance(2) + median_variance(6)) / 2)
        assert mixed.median_share == pytest.approx(
            (median_variance(2) - p.STOP_SHARE + median_variance(6)) / 2
        )
        assert mixed.centre == pytest.approx(plain.centre + p.STOP_SHARE * 0.5 * math.sqrt(plain.within))

    def test_more_rounds_than_planned_claim_no_more(self) -> None:
        past = [tuple(0.01 * i for i in range(9))]
        assert history_noise(past, planned=6).median_share == median_variance(6)

    def test_a_sharper_threshold_than_the_baselines_rounds_has_fewer_degrees_of_freedom(self) -> None:
        rng = random.Random(SEED)
        past = [(rng.gauss(0, 0.02), rng.gauss(0, 0.02)) for _ in range(20)]
        noise = history_noise(past, planned=6, calm=[True] * 20)
        two, six = (gate_error(noise, factor=1.0, rounds=n, within_now=None) for n in (2, 6))
        assert six.sigma < two.sigma
        assert six.df < two.df

    def test_a_regression_is_seen_and_equal_firmware_is_not(self, rng: random.Random) -> None:
        past = early_history(rng, 20)
        assert judge(session(rng, slower={HEAVY: 1.2}), past).kind == "regressed"
        assert judge(session(rng), past).kind == "unchanged"
        now = session(rng)
        assert judge(ended(now, decide_early(so_far(now, 2), past)), past).kind == "unchanged"


def test_too_little_of_an_ended_profile_still_fails(rng: random.Random) -> None:
    """Two of six by decision are enough; one of two is not."""
    past, now = history(rng, 8), session(rng)
    decided = decide_early(so_far(now, 2), past)
    lost = structs.replace(
        ended(now, decided),
        raw_runs=[run for run in ended(now, decided).raw_runs if run.profile != HEAVY],
    )
    assert judge(lost, past).kind == "failed"


def test_p99_of_an_ended_profile_says_why_it_is_not_judged(rng: random.Random) -> None:
    past, now = history(rng, 8), session(rng)
    verdict = judge(ended(now, decide_early(so_far(now, 2), past)), past)
    details = [row.detail for row in verdict.gates if row.metric == "p99_ms"]
    assert all("it ended after 2 of 6 runs" in detail for detail in details if "are needed" in detail)
    assert len(PHASES) == 2
