"""The facts about a session besides its measured phases."""

from __future__ import annotations

import msgspec

from pytest_espperf.model.artifact import Capacity, EndedEarly, OwnFigure, PathAnswer
from pytest_espperf.model.own_figures import add_figures
from pytest_espperf.session.board import BoardFacts
from pytest_espperf.session.plan import PlannedPhase


class SessionState(msgspec.Struct, kw_only=True):
    """The facts about a session that grow while its phases are driven; workers send theirs as JSON.

    Attributes:
        facts: description of the board; None before it was reached.
        hard_stop_reason: why no later phase is driven, "" while phases are driven.
        ended: the profiles that ended before their planned runs.
        console: fatal lines of the console between phases, each in words.
        capacity: connections that the board serves at once, where that is known.
        answers: what the paths answered before the load, by profile.
        figures: the firmware's own figures, by name; a worker sends what is new.
        gauges: the gauges that were asked for behind a phase, each with its path in the telemetry.
        booted: whether its boots were timed.
    """

    facts: BoardFacts | None = None
    hard_stop_reason: str = ""
    ended: dict[str, EndedEarly] = {}
    console: list[str] = []
    capacity: Capacity | None = None
    answers: dict[str, dict[str, PathAnswer]] = {}
    figures: dict[str, OwnFigure] = {}
    gauges: dict[str, str] = {}
    booted: bool = False

    def stop(self, reason: str) -> None:
        """End the measuring for good; the first reason stands."""
        self.hard_stop_reason = self.hard_stop_reason or reason

    def wants(self, planned: PlannedPhase) -> bool:
        """Whether a phase counts: no run behind the end of its profile does, whoever measured it."""
        ended = self.ended.get(planned.profile.name)
        return planned.role != "run" or ended is None or planned.run <= ended.after

    def merge(self, later: SessionState) -> None:
        """Add what another process found out later."""
        self.facts = later.facts or self.facts
        self.stop(later.hard_stop_reason)
        self.ended |= later.ended
        self.console += later.console
        self.capacity = later.capacity or self.capacity
        self.answers |= later.answers
        self.gauges |= later.gauges
        self.booted = self.booted or later.booted
        add_figures(self.figures, later.figures)
