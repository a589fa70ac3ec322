"""Runs over several boards, for tests of what is shown of them: judged sessions, as a bench has them."""

from __future__ import annotations

import random

from msgspec import structs
from support.gate_sessions import change, history, session

from pytest_espperf.gate import judge
from pytest_espperf.model.artifact import Finding, GeneratorReport, PhaseReport, SessionArtifact, Verdict
from pytest_espperf.report.boards import Ended

BUSY = "another session measures 10.0.0.4:8080: pid 4711 of ci on bench, since 20260101T000000Z"
DIED = "1 of 36 phases was not measured: a worker died in python_heavy:long of run 4"


def bench(rng: random.Random, fine: int = 0) -> dict[str, Ended]:
    """Boards of which each ended in another way, and so many more that did well."""
    past = history(rng, 8)

    def ended(board: str, artifact: SessionArtifact, verdict: Verdict | None = None) -> Ended:
        verdict = verdict or judge(artifact, past)
        known = structs.replace(
            artifact,
            session_id=f"{rng.getrandbits(128):032x}",
            target=board,
            timestamp_utc="20260101T120000Z",
            gate=verdict,
            settings={"perf_history": "tools/perf_history"},
        )
        name = f"perf_20260101T120000Z_{board}.md"
        return Ended(known, verdict.fails, f"report-{board}.html", name, f"tools/perf_history/{name}")

    def short(_: int, old: PhaseReport) -> PhaseReport:
        return structs.replace(old, generator=GeneratorReport(lost_share=0.2, boards=6))

    died = Verdict(kind="incomplete", findings=[Finding(kind="incomplete", message=DIED)])
    boards = {f"fine-{number}": ended(f"fine-{number}", session(rng)) for number in range(1, fine + 1)}
    waited = change(session(rng), "python_light", short)
    limited = change(
        session(rng), "python_light", lambda _, old: structs.replace(old, status_counts={"429": 2})
    )
    busy = structs.replace(
        session(rng), raw_runs=[], aggregated={}, hard_stop_reason=BUSY, comparability=None
    )
    return {
        **boards,
        "waited": ended("waited", waited),
        "limited": ended("limited", limited),
        "died": ended("died", session(rng), died),
        "slow": ended("slow", session(rng, slower={"python_heavy": 1.3})),
        "slower": ended("slower", session(rng, slower={"python_heavy": 1.8})),
        "busy": ended("busy", busy),
    }
