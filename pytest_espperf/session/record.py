"""What a session has seen so far, and the artifact made of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_espperf.config.settings import Settings
from pytest_espperf.gate.stops import replace_stopped
from pytest_espperf.model import metrics
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
from pytest_espperf.model.findings import REPOSITORY
from pytest_espperf.session.board import BoardFacts, facts_unreached
from pytest_espperf.session.folder import history_folder
from pytest_espperf.session.identity import describe_environment, make_comparability
from pytest_espperf.session.limits import thresholds
from pytest_espperf.session.plan import Plan, PlannedPhase
from pytest_espperf.system.redaction import REDACTED


class SessionRecord:
    """The phases measured so far. Grows by :meth:`add`; everything else is derived.

    Args:
        settings: the options in force.
        plan: what is to be measured.
        root: the project's root directory.
        boards: how many boards the run has.

    Attributes:
        session_id: unique.
        timestamp_utc: of the session's start; a name, never used to measure time.
    """

    def __init__(self, settings: Settings, plan: Plan, root: Path, boards: int = 1) -> None:
        self.session_id = uuid.uuid4().hex
        self.timestamp_utc = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        self._settings = settings
        self._plan = plan
        self._of_run = boards
        self._environment = describe_environment(root, history_folder(settings, root))
        self._runs: dict[tuple[RunRole, str, int], list[PhaseResult]] = {}
        self._boards: dict[RunRole, str] = {}
        self._engine = ""

    def add(self, planned: PlannedPhase, result: PhaseResult, *, board: str = "") -> None:
        """Keep one measured phase; measured once more (a rerun), it takes the place of the first.

        ``board`` names the reference board where it was measured there.
        """
        self._boards[planned.role] = board
        results = self._runs.setdefault((planned.role, planned.profile.name, planned.run), [])
        results[:] = [kept for kept in results if kept.phase != result.phase] + [result]
        if result.report.generator is not None and not board:
            self._engine = result.report.generator.engine

    def discard(self, planned: PlannedPhase) -> None:
        """Forget a phase, and the reference's beside it."""
        for role in (planned.role, "reference"):
            key: tuple[RunRole, str, int] = (role, planned.profile.name, planned.run)
            kept = [result for result in self._runs.get(key, []) if result.phase != planned.phase.name]
            if kept:
                self._runs[key] = kept
            else:
                self._runs.pop(key, None)

    def remarks(self) -> list[Finding]:
        """What is missing in the description of the environment."""
        trouble = self._environment["git_trouble"]
        return [Finding(severity="warn", kind=REPOSITORY, message=trouble)] if trouble else []

    @property
    def measured(self) -> int:
        """How many of the planned phases were measured."""
        return sum(len(results) for (role, _, _), results in self._runs.items() if role == "run")

    def artifact(
        self,
        board: BoardFacts | None,
        hard_stop_reason: str = "",
        ended: Mapping[str, EndedEarly] | None = None,
        capacity: Capacity | None = None,
        answers: Mapping[str, dict[str, PathAnswer]] | None = None,
    ) -> SessionArtifact:
        """The artifact so far, without a verdict.

        Args:
            board: None where it was never reached.
            hard_stop_reason: why no later phase is driven, "" where they are.
            ended: the profiles that ended before their planned rounds.
            capacity: how many connections the board serves at once, where that is known.
            answers: what the paths answered before the load, by profile.
        """
        raw_runs = [
            RawRun(profile=profile, run_index=run, role=role, board=self._boards[role], results=list(results))
            for (role, profile, run), results in self._runs.items()
        ]
        facts = board or facts_unreached(self._settings)
        comparability = None
        if board is not None:
            comparability = make_comparability(
                self._plan,
                board=board.identity,
                scheme=self._settings.device_scheme,
                engine=self._engine,
                device_headers=self._settings.device_header,
            )
        return SessionArtifact(
            session_id=self.session_id,
            timestamp_utc=self.timestamp_utc,
            tag=self._settings.perf_tag,
            target=facts.name,
            profiles=[profile.name for profile in self._plan.profiles],
            runs_per_profile=self._plan.runs,
            hard_stop_reason=hard_stop_reason,
            thresholds=thresholds(self._settings, None),
            raw_runs=raw_runs,
            aggregated=metrics.aggregate(replace_stopped(raw_runs)),
            settings=self._describe_settings(),
            comparability=comparability,
            environment=self._environment,
            device=facts.description,
            boards=self._of_run,
            ended_early=dict(ended or {}),
            capacity=capacity,
            answers=dict(answers or {}),
            partial=True,
        )

    def _describe_settings(self) -> dict[str, Any]:
        described = self._settings.describe()
        described["sources"] = dict(self._settings.sources)
        described["profiles"] = {
            profile.name: {
                "source": profile.source,
                "limits": dict(profile.limits),
                "headers": [f"{name}: {REDACTED}" for name, _ in profile.headers],
            }
            for profile in self._plan.profiles
        }
        return described
