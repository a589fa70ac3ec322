"""The composition root: plan -> phases -> artifact -> verdict. No pytest in here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from pytest_espperf import load
from pytest_espperf.artifact import (
    Finding,
    PhaseResult,
    RunRole,
    SessionArtifact,
    Verdict,
)
from pytest_espperf.board import Board
from pytest_espperf.budget import PhaseBudget, phase_budget
from pytest_espperf.device import Probe
from pytest_espperf.errors import DeviceError, HistoryError, ProbeError
from pytest_espperf.firmware import FirmwareSwitch, confirmation_rounds, pairs
from pytest_espperf.history import HistoryStore, SavedSession, save_samples
from pytest_espperf.judging import (
    Judge,
    failed_by,
    history_folder,
    phase_failures,
    thresholds,
    with_failed_tests,
)
from pytest_espperf.options import Settings
from pytest_espperf.profiles import PlannedPhase, load_profiles, make_plan
from pytest_espperf.progress import Pace
from pytest_espperf.reach import Reach
from pytest_espperf.record import SessionRecord
from pytest_espperf.reference import Reference
from pytest_espperf.report import render_markdown
from pytest_espperf.samples import PhaseSamples
from pytest_espperf.telemetry_table import load_telemetry

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What became of a session."""

    artifact: SessionArtifact
    verdict: Verdict
    saved: SavedSession | None
    fails: bool
    save_error: str = ""


class PerfSession:
    """One invocation: drives phases one by one, keeps them on disk, judges them at the end.

    Args:
        settings: the options in force.
        root: the project's root directory.
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
        say: Say = print,
        watch: Say | None = None,
        watch_s: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self.plan = make_plan(settings, load_profiles(root))
        self._telemetry = load_telemetry(root)
        self._judge = Judge.from_settings(settings)
        self.hard_stop_reason = ""
        self._reach: Reach | None = None
        self._root = root
        self._say = say
        self._watch = watch or (lambda line: say(line) if line else None)
        self._watch_s = min(watch_s, settings.perf_heartbeat_ms / 1e3)
        self._pace = Pace(self.plan, clock)
        self._clock = clock
        self._sleep = sleep
        self._began = clock()
        self.store = HistoryStore(history_folder(settings, root))
        self._last_phase = ""
        self._said_between: list[str] = []
        self._last_round: tuple[RunRole, int] | None = None
        self._closing = ExitStack()
        self._firmware = FirmwareSwitch(settings, say=say)
        self.is_open = False
        self.ended_early = False

    # --- opening -----------------------------------------------------------------------------

    def open(self) -> None:
        """Prepare the history folder and, where the device is named in the options, reach for it.

        Raises:
            UsageError: the name does not resolve.
            HistoryError: the history folder cannot be written.
            BoardBusyError: another session measures this board.
            SimError: the reference device does not start.
        """
        self.store.prepare()
        self._judge.find_baseline(self.store, self._root)
        self._record = SessionRecord(self.settings, self.plan, self._root)
        self._reach = Reach(
            self.settings,
            self.plan,
            self._telemetry,
            self.store.folder / f"serial_{self._record.session_id}.log",
            self._closing,
            self._clock,
            self._sleep,
        )
        self._reach.find_named()
        self._checkpoint = self.store.open_checkpoint(self._record.session_id)
        self._closing.callback(self._checkpoint.release)
        for found in self._checkpoint.recovered:
            self._say(f"an interrupted session of before is kept as {found.json_path.name}")
        for error in self._checkpoint.unreadable:
            self._say(f"what an interrupted session left cannot be read, and is kept: {error}")
        self._checkpoint.write(self._artifact())
        self.is_open = True

    @property
    def board(self) -> Board | None:
        """The locked board; None until it is found."""
        return self._reach.board if self._reach is not None else None

    def connect(self, host: str, port: int, *, source: str = "") -> Board:
        """The locked board at an address, see :meth:`pytest_espperf.reach.Reach.find`."""
        assert self._reach is not None
        return self._reach.find(host, port, source=source)

    def close(self) -> None:
        """Give back the lock and the checkpoint's slot, end the reference device; idempotent."""
        self._closing.close()

    # --- one phase ---------------------------------------------------------------------------

    def planned(self) -> list[PlannedPhase]:
        """Every phase, in the order it is to be driven."""
        return self.plan.phases()

    def budget(self, planned: PlannedPhase) -> PhaseBudget:
        """The seconds that one phase's test item may take."""
        return phase_budget(self.settings, self.plan, planned)

    def probe(self, budget_s: float = float("inf")) -> Probe:
        """Make sure that the board answers.

        Raises:
            ProbeError: it does not; the session is stopped.
        """
        assert self.board is not None
        try:
            return self.board.probe(budget_s)
        except ProbeError as error:
            self.stop("; ".join(filter(None, (str(error), self.board.last_words()))))
            raise ProbeError(self.hard_stop_reason) from None

    def stop(self, reason: str) -> None:
        """End the session's measuring for good: no later phase is driven."""
        self.hard_stop_reason = self.hard_stop_reason or reason

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
        assert self._reach is not None
        began = self._clock()
        if self._may_end_early(planned):
            self.ended_early = True
            self._say(f"nothing is suspect after {planned.run - 1} rounds: the session ends early")
        if self.ended_early and planned.role == "run":
            return None
        if self._last_round not in {None, (planned.role, planned.run)}:
            self._sleep(self.settings.perf_between_runs_ms / 1e3)
        self._last_round = (planned.role, planned.run)
        self._check_hard_timeout(planned)
        self._listen_between()
        self._switch_firmware(planned)
        self._pace.begin(planned)
        try:
            self.probe(min(budget.probe_s, self._hard_timeout_left()))
        except ProbeError:
            self._check_hard_timeout(planned)
            raise
        measured = self._reach.meter.measure(
            planned,
            budget,
            left=lambda: min(budget.inner_s - (self._clock() - began), self._hard_timeout_left()),
            on_heartbeat=lambda progress: self._watch(self._pace.line(planned, progress)),
            heartbeat_s=self._watch_s,
            transport=transport,
        )
        self._watch("")
        self._pace.end(planned)
        report = structs.replace(measured.report, samples_file=self._save_samples(planned, measured.samples))
        reasons = phase_failures(report, thresholds(self.settings, planned.profile)) + measured.signs
        result = PhaseResult(
            profile=planned.profile.name,
            phase=planned.phase.name,
            passed=not reasons,
            fail_reasons=reasons,
            report=report,
        )
        self._record.add(planned, result)
        self._measure_reference(planned, budget, self._reach.reference)
        self._last_phase = planned.label(self.plan.runs)
        self._write_checkpoint()
        self._check_hard_timeout(planned)
        if not report.ok:
            raise DeviceError(f"{planned.label(self.plan.runs)}: {reasons[0]}")
        return result

    def _measure_reference(
        self, planned: PlannedPhase, budget: PhaseBudget, reference: Reference | None
    ) -> None:
        if reference is None or reference.lost:
            return
        ends = self._clock() + min(budget.reference_s, self._hard_timeout_left())
        measured = reference.measure(planned, budget, lambda: max(0.0, ends - self._clock()))
        if measured is not None:
            self._record.add(*measured, board=reference.board.name)
        elif reference.lost:
            self._say(f"WARNING: {reference.lost}")

    def _listen_between(self) -> None:
        """Take what the console said since the last phase: a death there is the session's, and no phase's."""
        assert self.board is not None
        if (said := self.board.last_words()) and self._last_phase:
            self._said_between.append(f"after {self._last_phase}, {said}")

    def _switch_firmware(self, planned: PlannedPhase) -> None:
        if not self._firmware.must_switch(planned.role):
            return
        assert self._reach is not None
        assert self.board is not None
        console = self.board.console
        try:
            # The flashing tool may need the very port.
            with console.released() if console is not None else nullcontext():
                self._firmware.ensure(planned.role)
                self._reach.meter.forget()
                self.board.heard()  # it boots
        except DeviceError as error:
            self.stop(str(error))
            raise

    def _write_checkpoint(self) -> None:
        try:
            self._checkpoint.write(self._artifact())
        except HistoryError as error:
            # The phases already measured are worth more than their copy on a disk that may recover.
            self._say(f"WARNING: {error}")

    def _hard_timeout_left(self) -> float:
        limit = self.settings.perf_hard_timeout_s
        return max(0.0, limit - (self._clock() - self._began)) if limit else float("inf")

    def _check_hard_timeout(self, planned: PlannedPhase) -> None:
        if self._hard_timeout_left() == 0.0:
            # It comes before what ended the phase: a probe, say, that had no time left.
            self.hard_stop_reason = (
                f"hard timeout: {self._clock() - self._began:.1f} s of "
                f"{self.settings.perf_hard_timeout_s:g} s ({self.settings.where('perf_hard_timeout_s')}) "
                f"had passed at {planned.label(self.plan.runs)}"
            )
            raise DeviceError(self.hard_stop_reason)

    def _save_samples(self, planned: PlannedPhase, samples: PhaseSamples) -> str:
        """The file of the raw samples relative to the history, "" where they are not kept."""
        if not self.settings.perf_save_samples:
            return ""
        folder = self.store.folder / f"samples_{self._record.session_id}"
        try:
            path = save_samples(folder, planned.id, samples)
        except HistoryError as error:
            self._say(f"WARNING: {error}")
            return ""
        return f"{folder.name}/{path.name}"

    def confirmations(self) -> list[PlannedPhase]:
        """The phases to measure again before the verdict.

        Where firmware can be switched, interleaved pairs of each suspect profile; else ``--perf-confirm``
        rounds of each profile that would fail. [] where there is none, or the session is not complete.
        """
        if self.hard_stop_reason or self._record.measured < self._wanted():
            return []
        _, verdict = self._judge_all()
        if self._firmware.available:
            return pairs(self.plan, self._judge.suspects(verdict))
        rounds = self.settings.perf_confirm
        return confirmation_rounds(self.plan, self._judge.to_confirm(verdict), rounds)

    def _wanted(self) -> int:
        """How many planned phases make this session complete."""
        return self._record.measured if self.ended_early else len(self.plan.phases())

    def _may_end_early(self, planned: PlannedPhase) -> bool:
        """Where pairs can be run, a session without a suspect may end after three rounds."""
        if not self._firmware.available or planned.role != "run" or self._last_round is None:
            return False
        if self._last_round[1] == planned.run:
            return False
        return self._judge.may_stop_early(self._artifact(), self.store)

    # --- the end -----------------------------------------------------------------------------

    def abandon(self) -> None:
        """No phase was to be measured: leave nothing behind."""
        self._checkpoint.discard()

    def finish(self, interrupted: str = "", failed_tests: Sequence[str] = ()) -> Outcome:
        """Judge, write the artifacts, give the verdict.

        Args:
            interrupted: why not everything planned was driven, "" where it was. Such a session is
                ``incomplete``: never ``latest.json``, never a baseline.
            failed_tests: the project's own tests of measured phases that failed; never a baseline either.

        Where the artifacts cannot be written the outcome says so, and the checkpoint stays.
        """
        artifact = self._artifact()
        missing = self._wanted() - self._record.measured
        if not self.hard_stop_reason and missing and (interrupted or self._record.measured):
            why = interrupted or (
                f"{missing} of {len(self.plan.phases())} phases were not measured: "
                "deselected, skipped or in error"
            )
            verdict = Verdict(
                kind="incomplete", findings=[Finding(severity="info", kind="incomplete", message=why)]
            )
        else:
            artifact, verdict = self._judge_all()
            verdict = with_failed_tests(verdict, failed_tests)
            self._listen_between()
            for said in self._said_between:
                verdict = failed_by(verdict, Finding(severity="fail", kind="console", message=said))
        fails = self._judge.fails(verdict)
        incomplete = verdict.kind == "incomplete"
        artifact = structs.replace(artifact, gate=verdict, overall_pass=not fails and not incomplete)
        try:
            saved = self.store.save(artifact, render_markdown(artifact), latest=not incomplete)
            if incomplete:
                self._checkpoint.write(artifact)
            else:
                self._checkpoint.discard()
        except HistoryError as error:
            return Outcome(artifact, verdict, saved=None, fails=fails, save_error=str(error))
        if saved.clock_behind is not None:
            self._say(
                f"WARNING: the clock was set back: {saved.clock_behind} is later than this session, "
                "which is listed before it"
            )
        return Outcome(artifact, verdict, saved=saved, fails=fails)

    def _judge_all(self) -> tuple[SessionArtifact, Verdict]:
        """What was measured, as the whole it is to be judged as."""
        return self._judge.judge(structs.replace(self._artifact(), partial=False), self.store)

    def _artifact(self) -> SessionArtifact:
        reference = self._reach.reference if self._reach is not None else None
        return self._record.artifact(self.board, self.hard_stop_reason, reference)
