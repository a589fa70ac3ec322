"""Rounds of several firmwares on one board, or on two at once: put one there, warm it up, measure a round.

::

    with RoundMeter(settings, root, kind="ab", say=print) as meter:
        runs = meter.measure(old, index=1, role="ab-baseline")
        runs = meter.measure(new, index=1, role="ab-candidate")
        outcome = meter.save(judgement)

Each phase is in the checkpoint of the session as soon as it was measured. A session of several firmwares has
no record of what it is comparable with: it is never the baseline of another one, nor ``latest.json``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from pytest_espperf.config.settings import Settings
from pytest_espperf.errors import DeviceError, UsageError
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import (
    Finding,
    PathAnswer,
    RawRun,
    RunRole,
    SessionArtifact,
)
from pytest_espperf.model.contest import Contest, ContestKind, Switch
from pytest_espperf.model.workload import Profile
from pytest_espperf.session.board import Board, facts_unreached
from pytest_espperf.session.boards import NamedBoard, named_boards, refuse_one_twice, refuse_sim_beside
from pytest_espperf.session.context import Say, make_context
from pytest_espperf.session.driver import PhaseDriver
from pytest_espperf.session.firmwares import Firmware, RunningCheck
from pytest_espperf.session.folder import sharing_of
from pytest_espperf.session.judging import Judgement
from pytest_espperf.session.placer import FirmwarePlacer, RoundSink, Side
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.preflight import check_packages, make_room_for_clients
from pytest_espperf.session.record import SessionRecord
from pytest_espperf.session.saving import Saver, SessionOutcome
from pytest_espperf.session.state import SessionState
from pytest_espperf.session.twins import TwinLoad

MOST_BOARDS = 2
"""Boards that are measured at the same time, each with another firmware."""


@dataclass(frozen=True)
class Placing:
    """A firmware on one of two boards that are measured at the same time."""

    board: int
    firmware: Firmware
    role: RunRole


@dataclass
class _Spent:
    """When the session began and ended on the clock, and the seconds of its earlier parts."""

    began_s: float | None = None
    ended_s: float = 0.0
    carried_s: float = 0.0


class RoundMeter:
    """Measures rounds of several firmwares, and keeps them as one session.

    Args:
        settings: options in force; they name one board, or two that are measured at the same time.
        root: root directory of the project.
        kind: what compares the firmwares.
        say: takes one line for the user.
        show: takes the line about the running phase, "" when it is over; ``say`` without one.
        running: asks the board after each change which firmware runs; None for nobody.
        more: further fields of :class:`Context`.

    Attributes:
        context: of the session.
        store: the history.
        contest: what is known of the comparison besides what was measured; replaced by whoever compares.

    Raises:
        UsageError: a bad table, an unknown profile, or an option that means one board where two are named.
    """

    def __init__(
        self,
        settings: Settings,
        root: Path,
        *,
        kind: ContestKind,
        say: Say = print,
        show: Say | None = None,
        running: RunningCheck | None = None,
        **more: Any,
    ) -> None:
        settings = for_rounds(settings)
        self._sharing = sharing_of(settings, root)
        self._closing = ExitStack()
        more = {"say": say, "watch": show, "folder": self._sharing.folder, "closing": self._closing} | more
        self.context = make_context(settings, root, **more)
        named = named_boards(settings, root)
        if len(named) > MOST_BOARDS:
            source = settings.where("device_lab" if settings.device_lab else "device_ip")
            raise UsageError(
                f"{source} names {len(named)} boards: firmwares are compared on one board or two at once"
            )
        refuse_sim_beside(settings)
        refuse_one_twice([one.settings for one in named])
        self._twins = TwinLoad()
        self._saving = threading.Lock()
        self._contexts = [
            replace(
                self.context,
                run_load=self._twins.run_phase if len(named) > 1 else None,
                settings=one.settings,
                place=one.place,
                boards=len(named),
                plan=replace(self.context.plan, board=_address(one), runs=1),
            )
            for one in named
        ]
        self.store = HistoryStore(self._sharing.folder)
        self.contest = Contest(kind=kind)
        self._placer = FirmwarePlacer(running)
        self._spent = _Spent()
        self._sides: list[Side] = []

    def __enter__(self) -> RoundMeter:  # noqa: PYI034 - typing.Self is younger than 3.10
        """Make the history ready; find and lock the boards.

        Raises:
            UsageError: a name does not resolve, a package is missing, or this computer has too few file
                descriptors.
            HistoryError: the history folder cannot be written.
            BoardBusyError: another session measures a board.
            SimError: the reference device does not start.
        """
        try:
            check_packages(self.context)
            make_room_for_clients(self.context)
            self._saver = Saver(self.context, self.store, self._sharing)
            self._saver.prepare(quiet=True)
            self._record = SessionRecord(self._contexts[0])
            for context in self._contexts:
                sink = RoundSink(context, self._record, self.checkpoint, len(self._contexts))
                side = Side(context, sink, PhaseDriver(context, sink))
                side.driver.bench.find_named()
                self._sides.append(side)
            self._saver.begin(self.artifact())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back locks and the checkpoint's slot, end the reference device; idempotent."""
        self._closing.close()

    # --- what is known

    @property
    def boards(self) -> list[Board]:
        """The locked boards, in the order in which they were named."""
        return [side.board for side in self._sides]

    @property
    def profiles(self) -> list[str]:
        """Names of the profiles of the plan."""
        return [profile.name for profile in self.context.plan.profiles]

    @property
    def answers(self) -> dict[str, dict[str, dict[str, PathAnswer]]]:
        """What the paths answered first, by firmware's label and profile."""
        return self._placer.answers

    @property
    def switches(self) -> list[Switch]:
        """Every change of firmware so far."""
        return list(self._placer.switches)

    @property
    def stop_reason(self) -> str:
        """Why a board could not be measured, "" where it could."""
        return next((reason for side in self._sides if (reason := side.driver.state.hard_stop_reason)), "")

    def artifact(self) -> SessionArtifact:
        """Return the session so far, without a verdict."""
        first = self._sides[0].driver.known() if self._sides else SessionState()
        artifact = self._record.artifact(structs.replace(first, hard_stop_reason=self.stop_reason))
        rounds = {run.run_index for run in artifact.raw_runs}
        spent = self._spent
        began_s = spent.ended_s if spent.began_s is None else spent.began_s
        contest = structs.replace(
            self.contest,
            firmwares=list(self._placer.firmwares.values()),
            switches=list(self._placer.switches),
            boards=[one.plan.board for one in self._contexts if one.plan.board],
            seconds=round(spent.carried_s + spent.ended_s - began_s, 3),
            told_apart=self._placer.told_apart(),
        )
        names = [side.board.name for side in self._sides]
        return structs.replace(
            artifact,
            target=" and ".join(names) if len(names) > 1 else artifact.target,
            comparability=None,  # neither firmware's figures are those of a session of one
            device={**artifact.device, "firmware": self.context.settings.device_firmware},  # not that of one
            contest=contest,
            runs_per_profile=len(rounds),
            boards=1,
        )

    def carry(self, session: SessionArtifact) -> bool:
        """Take over what an earlier part of the same comparison measured; once, however often it is asked.

        A part has what the parts before it measured, so that the newest has to come first: switches and
        seconds of what is here already are not counted again.

        Returns:
            whether every run of the part is here now, as it was measured.
        """
        contest = session.contest
        if contest is None:
            return False
        if self._record.carry(session.raw_runs):
            self._placer.carry(contest.firmwares, contest.switches)
            self._spent.carried_s += contest.seconds
        return self._record.holds(session.raw_runs)

    @property
    def is_shared(self) -> bool:
        """Whether the history is a copy of a shared one, which nothing is removed from."""
        return self._sharing.sync is not None

    def checkpoint(self) -> bool:
        """Write what is known so far to the disk; whether it is there now: a full disk is a warning."""
        if self._spent.began_s is not None:  # a session that is killed now took that long
            self._spent.ended_s = self.context.clock()
        with self._saving:  # of two boards each comes in a thread of its own
            return self._saver.write_checkpoint(self.artifact())

    def save(self, judgement: Judgement) -> SessionOutcome:
        """Write the artifacts of the judged session, and send them where the history is shared."""
        outcome = self._saver.save(judgement)
        self._sharing.push(self.context.say)
        return outcome

    def drop(self) -> None:
        """Keep nothing of the session: nothing was measured."""
        self._saver.checkpoint.discard()

    def findings(self) -> list[Finding]:
        """List what the verdict has to carry of the history and of the repository."""
        return [*self._sharing.findings, *self._record.remarks()]

    # --- measuring

    def measure(
        self,
        firmware: Firmware,
        *,
        index: int,
        role: RunRole,
        profiles: Sequence[str] | None = None,
        board: int = 0,
    ) -> list[RawRun]:
        """Put a firmware on a board unless it is there already, and measure one round of it.

        After a change the first answers are left out.

        Args:
            firmware: what to measure.
            index: number of the round; with the role, and a profile, it is measured once.
            role: of the round.
            profiles: those that are measured; all of the plan by default.
            board: which of the boards.

        Returns:
            the runs of the round, one for each profile.

        Raises:
            BuildError: the firmware cannot be built.
            DeviceError: it cannot be put there, or the board could not be measured with it.
        """
        side = self._sides[board]
        side.driver.state.hard_stop_reason = ""  # of another firmware
        with self._timed():
            self._placer.put(side, firmware, role, self._chosen(profiles))
            for planned in self._phases(side, index, role, profiles):
                side.driver.run_phase(planned, side.context.budget(planned))
            self._placer.take_version(side)
        return self.runs(index, role)

    def measure_twins(
        self, placings: Sequence[Placing], *, index: int, profiles: Sequence[str] | None = None
    ) -> list[RawRun]:
        """Measure one round of each firmware at the same time, each on a board of its own.

        Each phase begins on both in the same moment, and one event loop drives both: what disturbs this
        computer or the air disturbs both alike.

        Args:
            placings: the two firmwares.
            index: number of the round.
            profiles: those that are measured; all of the plan by default.

        Raises:
            BuildError: a firmware cannot be built.
            DeviceError: one cannot be put there, or a board could not be measured with it; names which.
        """
        sides = [self._sides[placing.board] for placing in placings]
        with self._timed():
            for side, placing in zip(sides, placings, strict=True):
                side.driver.state.hard_stop_reason = ""
                with _named(placing.firmware.facts.label):
                    self._placer.put(side, placing.firmware, placing.role, self._chosen(profiles))
            phases = [self._phases(self._sides[one.board], index, one.role, profiles) for one in placings]
            labels = [one.firmware.facts.label for one in placings]
            for both in zip(*phases, strict=True):
                self._drive_together(list(zip(sides, both, labels, strict=True)))
            for side in sides:
                self._placer.take_version(side)
        return [run for placing in placings for run in self.runs(index, placing.role)]

    def runs(self, index: int, role: RunRole) -> list[RawRun]:
        """Return what was measured of a round."""
        return [run for run in self._record.runs() if run.run_index == index and run.role == role]

    def _chosen(self, profiles: Sequence[str] | None) -> list[Profile]:
        plan = self.context.plan
        return [plan.profile(name) for name in profiles] if profiles is not None else list(plan.profiles)

    def _phases(
        self, side: Side, index: int, role: RunRole, profiles: Sequence[str] | None
    ) -> list[PlannedPhase]:
        return [
            PlannedPhase(index, profile, phase, role=role, board=side.context.plan.board)
            for profile in self._chosen(profiles)
            for phase in profile.phases
        ]

    def _drive_together(self, parts: Sequence[tuple[Side, PlannedPhase, str]]) -> None:
        """Drive one phase on each of several boards at the same time."""

        def part(side: Side, planned: PlannedPhase, label: str) -> Callable[[], None]:
            def drive() -> None:
                with _named(label):
                    side.driver.run_phase(planned, side.context.budget(planned))

            return drive

        self._twins.run([part(*one) for one in parts])

    @contextmanager
    def _timed(self) -> Iterator[None]:
        clock, spent = self.context.clock, self._spent
        if spent.began_s is None:
            spent.began_s = spent.ended_s = clock()
        try:
            yield
        finally:
            spent.ended_s = clock()


def _address(board: NamedBoard) -> str:
    """Return what a reader calls a board: its address, or its name in the lab; "" for the only one."""
    return facts_unreached(board.settings).name if board.name else ""


@contextmanager
def _named(label: str) -> Iterator[None]:
    """Say with what a board could not be measured which firmware was on it.

    Raises:
        DeviceError: likewise.
    """
    try:
        yield
    except DeviceError as error:
        if f"the {label} firmware" in str(error):
            raise
        raise DeviceError(f"the {label} firmware: {error}") from error


def keep(meter: RoundMeter, judgement: Judgement) -> SessionOutcome:
    """Save a session, unless nothing was measured."""
    if judgement.artifact.raw_runs:
        return meter.save(judgement)
    meter.drop()
    return SessionOutcome(judgement.artifact, judgement.verdict, saved=None, fails=judgement.fails)


def for_rounds(settings: Settings) -> Settings:
    """Return the options of rounds: whoever measures them switches firmware, and compares.

    A control board has no place beside pairs, and boots are timed with each change of firmware.
    """
    return settings.but(
        perf_ab_baseline_cmd="",
        perf_ab_candidate_cmd="",
        perf_baseline="history",
        perf_file=(),
        perf_figure_limit=(),
        device_reset_cmd="",
        device_reset_lines=False,
        device_reference="",
    )
