"""Histories for the tests of the commands: whole sessions, judged one after another as they come in."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
from support import gate_sessions

from pytest_espperf.config.lookup import resolve
from pytest_espperf.history import HistoryStore, names
from pytest_espperf.model import metrics
from pytest_espperf.model.artifact import PathReport, SessionArtifact
from pytest_espperf.session.judging import Judge

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
FIGURES = ("requests_total", "ok", "rps_ok", "p50_ms", "p95_ms", "p99_ms")


def complete(
    rng: random.Random, number: int, *, slower: Mapping[str, float] | None = None, **changes: Any
) -> SessionArtifact:
    """The session of the day ``number``, with its medians; each cell has the paths ``/a`` and ``/b``."""
    session = gate_sessions.session(rng, f"{number:04x}{rng.getrandbits(48):012x}", slower=slower)
    return as_measured(
        msgspec.structs.replace(
            session,
            timestamp_utc=names.format_stamp(START + timedelta(days=number)),
            tag=f"day{number}",
            target="10.0.0.9:8080",
            **changes,
        )
    )


def as_measured(session: SessionArtifact) -> SessionArtifact:
    """The session with paths in its phases, and the medians that follow from its runs."""
    runs = []
    for run in session.raw_runs:
        results = []
        for result in run.results:
            share = PathReport(**{name: getattr(result.report, name) for name in FIGURES})
            report = msgspec.structs.replace(result.report, path_metrics={"/a": share, "/b": share})
            results.append(msgspec.structs.replace(result, report=report))
        runs.append(msgspec.structs.replace(run, results=results))
    return msgspec.structs.replace(session, raw_runs=runs, aggregated=metrics.aggregate(runs))


def judged(session: SessionArtifact, store: HistoryStore, options: Mapping[str, str] | None = None) -> Any:
    """The session with the verdict that it has against all that is in the store."""
    judge = Judge.from_settings(resolve(options or {}, {}, {}))
    session, verdict = judge.judge(session, store)
    return msgspec.structs.replace(session, gate=verdict, overall_pass=not verdict.fails)


def fill(
    folder: Path, slow: Sequence[float], *, profile: str = "python_heavy", seed: int = 1
) -> HistoryStore:
    """A history of one session a day, each with one profile slower by its factor."""
    store = HistoryStore(folder)
    store.prepare()
    rng = random.Random(seed)
    for number, factor in enumerate(slow):
        session = complete(rng, number, slower={profile: factor})
        store.save(judged(session, store), "# summary\n", latest=True)
    return store


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder that holds truth: all but the index."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != names.INDEX
    }
