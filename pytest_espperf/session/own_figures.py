"""The firmware's own figures of a session, as they come: from the telemetry, the console, tests and boots."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pytest_espperf.model.artifact import Finding, PhaseReport, RunRole
from pytest_espperf.model.figures import as_number, named_value
from pytest_espperf.model.findings import FIGURES
from pytest_espperf.model.own_figures import add_value, likely_better
from pytest_espperf.model.registry import Better, own_gate
from pytest_espperf.session.board import Board
from pytest_espperf.session.context import Context
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.state import SessionState

MOST_SAID = 20
"""Warnings about figures that are printed in one session."""


class OwnFigures:
    """Gathers the figures in the state of a session.

    What the firmware of the baseline says in A/B pairs is not this firmware's, and is dropped.

    Args:
        context: of the session.
        state: takes the figures.
        board: finds the board; None before it is found.
    """

    def __init__(self, context: Context, state: SessionState, board: Callable[[], Board | None]) -> None:
        self._context = context
        self._state = state
        self._board = board
        self._other_firmware = False
        self._said: set[str] = set()

    def add(self, name: str, value: float, *, unit: str = "", better: Better = "lower", source: str) -> None:
        """Add a value that a source of ours has; what cannot be added is reported once.

        Whoever asks for it by a name of their own uses :func:`add_value`, which raises.
        """
        try:
            add_value(self._state.figures, name, value, unit=unit, better=better, source=source)
        except ValueError as error:
            self._say_once(f"a value from the {source} was left out: {error}")

    def take_behind(self, planned: PlannedPhase, report: PhaseReport) -> None:
        """Take the gauges behind a phase, and what was printed during it."""
        self._other_firmware = planned.role == "ab-baseline"
        self.take_printed()
        board = self._board()
        if board is None or self._other_firmware:
            return
        for gauge in board.telemetry.spec.gauges:
            self._state.gauges[gauge.name] = gauge.path
            value = _read(gauge.path, (report.stats_after, report.mem_after))
            if value is not None:
                self.add(gauge.name, value, unit=gauge.unit, better=gauge.better, source="telemetry")
            elif report.stats_after or report.mem_after:
                self._say_once(f"the gauge {gauge.name} has no value: no number stands at {gauge.path}")

    def missing_gauges(self) -> list[Finding]:
        """Name the gauges that were asked for and had no value in the whole session, for whatever reason."""
        return [
            Finding(
                severity="warn",
                kind=FIGURES,
                where=own_gate(name),
                message=f"{own_gate(name)}: the gauge has no value in this session: no number stood at "
                f"{path} in the telemetry, or the telemetry did not answer.",
            )
            for name, path in self._state.gauges.items()
            if name not in self._state.figures
        ]

    def take_printed(self) -> None:
        """Take the figures that the console printed since the last call."""
        board = self._board()
        if board is None or board.console is None:
            return
        for name, value, unit in board.console.take_figures():
            if not self._other_firmware:
                self.add(name, value, unit=unit, better=likely_better(name, unit), source="console")

    def switched(self, role: RunRole) -> None:
        """Drop what was printed while the firmware was changed; the role's is on the board now."""
        self._other_firmware = True
        self.take_printed()
        self._other_firmware = role == "ab-baseline"

    def _say_once(self, text: str) -> None:
        if text not in self._said and len(self._said) < MOST_SAID:
            self._said.add(text)
            self._context.say(f"WARNING: {text}")


def _read(path: str, readings: Iterable[dict[str, Any]]) -> float | None:
    """Find a number at a dotted path; a single name wherever it stands, as counters are found."""
    for reading in readings:
        found = as_number(named_value(reading, path))
        if found is not None:
            return found
    return None
