"""What ``unchanged`` may mean: a slowdown beyond the tolerance is excluded; and what joins the baseline."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from msgspec import structs
from support.gate_sessions import PHASES, change, history, kinds, more_rounds, run, session

from pytest_espperf.gate import GatePolicy, judge, measure_again, suspects
from pytest_espperf.gate.rows import is_composite
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import Finding, GateRow, PhaseReport, SessionArtifact, Verdict
from pytest_espperf.model.findings import HELD_BACK, OWN_TEST, PROVISIONAL
from pytest_espperf.model.standing import Standing
from pytest_espperf.report import render_markdown, render_terminal
from pytest_espperf.session.judging import failed_by

SEED = 20261128
HEAVY = "python_heavy"


@pytest.fixture
def rng() -> random.Random:
    print(f"seed {SEED}")
    return random.Random(SEED)


def composites(verdict: Verdict) -> list[GateRow]:
    return [row for row in verdict.gates if is_composite(row)]


def judged(candidate: SessionArtifact, past: Sequence[SessionArtifact]) -> SessionArtifact:
    return structs.replace(candidate, gate=judge(candidate, past))


@seed(SEED)
@settings(max_examples=60, deadline=None)
@given(
    number=st.integers(0, 10**6),
    rounds=st.integers(1, 6),
    count=st.integers(0, 25),
    noise=st.floats(0.0, 0.5),
    shift=st.floats(0.0, 0.3),
    factor=st.floats(0.7, 3.0),
)
def test_unchanged_is_said_only_of_what_was_excluded(
    *, number: int, rounds: int, count: int, noise: float, shift: float, factor: float
) -> None:
    """Whatever the noise, the history and the number of rounds."""
    rng = random.Random(number)
    past = history(rng, count, rounds=rounds, noise=noise, shift=shift)
    now = session(rng, rounds=rounds, noise=noise, shift=shift, slower={HEAVY: factor})
    verdict = judge(now, past)
    for row in composites(verdict):
        tolerance = 25.0 if row.metric == "rps_ok" else 50.0
        if row.verdict == "unchanged":
            assert row.at_most_pct is not None
            assert row.at_most_pct <= tolerance + 1e-9
        for value in (row.threshold_pct, row.smallest_detectable_pct, row.reliable_pct, row.at_most_pct):
            assert value is None or value <= 300
    if verdict.kind == "unchanged":
        assert {row.verdict for row in composites(verdict)} <= {"unchanged"}


def test_a_blind_session_says_so_and_joins_as_provisional(rng: random.Random) -> None:
    past = history(rng, 2, rounds=3, noise=0.2)
    now = session(rng, rounds=3, noise=0.2)
    verdict = judge(now, past)
    assert verdict.kind == "inconclusive"
    assert set(measure_again(verdict)) <= set(now.profiles)
    assert measure_again(verdict)
    assert PROVISIONAL in kinds(verdict)
    assert verdict.joins_baseline
    text = " ".join(one.message for one in verdict.findings if one.kind == "not-excluded")
    assert "is not excluded" in text
    assert "its runs differ by" in text


def test_a_session_that_looks_slower_without_proof_is_held_back(rng: random.Random) -> None:
    past = history(rng, 2, rounds=3, noise=0.15)
    now = session(rng, rounds=3, noise=0.15, slower={HEAVY: 1.5})
    verdict = judge(now, past)
    assert verdict.kind == "inconclusive"
    assert HELD_BACK in kinds(verdict)
    assert not verdict.joins_baseline
    (row,) = [row for row in composites(verdict) if row.looks_slower and row.metric == "rps_ok"]
    assert row.profile == HEAVY
    accepted = structs.replace(now, gate=verdict, accepted={"reason": "intended"})
    assert judge(session(rng, rounds=3, noise=0.15, slower={HEAVY: 1.5}), [*past, accepted]).baseline[
        "sessions"
    ] == ["now"]


def test_an_unproven_slowdown_within_the_tolerance_is_unchanged_and_held_back(rng: random.Random) -> None:
    past = history(rng, 20)
    verdict = judge(session(rng, slower={HEAVY: 1.048}), past)
    assert verdict.kind == "unchanged"
    looks = [row for row in composites(verdict) if row.looks_slower]
    assert bool(looks) == (HELD_BACK in kinds(verdict)) == (not verdict.joins_baseline)


def test_the_tolerance_is_the_users(rng: random.Random) -> None:
    past, now = history(rng, 3, rounds=3, noise=0.03), session(rng, rounds=3, noise=0.03)
    assert judge(now, past).kind == "unchanged"
    assert judge(now, past, GatePolicy(tolerance=0.03)).kind == "inconclusive"
    assert judge(session(rng, rounds=3, noise=0.3), past, GatePolicy(tolerance=50.0)).kind == "unchanged"
    for bad in (0.0, -0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match="tolerance"):
            GatePolicy(tolerance=bad)


def test_a_p95_may_move_twice_as_much_in_a_closed_loop_and_not_in_an_open_one(rng: random.Random) -> None:
    past = history(rng, 20)

    def tail(candidate: SessionArtifact) -> SessionArtifact:
        return change(candidate, HEAVY, lambda _, one: structs.replace(one, p95_ms=(one.p95_ms or 0) * 1.38))

    def paced(candidate: SessionArtifact) -> SessionArtifact:
        return change(candidate, HEAVY, lambda _, one: structs.replace(one, rate_rps=5.0))

    floor = GatePolicy(min_effect={"rps_ok": 1e9})
    noisy = [change(one, HEAVY, _swing(i)) for i, one in enumerate(past)]
    closed = judge(tail(session(rng)), noisy, floor)
    opened = judge(tail(paced(session(rng))), [paced(one) for one in noisy], floor)
    (loose,) = [row for row in closed.gates if row.name == f"{HEAVY}:p95_ms"]
    (strict,) = [row for row in opened.gates if row.name == f"{HEAVY}:p95_ms"]
    assert (loose.at_most_pct or 0) > 25
    assert strict.verdict != "unchanged"


def _swing(index: int) -> Callable[[int, PhaseReport], PhaseReport]:
    factor = 1.45 if index % 2 else 0.95
    return lambda _, one: structs.replace(one, p95_ms=(one.p95_ms or 0) * factor)


def test_one_run_of_each_session_claims_little(rng: random.Random) -> None:
    past = history(rng, 1, rounds=1)
    verdict = judge(session(rng, rounds=1), past)
    rows = composites(verdict)
    assert all((row.threshold_pct or 999) > 30 for row in rows)
    assert set(measure_again(verdict)) <= {row.profile for row in rows}


@pytest.mark.parametrize("count", [1, 2, 5, 9, 10, 20])
def test_no_noise_at_all_is_no_threshold_of_nothing(rng: random.Random, count: int) -> None:
    past = history(rng, count, noise=0.0, shift=0.0)
    verdict = judge(session(rng, noise=0.0, shift=0.0), past)
    assert verdict.kind == "unchanged"
    for row in composites(verdict):
        assert row.threshold_pct is not None
        assert 4.9 < row.threshold_pct < 30
    assert judge(session(rng, noise=0.0, shift=0.0, slower={HEAVY: 1.5}), past).kind == "regressed"


def test_a_history_of_held_back_sessions_alone_is_no_baseline(rng: random.Random) -> None:
    verdict = judge(
        session(rng, rounds=3, noise=0.15, slower={HEAVY: 1.5}), history(rng, 2, rounds=3, noise=0.15)
    )
    held = [structs.replace(one, gate=verdict) for one in history(rng, 3, rounds=3)]
    found = judge(session(rng, rounds=3), held)
    assert found.kind == "no-baseline"
    assert "baseline" in kinds(found)


@pytest.mark.parametrize(
    ("before", "joins"),
    [
        ("hhh", True),
        ("hrh", True),
        ("rrhh", True),
        ("rhr", False),
        ("rrr", False),
        ("hh", False),
        ("hfhh", True),  # what failed otherwise says nothing of it
        ("hhah", False),
    ],
)
def test_a_session_that_looks_slower_joins_where_most_before_it_did_without_proof(
    before: str, joins: bool, rng: random.Random
) -> None:
    past = history(rng, 2, rounds=3, noise=0.15)
    now = session(rng, rounds=3, noise=0.15, slower={HEAVY: 1.5})
    held = judge(now, past)
    assert held.held_back
    words = {
        "h": held,
        "r": Verdict(kind="regressed"),
        "f": Verdict(kind="failed"),
        "a": Verdict(kind="unchanged"),
    }
    then = [structs.replace(session(rng, f"k{i}", rounds=3), gate=words[one]) for i, one in enumerate(before)]
    assert judge(now, [*past, *then]).joins_baseline is joins


def test_old_artifacts_join_as_before(rng: random.Random) -> None:
    for word, joins in (("unchanged", True), ("inconclusive", False), ("regressed", False)):
        assert Verdict(kind=word).joins_baseline is joins  # type: ignore[arg-type] # a word of each kind


class TestConfirmation:
    """What measuring again decides."""

    def test_all_rounds_count_and_each_half_must_show_it(self, rng: random.Random) -> None:
        past = history(rng, 2, rounds=3)
        slow = session(rng, rounds=3, slower={HEAVY: 1.5})
        assert judge(more_rounds(slow, HEAVY, [1.5, 1.5, 1.5]), past).kind == "regressed"
        verdict = judge(more_rounds(slow, HEAVY, [1.0, 1.0, 1.0]), past)
        assert verdict.kind == "inconclusive"
        assert HELD_BACK in kinds(verdict)

    def test_an_unclear_profile_becomes_clear(self, rng: random.Random) -> None:
        past = history(rng, 4, rounds=3, noise=0.05)
        now = session(rng, rounds=3, noise=0.11)
        first = judge(now, past)
        again = measure_again(first)
        if first.kind == "inconclusive":
            for profile, count in again.items():
                now = more_rounds(now, profile, [1.0] * count)
            assert judge(now, past).kind in {"unchanged", "improved"}
        assert measure_again(judge(now, past)) == {}

    def test_rounds_measured_again_count_in_the_baseline(self, rng: random.Random) -> None:
        past = [more_rounds(one, HEAVY, [2.0] * 9) for one in history(rng, 3, rounds=3)]
        (row,) = [r for r in judge(session(rng, rounds=3), past).gates if r.name == f"{HEAVY}:rps_ok"]
        assert (row.d_pct or 0) < -40, "the baseline's value is the median of all twelve rounds"

    def test_no_confirmation_asked_for_leaves_it_unclear(self, rng: random.Random) -> None:
        policy = GatePolicy(confirm_rounds=0)
        verdict = judge(session(rng, rounds=3, noise=0.2), history(rng, 2, rounds=3, noise=0.2), policy)
        assert verdict.kind == "inconclusive"
        assert measure_again(verdict, policy) == {}


class TestPairs:
    """A/B pairs decide what the baseline leaves open, by a bound of their own."""

    def with_pairs(
        self, now: SessionArtifact, old: float, new: float, noise: float = 0.01
    ) -> SessionArtifact:
        rng = random.Random(SEED)
        extra = []
        for index in range(1, 7):
            for role, level in (("ab-baseline", old), ("ab-candidate", new)):
                factors = [level * rng.lognormvariate(0, noise) for _ in PHASES]
                extra.append(run(HEAVY, index, factors, role))  # type: ignore[arg-type] # one of the roles
        return structs.replace(now, raw_runs=[*now.raw_runs, *extra])

    def blind(self, rng: random.Random) -> tuple[SessionArtifact, list[SessionArtifact]]:
        past = history(rng, 2, rounds=3, noise=0.01, profiles=[HEAVY])
        past = [more_rounds(one, HEAVY, [0.7, 1.4]) for one in past]
        now = session(rng, rounds=3, noise=0.2, profiles=[HEAVY])
        return now, past

    def test_an_unclear_profile_goes_to_pairs(self, rng: random.Random) -> None:
        now, past = self.blind(rng)
        first = judge(now, past)
        assert first.kind == "inconclusive"
        assert suspects(first) == [HEAVY]
        done = judge(self.with_pairs(now, 1.0, 1.0), past)
        assert suspects(done) == []
        assert done.kind in {"unchanged", "improved", "environment-shift"}
        assert judge(self.with_pairs(now, 1.0, 1.3), past).kind == "regressed"

    def test_pairs_that_see_nothing_say_so(self, rng: random.Random) -> None:
        now, past = self.blind(rng)
        done = judge(self.with_pairs(now, 1.0, 1.0, noise=0.5), past)
        assert done.kind == "inconclusive"
        assert not done.joins_baseline


def test_what_cannot_be_told_is_said_and_never_given_as_a_number(rng: random.Random) -> None:
    past = history(rng, 1, rounds=2, noise=0.6)
    shown = judged(session(rng, rounds=2, noise=1.2), past)
    assert shown.gate is not None
    assert any(row.threshold_pct is None for row in composites(shown.gate))
    text = "\n".join(line.text for line in render_terminal(shown, verbosity=1)) + render_markdown(shown)
    assert "slower it may be is unknown" in text
    numbers = [float(n.replace(",", "")) for n in re.findall(r"([\d,.]+) % (?:is not|or more)", text)]
    assert all(number <= 300 for number in numbers)


def test_the_index_says_which_sessions_join(rng: random.Random, tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    store.prepare()
    blind = judged(session(rng, "a", rounds=3, noise=0.2), history(rng, 2, rounds=3, noise=0.2))
    held = judged(
        session(rng, "b", rounds=3, noise=0.15, slower={HEAVY: 1.5}), history(rng, 2, rounds=3, noise=0.15)
    )
    for number, one in enumerate((blind, held)):
        store.save(structs.replace(one, timestamp_utc=f"2026112{number}T000000Z"), "", latest=False)
    joins = {row.session_id: (row.joins, row.in_history) for row in HistoryStore(tmp_path).select()}
    assert joins == {"a": (True, True), "b": (False, False)}


def test_twelve_sessions_of_one_firmware_build_a_baseline() -> None:
    for noise, shift in ((0.01, 0.005), (0.05, 0.05), (0.2, 0.05)):
        rng = random.Random(SEED)
        past: list[SessionArtifact] = []
        kept_out = longest = 0
        for index in range(12):
            now = session(rng, f"s{index}", rounds=3, noise=noise, shift=shift)
            verdict = judge(now, past)
            for profile, count in measure_again(verdict).items():
                now = more_rounds(now, profile, [rng.lognormvariate(0, noise) for _ in range(count)])
            verdict = judge(now, past)
            kept_out = 0 if verdict.joins_baseline else kept_out + 1
            longest = max(longest, kept_out)
            past.append(structs.replace(now, gate=verdict))
        assert sum(Standing.of(one).in_baseline for one in past) >= 5, (noise, shift)
        assert longest <= 3, (noise, shift)


def test_the_store_hands_out_what_joins_and_what_waits(rng: random.Random, tmp_path: Path) -> None:
    past = history(rng, 2, rounds=3, noise=0.15)
    blind = judged(session(rng, "blind", rounds=3, noise=0.2), history(rng, 2, rounds=3, noise=0.2))
    held = judged(session(rng, "held", rounds=3, noise=0.15, slower={HEAVY: 1.5}), past)
    store = HistoryStore(tmp_path)
    store.prepare()
    names = [*past, held, blind, *[structs.replace(held, session_id=f"h{n}") for n in range(5)]]
    for second, one in enumerate(names):
        store.save(structs.replace(one, timestamp_utc=f"20261128T00000{second}Z"), "", latest=False)
    assert held.comparability is not None
    handed = HistoryStore(tmp_path).baseline(held.comparability)
    assert [one.session_id for one in handed] == ["s0", "s1", "blind", "h2", "h3", "h4"]
    assert [Standing.of(one).in_baseline for one in handed] == [True, True, True, False, False, False]
    verdict = judge(session(rng, rounds=3, noise=0.15, slower={HEAVY: 1.5}), handed)
    assert verdict.joins_baseline or verdict.fails
    waiting = judge(session(rng, rounds=3, noise=0.15, slower={HEAVY: 1.5}), handed[:-1])
    assert not waiting.joins_baseline


def test_a_policy_can_be_replaced() -> None:
    assert replace(GatePolicy(), tolerance=0.1).tolerance == 0.1


@pytest.mark.parametrize("rounds", [3, 6])
def test_one_bad_round_in_the_baseline_hides_no_errors(rng: random.Random, rounds: int) -> None:
    def errors(share: float, runs: range | None = None) -> Callable[[int, PhaseReport], PhaseReport]:
        def edit(index: int, one: PhaseReport) -> PhaseReport:
            if runs is not None and index not in runs:
                return one
            bad = round(share * one.requests_total)
            return structs.replace(one, err=bad, ok=one.requests_total - bad, error_rate=100 * share)

        return edit

    past = history(rng, 20, rounds=rounds)
    past[7] = change(past[7], HEAVY, errors(0.95, range(1, 2)))
    now = change(session(rng, rounds=rounds), HEAVY, errors(0.05))
    now = structs.replace(now, raw_runs=[*now.raw_runs])
    verdict = judge(now, past)
    assert verdict.kind in {"inconclusive", "regressed"}
    assert not verdict.joins_baseline
    assert any("error_rate" in one.message for one in verdict.findings)
    clean = change(session(rng, rounds=rounds), HEAVY, errors(0.05))
    steady = judge(clean, history(rng, 20, rounds=rounds))
    assert steady.kind == "regressed", "where the baseline has no errors the rule is as strict as ever"


@pytest.mark.parametrize("pace", [{"rate_rps": 5.0}, {"think_time_s": 2.0}], ids=["schedule", "pauses"])
def test_a_profile_that_could_not_be_compared_is_not_green(
    rng: random.Random, pace: dict[str, float]
) -> None:
    """Neither where this computer set its pace, nor where the gate that decides has no figure."""

    def paced(one: SessionArtifact, **changes: object) -> SessionArtifact:
        return change(one, HEAVY, lambda _, report: structs.replace(report, **pace, **changes))

    past = [paced(one) for one in history(rng, 8)]
    verdict = judge(paced(session(rng), p95_ms=None), past)
    assert verdict.kind == "inconclusive"
    assert verdict.joins_baseline, "the other profiles were seen"
    shown = structs.replace(session(rng), gate=verdict)
    assert render_terminal(shown)[0].text.startswith("INCONCLUSIVE: not every profile could be compared")


def test_a_session_that_fails_otherwise_is_neither_held_back_nor_provisional(
    rng: random.Random,
) -> None:
    past = history(rng, 2, rounds=3, noise=0.2)
    verdict = judge(session(rng, rounds=3, noise=0.2), past)
    failed = failed_by(verdict, Finding(severity="fail", kind=OWN_TEST, message="1 test failed"))
    assert not kinds(failed) & {HELD_BACK, PROVISIONAL}
    assert not failed.joins_baseline


def test_an_old_artifact_with_a_threshold_of_millions_is_shown_without_it() -> None:
    row = GateRow(name="a:rps_ok", profile="a", metric="rps_ok", d_pct=1.0, smallest_detectable_pct=2e6)
    text = "\n".join(
        line.text for line in render_terminal(SessionArtifact(gate=Verdict(kind="unchanged", gates=[row])))
    )
    assert "2000000" not in text
