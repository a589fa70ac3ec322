"""The composition root: plan -> phases -> artifact -> verdict. No pytest in here."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
from msgspec import structs

from pytest_espperf import load, metrics
from pytest_espperf.artifact import (
    Comparability,
    Finding,
    PhaseReport,
    PhaseResult,
    RawRun,
    RunRole,
    SessionArtifact,
    Verdict,
)
from pytest_espperf.board import Board, connect
from pytest_espperf.budget import PhaseBudget, phase_budget
from pytest_espperf.device import Probe
from pytest_espperf.errors import DeviceError, HistoryError, ProbeError, UsageError
from pytest_espperf.history import HistoryStore, SavedSession
from pytest_espperf.identity import describe_environment, make_comparability
from pytest_espperf.judging import Judge, phase_failures, thresholds
from pytest_espperf.options import REDACTED, SIM, Settings
from pytest_espperf.parsers import split_host
from pytest_espperf.profiles import Plan, PlannedPhase, load_profiles, make_plan
from pytest_espperf.report import render_markdown

Say = Callable[[str], None]
TransportFactory = Callable[[], httpx.AsyncBaseTransport]


@dataclass(frozen=True)
class Outcome:
    """What became of a session."""

    artifact: SessionArtifact
    verdict: Verdict
    saved: SavedSession | None
    fails: bool
    save_error: str = ""


def prepare(settings: Settings, root: Path) -> tuple[Plan, Judge]:
    """Check everything that can be checked without touching the board.

    Raises:
        UsageError: a bad profile, rule or baseline.
    """
    plan = make_plan(settings, load_profiles(root))
    return plan, Judge.from_settings(settings)


def history_folder(settings: Settings, root: Path) -> Path:
    """Where the artifacts lie."""
    return (root / settings.perf_history) if settings.perf_history else root / "tools" / "perf_history"


class PerfSession:
    """One invocation: drives phases one by one, keeps them on disk, judges them at the end.

    Args:
        settings: the options in force.
        root: the project's root directory.
        say: takes one line of progress.
        clock: monotonic seconds.
        sleep: seconds -> None.
    """

    def __init__(
        self,
        settings: Settings,
        root: Path,
        *,
        say: Say = print,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self.plan, self._judge = prepare(settings, root)
        self.hard_stop_reason = ""
        self.board: Board | None = None
        self._root = root
        self._say = say
        self._clock = clock
        self._sleep = sleep
        self._began = clock()
        self._session_id = uuid.uuid4().hex
        self._timestamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        self._store = HistoryStore(history_folder(settings, root))
        self._runs: dict[tuple[RunRole, str, int], list[PhaseResult]] = {}
        self._engine = ""
        self._last_round: tuple[RunRole, int] | None = None
        self._environment: dict[str, Any] = {}
        self._closing = ExitStack()
        self.is_open = False

    # --- opening -----------------------------------------------------------------------------

    def open(self) -> None:
        """Prepare the history folder and, where the device is named in the options, reach for it.

        Raises:
            UsageError: the name does not resolve.
            HistoryError: the history folder cannot be written.
            BoardBusyError: another session measures this board.
            SimError: the reference device does not start.
        """
        self._store.prepare()
        self._judge.find_baseline(self._store, self._root)
        self._environment = describe_environment(self._root)
        if self.settings.device_ip:
            self._connect_named()
        self._checkpoint = self._store.open_checkpoint(self._session_id)
        self._closing.callback(self._checkpoint.release)
        for found in self._checkpoint.recovered:
            self._say(f"an interrupted session of before is kept as {found.json_path.name}")
        for error in self._checkpoint.unreadable:
            self._say(f"what an interrupted session left cannot be read, and is kept: {error}")
        self._checkpoint.write(self._artifact(partial=True))
        self.is_open = True

    def _connect_named(self) -> None:
        if self.settings.device_ip == SIM:
            self.board = connect(self.settings, SIM, 0, closing=self._closing)
            return
        host, port = split_host(self.settings.device_ip)
        explicit = "device_port" in self.settings.sources
        if port is not None and explicit and port != self.settings.device_port:
            raise UsageError(
                f"{self.settings.where('device_ip')} says port {port} and "
                f"{self.settings.where('device_port')} says {self.settings.device_port}: give one of them"
            )
        self.connect(host, port or self.settings.device_port)

    def connect(self, host: str, port: int) -> Board:
        """The locked board at an address; the first call takes the lock, the same address gives it again.

        Raises:
            UsageError: the name does not resolve, or it is another board than before.
            BoardBusyError: another session measures this board.
        """
        if self.board is None:
            self.board = connect(self.settings, host, port, closing=self._closing)
        elif not self.board.is_at(host, port):
            raise UsageError(
                f"one session measures one board: {host}:{port} was asked for after {self.board.url}"
            )
        return self.board

    def close(self) -> None:
        """Give back the lock and the checkpoint's slot, end the reference device; idempotent."""
        self._closing.close()

    # --- one phase ---------------------------------------------------------------------------

    def planned(self) -> list[PlannedPhase]:
        """Every phase, in the order it is to be driven."""
        return self.plan.phases()

    def budget(self, planned: PlannedPhase) -> PhaseBudget:
        """The seconds that one phase's test item may take."""
        return phase_budget(self.settings, self.plan, planned.phase)

    def probe(self, budget_s: float = float("inf")) -> Probe:
        """Make sure that the board answers.

        Raises:
            ProbeError: it does not; the session is stopped.
        """
        assert self.board is not None
        try:
            return self.board.probe(budget_s)
        except ProbeError as error:
            self.stop(str(error))
            raise

    def stop(self, reason: str) -> None:
        """End the session's measuring for good: no later phase is driven."""
        self.hard_stop_reason = self.hard_stop_reason or reason

    def run_phase(
        self, planned: PlannedPhase, budget: PhaseBudget, transport: TransportFactory | None = None
    ) -> PhaseResult:
        """Probe the board, drive one phase, keep it.

        Args:
            planned: what to drive.
            budget: the seconds it may take, see :meth:`budget`.
            transport: makes the user's own httpx transport, one per client, in place of ours.

        Returns:
            the phase with the absolute budgets it broke.

        Raises:
            DeviceError: the board could not be measured; the session's verdict will be ``failed``.
        """
        assert self.board is not None
        began = self._clock()
        if self._last_round not in {None, (planned.role, planned.run)}:
            self._sleep(self.settings.perf_between_runs_ms / 1e3)
        self._last_round = (planned.role, planned.run)
        self._check_hard_timeout(planned)
        self.probe(budget.probe_s)
        report = self._measure(planned, budget, began, transport)
        reasons = phase_failures(report, thresholds(self.settings, planned.profile))
        result = PhaseResult(
            profile=planned.profile.name,
            phase=planned.phase.name,
            passed=not reasons,
            fail_reasons=reasons,
            report=report,
        )
        self._runs.setdefault((planned.role, planned.profile.name, planned.run), []).append(result)
        self._write_checkpoint()
        self._check_hard_timeout(planned)
        if not report.ok:
            raise DeviceError(f"{planned.label(self.plan.runs)}: {reasons[0]}")
        return result

    def _write_checkpoint(self) -> None:
        try:
            self._checkpoint.write(self._artifact(partial=True))
        except HistoryError as error:
            # The phases already measured are worth more than their copy on a disk that may recover.
            self._say(f"WARNING: {error}")

    def _check_hard_timeout(self, planned: PlannedPhase) -> None:
        limit = self.settings.perf_hard_timeout_s
        elapsed = self._clock() - self._began
        if limit and elapsed >= limit:
            self.stop(
                f"hard timeout: {elapsed:.1f} s of {limit:g} s had passed "
                f"({self.settings.where('perf_hard_timeout_s')}) before {planned.label(self.plan.runs)}"
            )
            raise DeviceError(self.hard_stop_reason)

    def _measure(
        self, planned: PlannedPhase, budget: PhaseBudget, began: float, transport: TransportFactory | None
    ) -> PhaseReport:
        assert self.board is not None
        settings = self.settings
        label = planned.label(self.plan.runs)

        def heartbeat(progress: load.Progress) -> None:
            p95 = f", p95 {progress.p95_ms:,.0f} ms" if progress.p95_ms is not None else ""
            self._say(
                f"{label} {progress.elapsed_s:.1f}/{progress.duration_s:g} s: "
                f"{progress.rps:,.1f} req/s{p95}, {progress.errors} errors"
            )

        before = self.board.telemetry.read(reset=True, budget_s=2.0)
        left_s = budget.inner_s - (self._clock() - began) - 2.0
        if settings.perf_hard_timeout_s:
            left_s = min(left_s, settings.perf_hard_timeout_s - (self._clock() - self._began))
        samples = load.run_phase(
            self.board.target,
            planned.profile.requests,
            planned.phase,
            headers=planned.profile.headers,
            request_timeout_s=settings.perf_request_timeout,
            warmup_s=self.plan.warmup_s,
            deadline_s=max(0.5, min(left_s, budget.load_s)),
            heartbeat_s=settings.perf_heartbeat_ms / 1e3,
            on_heartbeat=heartbeat,
            transport=transport,
        )
        self._sleep(settings.perf_settle_ms / 1e3)
        after_s = max(1.0, budget.inner_s - (self._clock() - began))
        after = self.board.telemetry.read(budget_s=min(after_s, 2 * settings.perf_request_timeout))
        if samples.generator is not None:
            self._engine = samples.generator.engine
        report = metrics.summarise(samples)
        return structs.replace(
            report,
            stats_before=before.stats,
            stats_after=after.stats,
            mem_before=before.memory,
            mem_after=after.memory,
        )

    def confirmations(self) -> list[PlannedPhase]:
        """The phases to measure again: of each profile that would fail, ``--perf-confirm`` rounds.

        [] where nothing would fail, or not everything planned was measured.
        """
        if self.hard_stop_reason or self.measured() < len(self.plan.phases()):
            return []
        again = self._judge.to_confirm(self._artifact(partial=False), self._store)
        rounds = range(1, self.settings.perf_confirm + 1)
        return [
            PlannedPhase(index, self.plan.profile(name), phase, role="confirm")
            for index in rounds
            for name in again
            for phase in self.plan.profile(name).phases
        ]

    # --- the end -----------------------------------------------------------------------------

    def measured(self) -> int:
        """How many of the planned phases were measured."""
        return sum(len(results) for (role, _, _), results in self._runs.items() if role == "run")

    def finish(self, interrupted: str = "") -> Outcome:
        """Judge, write the artifacts, give the verdict.

        Args:
            interrupted: why not everything planned was driven, "" where it was. Such a session is
                ``incomplete``: never ``latest.json``, never a baseline.

        Where the artifacts cannot be written the outcome says so, and the checkpoint stays.
        """
        artifact = self._artifact(partial=False)
        missing = len(self.plan.phases()) - self.measured()
        if not self.hard_stop_reason and missing and (interrupted or self.measured()):
            why = interrupted or f"{missing} of {len(self.plan.phases())} phases were not selected"
            verdict = Verdict(
                kind="incomplete", findings=[Finding(severity="info", kind="incomplete", message=why)]
            )
            artifact = structs.replace(artifact, partial=True)
        else:
            artifact, verdict = self._judge.judge(artifact, self._store)
        fails = self._judge.fails(verdict)
        incomplete = verdict.kind == "incomplete"
        artifact = structs.replace(artifact, gate=verdict, overall_pass=not fails and not incomplete)
        try:
            saved = self._store.save(artifact, render_markdown(artifact), latest=not incomplete)
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

    def _artifact(self, *, partial: bool) -> SessionArtifact:
        raw_runs = [
            RawRun(profile=profile, run_index=run, role=role, results=list(results))
            for (role, profile, run), results in self._runs.items()
        ]
        board = self.board
        return SessionArtifact(
            session_id=self._session_id,
            timestamp_utc=self._timestamp,
            tag=self.settings.perf_tag,
            target=board.name if board else "",
            profiles=[profile.name for profile in self.plan.profiles],
            runs_per_profile=self.plan.runs,
            hard_stop_reason=self.hard_stop_reason,
            thresholds=thresholds(self.settings, None),
            raw_runs=raw_runs,
            aggregated=metrics.aggregate(raw_runs),
            settings=self._describe_settings(),
            comparability=self._comparability() if board else None,
            environment=self._environment,
            device=board.describe() if board else {},
            partial=partial,
        )

    def _describe_settings(self) -> dict[str, Any]:
        described = self.settings.describe()
        described["sources"] = dict(self.settings.sources)
        described["profiles"] = {
            profile.name: {
                "source": profile.source,
                "limits": dict(profile.limits),
                "headers": [f"{name}: {REDACTED}" for name, _ in profile.headers],
            }
            for profile in self.plan.profiles
        }
        return described

    def _comparability(self) -> Comparability:
        assert self.board is not None
        return make_comparability(
            self.plan,
            board=self.board.identity,
            scheme=self.settings.device_scheme,
            engine=self._engine,
            device_headers=self.settings.device_header,
        )
