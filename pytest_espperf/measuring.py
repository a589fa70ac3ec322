"""One phase on a board: what it and the link to it tell before and after, and the load in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import structs

from pytest_espperf import device, load, metrics
from pytest_espperf.artifact import LinkReport, PhaseEvent, PhaseReport
from pytest_espperf.board import Board
from pytest_espperf.budget import LINK_S, TELEMETRY_S, PhaseBudget
from pytest_espperf.device import TelemetryReading
from pytest_espperf.figures import moved_counters
from pytest_espperf.profiles import Plan, PlannedPhase
from pytest_espperf.samples import PhaseSamples

MAX_EVENTS = 20
"""Lines of the console, not fatal, that are kept of one phase; the log has them all."""


@dataclass(frozen=True)
class Measured:
    """A phase as it was measured.

    Attributes:
        report: its figures.
        samples: every request of it.
        signs: what says that the board was not one and the same all the time, each in words.
    """

    report: PhaseReport
    samples: PhaseSamples
    signs: list[str]


@dataclass
class Meter:
    """Measures phases on one board.

    Attributes:
        board: where.
        plan: what of.
        clock: monotonic seconds.
        sleep: seconds -> None.
    """

    board: Board
    plan: Plan
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _last_reading: TelemetryReading | None = field(default=None, init=False)

    def measure(
        self,
        planned: PlannedPhase,
        budget: PhaseBudget,
        *,
        left: Callable[[], float],
        on_heartbeat: Callable[[load.Progress], None] | None = None,
        heartbeat_s: float = 5.0,
        transport: load.TransportFactory | None = None,
    ) -> Measured:
        """Drive one phase; takes no longer than is left, whatever the board does.

        Args:
            planned: what to drive.
            budget: how the time is shared out.
            left: seconds left for this phase, now.
            on_heartbeat: told how the phase stands, every ``heartbeat_s``.
            heartbeat_s: seconds.
            transport: makes the user's own httpx transport in place of our engine.
        """
        settings, board = self.board.settings, self.board
        # The link's own connects stay out of the counters.
        link_before = device.read_link(board.target, budget_s=min(LINK_S, left()))
        before = board.telemetry.read(reset=True, budget_s=TELEMETRY_S / 2)
        began_s = self.clock()
        samples = load.run_phase(
            board.target,
            planned.profile.requests,
            planned.phase,
            headers=planned.profile.headers,
            request_timeout_s=settings.perf_request_timeout,
            warmup_s=self.plan.warmup_s,
            deadline_s=max(0.5, min(left() - TELEMETRY_S / 2, budget.load_s)),
            heartbeat_s=heartbeat_s,
            on_heartbeat=on_heartbeat,
            transport=transport,
        )
        self.sleep(settings.perf_settle_ms / 1e3)
        after = board.telemetry.read(budget_s=min(max(1.0, left()), 2 * settings.perf_request_timeout))
        link_after = device.read_link(board.target, budget_s=min(LINK_S, max(0.0, left())))
        report = structs.replace(
            metrics.summarise(samples),
            stats_before=before.stats,
            stats_after=after.stats,
            mem_before=before.memory,
            mem_after=after.memory,
            counters=moved_counters(before.stats, after.stats, board.telemetry.spec.counter_names),
            link=_link_report(link_before, link_after),
        )
        events = [
            PhaseEvent(
                at_s=round(max(0.0, event.at_s - began_s), 3),
                kind=event.kind,
                text=str(event),
                fatal=event.fatal,
            )
            for event in board.heard()
        ]
        signs = [f"the serial console says {event}" for event in events if event.fatal]
        signs += self._signs(before, after, report.ok)
        warnings = [event for event in events if not event.fatal]
        kept = [event for event in events if event.fatal or event in warnings[:MAX_EVENTS]]
        return Measured(structs.replace(report, events=kept), samples, signs)

    def forget(self) -> None:
        """The board was given another firmware: that it booted is no sign of anything."""
        self._last_reading = None

    def _signs(self, before: TelemetryReading, after: TelemetryReading, answered: int) -> list[str]:
        signs = device.reboot_signs(before, after, answered=answered)
        if self._last_reading is not None:
            signs += device.reboot_signs(self._last_reading, before)
        self._last_reading = after
        return [f"the board shows signs of a reboot: {sign}" for sign in signs]


def _link_report(*readings: device.LinkReading) -> LinkReport:
    return LinkReport(
        connect_ms=[round(ms, 3) for reading in readings for ms in reading.connect_ms],
        retransmitted=sum(reading.retransmitted for reading in readings),
        failed=sum(reading.failed for reading in readings),
    )
