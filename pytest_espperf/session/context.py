"""The fixed surroundings of one board's session, handed to each of its parts."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_espperf.config.profiles import load_profiles
from pytest_espperf.config.settings import Settings
from pytest_espperf.config.telemetry import load_telemetry
from pytest_espperf.device import TelemetrySpec
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.session.plan import PlannedPhase, SessionPlan, make_plan
from pytest_espperf.session.time_budget import PhaseBudget, phase_budget

if TYPE_CHECKING:
    from pytest_espperf.lab import LabBoard

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Context:
    """The fixed surroundings of one board's session.

    Attributes:
        settings: options in force.
        root: root directory of the project.
        plan: phases to drive.
        telemetry: where the board shows its figures.
        folder: history folder, where logs and samples go.
        session_id: unique id of the session; a worker has that of the controller's session.
        boards: number of boards of the run.
        place: the board's place in a lab, if it has one.
        say: takes one line for the user.
        watch: takes the line about the running phase, and "" when the phase is over; ``say`` without one.
        watch_s: seconds between two such lines, at most those of the heartbeat.
        clock: monotonic seconds.
        sleep: seconds -> None.
        began_s: start of the session on that clock.
        closing: ends what was started and releases what was taken.
        run_load: drives a load in place of :func:`pytest_espperf.load.run_phase`; None for that one.
    """

    settings: Settings
    root: Path
    plan: SessionPlan
    telemetry: TelemetrySpec
    folder: Path
    session_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    boards: int = 1
    place: LabBoard | None = None
    say: Say = print
    watch: Say | None = None
    watch_s: float = float("inf")
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    began_s: float
    closing: ExitStack = field(default_factory=ExitStack)
    run_load: Callable[..., PhaseSamples] | None = None

    def budget(self, planned: PlannedPhase) -> PhaseBudget:
        """Return the seconds that the test item of one phase may take."""
        return phase_budget(self.settings, self.plan, planned)

    def show_running(self, line: str) -> None:
        """Show how the running phase stands; "" when it is over."""
        if self.watch is not None:
            self.watch(line)
        elif line:
            self.say(line)

    @property
    def heartbeat_s(self) -> float:
        """Seconds between two lines about the running phase."""
        return min(self.watch_s, self.settings.perf_heartbeat_ms / 1e3)


def make_context(
    settings: Settings,
    root: Path,
    *,
    board: str = "",
    clock: Callable[[], float] = time.monotonic,
    **more: Any,
) -> Context:
    """Read the project's tables and plan the session of one board.

    Args:
        settings: options in force.
        root: root directory of the project.
        board: name of the board in a run with several.
        clock: monotonic seconds.
        more: further fields of :class:`Context`.

    Raises:
        UsageError: a bad table, or an unknown profile.
    """
    return Context(
        settings=settings,
        root=root,
        plan=make_plan(settings, load_profiles(root), board),
        telemetry=load_telemetry(root),
        clock=clock,
        began_s=clock(),
        **more,
    )
