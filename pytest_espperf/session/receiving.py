"""Receiving in the controller of pytest-xdist what workers have measured."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import msgspec

from pytest_espperf.model.artifact import OwnFigure, PhaseResult
from pytest_espperf.model.own_figures import add_figures
from pytest_espperf.session.driver import PhaseDriver
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.state import SessionState
from pytest_espperf.session.worker import WorkerResult


class ReceiverSink(Protocol):
    """The sink of the controller, from which phases can be taken out again."""

    def add(self, planned: PlannedPhase, result: PhaseResult, *, board: str = "") -> None:
        """Take one measured phase; ``board`` names the control board where it was measured there."""

    def discard(self, planned: PlannedPhase) -> None:
        """Take a phase out, and the control board's beside it."""

    def end_phase(self, state: SessionState) -> None:
        """Take note that what belongs to a phase was added or taken out."""


class PhaseReceiver:
    """Takes the results of workers into the session of one board.

    Args:
        driver: of the session; it knows what workers know, and may go on where they have ended.
        sink: the one of the driver.

    Attributes:
        void: the phases whose worker died over them, in words.
    """

    def __init__(self, driver: PhaseDriver, sink: ReceiverSink) -> None:
        self.void: list[str] = []
        self._driver = driver
        self._sink = sink

    def receive(self, planned: PlannedPhase, text: str) -> None:
        """Add what a worker measured of a phase, see :meth:`Worker.result_of`."""
        driver, context = self._driver, self._driver.context
        result = msgspec.json.decode(text, type=WorkerResult)
        if driver.state.wants(planned):
            for measured in result.measured:
                role = dataclasses.replace(planned, role=measured.role)
                self._sink.add(role, measured.result, board=measured.board)
        driver.hard_timeout.add(result.spent_s)
        for line in result.lines:
            context.say(f"{context.plan.board}: {line}" if context.plan.board else line)
        driver.state.merge(result.state)
        self._sink.end_phase(driver.known())

    def receive_figures(self, text: str) -> list[str]:
        """Add figures of the firmware's own that a worker sent; return what could not be added, in words."""
        figures = msgspec.json.decode(text, type=dict[str, OwnFigure])
        return add_figures(self._driver.state.figures, figures)

    def discard(self, planned: PlannedPhase) -> None:
        """Make a phase void: its worker died over it."""
        self.void.append(f"{planned.cell} of run {planned.run}")
        self._sink.discard(planned)
        self._sink.end_phase(self._driver.known())

    def take_over(self) -> None:
        """Find the board that workers have given back; a control board that they lost stays lost.

        Raises:
            EspperfError: see :meth:`pytest_espperf.session.bench.Bench.find_named`.
        """
        bench, facts = self._driver.bench, self._driver.state.facts
        bench.find_named()
        if bench.reference is not None and facts is not None:
            bench.reference.lost = facts.description.get("reference", {}).get("lost", "")
