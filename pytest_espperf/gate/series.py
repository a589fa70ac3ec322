"""The numbers that are judged, from artifacts: per profile and metric, one composite per round.

The composite of a round is the mean over the session's phases of the logarithm of the metric,
``-ln(rps_ok)``, ``ln(p95_ms)`` or ``ln(p99_ms)``, so that larger always means slower and a difference
is a log ratio. Throughput is that of the phases whose pace the board sets, where a profile has any: what
is fixed by a schedule would dilute it. The unit of every test is a *round*: requests of one round are
autocorrelated. Disturbed rounds are left out first, see :mod:`pytest_espperf.gate.rounds`. An earlier
session counts with all of its rounds, the planned ones and those that were measured again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from pytest_espperf.gate.reference import Environment, environment
from pytest_espperf.gate.rounds import (
    UNDISTURBED,
    Disturbed,
    Readings,
    RoundKey,
    disturbance_limits,
    find_disturbed,
)
from pytest_espperf.model.artifact import PhaseReport, PhaseResult, RunRole, SessionArtifact
from pytest_espperf.model.gates import MAIN_METRIC, TAIL, of_throughput
from pytest_espperf.model.registry import GATED_FIGURES, METRICS

COMPOSITES = (MAIN_METRIC, "p95_ms")
"""The metrics that are gated for every profile."""

GATES = (*COMPOSITES, *GATED_FIGURES)
"""The same, and those that are gated where phases of a profile have them."""

OWN_ROLES: tuple[RunRole, ...] = ("run", "confirm")
"""The rounds of a session's own board and firmware."""

Rounds = dict[int, dict[str, PhaseResult]]
"""run_index -> phase -> result, of one profile and role."""


def no_success(report: PhaseReport) -> bool:
    """Whether a phase had no successful request at all."""
    return report.ok == 0 and report.p95_ms is None and report.rps_ok <= 0


def bound(report: PhaseReport) -> bool:
    """Whether the load generator, not the board, set the pace of a phase."""
    return report.generator is not None and report.generator.bound


def rounds_of(session: SessionArtifact, profile: str, roles: Iterable[RunRole] = ("run",)) -> Rounds:
    """Return the measured rounds of a profile, ordered by run_index; rounds without any phase are left out.

    Confirmation runs share a numbering with the planned ones or have their own: both work, as long
    as one role is asked for at a time.
    """
    wanted = frozenset(roles)
    found: Rounds = {}
    for run in session.raw_runs:
        if run.profile == profile and run.role in wanted and run.results:
            found.setdefault(run.run_index, {}).update({r.phase: r for r in run.results})
    return dict(sorted(found.items()))


def results_of(session: SessionArtifact) -> list[PhaseResult]:
    """List the phases of a session's own rounds. In A/B pairs the board was flashed: its heap began anew."""
    return [result for run in session.raw_runs if run.role in ("run", "confirm") for result in run.results]


def cells_of(session: SessionArtifact) -> dict[str, list[PhaseResult]]:
    """Group the phases of a session's own rounds by cell, ``profile:phase``."""
    cells: dict[str, list[PhaseResult]] = {}
    for result in results_of(session):
        cells.setdefault(f"{result.profile}:{result.phase}", []).append(result)
    return cells


def log_value(report: PhaseReport, metric: str) -> float | None:
    """Return the metric as a logarithm with slower larger; None where the phase has no such figure."""
    value = report.value(metric)
    if value is None or not math.isfinite(value) or value <= 0 or bound(report):
        return None
    return -math.log(value) if METRICS[metric].better == "higher" else math.log(value)


def natural(composite: float, metric: str) -> float:
    """Convert a composite back to its metric's unit: the geometric mean over the phases."""
    return math.exp(-composite if METRICS[metric].better == "higher" else composite)


def composite(phases: dict[str, PhaseResult], names: Sequence[str], metric: str) -> float | None:
    """One round's composite over the named phases; None where one of them is missing."""
    total = 0.0
    for name in names:
        result = phases.get(name)
        value = None if result is None else log_value(result.report, metric)
        if value is None:
            return None
        total += value
    return total / len(names) if names else None


def composites(rounds: Rounds, names: Sequence[str], metric: str) -> tuple[float, ...]:
    """List the composites of all rounds that have one, in round order."""
    values = (composite(phases, names, metric) for phases in rounds.values())
    return tuple(value for value in values if value is not None)


def figures(rounds: Rounds, names: Sequence[str], metric: str) -> tuple[float, ...]:
    """List the composites of a session's rounds; none where fewer than half of the rounds have one."""
    values = composites(rounds, names, metric)
    return values if len(values) * 2 >= len(rounds) else ()


def gateable_phases(rounds: Rounds) -> tuple[str, ...]:
    """Phases of which at least half of the rounds were paced by the board, not by the generator."""
    seen: dict[str, list[bool]] = {}
    for phases in rounds.values():
        for name, result in phases.items():
            seen.setdefault(name, []).append(bound(result.report))
    return tuple(name for name, flags in seen.items() if sum(flags) * 2 < len(flags))


@dataclass(frozen=True)
class ProfileRounds:
    """One profile in the candidate and in every earlier session of its epoch.

    Attributes:
        profile: its name.
        phases: the phases that are compared.
        throughput: those of them whose throughput is: not the ones that a schedule or pauses pace, unless all
            are.
        paced: the phases that are paced so.
        now: the candidate's readings, all rounds.
        epoch: the earlier sessions that have figures, oldest first.
        past: the readings of each, without its disturbed rounds.
        disturbed: the candidate's disturbed rounds.
        some_phases: of each metric that only some phases have, those in which it is compared.
    """

    profile: str
    phases: tuple[str, ...]
    throughput: tuple[str, ...]
    paced: frozenset[str]
    now: Readings
    epoch: tuple[SessionArtifact, ...]
    past: tuple[Readings, ...]
    disturbed: Disturbed
    some_phases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def phases_of(self, metric: str) -> tuple[str, ...]:
        """Return the phases in which a metric is compared."""
        if METRICS[metric].only_some:
            return self.some_phases.get(metric, ())
        return self.throughput if metric == MAIN_METRIC else self.phases


SomePhases = Mapping[str, tuple[str, ...]]
"""Metric that only some phases have -> those phases."""


def phases_with(session: SessionArtifact, profile: str, metric: str) -> tuple[str, ...]:
    """Return the phases of a profile of which at least half of the planned rounds have a metric."""
    rounds = rounds_of(session, profile)
    counts: dict[str, int] = {}
    for phases in rounds.values():
        for name, result in phases.items():
            counts[name] = counts.get(name, 0) + (log_value(result.report, metric) is not None)
    return tuple(name for name, count in counts.items() if count and 2 * count >= len(rounds))


def _some_phases(
    candidate: SessionArtifact, profile: str, phases: Sequence[str], epoch: Sequence[SessionArtifact]
) -> SomePhases:
    """Choose for each gated figure the phases that have it now, and had it in the newest session with it."""
    found = {}
    for metric in GATED_FIGURES:
        now = [name for name in phases_with(candidate, profile, metric) if name in phases]
        if not now:
            continue
        then = next((had for one in reversed(epoch) if (had := phases_with(one, profile, metric))), ())
        if both := tuple(name for name in now if name in then):
            found[metric] = both
    return found


def _paced_phases(profile: str, sessions: Iterable[SessionArtifact]) -> frozenset[str]:
    """Return the phases that a schedule, or the pauses of the clients, paced in any session."""
    return frozenset(
        name
        for session in sessions
        for phases in rounds_of(session, profile).values()
        for name, result in phases.items()
        if result.report.paced
    )


def _read_rounds(
    session: SessionArtifact,
    profile: str,
    phases: Sequence[str],
    throughput: Sequence[str],
    some: SomePhases,
) -> Readings:
    """Compute a session's own rounds of a profile, planned and repeated: metric -> round -> composite.

    Args:
        session: whose.
        profile: likewise.
        phases: those that are compared.
        throughput: those whose throughput is.
        some: of each metric that only some phases have, those in which it is compared.
    """
    rounds = {
        (role, index): results
        for role in OWN_ROLES
        for index, results in rounds_of(session, profile, (role,)).items()
    }
    compared = {**dict.fromkeys((*COMPOSITES, TAIL), phases), MAIN_METRIC: throughput, **some}
    return {
        metric: {
            key: value
            for key, results in rounds.items()
            if (value := composite(results, names, metric)) is not None
        }
        for metric, names in compared.items()
    }


def _read_past(
    session: SessionArtifact,
    profile: str,
    phases: Sequence[str],
    throughput: Sequence[str],
    some: SomePhases,
) -> Readings:
    """Compute an earlier session's rounds, without metrics that less than half of the planned rounds have."""
    planned = len(rounds_of(session, profile))
    return {
        metric: values if 2 * len(_values(values, "run")) >= planned else {}
        for metric, values in _read_rounds(session, profile, phases, throughput, some).items()
    }


def undisturbed_rounds(
    candidate: SessionArtifact, epochs: Mapping[str, Sequence[SessionArtifact]], depth: int
) -> list[ProfileRounds]:
    """Pair the candidate's profiles with their earlier sessions; disturbed rounds are found and left out.

    Args:
        candidate: the session that is judged.
        epochs: profile -> comparable sessions of its epoch, oldest first; empty where there is none.
        depth: how many of the newest of them the noise is estimated from.
    """
    raw = []
    for profile, epoch in epochs.items():
        phases = gateable_phases(rounds_of(candidate, profile))
        some = _some_phases(candidate, profile, phases, epoch[-depth:])
        paced = _paced_phases(profile, (candidate, *epoch))
        throughput = of_throughput({name: name in paced for name in phases})
        raw.append(
            ProfileRounds(
                profile=profile,
                phases=phases,
                throughput=throughput,
                paced=paced,
                now=_read_rounds(candidate, profile, phases, throughput, some),
                epoch=tuple(epoch),
                past=tuple(_read_past(session, profile, phases, throughput, some) for session in epoch),
                disturbed=UNDISTURBED,
                some_phases=some,
            )
        )
    known = (readings for one in raw for readings in (one.now, *one.past[-depth:]))
    limits = disturbance_limits(known, COMPOSITES)
    return [
        replace(
            one,
            past=tuple(find_disturbed(readings, limits).left(readings) for readings in one.past),
            disturbed=find_disturbed(one.now, limits),
        )
        for one in raw
    ]


@dataclass(frozen=True)
class Series:
    """Input of one gate: log composites, slower larger, without disturbed rounds.

    Attributes:
        past: the rounds of each session of the baseline, oldest first.
        epoch: the same of every session of the epoch (``past`` is its tail).
        pins: indices into ``epoch`` of pinned sessions.
        now: the candidate's planned rounds.
        again: its confirmation runs.
        planned: how many rounds the candidate was planned to have; 0 for as many as ``now``.
        calm: which sessions of the epoch ended early on good news; empty for none.
        ended: why the candidate itself ended early, "" where it did not.
        pairs: ``(old firmware, new firmware)`` of its complete A/B pairs.
        paced: an open loop, clients that pause, or server-sent events in all phases of the profile: its
            throughput is a schedule's, not what the board can do.
        alone: some of the phases are paced, so that no throughput stands for their latency.
        by_phase: of the tail metric only: each phase's own change against the baseline.
        environment: change on the control board, which is subtracted from all rounds; None where nothing.
    """

    profile: str
    metric: str
    past: tuple[tuple[float, ...], ...]
    epoch: tuple[tuple[float, ...], ...]
    pins: tuple[int, ...]
    now: tuple[float, ...]
    again: tuple[float, ...] = ()
    planned: int = 0
    calm: tuple[bool, ...] = ()
    ended: str = ""
    pairs: tuple[tuple[float, float], ...] = ()
    paced: bool = False
    alone: bool = False
    by_phase: tuple[float, ...] = ()
    environment: Environment | None = None

    @property
    def name(self) -> str:
        """Name of the gate, ``profile:metric``."""
        return f"{self.profile}:{self.metric}"

    @property
    def every(self) -> tuple[float, ...]:
        """The candidate's rounds, planned and measured again."""
        return (*self.now, *self.again)

    @property
    def rounds_planned(self) -> int:
        """Number of rounds that the candidate was planned to have."""
        return max(self.planned, len(self.now))

    @property
    def calm_past(self) -> tuple[bool, ...]:
        """Whether each session of the baseline ended early on good news."""
        return self.calm[-len(self.past) :] if self.calm else (False,) * len(self.past)

    def as_measured(self) -> Series:
        """Put back what the control board took out."""
        here = self.environment
        if here is None:
            return self
        epoch = tuple(
            tuple(value + shift for value in values)
            for values, shift in zip(self.epoch, here.shifts, strict=True)
        )
        return replace(
            self,
            epoch=epoch,
            past=epoch[-len(self.past) :],
            now=tuple(value + here.shift for value in self.now),
            again=tuple(value + here.shift for value in self.again),
            environment=None,
        )


def build_series(
    candidate: SessionArtifact, rounds: ProfileRounds, metric: str, max_history: int
) -> Series | None:
    """Build the series of one gate; None where the candidate or every earlier session lacks a value.

    Args:
        candidate: the session that is judged.
        rounds: of one profile, see :func:`undisturbed_rounds`.
        metric: the gate's.
        max_history: sessions of the baseline at most.
    """
    profile, names = rounds.profile, rounds.phases_of(metric)
    left = rounds.disturbed.left(rounds.now).get(metric, {})
    now = _values(left, "run")
    past: list[tuple[float, ...]] = []
    pins: list[int] = []
    calm: list[bool] = []
    references: list[float | None] = []
    board = _reference_board(candidate)
    for session, readings in zip(rounds.epoch, rounds.past, strict=True):
        values = tuple(readings.get(metric, {}).values())
        if values:
            if session.pinned:
                pins.append(len(past))
            past.append(values)
            calm.append(profile in session.ended_early and session.ended_early[profile].why == "calm")
            references.append(_reference(session, profile, names, metric, board))
    if not now or not past:
        return None
    here = environment(
        session_values(past), references, _reference(candidate, profile, names, metric, board), max_history
    )
    if here is not None:
        past = [
            tuple(value - shift for value in values) for values, shift in zip(past, here.shifts, strict=True)
        ]
    shift = here.shift if here is not None else 0.0
    ended = candidate.ended_early.get(profile)
    planned = rounds_of(candidate, profile)
    return Series(
        profile=profile,
        metric=metric,
        past=tuple(past[-max_history:]),
        epoch=tuple(past),
        pins=tuple(pins),
        now=tuple(value - shift for value in now),
        again=tuple(value - shift for value in _values(left, "confirm")),
        planned=candidate.runs_per_profile,
        calm=tuple(calm),
        ended=ended.why if ended is not None else "",
        pairs=_pairs(candidate, profile, names, metric),
        paced=rounds.paced.issuperset(rounds.phases),
        alone=not rounds.paced.isdisjoint(names),
        by_phase=_by_phase(planned, profile, names, rounds.epoch[-max_history:]) if metric == TAIL else (),
        environment=here,
    )


def build_all(
    candidate: SessionArtifact, profiles: Sequence[ProfileRounds], metrics: Sequence[str], max_history: int
) -> list[Series]:
    """Build the series of every gate that can be compared, profile by profile; arguments as for one."""
    built = (build_series(candidate, one, metric, max_history) for one in profiles for metric in metrics)
    return [one for one in built if one is not None]


def _values(readings: Mapping[RoundKey, float], role: RunRole) -> tuple[float, ...]:
    return tuple(value for (of, _), value in readings.items() if of == role)


def _reference_board(session: SessionArtifact) -> str:
    """Return the control board of a session, "" where it has none."""
    return next((run.board for run in session.raw_runs if run.role == "reference"), "")


def _reference(
    session: SessionArtifact, profile: str, names: Sequence[str], metric: str, board: str
) -> float | None:
    """Return the reference's value in a session: None where it had none, or another one."""
    if not board or _reference_board(session) != board:
        return None
    values = composites(rounds_of(session, profile, ("reference",)), names, metric)
    return median(values) if values else None


def _by_phase(
    planned: Rounds, profile: str, names: Sequence[str], baseline: Sequence[SessionArtifact]
) -> tuple[float, ...]:
    """Each phase's change of the tail metric: median of the rounds, against the median of the baseline's."""
    past = [rounds_of(session, profile) for session in baseline]
    shifts = []
    for name in names:
        before = [median(values) for rounds in past if (values := composites(rounds, (name,), TAIL))]
        now = composites(planned, (name,), TAIL)
        if before and now:
            shifts.append(median(now) - median(before))
    return tuple(shifts)


def _pairs(
    candidate: SessionArtifact, profile: str, names: Sequence[str], metric: str
) -> tuple[tuple[float, float], ...]:
    old = rounds_of(candidate, profile, ("ab-baseline",))
    new = rounds_of(candidate, profile, ("ab-candidate",))
    found = []
    for index in sorted(old.keys() & new.keys()):
        before = composite(old[index], names, metric)
        after = composite(new[index], names, metric)
        if before is not None and after is not None:
            found.append((before, after))
    return tuple(found)


def session_values(rounds: Iterable[Sequence[float]]) -> list[float]:
    """Each session's value: the median of its rounds."""
    return [median(values) for values in rounds]
