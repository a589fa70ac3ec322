"""What a session has measured so far, and the artifact made of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from pytest_espperf.config.settings import Settings
from pytest_espperf.gate.stops import replace_stopped
from pytest_espperf.model import metrics
from pytest_espperf.model.artifact import (
    Finding,
    PhaseResult,
    RatioBudget,
    RawRun,
    RunRole,
    SessionArtifact,
)
from pytest_espperf.model.findings import REPOSITORY
from pytest_espperf.session.board import facts_unreached
from pytest_espperf.session.context import Context
from pytest_espperf.session.figure_limits import figure_limits
from pytest_espperf.session.identity import describe_environment, make_comparability
from pytest_espperf.session.limits import thresholds
from pytest_espperf.session.plan import PlannedPhase, SessionPlan
from pytest_espperf.session.state import SessionState
from pytest_espperf.system.redaction import REDACTED


class SessionRecord:
    """The phases measured so far. Grows by :meth:`add`; everything else is derived.

    Args:
        context: of the session.

    Attributes:
        timestamp_utc: of the session's start; a name, never used to measure time.
    """

    def __init__(self, context: Context) -> None:
        self.timestamp_utc = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        self._context = context
        self._environment = describe_environment(context.root, context.folder)
        self._runs: dict[tuple[RunRole, str, int], list[PhaseResult]] = {}
        self._where: dict[tuple[RunRole, str, int], tuple[str, str]] = {}
        self._engine = ""

    def add(self, planned: PlannedPhase, result: PhaseResult, *, board: str = "", firmware: str = "") -> None:
        """Keep one measured phase; measured once more (a rerun), it takes the place of the first.

        Args:
            planned: what was measured.
            result: what came of it.
            board: name of the board where it is not the one of the session: the control board, or one of two.
            firmware: label of the firmware, where a session has several.
        """
        key = (planned.role, planned.profile.name, planned.run)
        self._where[key] = (board, firmware)
        results = self._runs.setdefault(key, [])
        results[:] = [kept for kept in results if kept.phase != result.phase] + [result]
        if result.report.generator is not None and planned.role != "reference":
            self._engine = result.report.generator.engine

    def carry(self, runs: Sequence[RawRun]) -> bool:
        """Take over runs that an earlier part of the session measured.

        Returns:
            whether any of them was not here yet.
        """
        found = {(run.role, run.profile, run.run_index): run for run in runs}
        news = {key: run for key, run in found.items() if key not in self._runs}
        self._where |= {key: (run.board, run.firmware) for key, run in news.items()}
        self._runs = {key: list(run.results) for key, run in news.items()} | self._runs  # they began before
        return bool(news)

    def holds(self, runs: Sequence[RawRun]) -> bool:
        """Whether all of these runs are here, with the same results."""
        return all(self._runs.get((run.role, run.profile, run.run_index)) == run.results for run in runs)

    def discard(self, planned: PlannedPhase) -> None:
        """Forget a phase, and the control board's beside it."""
        for role in (planned.role, "reference"):
            key: tuple[RunRole, str, int] = (role, planned.profile.name, planned.run)
            kept = [result for result in self._runs.get(key, []) if result.phase != planned.phase.name]
            if kept:
                self._runs[key] = kept
            else:
                self._runs.pop(key, None)

    def remarks(self) -> list[Finding]:
        """Return findings about what is missing in the description of the environment."""
        trouble = self._environment["git_trouble"]
        return [Finding(severity="warn", kind=REPOSITORY, message=trouble)] if trouble else []

    def has(self, planned: PlannedPhase) -> bool:
        """Whether a phase was measured."""
        results = self._runs.get((planned.role, planned.profile.name, planned.run), [])
        return any(result.phase == planned.phase.name for result in results)

    @property
    def measured(self) -> int:
        """How many of the planned phases were measured."""
        return sum(len(results) for (role, _, _), results in self._runs.items() if role == "run")

    def runs(self) -> list[RawRun]:
        """List the runs so far, in the order in which they began."""
        return [
            RawRun(
                profile=profile,
                run_index=run,
                role=role,
                board=self._where[role, profile, run][0],
                firmware=self._where[role, profile, run][1],
                results=list(results),
            )
            for (role, profile, run), results in self._runs.items()
        ]

    def artifact(self, state: SessionState) -> SessionArtifact:
        """Return the artifact so far, without a verdict.

        Args:
            state: what is known besides the measured phases.
        """
        settings, plan = self._context.settings, self._context.plan
        raw_runs = self.runs()
        facts = state.facts or facts_unreached(settings)
        comparability = None
        if state.facts is not None:
            comparability = make_comparability(
                plan,
                board=state.facts.identity,
                scheme=settings.device_scheme,
                engine=self._engine,
                device_headers=settings.device_header,
            )
        return SessionArtifact(
            session_id=self._context.session_id,
            timestamp_utc=self.timestamp_utc,
            tag=settings.perf_tag,
            target=facts.name,
            profiles=[profile.name for profile in plan.profiles],
            runs_per_profile=plan.runs,
            hard_stop_reason=state.hard_stop_reason,
            thresholds=thresholds(settings, None) | figure_limits(settings),
            raw_runs=raw_runs,
            aggregated=metrics.aggregate(replace_stopped(raw_runs)),
            settings=_describe_settings(settings, plan),
            comparability=comparability,
            environment=self._environment,
            device=facts.description,
            boards=self._context.boards,
            ended_early=dict(state.ended),
            capacity=state.capacity,
            answers=dict(state.answers),
            figures=dict(state.figures),
            ratios=[
                RatioBudget(profile=profile.name, to=ratio.to, metric=metric, limit=limit)
                for profile in plan.profiles
                for ratio in profile.ratios
                for metric, limit in ratio.limits.items()
            ],
            partial=True,
        )


def _describe_settings(settings: Settings, plan: SessionPlan) -> dict[str, Any]:
    """Describe the options in force, where each came from, and the profiles that they chose."""
    described = settings.describe()
    described["sources"] = dict(settings.sources)
    described["profiles"] = {
        profile.name: {
            "source": profile.source,
            "limits": dict(profile.limits),
            "headers": [f"{name}: {REDACTED}" for name, _ in profile.headers],
        }
        for profile in plan.profiles
    }
    return described
