"""A sink of a driver that keeps the calls, and decides what a test says."""

from __future__ import annotations

from pytest_espperf.model.artifact import Capacity, EndedEarly, PhaseResult
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.state import SessionState


class ListSink:
    """Keeps the calls of a driver or a receiver.

    Attributes:
        calls: in order, each in words.
        ends: what ends early, by the run before which that is decided.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.ends: dict[int, dict[str, EndedEarly]] = {}

    def add(self, planned: PlannedPhase, _: PhaseResult, *, board: str = "") -> None:
        """Note a phase."""
        self.calls.append(f"add {planned.id} {board}".rstrip())

    def discard(self, planned: PlannedPhase) -> None:
        """Note a phase that is taken out."""
        self.calls.append(f"discard {planned.id}")

    def end_phase(self, state: SessionState) -> None:
        """Note the end of a phase."""
        self.calls.append(f"end {state.hard_stop_reason}".rstrip())

    def save_samples(self, planned: PlannedPhase, _: PhaseSamples) -> str:
        """Note the samples of a phase."""
        self.calls.append(f"samples {planned.id}")
        return f"{planned.id}.csv"

    def decide_early(self, planned: PlannedPhase, _: SessionState) -> dict[str, EndedEarly]:
        """Return what the test says."""
        self.calls.append(f"decide before run {planned.run}")
        return self.ends.get(planned.run, {})

    def remembered_capacity(self, _: SessionState) -> Capacity | None:
        """Know nothing."""
        return None
