"""Passes over one board, again and again, while its firmware is being changed; nothing is stored.

::

    with BoardWatch(settings, root, say=print) as watch:
        for event in watch.events():
            ...

A pass drives the first run of the plan, and further ones of a profile that is slower in it. Its figures are
compared with the accepted baseline as those of a session are, and forgotten. The board and its lock are kept
from one pass to the next.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from pytest_espperf import device, gate
from pytest_espperf.config.settings import SIM, Settings
from pytest_espperf.errors import DeviceError, ProbeError, SimError, UsageError
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import (
    MAIN_RULE,
    Capacity,
    EndedEarly,
    GateRow,
    PhaseResult,
    SessionArtifact,
    Verdict,
)
from pytest_espperf.model.findings import INCOMPARABLE, NO_USABLE_BASELINE
from pytest_espperf.model.gates import divided_pct, of_throughput, units_of
from pytest_espperf.model.registry import METRICS, Metric, find_metric
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.verdicts import FAILING, SLOWER, rank
from pytest_espperf.session.bench import Bench
from pytest_espperf.session.board import Board
from pytest_espperf.session.confirming import confirmation_runs
from pytest_espperf.session.context import Context, Say, make_context
from pytest_espperf.session.driver import PhaseDriver
from pytest_espperf.session.folder import sharing_of
from pytest_espperf.session.identity import asked_for
from pytest_espperf.session.judging import Judge
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.preflight import check_packages, make_room_for_clients
from pytest_espperf.session.progress import OVERHEAD_S
from pytest_espperf.session.record import SessionRecord
from pytest_espperf.session.state import SessionState

RATE = "rps_ok"
"""Metric of a profile's change where none of its gates has a worse verdict."""

TRIES = 3
"""Requests of a health probe before a pass and in it: a board that is being flashed is soon noticed."""

HEARTBEAT_S = 0.5
"""Seconds between two lines about the running phase."""

CONFIRMING_RUNS = 2
"""Further runs of a profile that is slower: the median of three leaves out one that was disturbed."""

REST_S = 1.0
"""Seconds between two passes at least, and between two looks at a board that gives no answer."""


@dataclass(frozen=True)
class PassChange:
    """One profile of a pass against the baseline.

    Attributes:
        profile: its name.
        verdict: of its worst gate; "" where nothing of it was compared.
        metric: of that gate.
        d_pct: change in percent, slower positive; None where nothing was compared.
        baseline: figure of the baseline, in the metric's unit.
        now: figure of the pass, likewise; the throughput where nothing was compared.
        unit: of a throughput that counts no requests.
    """

    profile: str
    verdict: str = ""
    metric: str = RATE
    d_pct: float | None = None
    baseline: float | None = None
    now: float | None = None
    unit: str = ""

    @property
    def described(self) -> Metric:
        """Label, unit and direction of the metric."""
        found = find_metric(self.metric, self.unit)
        assert found is not None
        return found


@dataclass(frozen=True)
class MeasuredPass:
    """A pass that was measured to its end.

    Attributes:
        verdict: of the pass.
        changes: of each profile.
        trouble: the first reason why the verdict is ``failed``, in words; "" for any other verdict.
        compared_with: ids of the baseline's sessions, oldest first; empty where nothing was compared.
        incomparable: why nothing, or not everything, was compared, each in words.
    """

    verdict: Verdict
    changes: tuple[PassChange, ...]
    trouble: str = ""
    compared_with: tuple[str, ...] = ()
    incomparable: tuple[str, ...] = ()


@dataclass(frozen=True)
class SpoiledPass:
    """A pass that was not measured to its end, though the board answers."""

    reason: str


@dataclass(frozen=True)
class BoardAway:
    """The begin of a time in which the board gives no answer."""

    reason: str


@dataclass(frozen=True)
class BoardBack:
    """The end of such a time, after so many seconds."""

    after_s: float


Event = MeasuredPass | SpoiledPass | BoardAway | BoardBack


class PassSink:
    """Keeps what one pass measured in memory.

    Args:
        context: of the watch, with the plan of the sessions that a pass is compared with.
        capacity: that an earlier pass found.
    """

    def __init__(self, context: Context, capacity: Capacity | None) -> None:
        self.record = SessionRecord(context)
        self._capacity = capacity

    def add(self, planned: PlannedPhase, result: PhaseResult, *, board: str = "") -> None:
        """Add a phase to the record."""
        self.record.add(planned, result, board=board)

    def save_samples(self, planned: PlannedPhase, samples: PhaseSamples) -> str:  # noqa: ARG002 - see Sink
        """Write nothing."""
        return ""

    def end_phase(self, state: SessionState) -> None:
        """Do nothing: there is no checkpoint."""

    def decide_early(self, planned: PlannedPhase, state: SessionState) -> Mapping[str, EndedEarly]:  # noqa: ARG002 - see Sink
        """Name no profile: a pass has one run."""
        return {}

    def remembered_capacity(self, state: SessionState) -> Capacity | None:  # noqa: ARG002 - see Sink
        """Return the capacity that an earlier pass found; None before."""
        return self._capacity


class BoardWatch:
    """Measures one board again and again.

    Args:
        settings: options in force.
        root: root directory of the project.
        say: takes one line for the user.
        show: takes the line about the running phase, "" when it is over.
        every_s: seconds between the begins of two passes, at least.
        clock: monotonic seconds.
        sleep: seconds -> None.

    Raises:
        UsageError: a bad table or rule, an unknown profile, or more than one board.
    """

    def __init__(
        self,
        settings: Settings,
        root: Path,
        *,
        say: Say,
        show: Say | None = None,
        every_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = _for_passes(settings)
        self._every_s = every_s
        self._clock = clock
        self._sleep = sleep
        self._said: set[str] = set()
        self._say = say
        self._sharing = sharing_of(self.settings, root)
        self._store = HistoryStore(self._sharing.folder)
        self._store.keeps_index = False
        self._planned = make_context(
            self.settings,
            root,
            folder=self._sharing.folder,
            say=self._say_once,
            watch=show or (lambda _: None),
            watch_s=HEARTBEAT_S,
            clock=clock,
            sleep=sleep,
        )
        self._context = replace(self._planned, plan=replace(self._planned.plan, runs=1))
        self._judge = Judge.from_settings(self.settings)
        self._closing = ExitStack()
        self._bench = Bench(self._context)
        self._capacity: Capacity | None = None

    def __enter__(self) -> BoardWatch:  # noqa: PYI034 - typing.Self is younger than 3.10
        """Find and lock the board.

        Raises:
            UsageError: its name does not resolve, a package is missing, or this computer has too few file
                descriptors.
            BoardBusyError: another session measures it.
            SimError: the reference device does not start.
        """
        try:
            check_packages(self._context)
            make_room_for_clients(self._context)
            self._sharing.pull_once(self._say, quiet=True)
            self._judge.baselines.find_named(self._store, self._context.root, alone=True)
            self._find_board()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the lock, end the reference device; idempotent."""
        self._closing.close()

    @property
    def board(self) -> Board:
        """The locked board."""
        assert self._bench.board is not None
        return self._bench.board

    @property
    def profiles(self) -> list[str]:
        """Names of the profiles of each pass."""
        return [profile.name for profile in self._context.plan.profiles]

    @property
    def pass_s(self) -> float:
        """Seconds that a pass takes, about."""
        plan = self._context.plan
        return sum(plan.warmup_s + one.phase.duration_s + OVERHEAD_S for one in plan.phases())

    def events(self, passes: int = 0) -> Iterator[Event]:
        """Measure, and report each pass and each time that the board is away.

        Args:
            passes: end after so many passes, measured or spoiled; 0 for no end.

        Raises:
            SimError: the reference device has ended.
            BoardBusyError: the board came back with another address, where another session measures it.
        """
        done = 0
        while True:
            began_s = self._clock()
            yield from self._wait_for_board()
            one = self._drive()
            if one is not None:
                yield one
                done += 1
                if done == passes:
                    return
                self._sleep(max(REST_S, began_s + self._every_s - self._clock()))

    # --- one pass

    def _drive(self) -> MeasuredPass | SpoiledPass | None:
        """Drive one pass; None where the board stopped answering in it."""
        sink = PassSink(self._planned, self._capacity)
        driver = PhaseDriver(self._context, sink, self._bench)
        self._bench.meter.forget()  # that it has booted since the last pass is no sign of a fault
        try:
            self._drive_phases(driver, self._context.plan.phases())
            artifact, verdict = self._judged(sink, driver.known())
            if slower := _unconfirmed(verdict):
                again = confirmation_runs(self._context.plan, dict.fromkeys(slower, CONFIRMING_RUNS))
                self._drive_phases(driver, again)
                artifact, verdict = self._judged(sink, driver.known())
        except DeviceError as error:
            return SpoiledPass(str(error)) if not self._why_away() else None
        finally:
            self._context.show_running("")
        self._capacity = artifact.capacity
        return _measured(artifact, verdict, self._judge.baselines.missing)

    def _drive_phases(self, driver: PhaseDriver, phases: Iterable[PlannedPhase]) -> None:
        for planned in phases:
            driver.run_phase(planned, self._context.budget(planned))

    def _judged(self, sink: PassSink, state: SessionState) -> tuple[SessionArtifact, Verdict]:
        """Judge what was measured of a pass."""
        # One run is all that was planned of it, though it is comparable with sessions of several.
        artifact = structs.replace(sink.record.artifact(state), partial=False, runs_per_profile=1)
        baseline = self._judge.baselines.sessions(artifact, self._store)
        return artifact, gate.judge(artifact, baseline, self._judge.policy)

    # --- the board

    def _find_board(self) -> None:
        """Find and lock the board, for the first time or at its new address."""
        self._closing.close()
        self._closing = ExitStack()
        self._bench = Bench(replace(self._context, closing=self._closing))
        self._bench.find_named()
        self._capacity = None

    def _wait_for_board(self) -> Iterator[BoardAway | BoardBack]:
        """Wait until the board answers; report the begin and the end of a wait."""
        reason = self._why_away(TRIES)
        if not reason:
            return
        began_s = self._clock()
        yield BoardAway(reason)
        while self._why_away():
            self._sleep(REST_S)
            if self._has_moved():
                self._find_board()
        self._capacity = None  # it may have another firmware
        yield BoardBack(self._clock() - began_s)

    def _why_away(self, tries: int = 1) -> str:
        """Say why the board gives no healthy answer; "" where it gives one.

        Raises:
            SimError: it is the reference device, and has ended.
        """
        board = self.board
        if board.sim is not None and not board.sim.alive:
            raise SimError("the reference device has ended")
        try:
            board.probe(tries=tries)
        except ProbeError as error:
            return str(error)
        return ""

    def _has_moved(self) -> bool:
        """Whether the board's name leads to another address now."""
        asked = asked_for(self.settings)
        if asked is None or asked[0] in {SIM, self.board.target.address}:
            return False
        try:
            return device.resolve_target(*asked).address != self.board.target.address
        except UsageError:  # not yet
            return False

    def _say_once(self, line: str) -> None:
        """Print what every pass would warn of once."""
        if line not in self._said:
            self._said.add(line)
            self._say(line)


def _for_passes(settings: Settings) -> Settings:
    """Return the options of a pass: the preset ``quick`` where none is chosen, and no file or second board.

    The serial port stays free for the tool that flashes the board.

    Raises:
        UsageError: no board is named, or several are.
    """
    if len(settings.device_ip) != 1:
        raise UsageError(f"{settings.where('device_ip')}: watch measures one board")
    preset = settings.perf_preset if "perf_preset" in settings.sources else "quick"
    return settings.but(
        perf_preset=preset,
        perf_probe_retries=min(TRIES, settings.perf_probe_retries),
        perf_hard_timeout_s=0.0,
        perf_save_samples=False,
        perf_ab_baseline_cmd="",
        perf_ab_candidate_cmd="",
        perf_file=(),
        perf_figure_limit=(),
        device_reset_cmd="",
        device_reset_lines=False,
        device_reference="",
        device_serial="",
    )


def _measured(artifact: SessionArtifact, verdict: Verdict, missing: str) -> MeasuredPass:
    failures = [finding.message for finding in verdict.findings if finding.severity == "fail"]
    left_out = [one.message for one in verdict.findings if one.kind in {INCOMPARABLE, NO_USABLE_BASELINE}]
    return MeasuredPass(
        verdict=verdict,
        changes=tuple(_change(artifact, verdict, profile) for profile in artifact.profiles),
        trouble=failures[0] if failures else "",
        compared_with=tuple(verdict.baseline.get("sessions", ())),
        incomparable=tuple(filter(None, [missing, *left_out])),
    )


def _unconfirmed(verdict: Verdict) -> list[str]:
    """List the profiles that are slower in the one run, and were not measured again."""
    unclear = gate.unclear_profiles(verdict)
    slower = {row.profile for row in verdict.gates if row.verdict in SLOWER and not row.confirmation}
    return [profile for profile in unclear if profile in slower]


def _change(artifact: SessionArtifact, verdict: Verdict, profile: str) -> PassChange:
    """Choose the figure that stands for a profile: the gate with the worst verdict, else the throughput."""
    rows = [row for row in verdict.gates if row.profile == profile and _shows_change(row)]
    if not rows:
        return PassChange(profile, now=_rate(artifact, profile), unit=units_of(artifact).get(profile, ""))
    worst = min(rows, key=lambda row: (rank(row.verdict), row.rule != MAIN_RULE, row.metric != RATE))
    return PassChange(
        profile,
        worst.verdict,
        worst.metric,
        divided_pct(worst, worst.d_pct),
        worst.baseline,
        worst.now,
        worst.unit,
    )


def _shows_change(row: GateRow) -> bool:
    return row.metric in METRICS and (row.d_pct is not None or row.verdict in FAILING)


def _rate(artifact: SessionArtifact, profile: str) -> float | None:
    """Compute the throughput of a profile: the geometric mean of its phases, as a gate's."""
    cells = {name: cell for name, cell in artifact.aggregated.items() if cell.profile == profile}
    chosen = of_throughput({name: cell.paced for name, cell in cells.items()})
    rates = [rate for name in chosen if (rate := cells[name].rps_ok.median)]
    return math.exp(sum(map(math.log, rates)) / len(rates)) if rates else None
