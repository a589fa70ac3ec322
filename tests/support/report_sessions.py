"""Whole sessions for tests of what people look at: every figure comes from samples, as in a real one."""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping, Sequence

import msgspec

from pytest_espperf.gate import judge
from pytest_espperf.model.artifact import (
    Comparability,
    PhaseEvent,
    PhaseResult,
    RawRun,
    SessionArtifact,
)
from pytest_espperf.model.metrics import aggregate, summarise
from pytest_espperf.model.samples import Outcome, PhaseSamples
from pytest_espperf.model.workload import PhaseKind

OUTCOMES = [Outcome(200, None), Outcome(503, "http_503")]
PROFILES = {"light": ("/hello", "/deps"), "heavy": ("/template",)}


def _samples(
    rng: random.Random, paths: Sequence[str], median_s: float, seconds: float, kind: PhaseKind = "requests"
) -> PhaseSamples:
    made = PhaseSamples(paths=tuple(paths), clients=4, duration_s=seconds, outcomes=OUTCOMES, kind=kind)
    for _ in range(made.clients):
        at, turn = 0.0, 0
        while at < seconds:
            took = median_s * rng.lognormvariate(0, 0.15)
            made.start_s.append(at)
            made.service_s.append(took)
            made.ttfb_s.append(took * 0.9)
            made.path.append(turn % len(paths))
            made.outcome.append(rng.random() < 0.002)
            at += took
            turn += 1
    made.connect_s = array("f", [0.001] * 4)
    made.elapsed_s = seconds
    return made


def full_session(
    rng: random.Random,
    number: int,
    *,
    slower: float = 1.0,
    runs: int = 3,
    tag: str = "",
    said: str = "",
    history: Sequence[SessionArtifact] = (),
    kinds: Mapping[str, PhaseKind] | None = None,
) -> SessionArtifact:
    """A judged session.

    Args:
        rng: draws its latencies.
        number: of the session; its time and id come from it.
        slower: factor of the profile ``heavy``.
        runs: rounds of every profile.
        tag: its tag.
        said: a last word of the serial console in its first phase.
        history: what it is judged against, oldest first.
        kinds: of profiles whose phases count no requests.
    """
    raw: list[RawRun] = []
    for index in range(1, runs + 1):
        for profile, paths in PROFILES.items():
            base = 0.012 * (slower if profile == "heavy" else 1.0) * rng.lognormvariate(0, 0.01)
            results: list[PhaseResult] = []
            for phase, factor in (("burst", 1.5), ("long", 1.0)):
                report = summarise(
                    _samples(rng, paths, base * factor, 1.0, (kinds or {}).get(profile, "requests"))
                )
                heap = {"heap": {"internal_free": 180_000 - 100 * index}, "gc_mem_free": 90_000}
                report = msgspec.structs.replace(report, mem_before=heap, mem_after=heap)
                if said and not raw and not results:
                    event = PhaseEvent(at_s=0.5, kind="panic", text=f"panic: {said}", fatal=True)
                    report = msgspec.structs.replace(report, events=[event])
                results.append(PhaseResult(profile=profile, phase=phase, passed=True, report=report))
            raw.append(RawRun(profile=profile, run_index=index, results=results))
    session = SessionArtifact(
        session_id=f"{number:032x}",
        timestamp_utc=f"202601{1 + number // 1440 % 28:02d}T{number // 60 % 24:02d}{number % 60:02d}00Z",
        tag=tag,
        target="192.168.0.135:8080",
        profiles=list(PROFILES),
        runs_per_profile=runs,
        raw_runs=raw,
        aggregated=aggregate(raw),
        comparability=Comparability(
            key="k", fields={"board": "b", "profiles": {name: {"n": 1} for name in PROFILES}}
        ),
        environment={"host": "bench", "python": "3.12"},
        settings={"perf_runs": runs, "sources": {"perf_runs": "--perf-runs"}},
    )
    verdict = judge(session, history)
    return msgspec.structs.replace(session, gate=verdict, overall_pass=not verdict.fails)
