"""The line about the running phase: where the session is, how it goes, how much time is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pytest_espperf.load import Progress
from pytest_espperf.model.registry import rate_unit
from pytest_espperf.session.context import Context
from pytest_espperf.session.plan import PlannedPhase, SessionPlan

OVERHEAD_S = 0.35
"""Seconds from the end of a phase's load to the begin of the next one's, until one has been timed."""


class Pace:
    """The pace at which a session goes through its plan.

    Args:
        plan: what it drives.
        clock: monotonic seconds.
    """

    def __init__(self, plan: SessionPlan, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan = plan
        self._clock = clock
        self._ahead = {phase.id: _load_s(plan, phase) for phase in plan.phases()}
        self._began_s: float | None = None
        self._done_s = 0.0
        self._done = 0

    def begin(self, planned: PlannedPhase) -> None:
        """Take note that a phase is about to be measured."""
        if self._began_s is None:
            self._began_s = self._clock()
        self._ahead.pop(planned.id, None)

    def drop(self, profile: str) -> None:
        """Take note that no planned phase of a profile will be measured any more."""
        self._ahead = {
            phase.id: _load_s(self._plan, phase)
            for phase in self._plan.phases()
            if phase.id in self._ahead and phase.profile.name != profile
        }

    def end(self, planned: PlannedPhase) -> None:
        """Take note that a phase was measured."""
        self._done_s += _load_s(self._plan, planned)
        self._done += 1

    def left_s(self, planned: PlannedPhase, elapsed_s: float) -> float:
        """Return the seconds until the planned runs are measured, ``elapsed_s`` after a load began."""
        overhead_s = OVERHEAD_S
        if self._began_s is not None and self._done:
            # As many gaps as phases are over: the one that runs has had its own before its load began.
            load_s = self._done_s + self._plan.warmup_s + elapsed_s
            gaps_s = self._clock() - self._began_s - load_s
            overhead_s = max(0.0, gaps_s / self._done)
        rest_s = max(0.0, planned.phase.duration_s - elapsed_s)
        return rest_s + sum(self._ahead.values()) + overhead_s * len(self._ahead)

    def line(self, planned: PlannedPhase, progress: Progress) -> str:
        """Say how a phase stands: ``run 1/3 python_light:burst 1.0/2 s, 1:05 left: 0 errors, 260 req/s``."""
        p95 = f", p95 {progress.p95_ms:,.0f} ms" if progress.p95_ms is not None else ""
        left_s = round(self.left_s(planned, progress.elapsed_s))
        left = f", {left_s // 60}:{left_s % 60:02d} left" if planned.role == "run" else ""
        return (
            f"{planned.label(self._plan.runs)} {progress.elapsed_s:.1f}/{progress.duration_s:g} s{left}: "
            f"{progress.errors} errors, {progress.rps:,.0f} {rate_unit((planned.phase.kind,))}{p95}"
        )


def foreseen_s(context: Context, phases: Sequence[PlannedPhase]) -> float:
    """Return the seconds that planned phases will take, without runs that are measured again."""
    load_s = sum(_load_s(context.plan, planned) for planned in phases)
    if context.settings.device_reference:
        load_s *= 2  # the control board is measured behind each phase
    return load_s + OVERHEAD_S * len(phases)


def _load_s(plan: SessionPlan, planned: PlannedPhase) -> float:
    return plan.warmup_s + planned.phase.duration_s
