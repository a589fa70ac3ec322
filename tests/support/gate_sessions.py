"""Sessions for the gate's tests: built from factors on a fixed board, with seeded noise."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from pytest_espperf.gate.series import Series, build_series, undisturbed_rounds
from pytest_espperf.model.artifact import (
    CellAggregate,
    Comparability,
    LinkReport,
    OwnFigure,
    PhaseReport,
    PhaseResult,
    RawRun,
    RunRole,
    SessionArtifact,
    Summary,
    Verdict,
)
from pytest_espperf.model.verdicts import VerdictWord

PROFILES = ("c_static_only", "python_light", "python_heavy")
PHASES = ("burst", "long")
RPS = {"c_static_only": 90.0, "python_light": 60.0, "python_heavy": 20.0}


def report(factor: float, profile: str = "python_light", **changes: Any) -> PhaseReport:
    """A phase in which everything takes ``factor`` times as long as usual."""
    rps = RPS.get(profile, 50.0) / factor
    asked = int(rps * 8)
    base: dict[str, Any] = {
        "requests_total": asked,
        "ok": asked,
        "rps_total": rps,
        "rps_ok": rps,
        "p50_ms": 1000 * 8 / rps,
        "p95_ms": 1500 * 8 / rps,
        "p99_ms": 2000 * 8 / rps,
        "p95_tail_ms": 1500 * 8 / rps,
        "clients": 8,
        "duration": 8.0,
        "elapsed": 8.0,
    }
    return PhaseReport(**{**base, **changes})


def run(
    profile: str,
    index: int,
    factors: Sequence[float],
    role: RunRole = "run",
    fail: str = "",
    **changes: Any,
) -> RawRun:
    """One round: one factor per phase."""
    return RawRun(
        profile=profile,
        run_index=index,
        role=role,
        results=[
            PhaseResult(
                profile=profile,
                phase=phase,
                passed=not fail,
                fail_reasons=[fail] if fail else [],
                report=report(factor, profile, **changes),
            )
            for phase, factor in zip(PHASES, factors, strict=False)
        ],
    )


def key(names: Sequence[str] = PROFILES, **changes: Any) -> Comparability:
    fields: dict[str, Any] = {
        "board": "10.0.0.9:8080",
        "scheme": "http",
        "runs": 6,
        "profiles": {name: {"paths": [f"/{name}"], "clients": [12, 8]} for name in names},
    }
    return Comparability(key="k", fields={**fields, **changes})


def session(
    rng: random.Random,
    name: str = "now",
    *,
    rounds: int = 6,
    slower: Mapping[str, float] | None = None,
    noise: float = 0.01,
    shift: float = 0.005,
    profiles: Sequence[str] = PROFILES,
    verdict: VerdictWord | None = None,
    **changes: Any,
) -> SessionArtifact:
    """A session with round noise ``noise`` and session noise ``shift`` (log ratios)."""
    runs = []
    level = {profile: 2.718281828 ** rng.gauss(0, shift) for profile in profiles}
    for index in range(1, rounds + 1):
        for profile in profiles:
            factor = level[profile] * (slower or {}).get(profile, 1.0)
            runs.append(run(profile, index, [factor * 2.718281828 ** rng.gauss(0, noise) for _ in PHASES]))
    base: dict[str, Any] = {
        "session_id": name,
        "profiles": list(profiles),
        "runs_per_profile": rounds,
        "raw_runs": runs,
        "comparability": key(profiles),
        "gate": Verdict(kind=verdict) if verdict else None,
    }
    return SessionArtifact(**{**base, **changes})


def history(rng: random.Random, count: int, **changes: Any) -> list[SessionArtifact]:
    return [session(rng, f"s{i}", **{"verdict": "unchanged", **changes}) for i in range(count)]


def more_rounds(
    artifact: SessionArtifact, profile: str, factors: Sequence[float], role: RunRole = "confirm"
) -> SessionArtifact:
    """The session with further rounds of one profile, one factor per round."""
    extra = [run(profile, 100 + i, [f] * len(PHASES), role) for i, f in enumerate(factors)]
    return msgspec.structs.replace(artifact, raw_runs=[*artifact.raw_runs, *extra])


def with_runs(artifact: SessionArtifact, runs: Sequence[RawRun]) -> SessionArtifact:
    return msgspec.structs.replace(artifact, raw_runs=list(runs))


def change(
    artifact: SessionArtifact,
    profile: str,
    edit: Callable[[int, PhaseReport], PhaseReport],
    role: str = "run",
) -> SessionArtifact:
    """The session with the reports of one profile edited; ``edit`` is given the run index."""

    def edited(raw: RawRun) -> RawRun:
        if raw.profile != profile or raw.role != role:
            return raw
        results = [msgspec.structs.replace(x, report=edit(raw.run_index, x.report)) for x in raw.results]
        return msgspec.structs.replace(raw, results=results)

    return with_runs(artifact, [edited(raw) for raw in artifact.raw_runs])


def scaled(artifact: SessionArtifact, factor: float) -> SessionArtifact:
    """The same session on a board that is slower in everything."""

    def phase(result: PhaseResult) -> PhaseResult:
        r = result.report
        times = {k: getattr(r, k) * factor for k in ("p50_ms", "p95_ms", "p99_ms", "p95_tail_ms")}
        return msgspec.structs.replace(
            result, report=msgspec.structs.replace(r, rps_ok=r.rps_ok / factor, **times)
        )

    runs = [msgspec.structs.replace(r, results=[phase(x) for x in r.results]) for r in artifact.raw_runs]
    return with_runs(artifact, runs)


def cell(**medians: float | None) -> CellAggregate:
    summaries: dict[str, Any] = {name: Summary(median=value) for name, value in medians.items()}
    return CellAggregate(profile="p", phase="burst", **summaries)


def with_link(artifact: SessionArtifact, *links: LinkReport) -> SessionArtifact:
    """The session with readings of the link, around the first phases of its first run."""
    first, *others = artifact.raw_runs
    told = [
        msgspec.structs.replace(one, report=msgspec.structs.replace(one.report, link=link))
        for one, link in zip(first.results, links, strict=False)
    ]
    rest = first.results[len(links) :]
    return with_runs(artifact, [msgspec.structs.replace(first, results=[*told, *rest]), *others])


def series_of(
    candidate: SessionArtifact, profile: str, metric: str, past: Sequence[SessionArtifact], depth: int = 20
) -> Series | None:
    """What one gate sees of a candidate and its earlier sessions."""
    return build_series(candidate, undisturbed_rounds(candidate, {profile: past}, depth)[0], metric, depth)


def kinds(verdict: Verdict) -> set[str]:
    """The kinds of a verdict's findings."""
    return {finding.kind for finding in verdict.findings}


def with_figure(
    rng: random.Random,
    artifact: SessionArtifact,
    profile: str,
    metric: str,
    value: float,
    *,
    noise: float = 0.01,
    phases: Sequence[str] = PHASES,
    roles: Sequence[RunRole] = ("run", "confirm"),
) -> SessionArtifact:
    """The session with a figure that only some phases of a profile have, around a value."""

    def edited(raw: RawRun, result: PhaseResult) -> PhaseResult:
        if raw.profile != profile or raw.role not in roles or result.phase not in phases:
            return result
        figures = {**result.report.figures, metric: value * 2.718281828 ** rng.gauss(0, noise)}
        return msgspec.structs.replace(result, report=msgspec.structs.replace(result.report, figures=figures))

    return with_runs(
        artifact,
        [
            msgspec.structs.replace(raw, results=[edited(raw, result) for result in raw.results])
            for raw in artifact.raw_runs
        ],
    )


def with_own(artifact: SessionArtifact, **figures: OwnFigure) -> SessionArtifact:
    """The session with figures of the firmware's own."""
    return msgspec.structs.replace(artifact, figures={**artifact.figures, **figures})
