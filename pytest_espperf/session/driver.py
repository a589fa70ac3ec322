"""What drives the phases of one board: probe, load, reference, firmware, deadlines. It keeps nothing."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from pytest_espperf import load
from pytest_espperf.config.profiles import load_profiles
from pytest_espperf.config.settings import Settings
from pytest_espperf.config.telemetry import load_telemetry
from pytest_espperf.device import Probe
from pytest_espperf.errors import DeviceError, HistoryError, ProbeError, UsageError
from pytest_espperf.gate.capacity import sentence
from pytest_espperf.history import save_samples
from pytest_espperf.load.limits import raise_file_limit
from pytest_espperf.model.artifact import Capacity, EndedEarly, PathAnswer, PhaseResult, RunRole
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import Profile
from pytest_espperf.session.answers import Asker
from pytest_espperf.session.board import Board
from pytest_espperf.session.budget import DELAYED_ACK_S, PhaseBudget, phase_budget
from pytest_espperf.session.capacity import clients_by_phase, find_capacity, most_clients
from pytest_espperf.session.firmware import FirmwareSwitch
from pytest_espperf.session.limits import phase_failures, thresholds, worst_failures
from pytest_espperf.session.meter import LoadEnd
from pytest_espperf.session.plan import PlannedPhase, make_plan
from pytest_espperf.session.progress import Pace
from pytest_espperf.session.reach import Reach
from pytest_espperf.session.reference import Reference

if TYPE_CHECKING:
    from pytest_espperf.lab import LabBoard

Say = Callable[[str], None]


def ended_sentence(profile: str, early: EndedEarly) -> str:
    """Say why a profile is not measured any more: ``python_light: unchanged after 2 of 6 runs``."""
    if early.why == "slower":
        return f"{profile}: slower in each of {early.after} runs ({early.planned} planned)"
    return f"{profile}: unchanged after {early.after} of {early.planned} runs"


class Driver(ABC):
    """Drives phases one by one on one board; whoever derives from it keeps what was measured.

    Args:
        settings: the options in force.
        root: the project's root directory.
        boards: how many boards the run has.
        board: its name where a run has several.
        place: where a lab has it.
        say: takes one line for the user.
        watch: takes how the running phase stands, and "" when it is over; ``say`` where not given.
        watch_s: seconds between two such lines; the heartbeat's where not given.
        clock: monotonic seconds.
        sleep: seconds -> None.
    """

    def __init__(
        self,
        settings: Settings,
        root: Path,
        *,
        boards: int = 1,
        board: str = "",
        place: LabBoard | None = None,
        say: Say = print,
        watch: Say | None = None,
        watch_s: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self.plan = make_plan(settings, load_profiles(root), board)
        self.hard_stop_reason = ""
        self.is_open = False
        self.ended: dict[str, EndedEarly] = {}
        self.said_between: list[str] = []
        self.capacity: Capacity | None = None
        self.answers: dict[str, dict[str, PathAnswer]] = {}
        self._boards = boards
        self._root = root
        self._place = place
        self._telemetry = load_telemetry(root)
        self._reach: Reach | None = None
        self._say = say
        self._watch = watch or (lambda line: say(line) if line else None)
        self._watch_s = min(watch_s, settings.perf_heartbeat_ms / 1e3)
        self._pace = Pace(self.plan, clock)
        self._clock = clock
        self._sleep = sleep
        self._spent_s = 0.0
        self._since_s = clock() if boards == 1 else None
        self._redirected = False
        self._last_phase = ""
        self._last_round: tuple[RunRole, int] | None = None
        self._last_end: LoadEnd | None = None
        self._capacity_asked = self._capacity_found = False
        self._selected: Collection[str] = ()
        self._closing = ExitStack()
        self._firmware = FirmwareSwitch(settings, say=say)

    # --- what is to be said by those who keep ---------------------------------------------------

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The history folder, where logs and samples go."""

    @property
    @abstractmethod
    def session_id(self) -> str:
        """Of the session that this is measured for."""

    @abstractmethod
    def keep(self, planned: PlannedPhase, result: PhaseResult, *, board: str = "") -> None:
        """Take one measured phase; ``board`` names the reference board where it was measured there."""

    @abstractmethod
    def phase_ended(self) -> None:
        """A phase and what stood beside it were kept."""

    @abstractmethod
    def decide_early(self, planned: PlannedPhase) -> Mapping[str, EndedEarly]:
        """The profiles that need no further planned round, before this one of one of them begins."""

    @abstractmethod
    def remembered_capacity(self) -> Capacity | None:
        """How many connections the board served at once when it was last measured; None where unknown."""

    # --- the board ------------------------------------------------------------------------------

    def reach(self) -> Reach:
        """How the boards are reached; made on first use, nothing is connected by that."""
        if self._reach is None:
            self._reach = Reach(
                self.settings,
                self.plan,
                self._telemetry,
                self.folder / f"serial_{self.session_id}.log",
                self._closing,
                self._clock,
                self._sleep,
                self._place,
                self.session_id,
            )
        return self._reach

    @property
    def board(self) -> Board | None:
        """The locked board; None until it is found."""
        return self._reach.board if self._reach is not None else None

    def connect(self, host: str, port: int, *, source: str = "") -> Board:
        """The locked board at an address, see :meth:`pytest_espperf.session.reach.Reach.find`."""
        return self.reach().find(host, port, source=source)

    def close(self) -> None:
        """Give back the lock and the checkpoint's slot, end the reference device; idempotent."""
        self._closing.close()

    # --- one phase ------------------------------------------------------------------------------

    def planned(self) -> list[PlannedPhase]:
        """Every phase, in the order it is to be driven."""
        return self.plan.phases()

    def make_room(self) -> None:
        """Make sure that this process may have as many connections as there are clients.

        Raises:
            UsageError: this computer has not file descriptors enough.
        """
        for profile in self.plan.profiles:
            for phase in profile.phases:
                if why := raise_file_limit(phase.clients):
                    option = f"perf_{phase.name}_clients"
                    given = option in self.settings.sources
                    source = self.settings.where(option) if given else f"{profile.name}:{phase.name}"
                    # On the standard output, too, where logs of a build are read; the error goes elsewhere.
                    self._say("this computer has too few file descriptors for the clients")
                    raise UsageError(f"{source}: {why}")

    def budget(self, planned: PlannedPhase) -> PhaseBudget:
        """The seconds that one phase's test item may take."""
        return phase_budget(self.settings, self.plan, planned)

    def probe(self, budget_s: float = float("inf")) -> Probe:
        """Make sure that the board is still ours, and answers.

        Raises:
            DeviceError: it is not, or does not; the session is stopped.
        """
        assert self.board is not None
        self._check_held(f"noticed after {self._last_phase}" if self._last_phase else "")
        try:
            return self._warn_of_redirect(self.board.probe(budget_s))
        except ProbeError as error:
            held = self._place.held() if self._place is not None else ""
            self.stop("; ".join(filter(None, (held, str(error), self.board.last_words()))))
            raise ProbeError(self.hard_stop_reason) from None

    def _warn_of_redirect(self, probe: Probe) -> Probe:
        """Say once where the probe path leads to."""
        if probe.redirect is not None and not self._redirected:
            assert self.board is not None
            where = f"{self.board.url}{self.settings.perf_probe_path} answers {probe.status}"
            self._say(
                f"WARNING: {where}, a redirect to {probe.redirect.url}, which requests do not follow: "
                f"measure {probe.redirect.measure}"
            )
            self._redirected = True
        return probe

    def _check_held(self, when: str) -> None:
        """A board that the lab has taken back is measured no more."""
        lost = self._place.held() if self._place is not None else ""
        if lost:
            self.stop(f"{lost} ({when})" if when else lost)
            raise DeviceError(self.hard_stop_reason)

    def stop(self, reason: str) -> None:
        """End the session's measuring for good: no later phase is driven."""
        self.hard_stop_reason = self.hard_stop_reason or reason

    @property
    def spent_s(self) -> float:
        """Seconds that count against ``--perf-hard-timeout-s``.

        Of one board all since the session was made; of several those in the board's own phases, since it
        has to wait while others are measured.
        """
        return self._spent_s + (self._clock() - self._since_s if self._since_s is not None else 0.0)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._since_s is not None:
            yield
            return
        self._since_s = self._clock()
        try:
            yield
        finally:
            self._spent_s, self._since_s = self.spent_s, None

    def run_phase(
        self, planned: PlannedPhase, budget: PhaseBudget, transport: load.TransportFactory | None = None
    ) -> PhaseResult | None:
        """Probe the board, drive one phase, keep it.

        Args:
            planned: what to drive.
            budget: the seconds it may take, see :meth:`budget`.
            transport: makes the user's own httpx transport, one per client, in place of ours.

        Returns:
            the phase with the absolute budgets it broke; None where the session has ended early.

        Raises:
            DeviceError: the board could not be measured; the session's verdict will be ``failed``.
        """
        with self._counted():
            return self._run_phase(planned, budget, transport)

    def _run_phase(
        self, planned: PlannedPhase, budget: PhaseBudget, transport: load.TransportFactory | None
    ) -> PhaseResult | None:
        reach = self.reach()
        began = self._clock()
        if self._ended_before(planned):
            return None
        if self._last_round not in {None, (planned.role, planned.run)}:
            self._rest()
        self._last_round = (planned.role, planned.run)
        self._check_hard_timeout(planned)
        self.listen_between()
        switched = self._switch_firmware(planned)
        self._pace.begin(planned)
        try:
            self.probe(min(budget.probe_s, self._hard_timeout_left()))
        except ProbeError:
            self._check_hard_timeout(planned)
            raise
        if planned.role == "run":
            self._look_before_load(budget, budget.probe_s - (self._clock() - began), transport)
        if switched:
            self._expect_boot()
        else:
            self.listen_between()
        try:
            measured = reach.meter.measure(
                planned,
                budget,
                left=lambda: min(budget.inner_s - (self._clock() - began), self._hard_timeout_left()),
                on_heartbeat=lambda progress: self._watch(self._pace.line(planned, progress)),
                heartbeat_s=self._watch_s,
                transport=transport,
            )
        except DeviceError as error:
            self.stop(str(error))
            raise
        self._watch("")
        if measured.report.never_answered and measured.report.ok and not self._capacity_found:
            self._find_capacity()  # it is another one than was remembered, or was not asked for
        self._last_end = measured.ended
        self._pace.end(planned)
        report = structs.replace(measured.report, samples_file=self._save_samples(planned, measured.samples))
        limits = thresholds(self.settings, planned.profile)
        reasons = phase_failures(report, limits) + measured.signs
        result = PhaseResult(
            profile=planned.profile.name,
            phase=planned.phase.name,
            passed=not reasons,
            fail_reasons=reasons,
            worst_reasons=worst_failures(report, limits),
            report=report,
        )
        self.keep(planned, result)
        self._measure_reference(planned, budget, reach.reference)
        self._last_phase = planned.label(self.plan.runs)
        self.phase_ended()
        self._check_held(f"noticed during {self._last_phase}")
        self._check_hard_timeout(planned)
        if not report.ok:
            raise DeviceError(f"{planned.label(self.plan.runs)}: {reasons[0]}")
        return result

    def _look_before_load(
        self, budget: PhaseBudget, probe_left_s: float, transport: load.TransportFactory | None
    ) -> None:
        """Find out, once in a session, what the board answers, and how many clients it serves.

        Raises:
            DeviceError: a path does not answer as it should; the session is stopped.
        """
        assert self.board is not None
        profiles = [
            profile for profile in self.plan.profiles if profile.name in (self._selected or {profile.name})
        ]
        self._ask_paths(profiles, probe_left_s, transport)
        if transport is None:
            self._look_at_capacity(budget)
            self.board.find_delayed_acks(profiles, min(DELAYED_ACK_S, self._hard_timeout_left()))

    def _look_at_capacity(self, budget: PhaseBudget) -> None:
        """Find out, once in a session, whether the board serves all clients; the board has just answered.

        What was found before is believed where it says that it does, and the firmware is the same: clients
        that get nothing all the same are seen in the first phase.
        """
        if self._capacity_asked or most_clients(self.plan) < 2:
            return
        self._capacity_asked = True
        known = self.remembered_capacity()
        if known is not None and not known.ended and known.connections >= most_clients(self.plan):
            self.capacity = known
            return
        self._find_capacity(known)
        # Its answer comes behind the ends of all those connections.
        self.probe(min(budget.probe_s, self._hard_timeout_left()))

    def _find_capacity(self, known: Capacity | None = None) -> None:
        """Find out how many connections the board serves at once, and say so where clients get nothing."""
        assert self.board is not None
        self._capacity_asked = self._capacity_found = True
        self.capacity = find_capacity(
            self.board, self.plan, known=known, budget_s=self._hard_timeout_left(), clock=self._clock
        )
        starved = sentence(self.capacity, clients_by_phase(self.plan)) if self.capacity is not None else ""
        if starved:
            self._say(f"WARNING: {starved}")

    def select(self, profiles: Collection[str]) -> None:
        """Say which of the planned profiles are to be driven; all of them where nothing is said."""
        self._selected = profiles

    def _ask_paths(
        self, profiles: Sequence[Profile], budget_s: float, transport: load.TransportFactory | None
    ) -> None:
        """Ask for each path once in a session, before any load; the board has just answered the probe.

        Raises:
            DeviceError: one of them does not answer as it should; the session is stopped.
        """
        assert self.board is not None
        unasked = [profile for profile in profiles if profile.name not in self.answers]
        if not unasked:
            return
        asker = Asker(
            self.board.target,
            self.settings.perf_request_timeout,
            transport,
            self._clock,
            self._sleep,
        )
        asker.ask(unasked, min(budget_s, self._hard_timeout_left()))
        self.answers |= asker.answers
        if asker.reason:
            self.stop("; ".join(filter(None, (asker.reason, self.board.last_words()))))
            raise DeviceError(self.hard_stop_reason)

    def _ended_before(self, planned: PlannedPhase) -> bool:
        """Whether a planned phase is not needed any more; decided before each round of its profile."""
        name = planned.profile.name
        if planned.role != "run":
            return False
        if name not in self.ended and planned.phase == planned.profile.phases[0]:
            found = self.decide_early(planned)
            self.ended |= found
            for profile, early in found.items():
                self._pace.drop(profile)
                self._say(ended_sentence(profile, early))
        return name in self.ended

    def _rest(self) -> None:
        """Let the board rest between two runs; what has passed since the last load ended counts."""
        pause_s, now_s = self.settings.perf_between_runs_ms / 1e3, self._clock()
        rested_s = now_s + pause_s if self._last_end is None else self._last_end.rested_s(pause_s)
        if rested_s > now_s:
            self._sleep(rested_s - now_s)

    def _measure_reference(
        self, planned: PlannedPhase, budget: PhaseBudget, reference: Reference | None
    ) -> None:
        if reference is None or reference.lost:
            return
        ends = self._clock() + min(budget.reference_s, self._hard_timeout_left())
        measured = reference.measure(planned, budget, lambda: max(0.0, ends - self._clock()))
        if measured is not None:
            self.keep(*measured, board=reference.board.name)
        elif reference.lost:
            self._say(f"WARNING: {reference.lost}")

    def listen_between(self) -> None:
        """Take what the console said since the last phase: a death there is the session's, and no phase's."""
        said = self.board.last_words() if self.board is not None else ""
        if said and self._last_phase:
            self.said_between.append(f"after {self._last_phase}, {said}")

    def _switch_firmware(self, planned: PlannedPhase) -> bool:
        if not self._firmware.must_switch(planned.role):
            return False
        assert self.board is not None
        console = self.board.console
        try:
            # The flashing tool may need the very port.
            with console.released() if console is not None else nullcontext():
                self._firmware.ensure(planned.role, within_s=self._hard_timeout_left())
                self.reach().meter.forget()
        except DeviceError as error:
            self._check_hard_timeout(planned)
            self.stop(str(error))
            raise
        return True

    def _expect_boot(self) -> None:
        """Let go what the console said of a board that was flashed."""
        assert self.board is not None
        self.board.heard()

    def _hard_timeout_left(self) -> float:
        limit = self.settings.perf_hard_timeout_s
        return max(0.0, limit - self.spent_s) if limit else float("inf")

    def _check_hard_timeout(self, planned: PlannedPhase) -> None:
        if self._hard_timeout_left() == 0.0:
            # It comes before what ended the phase: a probe, say, that had no time left.
            whose = " in this board's own phases" if self._boards > 1 else ""
            self.hard_stop_reason = (
                f"hard timeout: {self.spent_s:.1f} s of "
                f"{self.settings.perf_hard_timeout_s:g} s ({self.settings.where('perf_hard_timeout_s')}) "
                f"had passed{whose} at {planned.label(self.plan.runs)}"
            )
            raise DeviceError(self.hard_stop_reason)

    def _save_samples(self, planned: PlannedPhase, samples: PhaseSamples) -> str:
        """The file of the raw samples relative to the history, "" where they are not kept."""
        if not self.settings.perf_save_samples:
            return ""
        folder = self.folder / f"samples_{self.session_id}"
        try:
            path = save_samples(folder, planned.id, samples)
        except HistoryError as error:
            self._say(f"WARNING: {error}")
            return ""
        return f"{folder.name}/{path.name}"
