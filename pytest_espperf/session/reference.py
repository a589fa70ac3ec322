"""A control board beside the measured one: its firmware stays, so its changes are the environment's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pytest_espperf import device
from pytest_espperf.config.settings import SIM
from pytest_espperf.errors import DeviceError, UsageError
from pytest_espperf.model.address import split_host
from pytest_espperf.model.artifact import PhaseResult
from pytest_espperf.session.board import Board, connect
from pytest_espperf.session.context import Context
from pytest_espperf.session.meter import Meter
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.time_budget import PhaseBudget


class Reference:
    """The control board of a session.

    Args:
        board: locked, like the first one.
        context: of the session.

    Attributes:
        lost: why it is not measured any more, "" while it is.
    """

    def __init__(self, board: Board, context: Context) -> None:
        self.board = board
        self.lost = ""
        self._meter = Meter(board, context)

    @classmethod
    def find(cls, context: Context, first: Board) -> Reference | None:
        """Find the board that ``--device-reference`` names; None where it names none.

        Raises:
            UsageError: the name does not resolve, or it is the board that is measured.
            BoardBusyError: another session measures it.
            SimError: the reference device does not start.
        """
        settings = context.settings
        if not settings.device_reference:
            return None
        source = settings.where("device_reference")
        host, port = (SIM, 0) if settings.device_reference == SIM else split_host(settings.device_reference)
        port = settings.device_port if port is None else port
        if host != SIM and first.is_at(device.resolve_target(host, port, source=source).address, port):
            raise UsageError(f"{source}: that is the board that is measured; name another one")
        board = connect(
            settings,
            host,
            port,
            closing=context.closing,
            telemetry=context.telemetry,
            source=source,
            reference=True,
        )
        return cls(board, context)

    def measure(
        self, planned: PlannedPhase, budget: PhaseBudget, left: Callable[[], float]
    ) -> tuple[PlannedPhase, PhaseResult] | None:
        """Measure the same phase on this board; None where that failed, which ends its measuring.

        Args:
            planned: what was just driven on the first board; only planned runs are repeated here.
            budget: of that phase.
            left: seconds left of the reference's own share of the time.
        """
        if self.lost or planned.role != "run":
            return None
        try:
            self.board.probe(min(budget.probe_s, left()))
            measured = self._meter.measure(planned, budget, left=left)
        except DeviceError as error:
            self._lose(planned, str(error))
            return None
        if not measured.report.ok:
            self._lose(planned, "no request succeeded")
            return None
        result = PhaseResult(
            profile=planned.profile.name,
            phase=planned.phase.name,
            passed=not measured.signs,
            fail_reasons=measured.signs,
            report=measured.report,
        )
        return replace(planned, role="reference"), result

    def _lose(self, planned: PlannedPhase, why: str) -> None:
        self.lost = f"the control board {self.board.name} was lost at {planned.cell}: {why}"

    def describe(self) -> dict[str, Any]:
        """Describe the board for the artifact."""
        return {"name": self.board.name, "address": self.board.target.address, "lost": self.lost}
