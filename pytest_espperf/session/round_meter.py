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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from pytest_espperf import load
from pytest_espperf.config.settings import Settings
from pytest_espperf.device.http import get
from pytest_espperf.errors import DeviceError, UsageError
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import (
    Capacity,
    EndedEarly,
    Finding,
    PathAnswer,
    PhaseResult,
    RawRun,
    RunRole,
    SessionArtifact,
)
from pytest_espperf.model.contest import Contest, ContestKind, FirmwareFacts, Switch
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import Profile
from pytest_espperf.session.answers import Asker
from pytest_espperf.session.board import Board, facts_unreached
from pytest_espperf.session.boards import NamedBoard, named_boards, refuse_one_twice, refuse_sim_beside
from pytest_espperf.session.boots import TRY_S, time_boot
from pytest_espperf.session.context import Context, Say, make_context
from pytest_espperf.session.driver import PhaseDriver
from pytest_espperf.session.firmwares import Firmware, RunningCheck
from pytest_espperf.session.folder import sharing_of
from pytest_espperf.session.judging import Judgement
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.preflight import check_packages, make_room_for_clients
from pytest_espperf.session.record import SessionRecord
from pytest_espperf.session.saving import Saver, SessionOutcome, save_phase_samples
from pytest_espperf.session.state import SessionState
from pytest_espperf.session.twins import TwinLoad

WARM_S = 0.5
"""Seconds of load by each profile that are left out after a change of firmware, besides one answer of each
path: caches fill, modules are loaded, the link wakes up."""

MOST_BOARDS = 2
"""Boards that are measured at the same time, each with another firmware."""

ANSWERS_S = 20.0
"""Seconds for the one answer of each path."""


class RoundSink:
    """Adds what a driver measured to the record of a session of rounds, and writes checkpoints.

    Args:
        context: of the session.
        record: takes the phases.
        checkpoint: writes one.
        at_once: number of boards that are driven at the same time.
    """

    def __init__(
        self, context: Context, record: SessionRecord, checkpoint: Callable[[], object], at_once: int
    ) -> None:
        self.firmware = ""
        self._at_once = at_once
        self._context = context
        self._record = record
        self._board = context.plan.board
        self._checkpoint = checkpoint

    def add(self, planned: PlannedPhase, result: PhaseResult, *, board: str = "") -> None:
        """Add a phase to the record, with the label of the firmware that is on the board."""
        generator = result.report.generator
        if generator is not None and self._at_once > 1:
            report = structs.replace(
                result.report, generator=structs.replace(generator, boards=self._at_once)
            )
            result = structs.replace(result, report=report)
        self._record.add(planned, result, board=board or self._board, firmware=self.firmware)

    def save_samples(self, planned: PlannedPhase, samples: PhaseSamples) -> str:
        """Write the raw samples of a phase."""
        return save_phase_samples(self._context, planned, samples)

    def end_phase(self, state: SessionState) -> None:  # noqa: ARG002 - the checkpoint has the state of all
        """Write a checkpoint."""
        self._checkpoint()

    def decide_early(self, planned: PlannedPhase, state: SessionState) -> Mapping[str, EndedEarly]:  # noqa: ARG002 - see Sink
        """Name no profile: whoever asks for rounds decides."""
        return {}

    def remembered_capacity(self, state: SessionState) -> Capacity | None:  # noqa: ARG002 - see Sink
        """Know nothing: it is another firmware's."""
        return None


@dataclass
class _Side:
    """One board of a session of rounds.

    Attributes:
        context: of its part.
        sink: takes what its driver measured.
        driver: drives it.
        there: label of the firmware that is on it; "" where that is not sure.
    """

    context: Context
    sink: RoundSink
    driver: PhaseDriver
    there: str = ""

    @property
    def board(self) -> Board:
        """The locked board."""
        assert self.driver.board is not None
        return self.driver.board


@dataclass(frozen=True)
class Placing:
    """A firmware on one of two boards that are measured at the same time."""

    board: int
    firmware: Firmware
    role: RunRole


@dataclass
class _Spent:
    """What the session has used so far, see :class:`Contest`; which versions the board told, by label."""

    firmwares: dict[str, FirmwareFacts] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    switches: list[Switch] = field(default_factory=list)
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
        answers: what the paths answered first, by firmware's label and profile.

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
        self._running = running
        self.answers: dict[str, dict[str, dict[str, PathAnswer]]] = {}
        self._spent = _Spent()
        self._sides: list[_Side] = []

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
                side = _Side(context, sink, PhaseDriver(context, sink))
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
    def switches(self) -> list[Switch]:
        """Every change of firmware so far."""
        return list(self._spent.switches)

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
            firmwares=list(spent.firmwares.values()),
            switches=list(spent.switches),
            boards=[one.plan.board for one in self._contexts if one.plan.board],
            seconds=round(spent.carried_s + spent.ended_s - began_s, 3),
            told_apart=self._told_apart(),
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
            spent = self._spent
            spent.firmwares = {one.label: one for one in contest.firmwares} | spent.firmwares
            spent.switches = [*contest.switches, *spent.switches]
            spent.carried_s += contest.seconds
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
            self._put(side, firmware, role, self._chosen(profiles))
            for planned in self._phases(side, index, role, profiles):
                side.driver.run_phase(planned, side.context.budget(planned))
            self._take_version(side)
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
                    self._put(side, placing.firmware, placing.role, self._chosen(profiles))
            phases = [self._phases(self._sides[one.board], index, one.role, profiles) for one in placings]
            labels = [one.firmware.facts.label for one in placings]
            for both in zip(*phases, strict=True):
                self._drive_together(list(zip(sides, both, labels, strict=True)))
            for side in sides:
                self._take_version(side)
        return [run for placing in placings for run in self.runs(index, placing.role)]

    def runs(self, index: int, role: RunRole) -> list[RawRun]:
        """Return what was measured of a round."""
        return [run for run in self._record.runs() if run.run_index == index and run.role == role]

    def _chosen(self, profiles: Sequence[str] | None) -> list[Profile]:
        plan = self.context.plan
        return [plan.profile(name) for name in profiles] if profiles is not None else list(plan.profiles)

    def _phases(
        self, side: _Side, index: int, role: RunRole, profiles: Sequence[str] | None
    ) -> list[PlannedPhase]:
        return [
            PlannedPhase(index, profile, phase, role=role, board=side.context.plan.board)
            for profile in self._chosen(profiles)
            for phase in profile.phases
        ]

    def _drive_together(self, parts: Sequence[tuple[_Side, PlannedPhase, str]]) -> None:
        """Drive one phase on each of several boards at the same time."""

        def part(side: _Side, planned: PlannedPhase, label: str) -> Callable[[], None]:
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

    # --- the firmware

    def _put(self, side: _Side, firmware: Firmware, role: RunRole, profiles: Sequence[Profile]) -> None:
        """Make sure that a firmware is on a board, answers, and is warm."""
        facts = firmware.facts
        if side.there == facts.label:
            return
        firmware.prepare()
        facts = firmware.facts  # a build may have added some
        context, board = side.context, side.board
        name = f" on {context.plan.board}" if context.plan.board else ""
        context.say(f"switching to the {facts.label} firmware{name}")
        # Whatever comes of it, the firmware of before is no longer sure to be there.
        side.there = ""
        left_s = side.driver.hard_timeout.left_s
        began_s = context.clock()
        with board.console.released() if board.console is not None else nullcontext():
            firmware.put(board.target, left_s)  # the flashing tool may need the very port
        took_s = context.clock() - began_s
        boot_s = self._await_boot(side, facts.label)
        if self._running is not None:
            said = self._running.check(board.target, facts.label, context.settings.perf_request_timeout)
            facts = structs.replace(facts, running=said)
            if facts.label not in self._spent.firmwares:
                context.say(f"with the {facts.label} firmware the board says that it runs {said!r}")
        side.there = side.sink.firmware = facts.label
        self._spent.firmwares.setdefault(facts.label, facts)
        self._spent.switches.append(
            Switch(
                label=facts.label,
                seconds=round(took_s, 3),
                boot_s=round(boot_s, 3) if boot_s is not None else None,
                board=context.plan.board,
            )
        )
        side.driver.bench.meter.forget()
        board.telemetry.version = ""
        self._warm_up(side, facts.label, role, profiles)
        board.heard()  # that it has booted is no news
        side.driver.own.switched(role)

    def _take_version(self, side: _Side) -> None:
        """Keep the version that the board told with its telemetry.

        Raises:
            DeviceError: it told another one with this firmware before.
        """
        told, known = side.board.telemetry.version, self._spent.firmwares[side.there]
        before = self._spent.told.setdefault(known.label, told) if told else ""
        if before != told:
            raise DeviceError(
                f"the board tells version {told} with the {known.label} firmware, and told {before} before: "
                "it did not switch, or went back"
            )
        self._spent.firmwares[side.there] = structs.replace(known, version=told or known.version)

    def _told_apart(self) -> bool | None:
        """Whether the board said that another firmware ran after each change; None for not a word of it."""
        if self._running is not None:
            return True
        versions = [one.version for one in self._spent.firmwares.values()]
        return len(set(versions)) == len(versions) if len(versions) > 1 and all(versions) else None

    def _await_boot(self, side: _Side, label: str) -> float | None:
        """Wait until the board answers; return the seconds, None where it was never seen away."""
        context, board = side.context, side.board
        settings = context.settings
        path = settings.perf_probe_path
        try:
            return time_boot(
                lambda try_s: get(board.target, path, timeout_s=try_s).status,
                path,
                patience_s=TRY_S,
                within_s=min(settings.device_boot_timeout_s, side.driver.hard_timeout.left_s),
                clock=context.clock,
                sleep=context.sleep,
                after=f"the {label} firmware was put on it",
            )
        except DeviceError as error:
            said = board.last_words()
            raise DeviceError("; ".join(filter(None, (str(error), said)))) from None

    def _warm_up(self, side: _Side, label: str, role: RunRole, profiles: Sequence[Profile]) -> None:
        """Ask for each path once, and load each profile for a moment; nothing of it is kept.

        Raises:
            DeviceError: a path does not answer as it should.
        """
        settings, target = side.context.settings, side.board.target
        asker = Asker(target, settings.perf_request_timeout, None, side.context.clock, side.context.sleep)
        asker.ask(profiles, min(ANSWERS_S, side.driver.hard_timeout.left_s))
        self.answers.setdefault(label, {}).update(asker.answers)
        if role != "ab-baseline":
            side.driver.state.answers |= asker.answers
        if asker.reason:
            said = board_words(side.board)
            raise DeviceError(f"the {label} firmware: {asker.reason}{said}")
        for profile in profiles:
            phase = profile.phases[0]
            load.run_phase(
                target,
                profile.requests_of(phase),
                replace(phase, duration_s=min(WARM_S, phase.duration_s)),
                headers=profile.headers,
                login=profile.login,
                request_timeout_s=settings.perf_request_timeout,
                deadline_s=WARM_S + 2 * settings.perf_request_timeout,
            )


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


def board_words(board: Board) -> str:
    """Return what the console of a board said that is fatal, behind a semicolon; "" for nothing."""
    said = board.last_words()
    return f"; {said}" if said else ""


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
