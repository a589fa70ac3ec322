"""How a session reaches its boards: the one that is measured, and a reference beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_espperf.config.settings import SIM, Settings
from pytest_espperf.device import TelemetrySpec
from pytest_espperf.errors import UsageError
from pytest_espperf.session.board import Board, BoardFacts, connect
from pytest_espperf.session.identity import asked_for
from pytest_espperf.session.meter import Meter
from pytest_espperf.session.plan import SessionPlan
from pytest_espperf.session.reference import Reference

if TYPE_CHECKING:
    from pytest_espperf.lab import LabBoard


@dataclass
class Reach:
    """The boards of one session, once they are found.

    Attributes:
        settings: the options in force.
        plan: what is driven.
        telemetry: where the boards tell their figures.
        log: the file that the board's console is written to.
        closing: ends what was started and releases what was taken.
        clock: monotonic seconds.
        sleep: seconds -> None.
        place: where a lab has the board.
        session: id of the session that they are measured for.
        board: the locked board; None until it is found.
        reference: the second one, where one was named.
    """

    settings: Settings
    plan: SessionPlan
    telemetry: TelemetrySpec
    log: Path
    closing: ExitStack
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    place: LabBoard | None = None
    session: str = ""
    board: Board | None = field(default=None, init=False)
    reference: Reference | None = field(default=None, init=False)
    _meter: Meter | None = field(default=None, init=False)

    @property
    def meter(self) -> Meter:
        """Measures phases on the board, which must have been found."""
        assert self._meter is not None
        return self._meter

    def find_named(self) -> None:
        """Reach for the board that the options name, if they name one.

        Raises:
            UsageError: the name does not resolve, or two ports are given.
            BoardBusyError: another session measures it.
            SimError: the reference device does not start.
            DeviceError: the lab does not hand the board out.
        """
        if self.place is not None:
            self.closing.callback(self.place.close)
            self.find(*self.place.locate(), source=self.settings.where("device_lab"))
            return
        asked = asked_for(self.settings)
        if asked is None:
            return
        host, port = asked
        explicit = "device_port" in self.settings.sources
        if host != SIM and explicit and port != self.settings.device_port:
            raise UsageError(
                f"{self.settings.where('device_ip')} says port {port} and "
                f"{self.settings.where('device_port')} says {self.settings.device_port}: give one of them"
            )
        self.find(host, port)

    def find(self, host: str, port: int, *, source: str = "") -> Board:
        """The locked board at an address; the first call takes the lock, the same address gives it again.

        Raises:
            UsageError: the name does not resolve, or it is another board than before.
            BoardBusyError: another session measures this board.
        """
        if self.board is not None:
            if not self.board.is_at(host, port):
                raise UsageError(
                    f"one session measures one board: {host}:{port} was asked for after {self.board.url}"
                )
            return self.board
        self.board = connect(
            self.settings,
            host,
            port,
            closing=self.closing,
            telemetry=self.telemetry,
            source=source,
            session=self.session,
        )
        self._meter = Meter(self.board, self.plan, self.clock, self.sleep)
        self.board.listen(self.log)
        if self.board.console is not None:
            self.closing.callback(self.board.console.close)
        self.reference = Reference.find(
            self.settings,
            self.board,
            self.plan,
            telemetry=self.telemetry,
            closing=self.closing,
            clock=self.clock,
            sleep=self.sleep,
        )
        return self.board

    def facts(self) -> BoardFacts | None:
        """What an artifact says of the board, as it stands now; None before it was found."""
        if self.board is None:
            return None
        described = self.board.describe()
        if self.reference is not None:
            described["reference"] = self.reference.describe()
        if self.place is not None:
            described["place"] = self.place.describe()
        return BoardFacts(identity=self.board.identity, name=self.board.name, description=described)
