"""What a session measures again before its verdict: confirmation runs, or pairs of both firmwares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_espperf import gate
from pytest_espperf.model.artifact import RunRole, SessionArtifact, Verdict
from pytest_espperf.session.firmware import can_switch
from pytest_espperf.session.judging import Judge
from pytest_espperf.session.plan import PlannedPhase, SessionPlan

PAIRS = 6
"""Interleaved pairs per suspect profile."""

WORST_RUN = "a run broke the budget of any single run"
"""Why a profile is measured again that needs no other answer."""


@dataclass(frozen=True)
class Confirmation:
    """The phases that are measured again before the verdict.

    Attributes:
        phases: in order; empty for none.
        why: reason, in words.
        pause_s: seconds to wait before.
    """

    phases: Sequence[PlannedPhase] = ()
    why: str = "slower, or not clear enough"
    pause_s: float = 0.0


def choose_confirmation(
    judge: Judge, artifact: SessionArtifact, verdict: Verdict, plan: SessionPlan, *, since_load_s: float
) -> Confirmation:
    """Choose what a complete session measures again.

    Where firmware can be switched, interleaved pairs of each profile that is suspect or unclear; else
    ``--perf-confirm`` runs of each profile without a clear answer, and as many as were disturbed.

    Args:
        judge: judged the session.
        artifact: everything that was measured.
        verdict: of the session as it stands.
        plan: of the session.
        since_load_s: seconds since the last load.
    """
    again, worst = gate.measure_again(verdict, judge.policy), gate.unresolved_worst(artifact)
    if can_switch(judge.settings):
        suspects = gate.suspects(verdict)
        # Pairs measure this firmware again as well; a profile that needs none is measured by itself.
        alone = {name: count for name, count in again.items() if name in worst and name not in suspects}
        phases = [*confirmation_runs(plan, alone), *pairs(plan, suspects)]
        return Confirmation(phases) if suspects else Confirmation(phases, WORST_RUN)
    phases = confirmation_runs(plan, again)
    if not gate.unclear_profiles(verdict):
        return Confirmation(phases, WORST_RUN if worst else "a run was disturbed")
    # What disturbs for a while is over then; a single stalled run was over in the next one.
    pause_s = max(0.0, judge.settings.perf_confirm_pause_s - since_load_s)
    return Confirmation(phases, pause_s=pause_s)


def confirmation_runs(plan: SessionPlan, rounds: Mapping[str, int]) -> list[PlannedPhase]:
    """Plan further runs of some profiles, run-major; ``rounds`` says how many of each."""
    return [
        PlannedPhase(index, plan.profile(name), phase, role="confirm", board=plan.board)
        for index in range(1, max(rounds.values(), default=0) + 1)
        for name, count in rounds.items()
        if index <= count
        for phase in plan.profile(name).phases
    ]


def pairs(plan: SessionPlan, profiles: list[str]) -> list[PlannedPhase]:
    """Plan interleaved pairs of both firmwares: AB BA AB BA ..., so that a drift falls on both alike.

    One switch serves all profiles, and the second half of a pair the first half of the next.
    """
    planned = []
    for index in range(1, PAIRS + 1):
        order: tuple[RunRole, ...] = ("ab-baseline", "ab-candidate")
        if index % 2 == 0:
            order = order[::-1]
        planned += [
            PlannedPhase(index, plan.profile(name), phase, role=role, board=plan.board)
            for role in order
            for name in profiles
            for phase in plan.profile(name).phases
        ]
    return planned
