"""The other rules: error rate, p99, plain percentages, absolute budgets, generator-bound phases."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from support.gate_sessions import PROFILES, change, history, more_rounds, report, run, session, with_runs

from pytest_espperf.gate import GatePolicy, judge, measure_again, suspects
from pytest_espperf.model.artifact import GeneratorReport, PhaseReport, RunRole, SessionArtifact, Verdict

PAIR: tuple[RunRole, RunRole] = ("ab-baseline", "ab-candidate")


@pytest.fixture
def rng() -> random.Random:
    return random.Random(23)


def errors(share: float, rounds: int = 99) -> Callable[[int, PhaseReport], PhaseReport]:
    def edit(index: int, old: PhaseReport) -> PhaseReport:
        if index > rounds and index < 100:
            return old
        return msgspec.structs.replace(old, err=round(share * old.requests_total))

    return edit


def row(verdict: Verdict, name: str) -> str:
    return next(r.verdict for r in verdict.gates if r.name == name)


class TestErrors:
    def test_more_errors_are_a_regression(self, rng: random.Random) -> None:
        verdict = judge(change(session(rng), "python_light", errors(0.02)), history(rng, 8))
        assert verdict.kind == "regressed"
        assert row(verdict, "python_light:error_rate") == "regressed"
        assert list(measure_again(verdict)) == suspects(verdict) == ["python_light"]

    def test_the_same_errors_as_always_are_none(self, rng: random.Random) -> None:
        past = [change(s, "python_light", errors(0.02)) for s in history(rng, 8)]
        assert judge(change(session(rng), "python_light", errors(0.02)), past).kind == "unchanged"

    def test_a_stall_confined_to_one_run_is_none(self, rng: random.Random) -> None:
        assert (
            judge(change(session(rng), "python_light", errors(0.3, 1)), history(rng, 8)).kind == "unchanged"
        )

    def test_nor_on_a_board_with_a_few_errors_anyway(self, rng: random.Random) -> None:
        past = [change(s, "python_light", errors(0.004)) for s in history(rng, 8)]
        now = change(change(session(rng), "python_light", errors(0.004)), "python_light", errors(0.3, 1))
        assert judge(now, past).kind == "unchanged"

    def test_four_errors_are_none(self, rng: random.Random) -> None:
        few = change(session(rng, rounds=2), "python_heavy", errors(0.007))
        assert judge(few, history(rng, 8, rounds=2)).kind == "unchanged"

    def test_confirmation_rounds_decide(self, rng: random.Random) -> None:
        past = history(rng, 8)
        now = change(session(rng), "python_light", errors(0.02))
        clean = more_rounds(now, "python_light", [1.0] * 3)
        assert judge(clean, past).kind == "inconclusive"
        assert judge(change(clean, "python_light", errors(0.02), "confirm"), past).kind == "regressed"

    def test_pairs_decide(self, rng: random.Random) -> None:
        past = history(rng, 8)
        now = change(session(rng), "python_light", errors(0.02))
        for role in PAIR:
            now = more_rounds(now, "python_light", [1.0] * 4, role)
        assert judge(now, past).kind == "environment-shift"
        bad = change(now, "python_light", errors(0.02), "ab-candidate")
        assert judge(bad, past).kind == "regressed"
        both = change(bad, "python_light", errors(0.02), "ab-baseline")
        assert judge(both, past).kind == "environment-shift"


class TestTail:
    @staticmethod
    def with_p99(artifact: SessionArtifact, factor: float, requests: int = 500) -> SessionArtifact:
        def edit(_: int, old: PhaseReport) -> PhaseReport:
            return msgspec.structs.replace(old, ok=requests, p99_ms=(old.p99_ms or 0) * factor)

        return change(artifact, "python_light", edit)

    def test_p99_alone_is_caught(self, rng: random.Random) -> None:
        past = [self.with_p99(s, 1.0) for s in history(rng, 20)]
        verdict = judge(self.with_p99(session(rng), 1.4), past)
        assert row(verdict, "python_light:p99_ms") == "regressed"
        assert row(verdict, "python_light:p95_ms") == "unchanged"
        assert verdict.kind == "regressed"

    def test_too_few_requests_are_said(self, rng: random.Random) -> None:
        past = [self.with_p99(s, 1.0) for s in history(rng, 20)]
        verdict = judge(self.with_p99(session(rng), 1.4, requests=200), past)
        (found,) = [r for r in verdict.gates if r.name == "python_light:p99_ms"]
        assert found.verdict == "not-gateable"
        assert "1200 requests in all runs, 1400 are needed" in found.detail
        assert verdict.kind == "unchanged"

    def test_too_much_noise_is_said(self, rng: random.Random) -> None:
        past = [self.with_p99(s, rng.uniform(0.7, 1.3)) for s in history(rng, 20)]
        verdict = judge(self.with_p99(session(rng), 1.4), past)
        (found,) = [r for r in verdict.gates if r.name == "python_light:p99_ms"]
        assert found.verdict == "not-gateable"
        assert "moves too much" in found.detail

    def test_one_phase_alone_does_not_decide_it(self, rng: random.Random) -> None:
        past = [self.with_p99(s, 1.0) for s in history(rng, 20)]
        now = self.with_p99(session(rng), 1.0)
        runs = []
        for raw in now.raw_runs:
            first, *rest = raw.results
            if raw.profile == "python_light":
                first = msgspec.structs.replace(
                    first, report=msgspec.structs.replace(first.report, p99_ms=(first.report.p99_ms or 0) * 2)
                )
            runs.append(msgspec.structs.replace(raw, results=[first, *rest]))
        assert row(judge(with_runs(now, runs), past), "python_light:p99_ms") == "unchanged"


class TestPlainRules:
    RULE = GatePolicy(fail_on=(("p50_ms", 8.0),))

    def test_a_broken_rule_names_its_cells(self, rng: random.Random) -> None:
        past = history(rng, 8, noise=0.001)
        verdict = judge(session(rng, slower={"python_heavy": 1.1}, noise=0.001), past, self.RULE)
        assert verdict.kind == "regressed"
        broken = [r.name for r in verdict.gates if r.rule == "fail-on" and r.verdict == "regressed"]
        assert broken == ["python_heavy:burst:p50_ms", "python_heavy:long:p50_ms"]

    def test_it_compares_with_the_last_session_of_the_baseline(self, rng: random.Random) -> None:
        past = [*history(rng, 8), session(rng, "last", slower={"python_heavy": 1.1}, verdict="unchanged")]
        past.append(session(rng, "bad", slower={"python_heavy": 0.5}, verdict="failed"))
        rule = GatePolicy(fail_on=(("p50_ms", 8.0),), min_effect={"p95_ms": 1e6, "rps_ok": 1e6})
        assert judge(session(rng, slower={"python_heavy": 1.12}), past, rule).kind == "unchanged"

    def test_throughput_falls_and_errors_are_points(self, rng: random.Random) -> None:
        past = history(rng, 8, noise=0.001)
        rule = GatePolicy(fail_on=(("rps_ok", 20.0), ("error_rate", 0.3)))
        bad = change(
            session(rng, noise=0.001, slower={"python_light": 1.3}),
            "python_heavy",
            lambda _, old: msgspec.structs.replace(old, error_rate=0.4),
        )
        broken = {
            r.name for r in judge(bad, past, rule).gates if r.rule == "fail-on" and r.verdict != "unchanged"
        }
        assert broken == {
            *(f"python_light:{phase}:rps_ok" for phase in ("burst", "long")),
            *(f"python_heavy:{phase}:error_rate" for phase in ("burst", "long")),
        }

    def test_confirmation_rounds_count_in(self, rng: random.Random) -> None:
        past = history(rng, 8, noise=0.001)
        rule = GatePolicy(fail_on=(("p50_ms", 3.0),))
        now = session(rng, slower={"python_heavy": 1.035}, noise=0.001, shift=0.0, rounds=2)
        assert list(measure_again(judge(now, past, rule))) == ["python_heavy"]
        assert judge(more_rounds(now, "python_heavy", [1.0] * 3), past, rule).kind == "unchanged"

    def test_pairs_clear_it(self, rng: random.Random) -> None:
        past = history(rng, 8, noise=0.001)
        now = session(rng, slower={"python_heavy": 1.1}, noise=0.001, shift=0.0)
        for role in PAIR:
            now = more_rounds(now, "python_heavy", [1.1] * 4, role)
        assert judge(now, past, self.RULE).kind == "environment-shift"


class TestBudgets:
    @staticmethod
    def failing(artifact: SessionArtifact, rounds: set[int], reason: str) -> SessionArtifact:
        runs = [
            run("python_light", raw.run_index, [1.0, 1.0], fail=reason)
            if raw.profile == "python_light" and raw.run_index in rounds
            else raw
            for raw in artifact.raw_runs
        ]
        return with_runs(artifact, runs)

    @pytest.mark.parametrize(
        ("rounds", "bad", "kind"),
        [
            (6, 6, "failed"),
            (6, 3, "failed"),
            (6, 2, "no-baseline"),
            (3, 1, "no-baseline"),
            (3, 2, "failed"),
            (1, 1, "failed"),
            (2, 1, "no-baseline"),
            (2, 2, "failed"),
        ],
    )
    def test_most_runs_decide(self, rng: random.Random, rounds: int, bad: int, kind: str) -> None:
        reason = "p95_ms 2500.0 > 2000.0"
        now = self.failing(session(rng, rounds=rounds), set(range(1, bad + 1)), reason)
        verdict = judge(now, [])
        assert verdict.kind == kind
        found = [f for f in verdict.findings if f.kind == "budget"]
        assert [f.where for f in found] == ["python_light:burst", "python_light:long"]
        assert all(reason in f.message and f"({bad} of {rounds} run" in f.message for f in found)
        assert {f.severity for f in found} == {"fail" if kind == "failed" else "warn"}

    @pytest.mark.parametrize(
        "reason", ["reboot detected: uptime fell", "serial: Guru Meditation Error: Core 1"]
    )
    def test_a_reboot_in_one_run_fails(self, rng: random.Random, reason: str) -> None:
        assert judge(self.failing(session(rng), {2}, reason), history(rng, 8)).kind == "failed"

    def test_a_phase_without_success_fails(self, rng: random.Random) -> None:
        nothing: dict[str, Any] = {
            "ok": 0,
            "rps_ok": 0.0,
            "p50_ms": None,
            "p95_ms": None,
            "p99_ms": None,
            "p95_tail_ms": None,
        }

        def dead(index: int, old: PhaseReport) -> PhaseReport:
            return report(1.0, **nothing) if index == 3 else old

        verdict = judge(change(session(rng), "python_light", dead), history(rng, 8))
        assert verdict.kind == "failed"
        assert any("no successful request (1 of 6 runs)" in f.message for f in verdict.findings)

    def test_a_phase_without_success_says_why_before_all_else(self, rng: random.Random) -> None:
        def dead(_index: int, old: PhaseReport) -> PhaseReport:
            return msgspec.structs.replace(old, ok=0, rps_ok=0.0, p95_ms=None)

        why = "no request succeeded in 2.8 s (/ws: 404, 101 was wanted (44 of 44))"
        now = change(self.failing(session(rng), set(range(1, 7)), why), "python_light", dead)
        verdict = judge(now, history(rng, 8))
        failing = [f for f in verdict.findings if f.severity == "fail" and f.where.startswith("python_light")]
        assert [f.kind for f in failing] == ["broken", "broken", "not-measured"]
        assert f"{why} (6 of 6 runs)" in failing[0].message
        assert verdict.findings[0] == failing[0]

    def test_nothing_measured_fails(self, rng: random.Random) -> None:
        assert judge(SessionArtifact(), history(rng, 3)).kind == "failed"
        assert judge(session(rng, raw_runs=[]), history(rng, 3)).kind == "failed"

    def test_a_profile_never_measured_fails(self, rng: random.Random) -> None:
        now = session(rng, profiles=PROFILES[:2])
        verdict = judge(msgspec.structs.replace(now, profiles=list(PROFILES)), [])
        assert verdict.kind == "failed"
        assert any("python_heavy was never measured" in f.message for f in verdict.findings)

    def test_too_few_rounds_fail(self, rng: random.Random) -> None:
        assert judge(session(rng, rounds=2, runs_per_profile=6), []).kind == "failed"
        assert judge(session(rng, rounds=3, runs_per_profile=6), []).kind == "no-baseline"

    def test_a_stopped_session_fails(self, rng: random.Random) -> None:
        verdict = judge(session(rng, hard_stop_reason="hard timeout"), history(rng, 8))
        assert verdict.kind == "failed"
        assert any("hard timeout" in f.message for f in verdict.findings)

    def test_a_rate_limiter_and_a_stall_are_said(self, rng: random.Random) -> None:
        def odd(index: int, old: PhaseReport) -> PhaseReport:
            return msgspec.structs.replace(
                old, status_counts={"200": 9, "429": 2}, stalled_s=3.0 * (index == 1)
            )

        found = {f.kind: f.message for f in judge(change(session(rng), "python_light", odd), []).findings}
        assert "12 answers were 429" in found["rate-limited"]
        assert "3.0 s without an answer in 1 of 6 runs" in found["stalled"]


class TestGeneratorBound:
    @staticmethod
    def bound(_: int, old: PhaseReport) -> PhaseReport:
        return msgspec.structs.replace(old, generator=GeneratorReport(cpu_share=1.0, bound=True))

    def test_such_phases_gate_nothing(self, rng: random.Random) -> None:
        past = history(rng, 8)
        now = change(session(rng, slower={"c_static_only": 2.0}), "c_static_only", self.bound)
        verdict = judge(now, past)
        assert verdict.kind == "inconclusive", "what was not seen is not unchanged"
        assert verdict.joins_baseline, "the other profiles were seen"
        assert {r.profile for r in verdict.gates if r.rule == "noise-floor"} == set(PROFILES[1:])
        assert {f.kind for f in verdict.findings} >= {"generator-bound", "not-judged"}

    def test_one_bound_phase_leaves_the_other(self, rng: random.Random) -> None:
        now = session(rng, slower={"c_static_only": 1.3})
        runs = []
        for raw in now.raw_runs:
            first, *rest = raw.results
            first = msgspec.structs.replace(first, report=self.bound(0, first.report))
            runs.append(msgspec.structs.replace(raw, results=[first, *rest]))
        verdict = judge(with_runs(now, runs), history(rng, 12))
        assert row(verdict, "c_static_only:rps_ok") == "regressed"

    def test_nothing_but_such_phases_is_inconclusive(self, rng: random.Random) -> None:
        now = session(rng)
        for profile in PROFILES:
            now = change(now, profile, self.bound)
        assert judge(now, history(rng, 8)).kind == "inconclusive"


def test_odd_figures_never_raise(rng: random.Random) -> None:
    odd = {
        "p95_ms": float("nan"),
        "p99_ms": float("inf"),
        "rps_ok": -1.0,
        "p50_ms": None,
        "requests_total": 0,
    }
    now = change(session(rng), "python_heavy", lambda _, old: msgspec.structs.replace(old, **odd))
    verdict = judge(now, history(rng, 8), GatePolicy(fail_on=(("p95_ms", 5.0), ("p50_ms", 5.0))))
    assert {r.profile for r in verdict.gates if r.rule == "noise-floor"} == set(PROFILES[:2])
    verdict = judge(session(rng), [now])
    assert "python_heavy" not in {r.profile for r in verdict.gates if r.rule == "noise-floor"}


def test_a_named_bar_may_be_slow_but_not_failed(rng: random.Random) -> None:
    fixed = GatePolicy(baseline="fixed")
    assert judge(session(rng), [session(rng, "slow", verdict="regressed")], fixed).gates
    assert not judge(session(rng), [session(rng, "dead", verdict="failed")], fixed).gates
