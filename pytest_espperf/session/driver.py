"""The driver of one board's phases: probe, load, control board, firmware, deadlines. It stores nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from typing import Protocol

from msgspec import structs

from pytest_espperf import load
from pytest_espperf.device import Probe
from pytest_espperf.errors import DeviceError, ProbeError
from pytest_espperf.model.artifact import Capacity, EndedEarly, PhaseResult, RunRole
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.session.bench import Bench
from pytest_espperf.session.board import Board
from pytest_espperf.session.boots import BOOT, time_boots
from pytest_espperf.session.context import Context
from pytest_espperf.session.firmware import FirmwareSwitch
from pytest_espperf.session.hard_timeout import HardTimeout
from pytest_espperf.session.limits import phase_failures, thresholds, worst_failures
from pytest_espperf.session.meter import LoadEnd, Measured
from pytest_espperf.session.own_figures import OwnFigures
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.preflight import Preflight
from pytest_espperf.session.progress import Pace
from pytest_espperf.session.state import SessionState
from pytest_espperf.session.time_budget import DELAYED_ACK_S, PhaseBudget, is_reset


class Sink(Protocol):
    """The other side of a driver: takes what was measured, and knows what earlier sessions say.

    ``state`` is what is known of the session when it is called.
    """

    def add(self, planned: PlannedPhase, result: PhaseResult, *, board: str = "") -> None:
        """Take one measured phase; ``board`` names the control board where it was measured there."""

    def save_samples(self, planned: PlannedPhase, samples: PhaseSamples) -> str:
        """Write the raw samples of a phase; return the file relative to the history, "" without one."""

    def end_phase(self, state: SessionState) -> None:
        """Take note that a phase, and the control board's beside it, were added."""

    def decide_early(self, planned: PlannedPhase, state: SessionState) -> Mapping[str, EndedEarly]:
        """Name the profiles that need no further run, before the first phase of one of their runs."""

    def remembered_capacity(self, state: SessionState) -> Capacity | None:
        """Return the capacity that an earlier session found with this firmware; None where unknown."""


def ended_sentence(profile: str, early: EndedEarly) -> str:
    """Say why a profile is not measured any more: ``python_light: unchanged after 2 of 6 runs``."""
    if early.why == "slower":
        return f"{profile}: slower in each of {early.after} runs ({early.planned} planned)"
    return f"{profile}: unchanged after {early.after} of {early.planned} runs"


class PhaseDriver:
    """Drives phases one by one on one board.

    Args:
        context: of the session.
        sink: takes what was measured.
        bench: the boards, where they are found already.

    Attributes:
        context: of the session.
        bench: the boards.
        state: what is known besides the measured phases; :meth:`known` adds the board's facts of now.
        hard_timeout: the seconds that the session may take.
        own: gathers the firmware's own figures.
    """

    def __init__(self, context: Context, sink: Sink, bench: Bench | None = None) -> None:
        self.context = context
        self.bench = bench or Bench(context)
        self.state = SessionState()
        self.hard_timeout = HardTimeout(context)
        self.own = OwnFigures(context, self.state, lambda: self.board)
        self._sink = sink
        self._preflight = Preflight(context, self.state, self.hard_timeout)
        self._firmware = FirmwareSwitch(context.settings, say=context.say)
        self._pace = Pace(context.plan, context.clock)
        self._redirected = False
        self._last_phase = ""
        self._last_run: tuple[RunRole, int] | None = None
        self._last_end: LoadEnd | None = None

    @property
    def board(self) -> Board | None:
        """The locked board; None until it is found."""
        return self.bench.board

    def known(self) -> SessionState:
        """Return what is known of the session, with the board's facts as they are now."""
        return structs.replace(self.state, facts=self.bench.facts() or self.state.facts)

    def select(self, profiles: Collection[str]) -> None:
        """Name the planned profiles that are to be driven; all of them where none is named."""
        self._preflight.select(profiles)

    def probe(self, budget_s: float = float("inf")) -> Probe:
        """Make sure that the board is still ours, and answers.

        Raises:
            DeviceError: it is not, or does not; the session is stopped.
        """
        board = self._found_board()
        self._check_held(f"noticed after {self._last_phase}" if self._last_phase else "")
        try:
            probe = board.probe(budget_s)
        except ProbeError as error:
            self.state.stop("; ".join(filter(None, (self._held(), str(error), board.last_words()))))
            raise ProbeError(self.state.hard_stop_reason) from None
        self._warn_of_redirect(probe, board)
        return probe

    def run_phase(
        self, planned: PlannedPhase, budget: PhaseBudget, transport: load.TransportFactory | None = None
    ) -> PhaseResult | None:
        """Probe the board, drive one phase, and give it to the sink.

        Args:
            planned: what to drive.
            budget: the seconds it may take, see :meth:`Context.budget`.
            transport: makes the user's own httpx transport, one per client, in place of ours.

        Returns:
            the phase with the absolute budgets it broke; None where its profile has ended early.

        Raises:
            DeviceError: the board could not be measured; the session's verdict will be ``failed``.
        """
        with self.hard_timeout.counted():
            if self._ended_before(planned):
                return None
            self._time_boots(planned)
            began_s = self.context.clock()
            self._prepare(planned, budget, began_s, transport)
            measured = self._measure(planned, budget, began_s, transport)
            result = self._result(planned, measured)
            self._sink.add(planned, result)
            self.own.take_behind(planned, result.report)
            self._measure_reference(planned, budget)
            self._last_phase = planned.label(self.context.plan.runs)
            self._sink.end_phase(self.known())
            self._check_held(f"noticed during {self._last_phase}")
            self._check_hard_timeout(planned)
            if not result.report.ok:
                raise DeviceError(f"{self._last_phase}: {result.fail_reasons[0]}")
            return result

    def listen_between(self) -> None:
        """Take what the console said since the last phase: a death there is the session's, not a phase's."""
        said = self.board.last_words() if self.board is not None else ""
        if said and self._last_phase:
            self.state.console.append(f"after {self._last_phase}, {said}")

    def since_load_s(self) -> float:
        """Seconds since the last load ended; 0 where that is not known."""
        return self.context.clock() - self._last_end.last_s if self._last_end is not None else 0.0

    def pause(self, seconds: float) -> None:
        """Wait before profiles are measured again, no longer than the session may take."""
        if seconds:
            self.context.sleep(min(seconds, self.hard_timeout.left_s))

    # --- before the load -------------------------------------------------------------------------

    def _found_board(self) -> Board:
        assert self.board is not None
        return self.board

    def _ended_before(self, planned: PlannedPhase) -> bool:
        """Whether a planned phase is not needed any more; decided before each run of its profile."""
        name, ended = planned.profile.name, self.state.ended
        if planned.role != "run":
            return False
        if name not in ended and planned.phase == planned.profile.phases[0]:
            found = self._sink.decide_early(planned, self.known())
            ended |= found
            for profile, early in found.items():
                self._pace.drop(profile)
                self.context.say(ended_sentence(profile, early))
        return name in ended

    def _prepare(
        self,
        planned: PlannedPhase,
        budget: PhaseBudget,
        began_s: float,
        transport: load.TransportFactory | None,
    ) -> None:
        """Bring the board into the state in which the load may begin.

        Raises:
            DeviceError: it does not get there, or no time is left.
        """
        self.own.take_printed()
        if self._last_run not in {None, (planned.role, planned.run)}:
            self._rest()
        self._last_run = (planned.role, planned.run)
        self._check_hard_timeout(planned)
        self.listen_between()
        switched = self._switch_firmware(planned)
        self._pace.begin(planned)
        try:
            self.probe(min(budget.probe_s, self.hard_timeout.left_s))
        except ProbeError:
            self._check_hard_timeout(planned)
            raise
        if planned.role == "run":
            self._look_before_load(budget, budget.probe_s - (self.context.clock() - began_s), transport)
        if switched:
            self._found_board().heard()  # a board that was flashed has booted
            self.own.switched(planned.role)
        else:
            self.listen_between()

    def _rest(self) -> None:
        """Let the board rest between two runs; what has passed since the last load ended counts."""
        pause_s, now_s = self.context.settings.perf_between_runs_ms / 1e3, self.context.clock()
        rested_s = now_s + pause_s if self._last_end is None else self._last_end.rested_s(pause_s)
        if rested_s > now_s:
            self.context.sleep(rested_s - now_s)

    def _switch_firmware(self, planned: PlannedPhase) -> bool:
        if not self._firmware.must_switch(planned.role):
            return False
        board = self._found_board()
        console = board.console
        try:
            # The flashing tool may need the very port.
            with console.released() if console is not None else nullcontext():
                left_s = self.hard_timeout.left_s
                self._firmware.ensure(planned.role, within_s=left_s, target=board.target)
                self.bench.meter.forget()
        except DeviceError as error:
            self._check_hard_timeout(planned)
            self.state.stop(str(error))
            raise
        return True

    def _time_boots(self, planned: PlannedPhase) -> None:
        """Reset the board a few times before the first load of a session, where the options say how.

        Raises:
            DeviceError: the command fails, or the board does not come back; the session is stopped.
        """
        settings = self.context.settings
        if not is_reset(settings) or self.state.booted or planned.role != "run":
            return
        self._check_hard_timeout(planned)
        self.state.booted = True
        board = self._found_board()
        try:
            boots = time_boots(board, settings, within_s=self.hard_timeout.left_s, say=self.context.say)
        except DeviceError as error:
            self._check_hard_timeout(planned)
            self.state.stop(str(error))
            raise
        for milliseconds in boots:
            self.own.add(BOOT, milliseconds, unit="ms", source="boot")
        self.bench.meter.forget()
        board.heard()  # that it booted is no news

    def _look_before_load(
        self, budget: PhaseBudget, probe_left_s: float, transport: load.TransportFactory | None
    ) -> None:
        """Find out, once in a session, what the board answers, and how many clients it serves.

        Raises:
            DeviceError: a path does not answer as it should; the session is stopped.
        """
        board, preflight = self._found_board(), self._preflight
        profiles = preflight.profiles()
        preflight.ask_paths(board, profiles, probe_left_s, transport)
        if transport is not None:
            return
        if preflight.must_ask_for_capacity:
            known = self._sink.remembered_capacity(self.known())
            if preflight.ask_for_capacity(board, known):
                # Its answer comes behind the ends of all those connections.
                self.probe(min(budget.probe_s, self.hard_timeout.left_s))
        board.find_delayed_acks(profiles, min(DELAYED_ACK_S, self.hard_timeout.left_s))

    # --- the load ----------------------------------------------------------------------------------

    def _measure(
        self,
        planned: PlannedPhase,
        budget: PhaseBudget,
        began_s: float,
        transport: load.TransportFactory | None,
    ) -> Measured:
        context = self.context
        try:
            measured = self.bench.meter.measure(
                planned,
                budget,
                left=lambda: min(budget.inner_s - (context.clock() - began_s), self.hard_timeout.left_s),
                on_heartbeat=lambda progress: context.show_running(self._pace.line(planned, progress)),
                heartbeat_s=context.heartbeat_s,
                transport=transport,
            )
        except DeviceError as error:
            self.state.stop(str(error))
            raise
        finally:
            context.show_running("")
        if measured.report.never_answered and measured.report.ok:
            # The capacity is another one than was remembered, or was not asked for.
            self._preflight.find_missing_capacity(self._found_board())
        self._last_end = measured.ended
        self._pace.end(planned)
        return measured

    def _result(self, planned: PlannedPhase, measured: Measured) -> PhaseResult:
        """Make the result of a phase, with the budgets that it broke."""
        kept = self.context.settings.perf_save_samples
        file = self._sink.save_samples(planned, measured.samples) if kept else ""
        report = structs.replace(measured.report, samples_file=file)
        limits = thresholds(self.context.settings, planned.profile)
        reasons = phase_failures(report, limits, planned.profile.requests) + measured.signs
        return PhaseResult(
            profile=planned.profile.name,
            phase=planned.phase.name,
            passed=not reasons,
            fail_reasons=reasons,
            worst_reasons=worst_failures(report, limits),
            report=report,
        )

    def _measure_reference(self, planned: PlannedPhase, budget: PhaseBudget) -> None:
        reference, clock = self.bench.reference, self.context.clock
        if reference is None or reference.lost:
            return
        ends_s = clock() + min(budget.reference_s, self.hard_timeout.left_s)
        measured = reference.measure(planned, budget, lambda: max(0.0, ends_s - clock()))
        if measured is not None:
            self._sink.add(*measured, board=reference.board.name)
        elif reference.lost:
            self.context.say(f"WARNING: {reference.lost}")

    # --- what ends a session -------------------------------------------------------------------------

    def _held(self) -> str:
        """Say that the lab has taken the board back; "" while it is ours."""
        return self.context.place.held() if self.context.place is not None else ""

    def _check_held(self, when: str) -> None:
        """Stop measuring a board that the lab has taken back.

        Raises:
            DeviceError: it has.
        """
        if lost := self._held():
            self.state.stop(f"{lost} ({when})" if when else lost)
            raise DeviceError(self.state.hard_stop_reason)

    def _check_hard_timeout(self, planned: PlannedPhase) -> None:
        """Stop where no time is left; that comes before what ended the phase, as a probe without time.

        Raises:
            DeviceError: none is left.
        """
        if reason := self.hard_timeout.reason(planned, self.context.plan.runs):
            self.state.hard_stop_reason = reason
            raise DeviceError(reason)

    def _warn_of_redirect(self, probe: Probe, board: Board) -> None:
        """Say once where the probe path leads to."""
        if probe.redirect is not None and not self._redirected:
            where = f"{board.url}{self.context.settings.perf_probe_path} answers {probe.status}"
            self.context.say(
                f"WARNING: {where}, a redirect to {probe.redirect.url}, which requests do not follow: "
                f"measure {probe.redirect.measure}"
            )
            self._redirected = True
