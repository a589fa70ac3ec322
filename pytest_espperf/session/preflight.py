"""Checks before the load: connections that this computer may have, answers of the paths, clients served."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pytest_espperf import load
from pytest_espperf.errors import DeviceError, UsageError
from pytest_espperf.load.limits import raise_file_limit
from pytest_espperf.model.artifact import Capacity
from pytest_espperf.model.capacity import sentence
from pytest_espperf.model.workload import Profile
from pytest_espperf.session.answers import Asker
from pytest_espperf.session.board import Board
from pytest_espperf.session.capacity import clients_by_phase, find_capacity, most_clients
from pytest_espperf.session.context import Context
from pytest_espperf.session.hard_timeout import HardTimeout
from pytest_espperf.session.state import SessionState


def make_room_for_clients(context: Context) -> None:
    """Make sure that this process may have as many connections as there are clients.

    Raises:
        UsageError: this computer has not file descriptors enough.
    """
    settings = context.settings
    for profile in context.plan.profiles:
        for phase in profile.phases:
            if why := raise_file_limit(phase.most_connections):
                option = f"perf_{phase.name}_clients"
                source = (
                    settings.where(option) if option in settings.sources else f"{profile.name}:{phase.name}"
                )
                # On the standard output, too, where logs of a build are read; the error goes elsewhere.
                context.say("this computer has too few file descriptors for the clients")
                raise UsageError(f"{source}: {why}")


def check_packages(context: Context) -> None:
    """Make sure that what the phases need is installed.

    Raises:
        UsageError: a package is missing.
    """
    for profile in context.plan.profiles:
        for phase in profile.phases:
            if why := load.what_is_missing(phase):
                raise UsageError(f"{profile.source}: phase {phase.name!r} of kind {phase.kind!r} {why}")


class Preflight:
    """Asks a board, once in a session each, what has to be known before it is loaded.

    Args:
        context: of the session.
        state: takes the answers and the capacity.
        hard_timeout: bounds each question.
    """

    def __init__(self, context: Context, state: SessionState, hard_timeout: HardTimeout) -> None:
        self._context = context
        self._state = state
        self._hard_timeout = hard_timeout
        self._selected: Collection[str] = ()
        self._asked_for_capacity = self._found_capacity = False

    def select(self, profiles: Collection[str]) -> None:
        """Name the planned profiles that are to be driven; all of them where none is named."""
        self._selected = profiles

    def profiles(self) -> list[Profile]:
        """Return the profiles that are to be driven."""
        planned = self._context.plan.profiles
        return [profile for profile in planned if profile.name in (self._selected or {profile.name})]

    def ask_paths(
        self,
        board: Board,
        profiles: Sequence[Profile],
        budget_s: float,
        transport: load.TransportFactory | None,
    ) -> None:
        """Ask for each path that was not asked for; the board has just answered the probe.

        Raises:
            DeviceError: one of them does not answer as it should; the session is stopped.
        """
        context, state = self._context, self._state
        unasked = [profile for profile in profiles if profile.name not in state.answers]
        if not unasked:
            return
        asker = Asker(
            board.target, context.settings.perf_request_timeout, transport, context.clock, context.sleep
        )
        asker.ask(unasked, min(budget_s, self._hard_timeout.left_s))
        state.answers |= asker.answers
        if asker.reason:
            state.stop("; ".join(filter(None, (asker.reason, board.last_words()))))
            raise DeviceError(state.hard_stop_reason)

    @property
    def must_ask_for_capacity(self) -> bool:
        """Whether it is still open if the board serves all clients of the plan at once."""
        return not self._asked_for_capacity and most_clients(self._context.plan) >= 2

    def ask_for_capacity(self, board: Board, known: Capacity | None) -> bool:
        """Find out whether the board serves all clients; the board has just answered.

        A capacity that is known is believed where it says that all are served: clients that get nothing all
        the same are seen in the first phase.

        Args:
            board: the board.
            known: what an earlier session found with the same firmware.

        Returns:
            whether connections were opened for it, behind whose ends the board answers next.
        """
        self._asked_for_capacity = True
        if known is not None and not known.ended and known.connections >= most_clients(self._context.plan):
            self._state.capacity = known
            return False
        self.find_capacity(board, known)
        return True

    def find_missing_capacity(self, board: Board) -> None:
        """Find out how many connections the board serves, where this session has not yet."""
        if not self._found_capacity:
            self.find_capacity(board)

    def find_capacity(self, board: Board, known: Capacity | None = None) -> None:
        """Find out how many connections the board serves at once, and warn where clients get nothing."""
        context = self._context
        self._asked_for_capacity = self._found_capacity = True
        found = find_capacity(
            board, context.plan, known=known, budget_s=self._hard_timeout.left_s, clock=context.clock
        )
        self._state.capacity = found
        starved = sentence(found, clients_by_phase(context.plan)) if found is not None else ""
        if starved:
            context.say(f"WARNING: {starved}")
