"""Putting firmwares on the boards of a session of rounds: change, wait for the boot, check, warm up.

A board is measured only when it answers with the firmware that was put on it, as far as it says which one
runs, and is warm: its first answers are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from msgspec import structs

from pytest_espperf import load
from pytest_espperf.device.http import get
from pytest_espperf.errors import DeviceError
from pytest_espperf.model.artifact import Capacity, EndedEarly, PathAnswer, PhaseResult, RunRole
from pytest_espperf.model.contest import FirmwareFacts, Switch
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import Profile
from pytest_espperf.session.answers import Asker
from pytest_espperf.session.board import Board
from pytest_espperf.session.boots import TRY_S, time_boot
from pytest_espperf.session.context import Context
from pytest_espperf.session.driver import PhaseDriver
from pytest_espperf.session.firmwares import Firmware, RunningCheck
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.record import SessionRecord
from pytest_espperf.session.saving import save_phase_samples
from pytest_espperf.session.state import SessionState

WARM_S = 0.5
"""Seconds of load by each profile that are left out after a change of firmware, besides one answer of each
path: caches fill, modules are loaded, the link wakes up."""

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
class Side:
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


class FirmwarePlacer:
    """Puts firmwares on boards.

    Args:
        running: asks a board after each change which firmware runs; None for nobody.

    Attributes:
        firmwares: what is known of each, by label.
        switches: every change so far.
        answers: what the paths answered first, by firmware's label and profile.
    """

    def __init__(self, running: RunningCheck | None) -> None:
        self.firmwares: dict[str, FirmwareFacts] = {}
        self.switches: list[Switch] = []
        self.answers: dict[str, dict[str, dict[str, PathAnswer]]] = {}
        self._running = running
        self._told: dict[str, str] = {}  # versions that boards told, by label

    def carry(self, firmwares: Sequence[FirmwareFacts], switches: Sequence[Switch]) -> None:
        """Take over what an earlier part of the session has put on its board."""
        self.firmwares = {one.label: one for one in firmwares} | self.firmwares
        self.switches = [*switches, *self.switches]

    def put(self, side: Side, firmware: Firmware, role: RunRole, profiles: Sequence[Profile]) -> None:
        """Make sure that a firmware is on a board, answers, and is warm.

        Args:
            side: the board.
            firmware: what has to be on it.
            role: of the round that comes next.
            profiles: those that it measures.

        Raises:
            BuildError: the firmware cannot be built.
            DeviceError: it cannot be put there, another one runs, or a path does not answer as it should.
        """
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
            if facts.label not in self.firmwares:
                context.say(f"with the {facts.label} firmware the board says that it runs {said!r}")
        side.there = side.sink.firmware = facts.label
        self.firmwares.setdefault(facts.label, facts)
        self.switches.append(
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

    def take_version(self, side: Side) -> None:
        """Keep the version that the board told with its telemetry.

        Raises:
            DeviceError: it told another one with this firmware before.
        """
        told, known = side.board.telemetry.version, self.firmwares[side.there]
        before = self._told.setdefault(known.label, told) if told else ""
        if before != told:
            raise DeviceError(
                f"the board tells version {told} with the {known.label} firmware, and told {before} before: "
                "it did not switch, or went back"
            )
        self.firmwares[side.there] = structs.replace(known, version=told or known.version)

    def told_apart(self) -> bool | None:
        """Whether the board said that another firmware ran after each change; None for not a word of it."""
        if self._running is not None:
            return True
        versions = [one.version for one in self.firmwares.values()]
        return len(set(versions)) == len(versions) if len(versions) > 1 and all(versions) else None

    def _await_boot(self, side: Side, label: str) -> float | None:
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

    def _warm_up(self, side: Side, label: str, role: RunRole, profiles: Sequence[Profile]) -> None:
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


def board_words(board: Board) -> str:
    """Return what the console of a board said that is fatal, behind a semicolon; "" for nothing."""
    said = board.last_words()
    return f"; {said}" if said else ""
