"""Simulated sessions for ``bench_gate.py``: a queue per phase, effects per round and per session.

A phase is simulated request by request: closed-loop clients before a FIFO queue with one server
(lognormal service times, garbage-collection pauses) behind a link with jitter and clustered spikes. Many
phases are simulated side by side (one lane each). The resulting rounds form a pool; a session draws
its rounds from it and scales all times of a round by a run effect, a session effect (half of it
common to all profiles) and, now and then, a disturbance. A slowdown lengthens *service* times only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_espperf.model.artifact import (
    Comparability,
    PhaseReport,
    PhaseResult,
    RawRun,
    RunRole,
    SessionArtifact,
)

Floats = NDArray[np.float64]

PROFILES = ("c_static_only", "python_light", "python_heavy")
PHASES = ("burst", "long")
CLIENTS = {"burst": 12, "long": 8}
DURATION = {"c_static_only": (3.0, 4.0), "python_light": (4.0, 8.0), "python_heavy": (8.0, 15.0)}
SERVICE_S = {"c_static_only": 0.012, "python_light": 0.008, "python_heavy": 0.025}
SERVICE_CV = {"c_static_only": 0.10, "python_light": 0.25, "python_heavy": 0.25}
GC_EVERY = 180
GC_PAUSE_S = 0.040
LINK_S = 0.004
SPIKE_CLUSTER = 8
KEPT = 40
"""Latencies kept of each phase, evenly spaced in time, for rivals that test requests."""

FIGURES = ("rps_ok", "p50_ms", "p95_ms", "p99_ms", "p95_tail_ms", "mean_ms", "ok")
TAILS = frozenset({"p95_ms", "p99_ms", "p95_tail_ms"})


@dataclass(frozen=True)
class Level:
    """A noise level: standard deviations of log ratios, and shares.

    Attributes:
        run: movement of a phase from round to round, half of the variance common to a round's phases.
        session: movement from session to session.
        spikes: share of requests that meet a spike of 100-300 ms.
        disturbed: share of rounds that something else disturbed.
        errors: share of requests that fail.
        bad_runs: share of rounds in which 1 to 60 % of the requests fail.
        tail: scale of a heavy-tailed movement (Student's t, 3 degrees of freedom) of p95 and p99.
        spells: chance that, from a round on, something else takes time for some rounds.
    """

    run: float
    session: float
    spikes: float
    disturbed: float
    errors: float
    bad_runs: float = 0.0
    tail: float = 0.0
    spells: float = 0.0


LEVELS = {
    "low": Level(0.01, 0.005, 0.005, 0.01, 0.0),
    "medium": Level(0.025, 0.02, 0.01, 0.02, 0.0005),
    "high": Level(0.05, 0.05, 0.02, 0.04, 0.002),
    "wild": Level(0.08, 0.06, 0.03, 0.06, 0.01, bad_runs=0.15, tail=0.15, spells=0.08),
}
"""The last one after the original author's notes of his own bench: errors of 0.6 to 60 % between runs, a p95
of seconds, load that changes for minutes."""

SPELL_ROUNDS = (3, 12)
SPELL_MOVES = (0.05, 0.6)

SHAPES = ("normal", "heavy", "common", "own", "wander")
"""Shapes of the session effect: normal, half common to all profiles; Student's t with 3 degrees of
freedom; wholly common; wholly the profiles' own; autoregressive (0.7 from session to session)."""


def phase_lanes(
    rng: np.random.Generator, profile: str, phase: str, level: Level, *, slower: float, lanes: int
) -> tuple[Floats, Floats]:
    """Simulate one phase in many lanes: figures (lanes x FIGURES) and kept latencies (lanes x KEPT)."""
    duration = DURATION[profile][PHASES.index(phase)]
    clients = CLIENTS[phase]
    mean = SERVICE_S[profile] * slower
    cv = SERVICE_CV[profile]
    steps = int(duration / mean * 1.15) + 2 * clients
    rows = np.arange(lanes)
    sent = np.tile(np.arange(clients) * 1e-4, (lanes, 1))
    free = np.zeros(lanes)
    last = np.zeros(lanes)
    spiky = np.zeros(lanes, dtype=bool)
    until_gc = rng.integers(1, GC_EVERY, lanes)
    latency: Floats = np.full((lanes, steps), np.nan)
    for step in range(steps):
        client = np.argmin(sent, axis=1)
        start = sent[rows, client]
        live = start < duration
        if not live.any():
            break
        spiky = np.where(
            spiky, rng.random(lanes) > 1 / SPIKE_CLUSTER, rng.random(lanes) < level.spikes / SPIKE_CLUSTER
        )
        until_gc -= 1
        pause = np.where(until_gc <= 0, GC_PAUSE_S * rng.uniform(0.6, 1.4, lanes), 0.0)
        until_gc = np.where(until_gc <= 0, rng.integers(GC_EVERY // 2, GC_EVERY * 3 // 2, lanes), until_gc)
        service = mean * np.exp(cv * rng.standard_normal(lanes) - cv * cv / 2)
        free = np.maximum(free, start + LINK_S / 2) + service + pause
        back = (
            LINK_S / 2 + rng.exponential(LINK_S / 2, lanes) + np.where(spiky, rng.uniform(0.1, 0.3, lanes), 0)
        )
        end = free + back
        latency[:, step] = np.where(live, end - np.where(live, start, 0.0), np.nan)
        last = np.where(live, np.maximum(last, end), last)
        sent[rows, client] = np.where(live, end, np.inf)
    return _figures(latency, last)


def _figures(latency: Floats, elapsed: Floats) -> tuple[Floats, Floats]:
    count = np.sum(~np.isnan(latency), axis=1)
    p50, p95, p99 = np.nanpercentile(latency, [50, 95, 99], axis=1) * 1000
    width = int(count.max())
    place = np.arange(latency.shape[1])[None, :]
    tail = np.where(place >= (count * 3 // 4)[:, None], latency, np.nan)
    figures = np.column_stack(
        [
            count / elapsed,
            p50,
            p95,
            p99,
            np.nanpercentile(tail, 95, axis=1) * 1000,
            np.nanmean(latency, axis=1) * 1000,
            count,
        ]
    )
    pick = (np.linspace(0.02, 0.98, KEPT)[None, :] * np.minimum(count, width)[:, None]).astype(int)
    return figures, np.take_along_axis(latency, pick, axis=1) * 1000


@dataclass(frozen=True)
class Pool:
    """Rounds to draw from: (profile, slowdown) -> rounds x phases x figures, and kept latencies."""

    level: Level
    figures: dict[tuple[str, float], Floats]
    latencies: dict[tuple[str, float], Floats]
    size: int


def make_pool(seed: int, level: Level, slowdowns: tuple[float, ...], size: int) -> Pool:
    """Simulate ``size`` rounds of every profile at every slowdown."""
    figures: dict[tuple[str, float], Floats] = {}
    latencies: dict[tuple[str, float], Floats] = {}
    for i, profile in enumerate(PROFILES):
        for j, slower in enumerate(slowdowns):
            rng = np.random.default_rng([seed, i, j])
            made = [phase_lanes(rng, profile, phase, level, slower=slower, lanes=size) for phase in PHASES]
            figures[profile, slower] = np.stack([one[0] for one in made], axis=1)
            latencies[profile, slower] = np.stack([one[1] for one in made], axis=1)
    return Pool(level, figures, latencies, size)


class Lab:
    """One bench over time: hands out sessions, reproducible from its seed.

    Args:
        pool: rounds to draw from.
        seed: of everything that is drawn.
        shape: of the session effect.
        shared: share of the session effect's variance that a control board has, too; None: no such board.
        boards: how many boards the run of each session has.
    """

    def __init__(
        self, pool: Pool, seed: int, shape: str = "normal", shared: float | None = None, boards: int = 1
    ) -> None:
        self.boards = boards
        self.pool = pool
        self.shared = shared
        self.reference: dict[str, float] = {}
        self.rng = np.random.default_rng([seed, 77])
        self.shape = shape
        self.wander = np.zeros(1 + len(PROFILES))
        self.made = 0
        self.spell = (0, 0.0)
        self.kept: dict[str, list[Floats]] = {}

    def effect(self) -> dict[str, float]:
        """Return the next session's effect, a log ratio per profile, standard deviation as the level says.

        With a control board its own effect is drawn, too, for the sessions made from here on.
        """
        if self.shared is None:
            return self._draw()
        both, own, others = self._draw(), self._draw(), self._draw()
        apart, together = np.sqrt(1 - self.shared), np.sqrt(self.shared)
        self.reference = {name: float(together * both[name] + apart * others[name]) for name in PROFILES}
        return {name: float(together * both[name] + apart * own[name]) for name in PROFILES}

    def _draw(self) -> dict[str, float]:
        count = 1 + len(PROFILES)
        draw = self.rng.standard_normal(count)
        if self.shape == "heavy":
            draw = self.rng.standard_t(3, count) / np.sqrt(3)
        if self.shape == "wander":
            self.wander = 0.7 * self.wander + np.sqrt(1 - 0.49) * draw
            draw = self.wander
        common = {"common": 1.0, "own": 0.0}.get(self.shape, 0.5)
        values = np.sqrt(common) * draw[0] + np.sqrt(1 - common) * draw[1:]
        return dict(zip(PROFILES, (values * self.pool.level.session).tolist(), strict=True))

    def rounds(
        self,
        profile: str,
        count: int,
        effect: float | Sequence[float],
        slower: float = 1.0,
        role: RunRole = "run",
    ) -> list[RawRun]:
        """Return rounds of one profile. A slowdown that the pool does not hold scales all times instead.

        ``effect`` is the environment's log ratio, one for all rounds or one for each.
        """
        effects = [effect] * count if isinstance(effect, float) else effect
        level, rng = self.pool.level, self.rng
        held = (profile, slower) in self.pool.figures
        table = self.pool.figures[profile, slower if held else 1.0]
        extra = 0.0 if held else float(np.log(slower))
        found = []
        for index in range(1, count + 1):
            disturbed = rng.random() < level.disturbed
            move = effects[index - 1] + extra + disturbed * rng.uniform(0.05, 0.5) + self._spell()
            tail = level.tail * abs(rng.standard_t(3)) if level.tail else 0.0
            run = np.sqrt(0.5) * level.run * (rng.standard_normal() + rng.standard_normal(len(PHASES)))
            moves = np.exp(move + run)
            drawn = int(rng.integers(self.pool.size))
            if role == "run":
                kept = self.pool.latencies[profile, slower if held else 1.0][drawn] * moves[:, None]
                self.kept.setdefault(profile, []).append(kept)
            errors = level.errors + disturbed * (rng.random() < 0.2) * 0.03
            if level.bad_runs and rng.random() < level.bad_runs:
                errors = float(np.exp(rng.uniform(np.log(0.01), np.log(0.6))))
            results = [
                PhaseResult(
                    profile=profile,
                    phase=phase,
                    passed=True,
                    report=_report(rng, table[drawn, i], float(moves[i]), errors, float(np.exp(tail))),
                )
                for i, phase in enumerate(PHASES)
            ]
            board = "reference" if role == "reference" else ""
            found.append(RawRun(profile=profile, run_index=index, role=role, board=board, results=results))
        return found

    def _spell(self) -> float:
        """Return what something else takes now, a log ratio: it goes on for some rounds once it has begun."""
        if not self.pool.level.spells:
            return 0.0
        if self.spell[0] <= 0 and self.rng.random() < self.pool.level.spells:
            self.spell = (int(self.rng.integers(*SPELL_ROUNDS)), float(self.rng.uniform(*SPELL_MOVES)))
        self.spell = (self.spell[0] - 1, self.spell[1])
        return self.spell[1] if self.spell[0] >= 0 else 0.0

    def session(
        self, rounds: int = 6, slower: dict[str, float] | None = None, effect: dict[str, float] | None = None
    ) -> SessionArtifact:
        """Return the next session; ``effect`` None draws one."""
        effect = self.effect() if effect is None else effect
        self.made += 1
        self.kept = {}
        runs = [
            run
            for profile in PROFILES
            for run in self.rounds(profile, rounds, effect[profile], (slower or {}).get(profile, 1.0))
        ]
        if self.shared is not None:
            for profile in PROFILES:
                runs += self.rounds(profile, rounds, self.reference[profile], role="reference")
        return SessionArtifact(
            session_id=f"n{self.made}",
            profiles=list(PROFILES),
            runs_per_profile=rounds,
            raw_runs=runs,
            comparability=_KEY,
            boards=self.boards,
        )

    def requests(self) -> Floats:
        """Kept latencies (ms) of the session made last: cells x (rounds x kept)."""
        return np.concatenate([np.concatenate(self.kept[profile], axis=1) for profile in PROFILES])


_KEY = Comparability(key="bench", fields={"runs": 6, "profiles": {name: {} for name in PROFILES}})


def _report(
    rng: np.random.Generator, row: Floats, scale: float, errors: float, tail: float = 1.0
) -> PhaseReport:
    figures: dict[str, Any] = dict(zip(FIGURES, row.tolist(), strict=True))
    asked = max(1, round(figures.pop("ok") / scale))
    bad = int(rng.binomial(asked, errors)) if errors else 0
    rps = figures.pop("rps_ok") / scale * (asked - bad) / asked
    times = {name: value * scale * (tail if name in TAILS else 1.0) for name, value in figures.items()}
    return PhaseReport(
        requests_total=asked, ok=asked - bad, err=bad, error_rate=100 * bad / asked, rps_ok=rps, **times
    )
