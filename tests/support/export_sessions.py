"""Sessions for the tests of the exports: reports made of samples, so that all figures belong together."""

from __future__ import annotations

import random
from typing import Any

from pytest_espperf.model.artifact import (
    Comparability,
    Finding,
    GateRow,
    PhaseReport,
    PhaseResult,
    RawRun,
    RunRole,
    SessionArtifact,
    Verdict,
)
from pytest_espperf.model.metrics import aggregate, summarise
from pytest_espperf.model.samples import Outcome, PhaseSamples

PATHS = ("/hello", '/item?q="a b"&x=1,2\\3')
PROFILES = ("light", "heavy")
PHASES = ("burst", "long")


def report(rng: random.Random, scale: float) -> PhaseReport:
    """A phase of 300 requests, some in error, two paths in turn."""
    samples = PhaseSamples(paths=PATHS, clients=4, duration_s=6.0, elapsed_s=6.0)
    samples.outcomes = [Outcome(200, None), Outcome(503, "http_503")]
    for index in range(300):
        samples.start_s.append(index * 0.02)
        samples.service_s.append(scale * rng.lognormvariate(-4, 0.4))
        samples.ttfb_s.append(0.001)
        samples.path.append(index % 2)
        samples.outcome.append(int(rng.random() < 0.02))
    return summarise(samples)


def raw_run(rng: random.Random, profile: str, index: int, role: RunRole = "run") -> RawRun:
    """Both phases of a profile."""
    results = [
        PhaseResult(profile=profile, phase=phase, passed=True, report=report(rng, 1.0 + index / 10))
        for phase in PHASES
    ]
    return RawRun(profile=profile, run_index=index, role=role, results=results)


def session(rng: random.Random, **changes: Any) -> SessionArtifact:
    """Two profiles, two phases, three runs, a confirmation run; one gate of each kind of answer."""
    runs = [raw_run(rng, profile, index) for index in (1, 2, 3) for profile in PROFILES]
    runs.append(raw_run(rng, "heavy", 1, "confirm"))

    def gate(profile: str, metric: str, verdict: str, detail: str = "", **figures: Any) -> GateRow:
        return GateRow(
            name=f"{profile}:{metric}",
            profile=profile,
            metric=metric,
            verdict=verdict,
            detail=detail,
            **figures,
        )

    gates = [
        gate("heavy", "p95_ms", "regressed", d_pct=80.5, threshold_pct=10.0, baseline=20.0, now=36.1),
        gate("heavy", "p99_ms", "not-gateable", "300 requests in all rounds, 1400 are needed for p99"),
        gate("heavy", "rps_ok", "inconclusive", "slower, but this bench is too noisy to call it", d_pct=9.0),
        gate("light", "p95_ms", "unchanged", d_pct=0.2, threshold_pct=10.0, baseline=20.0, now=20.04),
        gate("light", "rps_ok", "improved", d_pct=-30.0),
    ]
    findings = [
        Finding(severity="fail", kind="budget", where="light:long", message="light:long: p95 was above 1 ms"),
        Finding(severity="warn", kind="noisy", where="heavy", message="heavy moves much by itself"),
        Finding(severity="info", kind="note", message="nothing to see"),
    ]
    base: dict[str, Any] = {
        "session_id": "a1b2c3d4",
        "timestamp_utc": "20261126T101112Z",
        "tag": "t1",
        "target": "192.168.0.135:8080",
        "profiles": list(PROFILES),
        "runs_per_profile": 3,
        "raw_runs": runs,
        "aggregated": aggregate(runs),
        "gate": Verdict(kind="regressed", gates=gates, findings=findings),
        "comparability": Comparability(key="k", fields={"board": "bench-1"}),
        "environment": {"host": "ci-7", "python": "3.11.7", "git_commit": "0c55db4", "git_dirty": False},
    }
    return SessionArtifact(**{**base, **changes})
