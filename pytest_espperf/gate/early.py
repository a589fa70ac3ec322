"""The early end of a profile, where its verdict is certain before all planned rounds.

After each complete round ``r = 2 .. K - 1`` of the K planned ones a profile is one of three. With ``x`` its
rounds so far, ``u`` their upper median, ``c`` the centre of the baseline, T and U of
:mod:`pytest_espperf.gate.noise`:

* **calm** where all gates (throughput, p95, and what its phases have besides) are far from the
  threshold of K rounds (``T_K``, from the baseline's noise alone:
  one disturbed round of today must not raise it) and exclude the tolerance already::

      u - c + sqrt((C_r - C_K) Vw) < T_K   and   U_r <= tolerance

  a one-sided conditional power (Lan, Simon and Halperin 1982): the rounds still to come would have to be
  slower than five in six are to reach the threshold. After two rounds ``u`` is the slower one, so that a
  disturbed round ends nothing, it costs one more.
* **slower** where, from the third round on, each round of the throughput is beyond the threshold by itself.
* undecided: it goes on, and is judged and confirmed like a profile without an early end.

Where the baseline has fewer than five sessions, or anything else is odd, every planned round is measured.
The looks share what is uncertain about the baseline, so that they cost next to no alpha (simulated in
``tools/bench_gate_cells.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import msgspec

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.answers import changed_answers
from pytest_espperf.gate.baseline import baseline_of, choose, depth_of, rounds_by_profile
from pytest_espperf.gate.drift import drifts
from pytest_espperf.gate.health import health_findings, may_leak
from pytest_espperf.gate.noise import Noise, composites_factor, noises
from pytest_espperf.gate.policy import DEFAULT_POLICY, GatePolicy
from pytest_espperf.gate.rows import above_floor, error_change, plain_rows, tolerance_of
from pytest_espperf.gate.series import COMPOSITES, GATES, ProfileRounds, Series, build_all, rounds_of
from pytest_espperf.gate.stats import median_variance
from pytest_espperf.gate.telemetry import falls_uncollected
from pytest_espperf.gate.worst import unresolved_worst
from pytest_espperf.model.artifact import EndedEarly, SessionArtifact
from pytest_espperf.model.figures import COLLECTED
from pytest_espperf.model.gates import MAIN_METRIC, TAIL


@dataclass(frozen=True)
class _Gate:
    """One gate so far: the noise of its rounds now, and that of the planned ones."""

    series: Series
    now: Noise
    planned: Noise
    drift_score: float

    def calm(self, policy: GatePolicy) -> bool:
        """Whether the rounds to come cannot reach the threshold, and the tolerance is excluded already."""
        rounds = sorted(self.series.now)
        centre = self.planned.history.centre
        share = median_variance(len(rounds)) - median_variance(self.series.planned)
        margin = p.CALM_SIGMAS * math.sqrt(max(0.0, share) * self.planned.history.within)
        far = rounds[len(rounds) // 2] - centre + margin < self.planned.threshold
        return far and self.now.at_most(median(rounds) - centre) <= tolerance_of(self.series, policy)

    def slower(self, policy: GatePolicy) -> bool:
        """Whether each round is slower than the threshold by itself; a schedule's throughput never is."""
        if self.series.paced:
            return False
        centre = self.now.history.centre
        least = min(self.series.now) - centre
        return least > self.now.smallest and above_floor(self.series, least, centre, policy)


def decide_early(
    candidate: SessionArtifact,
    history: Sequence[SessionArtifact],
    policy: GatePolicy = DEFAULT_POLICY,
) -> dict[str, EndedEarly]:
    """Return the profiles that need no further round, besides those that have ended before. Pure.

    Args:
        candidate: the session so far, after a complete round of every profile that goes on.
        history: as of :func:`pytest_espperf.gate.judge`.
        policy: how it will be judged.
    """
    planned = candidate.runs_per_profile
    if not policy.enabled or planned <= p.CALM_ROUNDS or may_leak(candidate, policy):
        return {}
    so_far = msgspec.structs.replace(candidate, partial=True)
    if any(finding.severity == "fail" for finding in health_findings(so_far, policy)):
        return {}
    choice = choose(candidate, history, policy)
    sessions = [session for epoch in choice.epochs.values() for session in baseline_of(epoch, policy)]
    if any(falls_uncollected(candidate, sessions, name, factor=1.0) for name in COLLECTED):
        return {}
    profiles = rounds_by_profile(candidate, choice, policy)
    gates = _gates(candidate, profiles, policy)
    worst = unresolved_worst(candidate)  # they are to be measured again, whatever the others show
    tails = {one.profile: one for one in build_all(candidate, profiles, (TAIL,), depth_of(policy))}
    decided: dict[str, EndedEarly] = {}
    for one in profiles:
        after = len(rounds_of(candidate, one.profile))
        mine = [gate for gate in gates if gate.series.profile == one.profile]
        if one.profile in {*worst, *candidate.ended_early} or not p.CALM_ROUNDS <= after < planned:
            continue
        if not _complete(one, mine, after):
            continue
        if after >= p.SLOWER_ROUNDS and mine[COMPOSITES.index(MAIN_METRIC)].slower(policy):
            decided[one.profile] = EndedEarly(after=after, planned=planned, why="slower")
        elif all(gate.calm(policy) for gate in mine) and not any(
            _holds(candidate, one, mine, tails.get(one.profile), policy)
        ):
            decided[one.profile] = EndedEarly(after=after, planned=planned, why="calm")
    return decided


def _gates(candidate: SessionArtifact, profiles: Sequence[ProfileRounds], policy: GatePolicy) -> list[_Gate]:
    series = build_all(candidate, profiles, GATES, depth_of(policy))
    alpha = p.ALPHA_EARLY / max(1, candidate.boards)
    factor = composites_factor(series)
    now = noises(series, alpha=alpha, factor=factor)
    planned = noises(series, alpha=alpha, factor=factor, planned=True)
    drifted = drifts([one.as_measured() for one in series if one.metric in COMPOSITES])
    return [
        _Gate(one, now[one.name], planned[one.name], drifted[one.name].score if one.name in drifted else 0.0)
        for one in series
    ]


def _complete(rounds: ProfileRounds, gates: Sequence[_Gate], after: int) -> bool:
    """Whether each gate has all rounds so far, undisturbed, and sessions enough to compare with."""
    return (
        len(gates) == len(COMPOSITES) + len(rounds.some_phases)
        and not rounds.disturbed.count
        and all(len(gate.series.now) == after for gate in gates)
        and all(gate.now.history.sessions >= p.EARLY_SESSIONS for gate in gates)
    )


def _holds(
    candidate: SessionArtifact,
    rounds: ProfileRounds,
    gates: Sequence[_Gate],
    tail: Series | None,
    policy: GatePolicy,
) -> Iterator[bool]:
    """Check one after the other what keeps a calm profile going: rules that more rounds have to decide."""
    profile, baseline = rounds.profile, baseline_of(rounds.epoch, policy)
    yield any(
        not result.passed for phases in rounds_of(candidate, profile).values() for result in phases.values()
    )
    yield bool(changed_answers(candidate, {profile: baseline}))
    yield error_change(candidate, profile, baseline) > p.ERROR_POINTS / 2
    yield any(row.verdict != "unchanged" for row in plain_rows(candidate, profile, baseline[-1], policy))
    yield any(gate.drift_score >= p.DRIFT_ALARM / 2 for gate in gates)
    if tail is not None and tail.by_phase:
        factor = composites_factor([gate.series for gate in gates])
        alpha = p.ALPHA_TAIL / max(1, candidate.boards)
        threshold = noises([tail], alpha=alpha, factor=factor)[tail.name].threshold
        yield all(shift > threshold / 2 for shift in tail.by_phase)
