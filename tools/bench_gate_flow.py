"""One session as it is measured: planned rounds, early end, what is measured again, the verdict. No I/O.

A *bench* hands out sessions of one board. :class:`SimulatedBench` draws them from the model of
``bench_gate_model.py``, :class:`RecordedBench` from rounds that were measured on a real server
(``tools/record_rounds.py``), in blocks, so that what lasts for some rounds stays together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from bench_gate_model import DURATION, PROFILES, Lab, Pool

from pytest_espperf.gate import GatePolicy, decide_early, judge, measure_again
from pytest_espperf.model.artifact import (
    Comparability,
    EndedEarly,
    Finding,
    PhaseReport,
    PhaseResult,
    RawRun,
    RunRole,
    SessionArtifact,
    Verdict,
)
from pytest_espperf.model.findings import STANDING
from pytest_espperf.model.verdicts import SLOWER

OVERHEAD_S = 0.3
"""Seconds between two phases."""

Slow = Mapping[str, float]
"""Profile -> factor by which its handlers are slower."""


class Drawn(Protocol):
    """A session that is about to be measured: its rounds, as many as are asked for."""

    def rounds(self, profile: str, first: int, count: int, role: RunRole) -> list[RawRun]:
        """Return rounds of a profile; ``first`` counts from 1 within the role."""


class Bench(Protocol):
    """One board and what is around it."""

    profiles: Sequence[str]

    def draw(self, slow: Slow, rounds: int) -> Drawn:
        """Return the next session of a firmware with these slowdowns, of so many planned rounds."""

    def seconds(self, profile: str) -> float:
        """Return what one round of a profile takes, with the time between phases."""


@dataclass(frozen=True)
class Measured:
    """A session with its verdict.

    Attributes:
        session: as the history would hand it out later.
        verdict: the last one.
        first: the verdict before anything was measured again.
        seconds: what it took.
        share: the same as a share of the planned rounds' time.
    """

    session: SessionArtifact
    verdict: Verdict
    first: Verdict
    seconds: float
    share: float

    @property
    def joins(self) -> bool:
        """Whether later sessions are compared with it."""
        return self.verdict.joins_baseline

    @property
    def kept(self) -> list[SessionArtifact]:
        """What the store hands out of it to later sessions: nothing of one that failed otherwise."""
        waits = self.verdict.held_back or self.verdict.kind in SLOWER
        return [self.session] if self.joins or waits else []


def measure(
    bench: Bench,
    history: Sequence[SessionArtifact],
    *,
    rounds: int,
    slow: Slow | None = None,
    early: bool = False,
    policy: GatePolicy | None = None,
    spoil: Callable[[RawRun], RawRun] | None = None,
    name: str = "",
) -> Measured:
    """Measure a session of a bench and judge it.

    Args:
        bench: where.
        history: earlier sessions, oldest first.
        rounds: planned.
        slow: slowdowns.
        early: whether profiles may end before their planned rounds.
        policy: the default one unless given.
        spoil: changes a planned round, as a hang does.
        name: of the session.
    """
    policy = policy or GatePolicy()
    drawn = bench.draw(slow or {}, rounds)
    planned = {
        profile: [spoil(run) if spoil else run for run in drawn.rounds(profile, 1, rounds, "run")]
        for profile in bench.profiles
    }
    ended: dict[str, EndedEarly] = {}

    def so_far(count: int) -> SessionArtifact:
        runs = [
            run
            for profile, all_rounds in planned.items()
            for run in all_rounds[: ended[profile].after if profile in ended else count]
        ]
        return _artifact(bench, runs, rounds, ended, name)

    for count in range(2, rounds) if early else ():
        ended |= decide_early(so_far(count), history, policy)
    session = so_far(rounds)
    first = verdict = judge(session, history, policy)
    again = measure_again(verdict, policy)
    if again:
        runs = [run for p, n in again.items() for run in drawn.rounds(p, 1, n, "confirm")]
        session = msgspec.structs.replace(session, raw_runs=[*session.raw_runs, *runs])
        verdict = judge(session, history, policy)
    full = sum(rounds * bench.seconds(profile) for profile in bench.profiles)
    took = sum(
        (len(planned[p][: ended[p].after if p in ended else rounds]) + again.get(p, 0)) * bench.seconds(p)
        for p in bench.profiles
    )
    return Measured(stored(session, verdict), verdict, first, took, took / full)


def stored(session: SessionArtifact, verdict: Verdict) -> SessionArtifact:
    """Return the session as the store would hand it out later, without what the gate never reads."""
    findings = [finding for finding in verdict.findings if finding.kind in STANDING]
    return msgspec.structs.replace(session, gate=Verdict(kind=verdict.kind, findings=findings))


def accepted(session: SessionArtifact) -> SessionArtifact:
    """Return the session as one that passed."""
    return stored(session, Verdict(kind="unchanged", findings=[Finding()]))


def _artifact(
    bench: Bench, runs: list[RawRun], rounds: int, ended: Mapping[str, EndedEarly], name: str
) -> SessionArtifact:
    fields = {"runs": rounds, "profiles": {profile: {} for profile in bench.profiles}}
    return SessionArtifact(
        session_id=name,
        profiles=list(bench.profiles),
        runs_per_profile=rounds,
        raw_runs=runs,
        ended_early=dict(ended),
        comparability=Comparability(key=f"bench {rounds}", fields=fields),
    )


# --- simulated -----------------------------------------------------------------------------------


class SimulatedBench:
    """A lab of the model.

    Args:
        pool: rounds to draw from.
        seed: of everything that is drawn.
        shape: of the session effect.
    """

    profiles: Sequence[str] = PROFILES

    def __init__(self, pool: Pool, seed: int, shape: str = "normal") -> None:
        self.lab = Lab(pool, seed, shape)

    def draw(self, slow: Slow, rounds: int) -> Drawn:  # noqa: ARG002 - the model needs no place
        """Return the next session."""
        return _Simulated(self.lab, self.lab.effect(), slow)

    def seconds(self, profile: str) -> float:
        """Of one round."""
        return sum(DURATION[profile]) + 2 * OVERHEAD_S


@dataclass(frozen=True)
class _Simulated:
    lab: Lab
    effect: Mapping[str, float]
    slow: Slow

    def rounds(self, profile: str, first: int, count: int, role: RunRole) -> list[RawRun]:
        made = self.lab.rounds(profile, count, self.effect[profile], self.slow.get(profile, 1.0), role)
        return [msgspec.structs.replace(run, run_index=first + i) for i, run in enumerate(made)]


# --- recorded ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recording:
    """Rounds of a real server, neighbours in time.

    Attributes:
        name: what and how.
        profiles: profile -> phase -> figure -> one value a round.
        rounds: how many.
        round_s: seconds from one round of all profiles to the next.
    """

    name: str
    profiles: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]
    rounds: int
    round_s: float

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read a file of ``tools/record_rounds.py``."""
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        figures = next(iter(next(iter(read["profiles"].values())).values()))
        return cls(path.stem, read["profiles"], len(figures["rps_ok"]), float(read["round_s"]))


class RecordedBench:
    """Sessions are blocks of neighbouring rounds; what is measured again follows them, after a pause.

    A slowdown scales all times of a round by its factor, which is optimistic where a part of the time is not
    the handler's.

    Args:
        recording: the rounds.
        seed: of where blocks begin.
        pause_s: seconds between the planned rounds and those measured again.
    """

    def __init__(self, recording: Recording, seed: int, pause_s: float = 0.0) -> None:
        self.recording = recording
        self.profiles: Sequence[str] = list(recording.profiles)
        self.pause = round(pause_s / recording.round_s)
        self.rng = np.random.default_rng([seed, 78])

    def draw(self, slow: Slow, rounds: int) -> Drawn:
        """Return the next session, anywhere in the recording; it is a ring."""
        start = int(self.rng.integers(self.recording.rounds))
        return _Recorded(self.recording, start, slow, rounds + self.pause)

    def seconds(self, profile: str) -> float:  # noqa: ARG002 - every profile takes the same
        """Of one round."""
        return self.recording.round_s / len(self.profiles)


@dataclass(frozen=True)
class _Recorded:
    recording: Recording
    start: int
    slow: Slow
    until_again: int

    def rounds(self, profile: str, first: int, count: int, role: RunRole) -> list[RawRun]:
        begin = self.start + (self.until_again if role == "confirm" else 0)
        factor = self.slow.get(profile, 1.0)
        return [
            RawRun(
                profile=profile,
                run_index=first + i,
                role=role,
                results=[
                    PhaseResult(
                        profile=profile,
                        phase=phase,
                        passed=True,
                        report=_report(figures, (begin + i) % self.recording.rounds, factor),
                    )
                    for phase, figures in self.recording.profiles[profile].items()
                ],
            )
            for i in range(count)
        ]


def _report(figures: Mapping[str, Sequence[float]], index: int, factor: float) -> PhaseReport:
    ok, err = round(figures["ok"][index] / factor), round(figures["err"][index])
    return PhaseReport(
        requests_total=ok + err,
        ok=ok,
        err=err,
        error_rate=100 * err / max(1, ok + err),
        rps_ok=figures["rps_ok"][index] / factor,
        p95_ms=figures["p95_ms"][index] * factor,
        p99_ms=figures["p99_ms"][index] * factor,
    )


# --- what may happen to a round ------------------------------------------------------------------


def hang(profile: str, index: int, lost_s: float = 3.0) -> Callable[[RawRun], RawRun]:
    """Simulate a board that hangs in one round: less is answered, and what waits takes so much longer."""

    def spoil(run: RawRun) -> RawRun:
        if run.profile != profile or run.run_index != index:
            return run
        results = []
        for phase, result in enumerate(run.results):
            report = result.report
            if phase == 0:
                duration = DURATION.get(profile, (4.0, 8.0))[0]
                share = max(0.1, 1 - lost_s / duration)
                report = msgspec.structs.replace(
                    report,
                    rps_ok=report.rps_ok * share,
                    p95_ms=(report.p95_ms or 0.0) + 1000 * lost_s,
                    p99_ms=(report.p99_ms or 0.0) + 1000 * lost_s,
                )
            results.append(msgspec.structs.replace(result, report=report))
        return msgspec.structs.replace(run, results=results)

    return spoil
