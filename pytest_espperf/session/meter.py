"""One phase on a board: telemetry and link before and after, and the load in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from pytest_espperf import device, load
from pytest_espperf.device import TelemetryReading
from pytest_espperf.errors import DeviceError, ProbeError
from pytest_espperf.model import metrics
from pytest_espperf.model.artifact import LinkReport, PhaseEvent, PhaseReport
from pytest_espperf.model.figures import moved_counters, number_at
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.session.board import Board
from pytest_espperf.session.context import Context
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.time_budget import LINK_S, TELEMETRY_S, PhaseBudget

MAX_EVENTS = 20
"""Lines of the console, not fatal, that are kept of one phase; the log has them all."""

LEAST_REST = 0.2
"""Share of a pause after a load that comes after its last answer, however late that was."""

STEADY_BYTES = 1024
"""Two readings of the free heap no further apart are of a heap that has settled."""

SURVIVAL_S = 5.0
"""Seconds in which a board has to answer after the first connections without a request."""

KILLED = (
    "the board gives no answer any more after an empty connection (opened to time the link, and closed "
    "without a request)"
)

FRESH_S = 1.0
"""Age up to which a reading of the link behind a phase stands before the next one as well."""


@dataclass(frozen=True)
class LoadEnd:
    """The end of the load of a phase, on the meter's clock.

    Attributes:
        planned_s: when the last request was to be started.
        last_s: when the last answer had come, or was awaited no more.
    """

    planned_s: float
    last_s: float

    def rested_s(self, pause_s: float) -> float:
        """Return when the board has rested for a pause.

        From the planned end on the board works off what it has in hand, and gives back what that held, so the
        pause counts from there. The connections are closed after the last answer only, and a board needs
        some turns of its server's loop to free them: for those a share of the pause is kept.
        """
        return max(self.planned_s + pause_s, self.least_rested_s(pause_s))

    def least_rested_s(self, pause_s: float) -> float:
        """Return when the share of a pause that follows the last answer is over."""
        return self.last_s + LEAST_REST * pause_s


@dataclass(frozen=True)
class Measured:
    """One phase as it was measured.

    Attributes:
        report: its figures.
        samples: every request of it.
        signs: what says that the board was not one and the same all the time, each in words.
        ended: when its load ended; None where that is not known.
    """

    report: PhaseReport
    samples: PhaseSamples
    signs: list[str]
    ended: LoadEnd | None = None


class Meter:
    """Measures phases on one board.

    Args:
        board: the board, locked.
        context: of the session.
    """

    def __init__(self, board: Board, context: Context) -> None:
        self.board = board
        self._settings = context.settings
        self._warmup_s = context.plan.warmup_s
        self._clock = context.clock
        self._sleep = context.sleep
        self._run_load = context.run_load
        self._last_reading: TelemetryReading | None = None
        self._survived = False
        self._link_behind: tuple[device.LinkReading, float] | None = None

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
            on_heartbeat: takes the progress of the phase, every ``heartbeat_s``.
            heartbeat_s: seconds.
            transport: makes the user's own httpx transport in place of our engine.
        """
        board = self.board
        shared = self._take_link_behind()
        # The link's own connects stay out of the counters.
        link_before = self._read_link(left) if shared is None else shared
        before = board.telemetry.read(reset=True, budget_s=TELEMETRY_S / 2)
        began_s = self._clock()
        samples = (self._run_load or load.run_phase)(
            board.target,
            planned.profile.requests_of(planned.phase),
            planned.phase,
            headers=planned.profile.headers,
            login=planned.profile.login,
            request_timeout_s=self._settings.perf_request_timeout,
            warmup_s=self._warmup_s,
            deadline_s=max(0.5, min(left() - TELEMETRY_S / 2, budget.load_s)),
            heartbeat_s=heartbeat_s,
            on_heartbeat=on_heartbeat,
            transport=transport,
        )
        last_s = self._clock()
        planned_s = began_s + self._warmup_s + planned.phase.duration_s
        ended = LoadEnd(planned_s=min(planned_s, last_s), last_s=last_s)
        # Takes our own time, none of the board's, which settles meanwhile.
        figures = metrics.summarise(samples)
        after, link_behind = self._settle(ended, left)
        report = structs.replace(
            figures,
            stats_before=before.stats,
            stats_after=after.stats,
            mem_before=before.memory,
            mem_after=after.memory,
            counters=moved_counters(before.stats, after.stats, board.telemetry.spec.counter_names),
            link=_link_report(link_before, link_behind, shared=shared),
            events=_phase_events(board.heard(), began_s),
        )
        signs = [f"the serial console says {event}" for event in report.events if event.fatal]
        asked = report.requests_total + report.stale_retries
        warm = 1 + self._warmup_s / planned.phase.duration_s
        # A message or an event is no request, which the board would count.
        answered = report.ok if planned.phase.stream is None else 0
        signs += self._signs(before, after, answered=answered, asked=asked * warm)
        return Measured(report, samples, signs, ended)

    def forget(self) -> None:
        """Forget the last readings: the board was given another firmware, and that it booted is no sign."""
        self._last_reading = self._link_behind = None

    def _settle(
        self, ended: LoadEnd, left: Callable[[], float]
    ) -> tuple[TelemetryReading, device.LinkReading | None]:
        """Read the board while it settles, its heap once it has.

        The counters come first: they need no rest, and the link's own connects stay out of them. The heap has
        settled where a reading made before the link's and one behind it agree: the requests for them reach
        the board behind the ends of all connections, and its server has worked those off to answer them.
        """
        telemetry, settings = self.board.telemetry, self._settings
        budget_s = min(max(1.0, left()), 2 * settings.perf_request_timeout)
        began_s = self._clock()

        def ask(read: Callable[..., dict[str, Any]]) -> dict[str, Any]:
            nonlocal budget_s
            asked_s = self._clock()
            found = read(budget_s=budget_s)
            budget_s -= self._clock() - asked_s
            return found

        settle_s = settings.perf_settle_ms / 1e3
        soonest_s, settled_s = ended.least_rested_s(settle_s), ended.rested_s(settle_s)
        stats = ask(telemetry.read_stats)
        memory = ask(telemetry.read_memory) if soonest_s < settled_s else {}
        link = self._read_link(left)
        if link is not None:
            self._link_behind = link, self._clock()
        for then_s in sorted({max(self._clock(), then_s) for then_s in (soonest_s, settled_s)}):
            self._sleep_until(then_s)
            earlier, memory = memory, ask(telemetry.read_memory)
            if _is_steady(earlier, memory):
                break
        reading = TelemetryReading(stats=stats, memory=memory, began_s=began_s, ended_s=self._clock())
        return reading, link

    def _read_link(self, left: Callable[[], float]) -> device.LinkReading | None:
        """Time connects to the idle board; None where the options, or what it does then, switch them off."""
        board = self.board
        if not board.link_probes:
            return None
        path = board.link_path
        reading = device.read_link(board.target, budget_s=min(LINK_S, max(0.0, left())), path=path)
        if not path and not self._survived:
            self._check_survival(left)
        return reading

    def _check_survival(self, left: Callable[[], float]) -> None:
        """See whether the board still answers after the first connections without a request.

        Raises:
            DeviceError: it does not, and does not come back.
        """
        self._survived = True
        board = self.board
        try:
            board.probe(min(SURVIVAL_S, max(1.0, left())), tries=1)
        except ProbeError:
            board.link_probes = False
            try:
                board.probe(max(1.0, left() / 2))
            except ProbeError as error:
                raise DeviceError(f"{KILLED}; pass --perf-link-probes=off: {error}") from None
            board.notes.append(f"{KILLED} for a while: the link is not timed; pass --perf-link-probes=off")

    def _take_link_behind(self) -> device.LinkReading | None:
        """Take the reading behind the last phase, where this one follows it directly."""
        behind, self._link_behind = self._link_behind, None
        if behind is None or self._clock() - behind[1] > FRESH_S:
            return None
        return behind[0]

    def _sleep_until(self, then_s: float) -> None:
        wait_s = then_s - self._clock()
        if wait_s > 0:
            self._sleep(wait_s)

    def _signs(
        self, before: TelemetryReading, after: TelemetryReading, *, answered: int, asked: float
    ) -> list[str]:
        signs = device.reboot_signs(before, after, answered=answered, asked=asked)
        if self._last_reading is not None:
            signs += device.reboot_signs(self._last_reading, before)
        self._last_reading = after
        return [f"the board shows signs of a reboot: {sign}" for sign in signs]


def _phase_events(heard: Sequence[device.ConsoleEvent], began_s: float) -> list[PhaseEvent]:
    """Choose the lines of the console that are kept of a phase: all fatal ones, the first of the others."""
    events = [
        PhaseEvent(
            at_s=round(max(0.0, event.at_s - began_s), 3),
            kind=event.kind,
            text=str(event),
            fatal=event.fatal,
        )
        for event in heard
    ]
    warnings = [event for event in events if not event.fatal]
    return [event for event in events if event.fatal or event in warnings[:MAX_EVENTS]]


def _is_steady(earlier: dict[str, Any], later: dict[str, Any]) -> bool:
    """Whether two readings show the same free heap; False where they show none."""
    pairs = [(number_at(earlier, name), number_at(later, name)) for name in ("internal_free", "psram_free")]
    moved = [abs(now - was) for was, now in pairs if was is not None and now is not None]
    return bool(moved) and max(moved) <= STEADY_BYTES


def _link_report(
    *readings: device.LinkReading | None, shared: device.LinkReading | None
) -> LinkReport | None:
    """Sum up a phase's readings of the link; None where none was made."""
    made = [reading for reading in readings if reading is not None]
    if not made:
        return None
    twice = shared or device.LinkReading()
    return LinkReport(
        connect_ms=[round(ms, 3) for reading in made for ms in reading.connect_ms],
        retransmitted=sum(reading.retransmitted for reading in made),
        failed=sum(reading.failed for reading in made),
        shared_connects=len(twice.connect_ms),
        shared_retransmitted=twice.retransmitted,
        shared_failed=twice.failed,
    )
