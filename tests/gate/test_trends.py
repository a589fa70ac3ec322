"""Over time: the drift guard, the leak rule, planning; and properties of the whole."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from support.gate_sessions import PROFILES, history, key, more_rounds, scaled, session, with_runs

from pytest_espperf.gate import GatePolicy, bench_noise, judge, measure_again, rounds_needed
from pytest_espperf.gate.drift import drifts
from pytest_espperf.gate.series import Series
from pytest_espperf.model.artifact import Finding, Json, RawRun, SessionArtifact, Verdict
from pytest_espperf.model.verdicts import ACCEPTED


@pytest.fixture
def rng() -> random.Random:
    return random.Random(5)


def slide(rng: random.Random, start: int, step: float, sessions: int) -> tuple[int, Verdict]:
    """How many sessions of a slide pass, and the first verdict that fails."""
    past = history(rng, start)
    for i in range(1, sessions + 1):
        now = session(rng, f"n{i}", slower={"python_heavy": step**i})
        verdict = judge(now, past)
        if verdict.fails:
            return i, verdict
        if verdict.kind in ACCEPTED:
            past.append(msgspec.structs.replace(now, gate=Verdict(kind=verdict.kind)))
    return sessions + 1, verdict


@pytest.mark.parametrize("start", [5, 12, 20, 40])
def test_a_slide_of_two_percent_is_found(rng: random.Random, start: int) -> None:
    passed, verdict = slide(rng, start, 1.02, 12)
    assert passed <= 8
    assert verdict.kind in {"drift", "regressed"}


def test_a_slide_of_three_percent_is_called_drift(rng: random.Random) -> None:
    passed, verdict = slide(rng, 20, 1.03, 8)
    assert passed > 1
    assert verdict.kind == "drift"


def test_a_rolling_bar_is_blind_to_what_the_guard_sees(rng: random.Random) -> None:
    past = history(rng, 20)
    past += [session(rng, f"d{i}", slower={"python_heavy": 1.004**i}, verdict="unchanged") for i in range(25)]
    now = session(rng, slower={"python_heavy": 1.004**25})
    verdict = judge(now, past)
    assert {r.verdict for r in verdict.gates if r.metric in {"rps_ok", "p95_ms"}} == {"unchanged", "drift"}
    assert verdict.kind == "drift"
    assert measure_again(verdict) == {}
    (found, *_) = [r for r in verdict.gates if r.rule == "drift"]
    assert found.profile == "python_heavy"
    assert found.suspect
    assert judge(now, past, GatePolicy(baseline="fixed")).kind == "unchanged"


def test_a_pinned_session_is_the_anchor(rng: random.Random) -> None:
    past = history(rng, 1, slower={"python_heavy": 0.8}, pinned=True) + history(rng, 14)
    assert judge(session(rng), past).kind == "drift"
    assert judge(session(rng), history(rng, 15)).kind == "unchanged"


def test_pairs_can_clear_a_drift(rng: random.Random) -> None:
    past = history(rng, 20)
    past += [session(rng, f"d{i}", slower={"python_heavy": 1.004**i}, verdict="unchanged") for i in range(25)]
    now = session(rng, slower={"python_heavy": 1.004**25})
    for new, kind in ((1.1, "environment-shift"), (1.21, "regressed")):
        both = more_rounds(now, "python_heavy", [1.1, 1.11, 1.1, 1.09], "ab-baseline")
        both = more_rounds(both, "python_heavy", [new, new * 1.01, new, new], "ab-candidate")
        word = judge(both, past).kind
        assert word == kind or (kind == "regressed" and word == "drift")


def test_an_old_slide_is_called_drift_not_regressed(rng: random.Random) -> None:
    past = history(rng, 11)
    past += [
        session(rng, f"d{i}", slower={"python_heavy": f}, verdict="unchanged")
        for i, f in enumerate((1.03, 1.06))
    ]
    verdict = judge(session(rng, slower={"python_heavy": 1.09}, noise=0.002, shift=0.0), past)
    assert verdict.kind == "drift"
    assert list(measure_again(verdict)) == ["python_heavy"]


@pytest.mark.parametrize("number", range(10))
def test_an_even_slide_noticed_at_its_second_step_is_a_slide(number: int) -> None:
    """Two steps of 3 % pass the 5 % at which a quiet bench calls: half of the loss was there before."""
    rng = random.Random(number)
    quiet: dict[str, Any] = {"noise": 0.004, "shift": 0.002}
    calm = history(rng, 12, **quiet)
    first = session(rng, "first", slower={"python_heavy": 1.03}, verdict="unchanged", **quiet)
    assert judge(first, calm).kind == "unchanged"
    second = session(rng, slower={"python_heavy": 1.03**2}, **quiet)
    assert judge(second, [*calm, first]).kind == "drift"
    assert judge(second, calm).kind == "regressed", "the same loss in one step"


def test_cusum_by_hand() -> None:
    flat = tuple((0.0, 0.0) for _ in range(20))
    slow = tuple((0.2, 0.2) for _ in range(3))
    one = Series("p", "p95_ms", flat, flat + slow, (), (0.2, 0.2))
    found = drifts([one])["p:p95_ms"]
    assert (found.reference, found.watched) == (13, 11)
    # Seven quiet sessions leave S at 0; then four of z >= 3: 4 * (3 - 1).
    assert found.score == pytest.approx(8.0)
    assert drifts([Series("p", "p95_ms", flat[:4], flat[:4], (), (0.0, 0.0))]) == {}


def memory(artifact: SessionArtifact, heap: Callable[[int, int], Json]) -> SessionArtifact:
    """The session with a heap after each phase: ``heap(number of the phase, requests so far)``."""
    count, asked, runs = 0, 0, []
    for raw in artifact.raw_runs:
        results = []
        for result in raw.results:
            asked += result.report.requests_total
            after = {"gc_mem_free": 1, "heap": heap(count, asked)}
            results.append(
                msgspec.structs.replace(
                    result, report=msgspec.structs.replace(result.report, mem_after=after)
                )
            )
            count += 1
        runs.append(msgspec.structs.replace(raw, results=results))
    return with_runs(artifact, runs)


def leaks(artifact: SessionArtifact, policy: GatePolicy | None = None) -> list[Finding]:
    verdict = judge(artifact, [], policy or GatePolicy())
    found = [f for f in verdict.findings if f.kind in {"leak", "fragmentation"}]
    assert (verdict.kind == "failed") == bool(found)
    return found


class TestLeak:
    @pytest.mark.parametrize("rounds", [1, 2, 3, 6])
    def test_the_originals_case_fails(self, rng: random.Random, rounds: int) -> None:
        """573 to 114 KB, while each phase lost less than its budget of 128 KB."""
        phases = rounds * 6 - 1

        def heap(i: int, _: int) -> Json:
            return {"internal_free": int(1024 * (573 - 459 * i / phases))}

        (found,) = leaks(memory(session(rng, rounds=rounds), heap))
        assert found.where == "internal_free"
        assert "from 573 KB to 114 KB" in found.message

    @pytest.mark.parametrize(("left", "fails"), [(1024, True), (70_000, False)])
    def test_what_one_phase_took_for_good_is_lost(self, rng: random.Random, left: int, fails: bool) -> None:
        """A board with nothing left to lose shows no trend."""
        told = memory(session(rng), lambda _, __: {"internal_free": left})
        first, *others = told.raw_runs
        one, *rest = first.results
        before = {"heap": {"internal_free": 196_000}}
        one = msgspec.structs.replace(one, report=msgspec.structs.replace(one.report, mem_before=before))
        runs = [msgspec.structs.replace(first, results=[one, *rest]), *others]
        budget = {"max_internal_free_drop": 131_072.0}
        found = leaks(msgspec.structs.replace(with_runs(told, runs), thresholds=budget))
        assert [finding.where for finding in found] == ["internal_free"] * fails

    @pytest.mark.parametrize("rounds", [1, 2, 3, 6])
    @pytest.mark.parametrize("period", [2.3, 3.0, 4.0, 7.0, 11.0])
    def test_a_sawtooth_of_the_collector_passes(self, rng: random.Random, rounds: int, period: float) -> None:
        def heap(i: int, _: int) -> Json:
            return {"internal_free": int(300_000 - 150_000 * ((i / period) % 1.0))}

        if rounds == 1 and period > 6:
            pytest.skip("one falling edge is all that such a session sees")
        assert not leaks(memory(session(rng, rounds=rounds), heap))

    def test_what_warms_up_once_passes(self, rng: random.Random) -> None:
        def heap(i: int, _: int) -> Json:
            return {"internal_free": 250_000 - 12_000 * min(i, 6) - rng.randint(0, 3000)}

        for rounds in (2, 3, 6):
            assert not leaks(memory(session(rng, rounds=rounds), heap))

    def test_cells_with_different_working_sets_pass(self, rng: random.Random) -> None:
        def heap(i: int, _: int) -> Json:
            return {"internal_free": 250_000 - 30_000 * (i % 6), "psram_free": 8_000_000 - 400_000 * (i % 6)}

        assert not leaks(memory(session(rng), heap))

    @pytest.mark.parametrize("per_request", [8, 32])
    def test_a_slow_leak_under_noise_fails(self, rng: random.Random, per_request: int) -> None:
        def heap(i: int, asked: int) -> Json:
            return {
                "internal_free": int(280_000 - per_request * asked - 9_000 * (i % 6) - rng.randint(0, 6000))
            }

        (found,) = leaks(memory(session(rng), heap))
        assert f"{per_request / 1.024:.0f}"[:1] in found.message

    def test_budget_and_psram(self, rng: random.Random) -> None:
        now = memory(session(rng), lambda _, asked: {"psram_free": 8_000_000 - 40 * asked})
        (found,) = leaks(now)
        assert found.where == "psram_free"
        assert not leaks(now, GatePolicy(leak_bytes_per_1k={"psram_free": 50_000.0}))

    def test_a_heap_that_falls_to_pieces_fails(self, rng: random.Random) -> None:
        def heap(i: int, _: int) -> Json:
            return {"internal_free": 200_000, "internal_largest": 110_000 - 2_500 * i}

        (found,) = leaks(memory(session(rng), heap))
        assert found.kind == "fragmentation"

    def test_no_telemetry_is_no_finding(self, rng: random.Random) -> None:
        assert not leaks(session(rng))
        assert not leaks(memory(session(rng), lambda _i, _a: {"internal_free": True, "psram_free": "8 MB"}))

    def test_the_board_between_ab_firmwares_is_not_judged(self, rng: random.Random) -> None:
        now = memory(session(rng), lambda _i, _a: {"internal_free": 250_000})
        tail = memory(session(rng), lambda i, _a: {"internal_free": 200_000 - 5000 * i}).raw_runs
        swapped = [msgspec.structs.replace(raw, role="ab-candidate") for raw in tail]
        assert not leaks(with_runs(now, [*now.raw_runs, *swapped]))


class TestPlanning:
    def test_noise_is_found_again(self, rng: random.Random) -> None:
        found = bench_noise(history(rng, 60, noise=0.04 * math.sqrt(2), shift=0.03))
        assert [(b.profile, b.metric) for b in found][:2] == [
            ("c_static_only", "rps_ok"),
            ("c_static_only", "p95_ms"),
        ]
        for bench in found:
            assert bench.round_sigma_pct == pytest.approx(4, rel=0.2)
            assert bench.session_sigma_pct == pytest.approx(3, rel=0.4)
            assert bench.smallest_pct > 10

    def test_rounds_needed(self, rng: random.Random) -> None:
        sessions = history(rng, 40, noise=0.05, shift=0.004)
        needed = [rounds_needed(sessions, pct) for pct in (6, 8, 12, 30)]
        assert needed[0] is None
        assert needed[-1] is not None
        counts = [n or 99 for n in needed]
        assert counts == sorted(counts, reverse=True)

    def test_between_sessions_no_round_helps(self, rng: random.Random) -> None:
        assert rounds_needed(history(rng, 40, noise=0.002, shift=0.06), 8) is None
        assert rounds_needed([], 8) is None
        assert bench_noise([]) == []

    def test_single_rounds_can_be_planned_too(self, rng: random.Random) -> None:
        assert bench_noise(history(rng, 10, rounds=1))

    def test_nonsense_is_refused(self, rng: random.Random) -> None:
        with pytest.raises(ValueError, match="above 0"):
            rounds_needed(history(rng, 3), 0)


@seed(10)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.floats(0.01, 100), st.floats(0.8, 1.3), st.integers(1, 12))
def test_the_verdict_knows_no_unit(number: int, factor: float, slower: float, sessions: int) -> None:
    rng = random.Random(number)
    past, now = history(rng, sessions), session(rng, slower={"python_heavy": slower})
    a = judge(now, past)
    b = judge(scaled(now, factor), [scaled(s, factor) for s in past])
    assert a.kind == b.kind
    for one, other in zip(a.gates, b.gates, strict=True):
        assert one.verdict == other.verdict
        assert one.d_pct == (None if other.d_pct is None else pytest.approx(other.d_pct, abs=1e-6))
        assert one.threshold_pct == (
            None if other.threshold_pct is None else pytest.approx(other.threshold_pct, abs=1e-6)
        )


@seed(11)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(1, 12), st.sampled_from([0.003, 0.02, 0.08]))
def test_slower_is_never_better(number: int, sessions: int, noise: float) -> None:
    past = history(random.Random(number), sessions, noise=noise)
    order = ["improved", "unchanged", "inconclusive", "drift", "regressed"]
    before = 0
    for factor in (0.7, 0.9, 1.0, 1.05, 1.1, 1.2, 1.5, 3.0):
        now = session(random.Random(number + 1), slower={"python_light": factor}, noise=noise)
        rank = max(order.index(r.verdict) for r in judge(now, past).gates if r.name == "python_light:p95_ms")
        assert rank >= before
        before = rank


@seed(12)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(0, 8), st.randoms(use_true_random=False))
def test_order_inside_a_session_does_not_matter(number: int, sessions: int, shuffler: random.Random) -> None:
    rng = random.Random(number)
    past, now = history(rng, sessions), session(rng, slower={"python_light": 1.1})

    def turned(artifact: SessionArtifact) -> SessionArtifact:
        runs: list[RawRun] = list(artifact.raw_runs)
        shuffler.shuffle(runs)
        return with_runs(artifact, runs)

    a, b = judge(now, past), judge(turned(now), [turned(s) for s in past])
    assert a.kind == b.kind
    assert {r.name: (r.verdict, r.d_pct) for r in a.gates} == {r.name: (r.verdict, r.d_pct) for r in b.gates}


@seed(13)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.sampled_from(["regressed", "failed", "drift", "inconclusive", "incomplete"]))
def test_sessions_that_did_not_pass_change_nothing(number: int, word: str) -> None:
    rng = random.Random(number)
    past, now = history(rng, 6), session(rng)
    bad = session(rng, "bad", slower=dict.fromkeys(PROFILES, 2.0), verdict=word)  # type: ignore[arg-type]
    unlike = session(rng, "unlike", comparability=key(runs=3), slower=dict.fromkeys(PROFILES, 2.0))
    assert judge(now, [*past[:3], bad, unlike, *past[3:]]).gates == judge(now, past).gates
