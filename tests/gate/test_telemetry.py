"""A board's own figures against those of the baseline."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from support.gate_sessions import history, session, with_runs

from pytest_espperf.gate import GatePolicy, judge
from pytest_espperf.gate.early import decide_early
from pytest_espperf.history.load import for_judging
from pytest_espperf.model.artifact import Finding, Json, PhaseReport, SessionArtifact, Verdict

Change = Callable[[int, PhaseReport], dict[str, Any]]

SERVER = {"requests_started": 900, "https_handshake_fail": 0, "ipc_pending_peak": 4}
STATS = {"server": SERVER, "uptime_ms": 5}
MEMORY = {"heap": {"internal_free": 180_000, "internal_largest": 90_000, "internal_min_free": 120_000}}


@pytest.fixture
def rng() -> random.Random:
    return random.Random(7)


def phases(artifact: SessionArtifact, change: Change) -> SessionArtifact:
    """The session with every phase's report changed; ``change`` is given its number."""
    count, runs = 0, []
    for raw in artifact.raw_runs:
        results = []
        for result in raw.results:
            changes = change(count, result.report)
            results.append(
                msgspec.structs.replace(result, report=msgspec.structs.replace(result.report, **changes))
            )
            count += 1
        runs.append(msgspec.structs.replace(raw, results=results))
    return with_runs(artifact, runs)


def telling(artifact: SessionArtifact, stats: Json = STATS, memory: Json = MEMORY) -> SessionArtifact:
    return phases(artifact, lambda *_: {"stats_after": stats, "mem_after": memory})


def past(rng: random.Random, count: int = 1, **words: Json) -> list[SessionArtifact]:
    return [for_judging(telling(one, **words)) for one in history(rng, count)]


def found(verdict: Verdict, kind: str) -> list[Finding]:
    return [finding for finding in verdict.findings if finding.kind == kind]


class TestLost:
    def test_all_is_there(self, rng: random.Random) -> None:
        verdict = judge(telling(session(rng)), past(rng))
        assert found(verdict, "telemetry") == []

    def test_what_is_gone_is_said_with_the_reason_and_the_rules(self, rng: random.Random) -> None:
        note = "no telemetry from /metrics: status 503"
        now = telling(session(rng, device={"telemetry_notes": [note]}), {}, {})
        verdict = judge(now, past(rng, 3))
        (finding,) = found(verdict, "telemetry")
        assert finding.severity == "warn"
        assert f"missing now in 36 of 36 phases ({note})" in finding.message
        assert "the leak rule (internal_free), the fragmentation rule, the reboot rule" in finding.message
        assert "the watch over counters" in finding.message
        assert verdict.kind == judge(telling(session(random.Random(7))), past(rng, 3)).kind

    @pytest.mark.parametrize(
        ("heap", "why"),
        [
            ({"internal_free": "nan"}, "internal_free is 'nan', and no finite number"),
            ({"internal_free": float("inf")}, "internal_free is 'inf', and no finite number"),
            ({"internal_free": None}, "the board's answer has none"),
            ({}, "the board's answer has none"),
        ],
    )
    def test_one_figure(self, rng: random.Random, heap: Json, why: str) -> None:
        told = {"heap": {**MEMORY["heap"], "internal_free": None, **heap}}
        (finding,) = found(judge(telling(session(rng), STATS, told), past(rng)), "telemetry")
        assert f"the baseline had internal_free, missing now in 36 of 36 phases ({why})" in finding.message
        assert "reboot" not in finding.message

    def test_the_reboot_rule_keeps_what_it_has(self, rng: random.Random) -> None:
        stats = {"server": SERVER}
        (finding,) = found(judge(telling(session(rng), stats), past(rng)), "telemetry")
        assert "of the reboot rule uptime_ms" in finding.message

    def test_a_reading_that_failed_now_and_then_is_nothing(self, rng: random.Random) -> None:
        now = phases(telling(session(rng)), lambda i, _: {"mem_after": {}} if i % 3 == 0 else {})
        assert found(judge(now, past(rng)), "telemetry") == []

    def test_too_few_for_the_leak_rule_are_as_good_as_none(self, rng: random.Random) -> None:
        short = session(rng, rounds=2, profiles=("python_light", "python_heavy"))
        before = [for_judging(telling(msgspec.structs.replace(short, gate=Verdict(kind="unchanged"))))]
        now = phases(telling(short), lambda i, _: {"mem_after": {}} if i % 3 == 0 else {})
        (finding,) = found(judge(now, before), "telemetry")
        assert "missing now in 3 of 8 phases" in finding.message

    def test_a_baseline_without_any_lacks_nothing(self, rng: random.Random) -> None:
        plain = judge(session(rng), history(rng, 2))
        assert found(plain, "telemetry") == []

    def test_it_is_said_until_the_baseline_is_without_it(self, rng: random.Random) -> None:
        before = [*past(rng), *history(rng, 3)]
        assert found(judge(session(rng), before), "telemetry")
        accepted = msgspec.structs.replace(history(rng, 1)[0], accepted={"reason": "none any more"})
        assert found(judge(session(rng), [*before, accepted]), "telemetry") == []

    @pytest.mark.parametrize(
        ("note", "absent", "said"),
        [
            ("no telemetry from /m: its answer is no JSON (x)", [], True),
            ("no telemetry from /m: status 404", ["/m"], False),
        ],
    )
    def test_the_first_session(self, rng: random.Random, note: str, absent: list[str], said: bool) -> None:
        now = session(rng, device={"telemetry_notes": [note], "telemetry_absent": absent})
        assert bool(found(judge(now, []), "telemetry")) == said
        assert not found(judge(telling(now), []), "telemetry"), "it was read in the end"

    def test_names_of_the_projects_own(self, rng: random.Random) -> None:
        before = past(rng, stats={**STATS, "known": {"http.refused": 0}})
        (finding,) = found(judge(telling(session(rng)), before), "telemetry")
        assert "the baseline had http.refused" in finding.message


def peak(height: Callable[[int], int], zeroed: int = 0) -> Change:
    def change(number: int, _: PhaseReport) -> dict[str, Any]:
        return {
            "stats_before": {"server": {"ipc_pending_peak": zeroed}},
            "stats_after": {"server": {"ipc_pending_peak": height(number)}},
        }

    return change


class TestPeaks:
    def test_a_queue_that_grows(self, rng: random.Random) -> None:
        before = [for_judging(phases(one, peak(lambda _: 4))) for one in history(rng, 2)]
        (finding,) = found(judge(phases(session(rng), peak(lambda _: 11)), before), "peaks")
        assert finding.severity == "warn"
        assert "python_heavy:burst: the peak of requests pending between the cores" in finding.message
        assert "rose from 4 to 11" in finding.message

    @pytest.mark.parametrize("height", [lambda i: 3 + i // 6 % 2, lambda i: 3 if i > 29 else 11, lambda _: 5])
    def test_noise_is_none(self, rng: random.Random, height: Callable[[int], int]) -> None:
        before = [for_judging(phases(one, peak(lambda i: 3 + i // 6 % 2))) for one in history(rng, 2)]
        assert found(judge(phases(session(rng), peak(height)), before), "peaks") == []

    def test_a_mark_of_before_says_nothing_of_a_phase(self, rng: random.Random) -> None:
        before = [for_judging(phases(one, peak(lambda _: 3))) for one in history(rng, 2)]
        now = phases(session(rng), peak(lambda _: 11, zeroed=11))
        assert found(judge(now, before), "peaks") == []

    def test_how_often_chance_says_so(self) -> None:
        """Heights from 2 to 6, three runs each: at most one session in fifty has a finding."""
        alarms = 0
        for number in range(200):
            rng = random.Random(number)
            some = [
                phases(one, peak(lambda _, rng=rng: rng.choice([2, 3, 4, 5, 6])))  # type: ignore[misc]
                for one in history(rng, 2, rounds=3, profiles=("python_light",))
            ]
            alarms += bool(found(judge(some[1], [for_judging(some[0])]), "peaks"))
        assert alarms <= 4


class Heap:
    """MicroPython's heap: garbage until it is full, then a collection; and what a request leaks."""

    def __init__(
        self, rng: random.Random, *, leak: float = 0, depth: int = 40_000, garbage: int = 700
    ) -> None:
        self._rng = rng
        self._top = 300_000.0
        self._leak, self._depth, self._garbage = leak, depth, garbage
        self._uncollected = rng.random() * depth

    def serve(self, requests: int) -> int:
        for _ in range(requests):
            self._top -= self._leak
            self._uncollected += self._garbage * self._rng.uniform(0.5, 1.5)
            if self._uncollected >= self._depth:
                self._uncollected = 0.02 * self._depth * self._rng.random()
        return int(self._top - self._uncollected)

    def change(self, _: int, report: PhaseReport) -> dict[str, Any]:
        before = {"gc_mem_free": self.serve(1)}
        return {"mem_before": before, "mem_after": {"gc_mem_free": self.serve(report.requests_total)}}


def with_heap(artifact: SessionArtifact, heap: Heap) -> SessionArtifact:
    return phases(artifact, heap.change)


class TestPythonHeap:
    @pytest.mark.parametrize("depth", [20_000, 60_000, 150_000, 280_000, 10**9])
    @pytest.mark.parametrize("garbage", [20, 300, 2500])
    @pytest.mark.parametrize("rounds", [3, 6])
    def test_a_sawtooth_is_no_leak(self, depth: int, garbage: int, rounds: int) -> None:
        alarms = 0
        for number in range(12):
            rng = random.Random(number)
            now = session(rng, rounds=rounds)
            before = with_heap(session(rng, verdict="unchanged"), Heap(rng, depth=depth, garbage=garbage))
            now = with_heap(now, Heap(rng, depth=depth, garbage=garbage))
            alarms += bool(found(judge(now, []), "leak") or found(judge(now, [for_judging(before)]), "leak"))
        assert alarms == 0

    @pytest.mark.parametrize("number", range(5))
    def test_a_leak_below_the_sawtooth_is_found_without_a_baseline(self, number: int) -> None:
        rng = random.Random(number)
        asked = sum(result.report.requests_total for _, result in session(rng).results())
        now = with_heap(session(rng), Heap(rng, leak=150_000 / asked))
        (finding,) = found(judge(now, []), "leak")
        assert finding.where == "gc_mem_free"
        assert finding.severity == "fail"
        assert "gc_mem_free falls by" in finding.message

    def test_a_leak_that_hides_every_collection_is_found_by_the_baseline(self, rng: random.Random) -> None:
        short: dict[str, Any] = {"rounds": 3, "profiles": ("python_light",)}
        before = with_heap(session(rng, verdict="unchanged", **short), Heap(rng))
        now = with_heap(session(rng, **short), Heap(rng, leak=80))
        assert found(judge(now, []), "leak") == [], "it may not have been full yet"
        (finding,) = found(judge(now, [for_judging(before)]), "leak")
        assert "never comes back" in finding.message

    def test_more_garbage_than_before_is_no_leak(self, rng: random.Random) -> None:
        """Of a heap that no session fills, twice as much."""
        short: dict[str, Any] = {"rounds": 3, "profiles": ("python_light",)}
        before = with_heap(session(rng, verdict="unchanged", **short), Heap(rng, depth=10**9, garbage=20))
        now = with_heap(session(rng, **short), Heap(rng, depth=10**9, garbage=90))
        assert found(judge(now, [for_judging(before)]), "leak") == []

    def test_a_heap_that_falls_uncollected_keeps_a_session_going(self) -> None:
        ended = {}
        for leak in (0, 100):
            rng = random.Random(3)
            before = [for_judging(with_heap(one, Heap(rng))) for one in history(rng, 8)]
            whole = with_heap(session(rng), Heap(rng, leak=leak))
            now = with_runs(whole, whole.raw_runs[:6])
            ended[leak] = decide_early(now, before, GatePolicy())
        assert ended[0]
        assert not ended[100]
