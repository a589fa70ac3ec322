"""What a worker of a distributed run hands to the controller after each phase, as JSON text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from pytest_espperf.config.settings import Settings
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import (
    Capacity,
    EndedEarly,
    PathAnswer,
    PhaseResult,
    RunRole,
    SessionArtifact,
)
from pytest_espperf.session.board import BoardFacts
from pytest_espperf.session.capacity import remembered
from pytest_espperf.session.driver import Driver
from pytest_espperf.session.judging import Judge, early_end
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.record import SessionRecord


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One measured phase; ``board`` names the reference board where it was measured there."""

    role: RunRole
    board: str
    result: PhaseResult


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """What one test item of a phase came to.

    Attributes:
        phase: the planned phase's id.
        kept: what was measured: nothing, the phase, or the phase and the reference's.
        facts: of the board; None where it was never reached.
        hard_stop_reason: why no later phase is driven, "" where they are.
        said_between: what the console said between phases.
        told: lines for the user.
        spent_s: seconds that count against ``--perf-hard-timeout-s``.
        ended: the profiles that ended before their planned rounds.
        capacity: how many connections the board serves at once, where that is known.
        answers: what the paths answered before the load, by profile.
    """

    phase: str
    kept: list[Kept] = []
    facts: BoardFacts | None = None
    hard_stop_reason: str = ""
    said_between: list[str] = []
    told: list[str] = []
    spent_s: float = 0.0
    ended: dict[str, EndedEarly] = {}
    capacity: Capacity | None = None
    answers: dict[str, dict[str, PathAnswer]] = {}


class WorkerDriver(Driver):
    """Drives the phases of one board in a worker, and hands them over; how a phase stands it tells nobody.

    Args:
        settings: the options in force.
        root: the project's root directory.
        folder: the history folder of the controller.
        session_id: of the controller's session of this board.
        at_once: how many boards this computer drives at the same time, at most.
        how: as of :class:`pytest_espperf.session.driver.Driver`.
    """

    def __init__(
        self, settings: Settings, root: Path, *, folder: str, session_id: str, at_once: int, **how: Any
    ) -> None:
        self._told: list[str] = []
        super().__init__(settings, root, say=self._told.append, watch=lambda _: None, **how)
        self._folder = Path(folder)
        self._session_id = session_id
        self._at_once = at_once
        self._kept: list[Kept] = []
        self._handed_s = 0.0
        self._judge = Judge.from_settings(settings)
        self._store = HistoryStore(self._folder)
        # What this worker has measured: after the death of another, too little to decide anything.
        self._record = SessionRecord(settings, self.plan, root, self._boards)
        self.is_open = True

    @property
    def folder(self) -> Path:
        """The history folder."""
        return self._folder

    @property
    def session_id(self) -> str:
        """Of the controller's session."""
        return self._session_id

    def keep(self, planned: PlannedPhase, result: PhaseResult, *, board: str = "") -> None:
        """Until it is handed over."""
        generator = result.report.generator
        if generator is not None:
            generator = structs.replace(generator, boards=self._at_once)
            result = structs.replace(result, report=structs.replace(result.report, generator=generator))
        self._kept.append(Kept(role=planned.role, board=board, result=result))
        self._record.add(planned, result, board=board)

    def phase_ended(self) -> None:
        """The report of the test item takes it along."""

    def decide_early(self, planned: PlannedPhase) -> Mapping[str, EndedEarly]:
        """The profiles that need no further round; the controller's history is read, never written."""
        return early_end(planned, self._so_far, self._judge, self._store)

    def remembered_capacity(self) -> Capacity | None:
        """What the board's newest session found, see :func:`pytest_espperf.session.capacity.remembered`."""
        return remembered(self._store, self._so_far())

    def _so_far(self) -> SessionArtifact:
        return self._record.artifact(self.reach().facts(), ended=self.ended, answers=self.answers)

    def hand_over(self, planned: PlannedPhase) -> str:
        """What has been kept since the last time, for the controller."""
        kept, self._kept = self._kept, []
        said, self.said_between = self.said_between, []
        told = list(self._told)
        self._told.clear()
        already_s, self._handed_s = self._handed_s, self.spent_s
        handover = Handover(
            phase=planned.id,
            kept=kept,
            facts=self.reach().facts(),
            hard_stop_reason=self.hard_stop_reason,
            said_between=said,
            told=told,
            spent_s=self._handed_s - already_s,
            ended=self.ended,
            capacity=self.capacity,
            answers=self.answers,
        )
        return msgspec.json.encode(handover).decode()


def decode(text: str) -> Handover:
    """What :meth:`WorkerDriver.hand_over` made."""
    return msgspec.json.decode(text, type=Handover)
