"""The composition root: plan -> phases -> artifact -> verdict. No pytest in here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from pytest_espperf.config.settings import Settings
from pytest_espperf.errors import ArtifactError, EspperfError, HistoryError
from pytest_espperf.gate import unclear_profiles, unresolved_worst
from pytest_espperf.history import HistoryStore, SavedSession
from pytest_espperf.history.checkpoint import Checkpoint
from pytest_espperf.history.progress import IndexProgress
from pytest_espperf.history.shared.sharing import Sent, Sharing
from pytest_espperf.model.artifact import (
    LAB,
    WORKER,
    Capacity,
    EndedEarly,
    Finding,
    PhaseResult,
    SessionArtifact,
    Verdict,
)
from pytest_espperf.report import render_markdown
from pytest_espperf.session.board import BoardFacts
from pytest_espperf.session.boards import why_unreached
from pytest_espperf.session.capacity import remembered
from pytest_espperf.session.driver import Driver
from pytest_espperf.session.firmware import confirmation_rounds, pairs
from pytest_espperf.session.folder import sharing_of
from pytest_espperf.session.handover import decode
from pytest_espperf.session.judging import Judge, early_end, failed_by, with_failed_tests
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.record import SessionRecord

NO_WORKER = "no worker was left"
"""Why a session ended early whose board no worker of pytest-xdist came to, or came back to."""

WORST_RUN = "a run broke the budget of any single run"
"""Why a profile is measured again that needs no other answer."""


@dataclass(frozen=True)
class Outcome:
    """What became of a session.

    ``sent`` is filled in once those of all boards were saved, see :meth:`Sharing.send_saved`.
    """

    artifact: SessionArtifact
    verdict: Verdict
    saved: SavedSession | None
    fails: bool
    save_error: str = ""
    sent: Sent | None = None


@dataclass(frozen=True)
class Confirmation:
    """What is measured again before the verdict.

    Attributes:
        phases: in order; empty for nothing.
        why: in words.
        pause_s: seconds to wait before.
    """

    phases: Sequence[PlannedPhase] = ()
    why: str = "slower, or not clear enough"
    pause_s: float = 0.0


class PerfSession(Driver):
    """One invocation: drives phases one by one, keeps them on disk, judges them at the end."""

    def __init__(self, settings: Settings, root: Path, *, sharing: Sharing | None = None, **how: Any) -> None:
        super().__init__(settings, root, **how)
        self._judge = Judge.from_settings(settings)
        self._sharing = sharing or sharing_of(settings, root)
        # Not the one that all boards share: each session names what it could not read.
        self.store = HistoryStore(self._sharing.folder)
        self._record: SessionRecord | None = None
        self._checkpoint: Checkpoint | None = None
        self._facts: BoardFacts | None = None
        self._void: list[str] = []

    # --- opening -----------------------------------------------------------------------------

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
            quiet: of a shared history only what is wrong is said.
            others: of the run's other boards, by the id of their session.

        Raises:
            UsageError: the name does not resolve, a package for a shared history is missing, or this computer
                has too few file descriptors.
            HistoryError: the history folder cannot be written.
            BoardBusyError: another session measures this board.
            SimError: the reference device does not start.
        """
        self.make_room()
        self._sharing.prepare()
        self.store.progress = IndexProgress(self._say)
        self._sharing.pull_once(self._say, quiet=quiet)
        self._judge.find_baseline(self.store, self._root, alone=alone)
        self._record = SessionRecord(self.settings, self.plan, self._root, self._boards)
        self._sharing.add(self._record.remarks())
        try:
            if reach:
                self.reach().find_named()
            elif alone:
                with ExitStack() as closing:
                    dataclasses.replace(self.reach(), closing=closing).find_named()
        except EspperfError as error:
            if alone:
                raise
            self.stop(why_unreached(error, self.settings, others or {}))
        self._checkpoint = Checkpoint(self.store, self.session_id)
        self._closing.callback(self._checkpoint.release)
        for found in self._checkpoint.recovered:
            self._say(f"an interrupted session of before is kept as {found.json_path.name}")
        for bad in self._checkpoint.unreadable:
            self._say(f"what an interrupted session left cannot be read, and is kept: {bad}")
        self._checkpoint.write(self._artifact())
        self.is_open = True

    @property
    def folder(self) -> Path:
        """The history folder."""
        return self.store.folder

    @property
    def session_id(self) -> str:
        """Of this session."""
        return self.record.session_id

    @property
    def record(self) -> SessionRecord:
        """What was measured so far; there is one once the session was opened."""
        assert self._record is not None
        return self._record

    # --- keeping ---------------------------------------------------------------------------------

    def keep(self, planned: PlannedPhase, result: PhaseResult, *, board: str = "") -> None:
        """Add the phase to the record."""
        self.record.add(planned, result, board=board)

    def phase_ended(self) -> None:
        """Write a checkpoint."""
        self._write_checkpoint()

    def void(self, planned: PlannedPhase) -> None:
        """A phase does not count: whoever measured it died over it."""
        self._void.append(f"{planned.cell} of run {planned.run}")
        self.record.discard(planned)
        self.phase_ended()

    def take(self, planned: PlannedPhase, handed: str) -> None:
        """Keep what a worker measured of a phase, see :mod:`pytest_espperf.session.handover`."""
        handover = decode(handed)
        for kept in handover.kept if self._is_wanted(planned) else ():
            self.keep(dataclasses.replace(planned, role=kept.role), kept.result, board=kept.board)
        self._facts = handover.facts or self._facts
        self.said_between += handover.said_between
        if self._boards > 1:  # of one, the time that it takes a worker passes here as well
            self._spent_s += handover.spent_s
        for line in handover.told:
            self._say(f"{self.plan.board}: {line}" if self.plan.board else line)
        self.ended |= handover.ended
        self.capacity = handover.capacity or self.capacity
        self.answers |= handover.answers
        if handover.hard_stop_reason:
            self.stop(handover.hard_stop_reason)
        self.phase_ended()

    def take_over(self) -> None:
        """Reach for the board that workers have given back; a reference that they lost stays lost.

        Raises:
            EspperfError: see :meth:`pytest_espperf.session.reach.Reach.find_named`.
        """
        self.reach().find_named()
        reference = self.reach().reference
        if reference is not None and self._facts is not None:
            reference.lost = self._facts.description.get("reference", {}).get("lost", "")

    def _write_checkpoint(self) -> None:
        assert self._checkpoint is not None
        try:
            self._checkpoint.write(self._artifact())
        except (HistoryError, ArtifactError) as error:
            # The phases already measured are worth more than their copy on a disk that may recover.
            self._say(f"WARNING: {error}")

    def confirmations(self) -> Confirmation:
        """The phases to measure again before the verdict.

        Where firmware can be switched, interleaved pairs of each profile that is suspect or unclear; else
        ``--perf-confirm`` rounds of each profile without a clear answer, and as many as were disturbed.
        None where the session is not complete.
        """
        if self.hard_stop_reason or self.record.measured < self._wanted():
            return Confirmation()
        artifact, verdict = self._judge_all()
        again, worst = self._judge.to_measure_again(verdict), unresolved_worst(artifact)
        if self._firmware.available:
            suspects = self._judge.suspects(verdict)
            # Pairs measure this firmware again as well; a profile that needs none is measured by itself.
            alone = {name: count for name, count in again.items() if name in worst and name not in suspects}
            phases = [*confirmation_rounds(self.plan, alone), *pairs(self.plan, suspects)]
            return Confirmation(phases) if suspects else Confirmation(phases, WORST_RUN)
        phases = confirmation_rounds(self.plan, again)
        if not unclear_profiles(verdict):
            return Confirmation(phases, WORST_RUN if worst else "a run was disturbed")
        # What disturbs for a while is over then; a single stalled run was over in the next one.
        passed_s = self._clock() - self._last_end.last_s if self._last_end is not None else 0.0
        return Confirmation(phases, pause_s=max(0.0, self.settings.perf_confirm_pause_s - passed_s))

    def pause(self, seconds: float) -> None:
        """Wait before profiles are measured again, no longer than the session may take."""
        if seconds:
            self._sleep(min(seconds, self._hard_timeout_left()))

    def _wanted(self) -> int:
        """How many planned phases make this session complete."""
        return sum(map(self._is_wanted, self.plan.phases()))

    def _is_wanted(self, planned: PlannedPhase) -> bool:
        """Whether a phase counts: not where its profile ended before, which a late worker may not know."""
        ended = self.ended.get(planned.profile.name)
        return planned.role != "run" or ended is None or planned.run <= ended.after

    def decide_early(self, planned: PlannedPhase) -> Mapping[str, EndedEarly]:
        """The profiles that need no further round; where pairs can be run, all of them or none."""
        if not self._firmware.available:
            return early_end(planned, self._artifact, self._judge, self.store)
        if planned.profile != self.plan.profiles[0] or not self._judge.may_stop_early(
            self._artifact(), self.store
        ):
            return {}
        ended = EndedEarly(after=planned.run - 1, planned=self.plan.runs, why="calm")
        return dict.fromkeys((profile.name for profile in self.plan.profiles), ended)

    def remembered_capacity(self) -> Capacity | None:
        """What the board's newest session found, see :func:`pytest_espperf.session.capacity.remembered`."""
        return remembered(self.store, self._artifact())

    # --- the end -----------------------------------------------------------------------------

    def abandon(self) -> None:
        """No phase was to be measured: leave nothing behind."""
        assert self._checkpoint is not None
        self._checkpoint.discard()

    def finish(self, interrupted: str = "", failed_tests: Sequence[str] = ()) -> Outcome:
        """Judge, write the artifacts, give the verdict.

        Args:
            interrupted: why not everything planned was driven, "" where it was. Such a session is
                ``incomplete``: never ``latest.json``, never a baseline.
            failed_tests: the project's own tests of measured phases that failed; never a baseline either.

        Where the artifacts cannot be written the outcome says so, and the checkpoint stays.
        """
        assert self._checkpoint is not None
        artifact = self._artifact()
        missing = self._wanted() - self.record.measured
        begun = interrupted or self._void or self.record.measured
        if not self.hard_stop_reason and missing and begun:
            verdict = Verdict(kind="incomplete", findings=[self._why_missing(missing, interrupted)])
        else:
            artifact, verdict = self._judge_all()
            verdict = with_failed_tests(verdict, failed_tests)
            self.listen_between()
            for said in self.said_between:
                verdict = failed_by(verdict, Finding(severity="fail", kind="console", message=said))
        told = [*verdict.findings, *self._of_lab(artifact), *self._sharing.findings]
        verdict = structs.replace(verdict, findings=told)
        fails = self._judge.fails(verdict)
        incomplete = verdict.kind == "incomplete"
        artifact = structs.replace(artifact, gate=verdict, overall_pass=not fails and not incomplete)
        try:
            latest = not incomplete and artifact.comparability is not None
            saved = self.store.save(artifact, render_markdown(artifact), latest=latest)
            if incomplete:
                self._checkpoint.write(artifact)
            else:
                self._checkpoint.discard()
        except (HistoryError, ArtifactError) as error:
            return Outcome(artifact, verdict, saved=None, fails=fails, save_error=str(error))
        self._sharing.after_saving(saved, self._say)
        return Outcome(artifact, verdict, saved=saved, fails=fails)

    def _why_missing(self, missing: int, interrupted: str) -> Finding:
        died = f"a worker died in {', '.join(self._void)}" if self._void else ""
        causes = [cause for cause in (died, interrupted) if cause] or ["deselected, skipped or in error"]
        why = f"{missing} of {len(self.plan.phases())} phases were not measured: {'; '.join(causes)}"
        message = interrupted if causes == [interrupted] else why
        if died or interrupted == NO_WORKER:
            return Finding(severity="warn", kind=WORKER, message=message)
        return Finding(severity="info", kind="incomplete", message=message)

    def _of_lab(self, artifact: SessionArtifact) -> list[Finding]:
        """What is not known of the board's place, here and in the process that measured it."""
        described = [self._facts.description if self._facts is not None else {}, artifact.device]
        notes = [note for one in described for note in one.get("place", {}).get("notes", ())]
        return [Finding(severity="warn", kind=LAB, message=note) for note in dict.fromkeys(notes)]

    def _judge_all(self) -> tuple[SessionArtifact, Verdict]:
        """What was measured, as the whole it is to be judged as."""
        return self._judge.judge(structs.replace(self._artifact(), partial=False), self.store)

    def _artifact(self) -> SessionArtifact:
        facts = self.reach().facts() or self._facts
        return self.record.artifact(
            facts, self.hard_stop_reason, self.ended, capacity=self.capacity, answers=self.answers
        )
