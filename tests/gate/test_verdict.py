"""judge(): the single-shot rule, the verdict words, and who is the baseline."""

from __future__ import annotations

import random

import msgspec
import pytest
from support.gate_sessions import PHASES, PROFILES, history, key, kinds, more_rounds, run, session, with_runs

from pytest_espperf.gate import (
    GatePolicy,
    detectable,
    detectable_sentence,
    fails,
    judge,
    may_stop_early,
    measure_again,
    suspects,
)
from pytest_espperf.model.artifact import Json, RunRole, SessionArtifact, Verdict

ACCEPT: Json = {"reason": "bigger templates"}


@pytest.fixture
def rng() -> random.Random:
    return random.Random(11)


def row(verdict: Verdict, name: str) -> str:
    return next(r.verdict for r in verdict.gates if r.name == name)


def test_same_firmware_is_unchanged(rng: random.Random) -> None:
    verdict = judge(session(rng), history(rng, 20))
    assert verdict.kind == "unchanged"
    main = [r for r in verdict.gates if r.metric in {"rps_ok", "p95_ms"}]
    assert [r.name for r in main] == [f"{p}:{m}" for p in PROFILES for m in ("rps_ok", "p95_ms")]
    assert all(r.sessions == 20 for r in main)
    assert verdict.baseline["sessions"] == [f"s{i}" for i in range(20)]


def test_one_slower_profile_is_regressed_and_named(rng: random.Random) -> None:
    verdict = judge(session(rng, slower={"python_heavy": 1.12}), history(rng, 20))
    assert verdict.kind == "regressed"
    assert {r.profile for r in verdict.gates if r.verdict == "regressed"} == {"python_heavy"}
    slow = next(r for r in verdict.gates if r.name == "python_heavy:rps_ok")
    assert slow.d_pct == pytest.approx(12, abs=2)
    assert slow.baseline == pytest.approx(20, rel=0.02)
    assert slow.now == pytest.approx(20 / 1.12, rel=0.02)
    assert list(measure_again(verdict)) == ["python_heavy"]


def test_one_faster_profile_is_improved(rng: random.Random) -> None:
    verdict = judge(session(rng, slower={"python_heavy": 0.85}), history(rng, 20))
    assert verdict.kind == "improved"
    assert not fails(verdict)


def test_nothing_before_is_no_baseline(rng: random.Random) -> None:
    verdict = judge(session(rng), [])
    assert verdict.kind == "no-baseline"
    (found,) = [f for f in verdict.findings if f.kind == "no-baseline"]
    assert (found.where, found.message) == ("", "no baseline yet; absolute budgets apply.")


def test_a_profile_missing_from_the_bar_is_named(rng: random.Random) -> None:
    verdict = judge(session(rng), history(rng, 8, profiles=PROFILES[:2]))
    assert verdict.kind == "unchanged"
    assert [f.where for f in verdict.findings if f.kind == "no-baseline"] == ["python_heavy"]


def test_one_previous_session_says_its_honest_threshold(rng: random.Random) -> None:
    verdict = judge(session(rng), history(rng, 1))
    assert verdict.kind == "unchanged"
    assert all(10 < (r.threshold_pct or 0) < 30 for r in verdict.gates if r.metric == "p95_ms")


@pytest.mark.parametrize("word", ["regressed", "drift", "failed", "inconclusive", "incomplete"])
def test_a_session_that_did_not_pass_is_never_the_baseline(rng: random.Random, word: str) -> None:
    slow = session(rng, "bad", slower=dict.fromkeys(PROFILES, 1.5), verdict=word)  # type: ignore[arg-type]
    verdict = judge(session(rng), [*history(rng, 5), slow])
    assert "bad" not in verdict.baseline["sessions"]
    verdict = judge(session(rng), [slow])
    assert verdict.kind == "no-baseline"
    assert "baseline" in kinds(verdict)


def test_partial_sessions_are_never_the_baseline(rng: random.Random) -> None:
    assert judge(session(rng), history(rng, 5, partial=True)).kind == "no-baseline"


def test_an_accepted_slowdown_opens_an_epoch(rng: random.Random) -> None:
    slow = dict.fromkeys(PROFILES, 1.3)
    accepted = session(rng, "ok'd", slower=slow, verdict="regressed", accepted=ACCEPT)
    before = history(rng, 20)
    assert judge(session(rng, slower=slow), before).kind == "regressed"
    verdict = judge(session(rng, slower=slow), [*before, accepted])
    assert verdict.kind == "unchanged"
    assert verdict.baseline["sessions"] == ["ok'd"]
    assert verdict.baseline["epoch"] == "ok'd"


def test_an_environment_shift_opens_an_epoch(rng: random.Random) -> None:
    shifted = session(rng, "moved", verdict="environment-shift")
    verdict = judge(session(rng), [*history(rng, 6), shifted, *history(rng, 2)])
    assert verdict.baseline["sessions"] == ["moved", "s0", "s1"]


def test_previous_means_the_last_accepted_one(rng: random.Random) -> None:
    bad = session(rng, "bad", verdict="regressed")
    verdict = judge(session(rng), [*history(rng, 5), bad], GatePolicy(baseline="previous"))
    assert verdict.baseline["sessions"] == ["s4"]


def test_fixed_takes_what_it_is_given_across_epochs(rng: random.Random) -> None:
    chosen = [*history(rng, 3), session(rng, "a", accepted=ACCEPT), session(rng, "b")]
    assert len(judge(session(rng), chosen, GatePolicy(baseline="fixed")).baseline["sessions"]) == 5


def test_unlike_sessions_are_named_once_with_both_values(rng: random.Random) -> None:
    other = history(rng, 3, comparability=key(runs=3))
    verdict = judge(session(rng), other)
    assert verdict.kind == "no-baseline"
    (found,) = [f for f in verdict.findings if f.kind == "incomparable"]
    assert found.severity == "warn"
    assert found.message == "the number of runs was 3 in the 3 earlier sessions, 6 now: not compared."


def test_an_unlike_profile_does_not_spoil_the_others(rng: random.Random) -> None:
    fields = key().fields
    profiles = {**fields["profiles"], "python_heavy": {"paths": ["/other"], "clients": [12, 8]}}
    verdict = judge(session(rng), history(rng, 8, comparability=key(profiles=profiles)))
    assert {r.profile for r in verdict.gates} == {"c_static_only", "python_light"}
    (found,) = [f for f in verdict.findings if f.kind == "incomparable"]
    assert found.where == "python_heavy"
    assert "the path /other was requested (now not requested)" in found.message
    assert "clients" not in found.message


def test_the_original_tools_files_are_said_and_not_used(rng: random.Random) -> None:
    verdict = judge(session(rng), history(rng, 3, comparability=None, schema_version=0))
    assert verdict.kind == "no-baseline"
    assert any(f.kind == "incomparable" and f.severity == "info" for f in verdict.findings)


def test_a_candidate_without_a_record_is_compared_with_nothing(rng: random.Random) -> None:
    assert judge(session(rng, comparability=None), history(rng, 3)).kind == "no-baseline"


def test_noise_makes_a_change_inconclusive_and_strict_fails_it(rng: random.Random) -> None:
    past = history(rng, 12, noise=0.12, shift=0.12)
    found = {
        factor: judge(session(rng, slower={"python_heavy": factor}, noise=0.12, shift=0.0), past)
        for factor in (1.0, 1.9, 6.0)
    }
    assert found[1.0].kind == "inconclusive", "a slowdown of 25 % could not have been seen"
    assert found[1.9].kind == "inconclusive"
    assert found[6.0].kind == "regressed"
    assert "not-excluded" in kinds(found[1.9])
    assert not fails(found[1.9])
    assert fails(found[1.9], GatePolicy(strict=True))


def test_an_absolute_floor_must_be_passed_too(rng: random.Random) -> None:
    past, now = history(rng, 20), session(rng, slower={"python_heavy": 1.15})
    assert judge(now, past).kind == "regressed"
    wide = GatePolicy(min_effect={"p95_ms": 500.0, "rps_ok": 10.0, "p99_ms": 500.0})
    assert judge(now, past, wide).kind == "unchanged"
    assert judge(now, past, GatePolicy(min_effect={"p95_ms": 5.0, "rps_ok": 0.1})).kind == "regressed"


def test_switched_off_never_becomes_the_bar_unjudged(rng: random.Random) -> None:
    off = GatePolicy(enabled=False)
    assert judge(session(rng), [], off).kind == "no-baseline"
    verdict = judge(session(rng, slower=dict.fromkeys(PROFILES, 2.0)), history(rng, 5), off)
    assert verdict.kind == "inconclusive"
    assert verdict.gates == []


def test_an_interrupted_session_is_incomplete_with_its_rows(rng: random.Random) -> None:
    verdict = judge(session(rng, partial=True), history(rng, 5))
    assert verdict.kind == "incomplete"
    assert verdict.gates


def test_the_order_of_profiles_does_not_matter(rng: random.Random) -> None:
    past, now = history(rng, 9), session(rng, slower={"python_light": 1.2})
    turned = msgspec.structs.replace(
        with_runs(now, list(reversed(now.raw_runs))), profiles=list(reversed(now.profiles))
    )
    a, b = judge(now, past), judge(turned, past)
    assert a.kind == b.kind
    assert {r.name: r.d_pct for r in a.gates} == {r.name: r.d_pct for r in b.gates}


def test_what_would_have_been_noticed(rng: random.Random) -> None:
    verdict = judge(session(rng), history(rng, 20))
    assert set(detectable(verdict)) == set(PROFILES)
    assert "would have noticed (nine times in ten) c_static_only being 7 % slower or more" in (
        detectable_sentence(verdict)
    )
    assert detectable_sentence(judge(session(rng), [])) == ""
    heavy = next(r for r in verdict.gates if r.name == "python_heavy:p95_ms")
    assert (heavy.smallest_detectable_pct or 0) < (heavy.reliable_pct or 0)


def test_suspects_are_marked_and_named(rng: random.Random) -> None:
    verdict = judge(session(rng, slower={"python_light": 1.04}, noise=0.002, shift=0.0), history(rng, 20))
    assert verdict.kind == "unchanged"
    assert suspects(verdict) == ["python_light"]
    assert measure_again(verdict) == {}


class TestRounds:
    """Confirmation B."""

    def test_confirmed(self, rng: random.Random) -> None:
        past, now = history(rng, 20), session(rng, slower={"python_heavy": 1.12})
        verdict = judge(more_rounds(now, "python_heavy", [1.12, 1.11, 1.13]), past)
        assert verdict.kind == "regressed"
        assert measure_again(verdict) == {}

    def test_not_confirmed_is_inconclusive(self, rng: random.Random) -> None:
        past, now = history(rng, 20), session(rng, slower={"python_heavy": 1.12})
        verdict = judge(more_rounds(now, "python_heavy", [1.0, 1.0, 1.01]), past)
        assert verdict.kind == "inconclusive"
        assert measure_again(verdict) == {}
        assert any("not confirmed by 3 more runs" in r.detail for r in verdict.gates)

    def test_rounds_of_one_profile_do_not_confirm_another(self, rng: random.Random) -> None:
        past = history(rng, 20)
        now = session(rng, slower={"python_heavy": 1.12, "python_light": 1.12})
        verdict = judge(more_rounds(now, "python_heavy", [1.12] * 3), past)
        assert list(measure_again(verdict)) == ["python_light"]


class TestPairs:
    """Confirmation C."""

    @staticmethod
    def paired(now: SessionArtifact, profile: str, old: float, new: float) -> SessionArtifact:
        jitter = [1.0, 1.01, 0.99, 1.005, 0.995, 1.0]
        both = more_rounds(now, profile, [old * j for j in jitter], "ab-baseline")
        return more_rounds(both, profile, [new / j for j in jitter], "ab-candidate")

    def test_confirmed(self, rng: random.Random) -> None:
        past, now = history(rng, 20), session(rng, slower={"python_heavy": 1.1})
        verdict = judge(self.paired(now, "python_heavy", 1.0, 1.1), past)
        assert verdict.kind == "regressed"
        assert suspects(verdict) == []

    def test_a_suspect_below_the_threshold_is_confirmed_too(self, rng: random.Random) -> None:
        now = session(rng, slower={"python_heavy": 1.05}, noise=0.003, shift=0.0)
        past = history(rng, 20, noise=0.003)
        assert judge(self.paired(now, "python_heavy", 1.0, 1.05), past).kind == "regressed"

    def test_old_firmware_as_slow_is_an_environment_shift(self, rng: random.Random) -> None:
        now = session(rng, slower=dict.fromkeys(PROFILES, 1.1))
        for profile in PROFILES:
            now = self.paired(now, profile, 1.1, 1.1)
        verdict = judge(now, history(rng, 20))
        assert verdict.kind == "environment-shift"
        assert "environment-shift" in kinds(verdict)

    def test_a_common_shift_below_every_threshold_is_told(self, rng: random.Random) -> None:
        now = session(rng, slower=dict.fromkeys(PROFILES, 1.046), noise=0.002, shift=0.0)
        for profile in PROFILES:
            now = self.paired(now, profile, 1.046, 1.046)
        assert judge(now, history(rng, 20)).kind == "environment-shift"

    def test_a_lone_suspect_cleared_stays_unchanged(self, rng: random.Random) -> None:
        now = session(rng, slower={"python_light": 1.04}, noise=0.002, shift=0.0)
        verdict = judge(self.paired(now, "python_light", 1.04, 1.04), history(rng, 20))
        assert verdict.kind == "unchanged"
        assert suspects(verdict) == []

    def test_a_loss_that_pairs_neither_prove_nor_exclude_is_no_environments(self, rng: random.Random) -> None:
        """It must not open an epoch: the next session would be judged by the slow firmware."""
        past, now = history(rng, 20, noise=0.02), session(rng, slower={"python_heavy": 1.2}, noise=0.02)
        wild = [0.75, 1.4, 0.8, 1.25, 1.0, 1.05]
        both = more_rounds(now, "python_heavy", wild, "ab-baseline")
        both = more_rounds(both, "python_heavy", [1.18 / w for w in wild], "ab-candidate")
        verdict = judge(both, past)
        assert verdict.kind == "inconclusive"
        assert any("neither confirmed nor excluded" in row.detail for row in verdict.gates)

    @pytest.mark.parametrize(("role", "word"), [("ab-candidate", "failed"), ("ab-baseline", "regressed")])
    def test_a_firmware_that_dies_in_the_pairs(self, rng: random.Random, role: RunRole, word: str) -> None:
        now = session(rng, slower={"python_heavy": 1.1})
        dies = run(
            "python_heavy", 9, (1.0, 1.0), role, fail="the serial console says: panic: Guru Meditation"
        )
        both = self.paired(now, "python_heavy", 1.0, 1.1)
        verdict = judge(with_runs(both, [*both.raw_runs, dies]), history(rng, 20))
        assert verdict.kind == word
        assert "broken" in kinds(verdict)

    def test_two_pairs_decide_nothing(self, rng: random.Random) -> None:
        now = session(rng, slower={"python_heavy": 1.2})
        now = more_rounds(now, "python_heavy", [1.0, 1.0], "ab-baseline")
        now = more_rounds(now, "python_heavy", [1.2, 1.2], "ab-candidate")
        assert judge(now, history(rng, 20)).kind == "inconclusive"


class TestEarlyStop:
    def test_calm_after_three_rounds(self, rng: random.Random) -> None:
        past = history(rng, 20)
        calm = session(rng, rounds=3, noise=0.001, shift=0.0, runs_per_profile=6)
        assert may_stop_early(calm, past)
        assert judge(calm, past).kind == "unchanged"

    def test_not_before(self, rng: random.Random) -> None:
        past = history(rng, 20)
        assert not may_stop_early(session(rng, rounds=2, noise=0.001, shift=0.0), past)
        assert not may_stop_early(SessionArtifact(), past)

    def test_not_with_a_suspect_or_without_a_baseline(self, rng: random.Random) -> None:
        past = history(rng, 20)
        slow = session(rng, rounds=3, noise=0.001, shift=0.0, slower={"python_light": 1.05})
        assert not may_stop_early(slow, past)
        calm = session(rng, rounds=3, noise=0.001, shift=0.0)
        assert not may_stop_early(calm, [])
        assert not may_stop_early(calm, past[:1])
        assert not may_stop_early(calm, [session(rng, f"x{i}", profiles=PROFILES[:2]) for i in range(9)])


def test_unequal_phases_of_a_round_leave_it_out(rng: random.Random) -> None:
    past, now = history(rng, 20), session(rng)
    runs = [
        run(r.profile, r.run_index, [50.0]) if (r.profile, r.run_index) == ("python_light", 1) else r
        for r in now.raw_runs
    ]
    assert len(runs[1].results) < len(PHASES)
    assert judge(with_runs(now, runs), past).kind == "unchanged"
