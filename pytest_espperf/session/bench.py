"""The bench of a session: the board that is measured, and a reference board beside it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from pytest_espperf.errors import UsageError
from pytest_espperf.session.board import Board, BoardFacts, connect
from pytest_espperf.session.context import Context
from pytest_espperf.session.identity import address_of
from pytest_espperf.session.meter import Meter
from pytest_espperf.session.reference import Reference


class Bench:
    """The boards of one session, once they are found; nothing is connected before.

    Attributes:
        board: the locked board; None until it is found.
        reference: the reference board, where one was named.
    """

    def __init__(self, context: Context) -> None:
        self.board: Board | None = None
        self.reference: Reference | None = None
        self._context = context
        self._meter: Meter | None = None

    @property
    def meter(self) -> Meter:
        """The meter of the board, which must have been found."""
        assert self._meter is not None
        return self._meter

    def find_named(self) -> None:
        """Find the board that the options name, if they name one.

        Raises:
            UsageError: the name does not resolve, or two ports are given.
            BoardBusyError: another session measures it.
            SimError: the reference device does not start.
            DeviceError: the lab does not hand the board out.
        """
        settings, place = self._context.settings, self._context.place
        if place is not None:
            self._context.closing.callback(place.close)
            self.find(*place.locate(), source=settings.where("device_lab"))
            return
        asked = address_of(settings)
        if asked is not None:
            self.find(*asked)

    def find(self, host: str, port: int, *, source: str = "") -> Board:
        """Return the locked board at an address; the first call takes the lock, later ones return it again.

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
        context = self._context
        self.board = connect(
            context.settings,
            host,
            port,
            closing=context.closing,
            telemetry=context.telemetry,
            source=source,
            session=context.session_id,
        )
        self._meter = Meter(self.board, context)
        self.board.listen(context.folder / f"serial_{context.session_id}.log")
        if self.board.console is not None:
            context.closing.callback(self.board.console.close)
        self.reference = Reference.find(context, self.board)
        return self.board

    def facts(self) -> BoardFacts | None:
        """Describe the board for the artifact, as it is now; None before it was found."""
        if self.board is None:
            return None
        described = self.board.describe()
        if self.reference is not None:
            described["reference"] = self.reference.describe()
        if self._context.place is not None:
            described["place"] = self._context.place.describe()
        return BoardFacts(identity=self.board.identity, name=self.board.name, description=described)


def check_reachable(context: Context) -> None:
    """Find the board that the options name, and give it back at once.

    Raises:
        EspperfError: see :meth:`Bench.find_named`.
    """
    with ExitStack() as closing:
        Bench(replace(context, closing=closing)).find_named()
