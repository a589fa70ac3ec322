"""The part of a session that runs in a worker of pytest-xdist, and what it sends to the controller."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from pytest_espperf.config.settings import Settings
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import Capacity, EndedEarly, OwnFigure, PhaseResult, RunRole
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.session.context import Context, make_context
from pytest_espperf.session.driver import PhaseDriver
from pytest_espperf.session.earlier import remembered_capacity
from pytest_espperf.session.judging import Judge
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.record import SessionRecord
from pytest_espperf.session.saving import save_phase_samples
from pytest_espperf.session.state import SessionState


class MeasuredPhase(msgspec.Struct, frozen=True, kw_only=True):
    """One measured phase; ``board`` names the control board where it was measured there."""

    role: RunRole
    board: str
    result: PhaseResult


class WorkerResult(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one test item of a phase, as it travels to the controller.

    Attributes:
        phase: id of the planned phase.
        measured: nothing, the phase, or the phase and the control board's.
        state: what is known of the session; of the console, what is new.
        lines: new lines for the user.
        spent_s: new seconds that count against ``--perf-hard-timeout-s``.
    """

    phase: str
    measured: list[MeasuredPhase] = []
    state: SessionState
    lines: list[str] = []
    spent_s: float = 0.0


class WorkerSink:
    """Keeps what a driver measured until it is sent; the controller's history is read, never written.

    Args:
        context: of the session's part in this worker.
        at_once: number of boards that this computer drives at the same time, at most.
    """

    def __init__(self, context: Context, at_once: int) -> None:
        self._context = context
        self._at_once = at_once
        self._unsent: list[MeasuredPhase] = []
        self._judge = Judge.from_settings(context.settings)
        self._store = HistoryStore(context.folder)
        # What this worker has measured: after the death of another, too little to decide anything.
        self._record = SessionRecord(context)

    def add(self, planned: PlannedPhase, result: PhaseResult, *, board: str = "") -> None:
        """Keep a phase until it is sent."""
        generator = result.report.generator
        if generator is not None:
            generator = structs.replace(generator, boards=self._at_once)
            result = structs.replace(result, report=structs.replace(result.report, generator=generator))
        self._unsent.append(MeasuredPhase(role=planned.role, board=board, result=result))
        self._record.add(planned, result, board=board)

    def save_samples(self, planned: PlannedPhase, samples: PhaseSamples) -> str:
        """Write the raw samples of a phase, which are too many to be sent."""
        return save_phase_samples(self._context, planned, samples)

    def end_phase(self, state: SessionState) -> None:
        """Do nothing: the report of the test item takes the phase along."""

    def decide_early(self, planned: PlannedPhase, state: SessionState) -> Mapping[str, EndedEarly]:
        """Name the profiles that need no further run."""
        record = self._record
        return self._judge.early_end(planned, self._context.plan, lambda: record.artifact(state), self._store)

    def remembered_capacity(self, state: SessionState) -> Capacity | None:
        """Return the capacity that an earlier session found with this firmware; None where unknown."""
        return remembered_capacity(self._store, self._record.artifact(state))

    def take(self) -> list[MeasuredPhase]:
        """Return the phases that were not sent yet."""
        unsent, self._unsent = self._unsent, []
        return unsent


class Worker:
    """Drives the phases of one board in a worker, and sends them; it shows no running phase.

    Args:
        settings: options in force.
        root: root directory of the project.
        folder: history folder of the controller.
        session_id: of the controller's session of this board.
        at_once: number of boards that this computer drives at the same time, at most.
        more: further fields of :class:`pytest_espperf.session.context.Context`.

    Attributes:
        driver: drives the phases.
    """

    def __init__(
        self, settings: Settings, root: Path, *, folder: str, session_id: str, at_once: int, **more: Any
    ) -> None:
        self._lines: list[str] = []
        context = make_context(
            settings,
            root,
            folder=Path(folder),
            session_id=session_id,
            say=self._lines.append,
            watch=lambda _: None,
            **more,
        )
        self._sink = WorkerSink(context, at_once)
        self.driver = PhaseDriver(context, self._sink)
        self._sent_s = 0.0

    def result_of(self, planned: PlannedPhase) -> str:
        """Return what is new since the last phase, for the controller: JSON text."""
        driver = self.driver
        state = driver.known()
        state.console = list(state.console)
        state.figures = self.take_figures()
        lines = list(self._lines)
        already_s, self._sent_s = self._sent_s, driver.hard_timeout.spent_s
        result = WorkerResult(
            phase=planned.id,
            measured=self._sink.take(),
            state=state,
            lines=lines,
            spent_s=self._sent_s - already_s,
        )
        self._lines.clear()
        driver.state.console.clear()
        return msgspec.json.encode(result).decode()

    def take_figures(self) -> dict[str, OwnFigure]:
        """Return the firmware's own figures that were not sent yet."""
        self.driver.own.take_printed()
        figures = dict(self.driver.state.figures)
        self.driver.state.figures.clear()
        return figures

    def close(self) -> None:
        """Give back the board; idempotent."""
        self.driver.context.closing.close()
