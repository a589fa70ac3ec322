"""The composition root: plan -> phases -> artifact -> verdict. No pytest in here.

::

    session = PerfSession(settings, root)
    session.open()
    for planned in session.planned():
        session.driver.run_phase(planned, session.budget(planned))
    outcome = session.finish()
    session.close()
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from pytest_espperf.config.profiles import load_profiles
from pytest_espperf.config.settings import Settings
from pytest_espperf.errors import EspperfError, TableError
from pytest_espperf.history import HistoryStore
from pytest_espperf.history.shared.sharing import Sharing
from pytest_espperf.model.artifact import Capacity, EndedEarly, Finding, PhaseResult, SessionArtifact, Verdict
from pytest_espperf.model.findings import CONSOLE, INCOMPLETE, LAB, WORKER
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.report.view import failures
from pytest_espperf.session.bench import check_reachable
from pytest_espperf.session.boards import why_unreached
from pytest_espperf.session.boots import check_reset
from pytest_espperf.session.confirming import Confirmation, choose_confirmation
from pytest_espperf.session.context import Context, make_context
from pytest_espperf.session.driver import PhaseDriver
from pytest_espperf.session.earlier import remembered_capacity
from pytest_espperf.session.file_sizes import file_figures
from pytest_espperf.session.firmware import check_placeholders
from pytest_espperf.session.folder import sharing_of
from pytest_espperf.session.judging import Judge, failed_by, with_failed_tests
from pytest_espperf.session.opening import opening_lines
from pytest_espperf.session.plan import PlannedPhase, make_plan, unknown_profile
from pytest_espperf.session.preflight import check_packages, make_room_for_clients
from pytest_espperf.session.receiving import PhaseReceiver
from pytest_espperf.session.record import SessionRecord
from pytest_espperf.session.saving import Saver, SessionOutcome, save_phase_samples
from pytest_espperf.session.state import SessionState
from pytest_espperf.session.time_budget import PhaseBudget

NO_WORKER = "no worker was left"
"""The reason for an early end where no worker of pytest-xdist came to the board, or came back to it."""


@dataclass(frozen=True)
class SessionSink:
    """Adds what a driver measured to the record, writes checkpoints, and asks the judge.

    Attributes:
        context: of the session.
        record: takes the phases.
        judge: judges the session.
        saver: writes it.
    """

    context: Context
    record: SessionRecord
    judge: Judge
    saver: Saver

    def add(self, planned: PlannedPhase, result: PhaseResult, *, board: str = "") -> None:
        """Add a phase to the record."""
        self.record.add(planned, result, board=board)

    def discard(self, planned: PlannedPhase) -> None:
        """Take a phase out of the record."""
        self.record.discard(planned)

    def save_samples(self, planned: PlannedPhase, samples: PhaseSamples) -> str:
        """Write the raw samples of a phase."""
        return save_phase_samples(self.context, planned, samples)

    def end_phase(self, state: SessionState) -> None:
        """Write a checkpoint."""
        self.saver.write_checkpoint(self.record.artifact(state))

    def decide_early(self, planned: PlannedPhase, state: SessionState) -> Mapping[str, EndedEarly]:
        """Name the profiles that need no further run."""
        return self.judge.early_end(
            planned, self.context.plan, lambda: self.record.artifact(state), self.saver.store
        )

    def remembered_capacity(self, state: SessionState) -> Capacity | None:
        """Return the capacity that an earlier session found with this firmware; None where unknown."""
        return remembered_capacity(self.saver.store, self.record.artifact(state))


class PerfSession:
    """One invocation on one board: a facade over what drives, receives, judges and saves.

    Args:
        settings: options in force.
        root: root directory of the project.
        sharing: the history that all boards of the run work on; the one of the options where none is given.
        more: further fields of :class:`Context`.

    Attributes:
        context: the session's fixed surroundings.
        store: the history, as this session sees it.
        is_open: whether :meth:`open` was called, and went well; the following are there from then on.
        driver: drives the phases.
        receiver: takes the results of workers.
    """

    driver: PhaseDriver
    receiver: PhaseReceiver
    _record: SessionRecord
    _saver: Saver

    def __init__(
        self, settings: Settings, root: Path, *, sharing: Sharing | None = None, **more: Any
    ) -> None:
        sharing = sharing or sharing_of(settings, root)
        self.context = make_context(settings, root, folder=sharing.folder, **more)
        # Not the one that all boards share: each session names what it could not read.
        self.store = HistoryStore(sharing.folder)
        self.is_open = False
        self._announced = False
        self._judge = Judge.from_settings(settings)
        self._sharing = sharing

    def open(
        self,
        *,
        alone: bool = True,
        reach: bool = True,
        quiet: bool = False,
        others: Mapping[str, Settings] | None = None,
    ) -> None:
        """Prepare the history folder and, where the device is named in the options, reach for it.

        Where it is not alone, a board that cannot be reached fails its own session, and no other's.

        Args:
            alone: it is the only board of the run.
            reach: False where other processes drive it: reached for and given back at once where it is alone,
                so that what prevents it is known before they start.
            quiet: print only warnings about a shared history.
            others: of the run's other boards, by the id of their session.

        Raises:
            UsageError: the name does not resolve, a package is missing, options exclude each other, this
                computer has too few file descriptors, or a file whose size is to be measured cannot be read.
            HistoryError: the history folder cannot be written.
            BoardBusyError: another session measures this board.
            SimError: the reference device does not start.
        """
        check_packages(self.context)
        check_reset(self.context.settings)
        check_placeholders(self.context.settings)
        make_room_for_clients(self.context)
        figures = file_figures(self.settings)
        self._saver = Saver(self.context, self.store, self._sharing)
        self._saver.prepare(quiet=quiet)
        self._judge.baselines.find_named(self.store, self.context.root, alone=alone)
        self._record = SessionRecord(self.context)
        self._saver.sharing.add(self._record.remarks())
        sink = SessionSink(self.context, self._record, self._judge, self._saver)
        self.driver = PhaseDriver(self.context, sink)
        self.driver.state.figures |= figures
        self.receiver = PhaseReceiver(self.driver, sink)
        try:
            if reach:
                self.driver.bench.find_named()
            elif alone:
                check_reachable(self.context)
        except EspperfError as error:
            if alone:
                raise
            self.driver.state.stop(why_unreached(error, self.settings, others or {}))
        self._saver.begin(self._artifact())
        self.is_open = True

    def announce(self, phases: Sequence[PlannedPhase]) -> None:
        """Say once, when the board is known, what will be measured and against which baseline.

        Args:
            phases: those of the plan that will be measured.
        """
        if self._announced or not phases:
            return
        self._announced = True
        artifact = self._artifact()
        profiles = dict.fromkeys(planned.profile.name for planned in phases)
        against = self._judge.against(artifact, list(profiles), self.store)
        board = self.context.plan.board or artifact.target
        for line in opening_lines(self.context, phases, board, against):
            self.context.say(line)

    @property
    def settings(self) -> Settings:
        """The options in force."""
        return self.context.settings

    def add_profiles(self, names: Sequence[str]) -> None:
        """Plan further profiles, which a test asks for by its marker, before the session is opened.

        Raises:
            TableError: the project has no such profile.
        """
        assert not self.is_open
        plan, known = self.context.plan, load_profiles(self.context.root)
        for name in names:
            if name not in known:
                raise TableError(unknown_profile(name, known))
        plan = make_plan(self.settings, known, plan.board, [*plan.marked, *names])
        self.context = dataclasses.replace(self.context, plan=plan)

    def planned(self) -> list[PlannedPhase]:
        """Return every phase, in the order it is to be driven."""
        return self.context.plan.phases()

    def budget(self, planned: PlannedPhase) -> PhaseBudget:
        """Return the seconds that one phase's test item may take."""
        return self.context.budget(planned)

    def confirmations(self) -> Confirmation:
        """Return the phases to measure again before the verdict; none where the session is not complete."""
        if self.driver.state.hard_stop_reason or self._missing() > 0:
            return Confirmation()
        artifact, verdict = self._judge_all(self._artifact())
        since_load_s = self.driver.since_load_s()
        return choose_confirmation(
            self._judge, artifact, verdict, self.context.plan, since_load_s=since_load_s
        )

    def finish(self, interrupted: str = "", failed_tests: Sequence[str] = ()) -> SessionOutcome:
        """Judge the session, write the artifacts, and return both.

        Args:
            interrupted: why not everything planned was driven, "" where it was. Such a session is
                ``incomplete``: never ``latest.json``, never a baseline.
            failed_tests: the project's own tests of measured phases that failed; never a baseline either.

        Where the artifacts cannot be written the outcome says so, and the checkpoint stays.
        """
        self.driver.own.take_printed()
        artifact = self._artifact()
        begun = interrupted or self.receiver.void or self._record.measured
        if self._missing() and begun and not self.driver.state.hard_stop_reason:
            verdict = Verdict(kind="incomplete", findings=[self._why_missing(interrupted)])
        else:
            artifact, verdict = self._judge_all(artifact)
            found = [*verdict.findings, *self.driver.own.missing_gauges()]
            verdict = with_failed_tests(structs.replace(verdict, findings=found), failed_tests)
            self.driver.listen_between()
            for said in self.driver.state.console:
                verdict = failed_by(verdict, Finding(severity="fail", kind=CONSOLE, message=said))
        findings = [*verdict.findings, *self._lab_findings(artifact), *self._saver.sharing.findings]
        verdict = structs.replace(verdict, findings=findings)
        return self._saver.save(self._judge.conclude(artifact, verdict))

    def failures_of_selection(self) -> list[tuple[str, str]]:
        """Return ``(name, message)`` of what fails in profiles measured whole, where others were left out."""
        if not self._missing():
            return []
        _, verdict = self._judge_all(self._artifact())
        wanted = filter(self.driver.state.wants, self.planned())
        partial = {planned.profile.name for planned in wanted if not self._record.has(planned)}
        return [
            (name, message) for name, message in failures(verdict) if name.partition(":")[0] not in partial
        ]

    def abandon(self) -> None:
        """Leave nothing behind: no phase was to be measured."""
        self._saver.checkpoint.discard()

    def close(self) -> None:
        """Give back the lock and the checkpoint's slot, end the reference device; idempotent."""
        self.context.closing.close()

    def _artifact(self) -> SessionArtifact:
        return self._record.artifact(self.driver.known())

    def _judge_all(self, artifact: SessionArtifact) -> tuple[SessionArtifact, Verdict]:
        """Judge what was measured as a whole."""
        return self._judge.judge(structs.replace(artifact, partial=False), self.store)

    def _missing(self) -> int:
        """Count the planned phases that are missing in a complete session."""
        return sum(map(self.driver.state.wants, self.planned())) - self._record.measured

    def _why_missing(self, interrupted: str) -> Finding:
        """Say why not all planned phases were measured."""
        void = self.receiver.void
        died = f"a worker died in {', '.join(void)}" if void else ""
        causes = [cause for cause in (died, interrupted) if cause] or ["deselected, skipped or in error"]
        planned = len(self.planned())
        why = f"{self._missing()} of {planned} phases were not measured: {'; '.join(causes)}"
        message = interrupted if causes == [interrupted] else why
        if died or interrupted == NO_WORKER:
            return Finding(severity="warn", kind=WORKER, message=message)
        return Finding(severity="info", kind=INCOMPLETE, message=message)

    def _lab_findings(self, artifact: SessionArtifact) -> list[Finding]:
        """Name what is not known of the board's place, here and in the process that measured it."""
        facts = self.driver.state.facts
        described = [facts.description if facts is not None else {}, artifact.device]
        notes = [note for one in described for note in one.get("place", {}).get("notes", ())]
        return [Finding(severity="warn", kind=LAB, message=note) for note in dict.fromkeys(notes)]
