"""Judging a session: against the history while it is measured, at its end, and again at any later time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from pytest_espperf import gate
from pytest_espperf.config.settings import Settings
from pytest_espperf.errors import ArtifactError, HistoryError, UsageError
from pytest_espperf.gate.policy import CALM_ROUNDS
from pytest_espperf.history import HistoryStore, names
from pytest_espperf.history.rows import Query
from pytest_espperf.model.artifact import EndedEarly, Finding, RawRun, SessionArtifact, Verdict
from pytest_espperf.model.findings import (
    DETECTABLE,
    FIRST_OF_BOARD,
    KEPT,
    NAMED_BASELINE,
    OWN_TEST,
    STANDING,
    UNREADABLE_ARTIFACT,
)
from pytest_espperf.model.verdicts import VERDICTS
from pytest_espperf.session.earlier import BaselineLookup, last_engine
from pytest_espperf.session.figure_limits import figure_limits
from pytest_espperf.session.firmware import can_switch
from pytest_espperf.session.identity import identity_of, with_engine
from pytest_espperf.session.plan import PlannedPhase, SessionPlan


@dataclass(frozen=True)
class Judgement:
    """A session with its verdict, and whether that means exit code 1."""

    artifact: SessionArtifact
    verdict: Verdict
    fails: bool


class Judge:
    """Judges a session against the history, as the options say.

    Args:
        settings: options in force.
        policy: what they say of judging.

    Attributes:
        baselines: finds what the session is compared with.
    """

    def __init__(self, settings: Settings, policy: gate.GatePolicy) -> None:
        self.settings = settings
        self.policy = policy
        self.baselines = BaselineLookup(settings)

    @classmethod
    def from_settings(cls, settings: Settings) -> Judge:
        """Check the options that say how to judge.

        Raises:
            UsageError: a bad rule; names its source.
        """
        try:
            fail_on = [rule for text in settings.perf_fail_on for rule in gate.parse_fail_on(text)]
        except ValueError as error:
            raise UsageError(f"{settings.where('perf_fail_on')}: {error}") from None
        try:
            min_effect = (
                gate.parse_min_effect(",".join(settings.perf_min_effect)) if settings.perf_min_effect else {}
            )
        except ValueError as error:
            raise UsageError(f"{settings.where('perf_min_effect')}: {error}") from None
        figure_limits(settings)
        mode = "fixed" if BaselineLookup(settings).is_named else settings.perf_baseline
        return cls(
            settings,
            gate.GatePolicy(
                baseline=mode,  # type: ignore[arg-type] # one of the three words by the line above
                fail_on=tuple(fail_on),
                min_effect=min_effect,
                strict=settings.perf_strict,
                require_baseline=settings.perf_require_baseline,
                tolerance=settings.perf_tolerance / 100,
                confirm_rounds=settings.perf_confirm,
                enabled=not settings.perf_no_gate,
            ),
        )

    def early_end(
        self,
        planned: PlannedPhase,
        plan: SessionPlan,
        so_far: Callable[[], SessionArtifact],
        store: HistoryStore,
    ) -> Mapping[str, EndedEarly]:
        """Name the profiles that need no further run; where pairs can be measured, all of them or none.

        Args:
            planned: first phase of a run of its profile.
            plan: of the session.
            so_far: makes the artifact of what was measured.
            store: the history.
        """
        if can_switch(self.settings):
            if planned.profile != plan.profiles[0] or not self._may_stop_early(so_far(), store):
                return {}
            ended = EndedEarly(after=planned.run - 1, planned=plan.runs, why="calm")
            return dict.fromkeys((profile.name for profile in plan.profiles), ended)
        if planned.run <= CALM_ROUNDS or _measures_all(self.settings):
            return {}
        candidate = so_far()
        decided = gate.decide_early(candidate, self.baselines.sessions(candidate, store), self.policy)
        ended_now = decided.get(planned.profile.name)
        if ended_now is None or ended_now.after != planned.run - 1:
            return {}
        return {planned.profile.name: ended_now}

    def _may_stop_early(self, candidate: SessionArtifact, store: HistoryStore) -> bool:
        """Whether nothing is suspect so far."""
        if _measures_all(self.settings) or not self.policy.enabled:
            return False
        return gate.may_stop_early(candidate, self.baselines.sessions(candidate, store), self.policy)

    def against(self, planned: SessionArtifact, profiles: Collection[str], store: HistoryStore) -> str:
        """Say what a session will be compared with, before anything is measured.

        Example: ``against 6 accepted sessions since 2026-11-20``.

        Args:
            planned: the session without runs.
            profiles: those that will be measured.
            store: the history.

        Returns:
            "" where the board, or its history, is not known yet.
        """
        if not self.policy.enabled:
            return "not compared with earlier sessions"
        if planned.comparability is None:
            return ""
        try:
            # What drove the board last will do so again; the history is then read once.
            facts = with_engine(planned.comparability, last_engine(planned, store))
            candidate = structs.replace(planned, comparability=facts)
            choice = gate.choose(candidate, self.baselines.sessions(candidate, store), self.policy)
        except (HistoryError, ArtifactError):
            return ""  # reported where it is needed
        return _baseline_in_words(
            {name: gate.baseline_of(choice.epochs.get(name, ()), self.policy) for name in profiles}
        )

    def judge(self, candidate: SessionArtifact, store: HistoryStore) -> tuple[SessionArtifact, Verdict]:
        """Return the candidate with its comparison to the previous session, and the verdict."""
        baseline = self.baselines.sessions(candidate, store)
        previous = self.baselines.previous(candidate, store)
        comparison = gate.compare_to_previous(candidate, previous) if previous is not None else {}
        candidate = structs.replace(candidate, comparison_to_previous=comparison)
        verdict = gate.judge(candidate, baseline, self.policy)
        missing = self.baselines.missing
        if missing and self.policy.enabled and not candidate.partial:
            verdict = failed_by(verdict, Finding(severity="fail", kind=NAMED_BASELINE, message=missing))
        findings = list(verdict.findings)
        if not baseline and not missing:
            findings += _first_of_board(candidate, store, named=bool(self.settings.device_id))
        findings += _unreadable(store)
        if sentence := gate.detectable_sentence(verdict):
            findings.append(Finding(kind=DETECTABLE, message=sentence))
        return candidate, structs.replace(verdict, findings=findings)

    def conclude(self, artifact: SessionArtifact, verdict: Verdict) -> Judgement:
        """Give an artifact its final verdict."""
        fails = gate.fails(verdict, self.policy)
        passed = not fails and VERDICTS[verdict.kind].complete
        return Judgement(structs.replace(artifact, gate=verdict, overall_pass=passed), verdict, fails)


def _baseline_in_words(baselines: Mapping[str, Sequence[SessionArtifact]]) -> str:
    """Describe the baselines of profiles, each oldest first."""
    longest = max(baselines.values(), key=len, default=())
    if not longest:
        return "no baseline yet"
    began = names.parse_stamp(longest[0].timestamp_utc)
    when = f"{began:%Y-%m-%d}" if began is not None else "an unknown time"
    many = f"{len(longest)} accepted sessions since" if len(longest) > 1 else "1 session of"
    without = [name for name, sessions in baselines.items() if not sessions]
    new = f", no baseline yet for {', '.join(without)}" if without else ""
    return f"against {many} {when}{new}"


def judge_again(session: SessionArtifact, store: HistoryStore, settings: Settings, root: Path) -> Judgement:
    """Judge a session as if it had just ended, with the decisions of today. Nothing is written.

    Args:
        session: complete with its runs; need not be in the history.
        store: the history; what is not older than the session is not looked at.
        settings: how to judge. Where they say a number of confirmation runs, no more of the session's own
            are counted in; others cannot be measured any more.
        root: what the path of a baseline is relative to.

    Raises:
        UsageError: a bad rule, or a baseline that is not there before the session, or not of its board; or
            the session compares firmwares.
        HistoryError: the history cannot be read.
    """
    if session.contest is not None:
        raise UsageError(
            f"{session.session_id} compares firmwares: it was judged by its own runs, and never by a history "
            f"(espperf show {session.session_id[:8]})"
        )
    judge = Judge.from_settings(settings)
    before = store.before(_place(session, store))
    judge.baselines.find_named(before, root, board=identity_of(session), alone=True)
    fixed = judge.baselines.fixed
    if fixed is not None and fixed.session_id == session.session_id:
        raise UsageError(f"{settings.where('perf_baseline')}: that is the very session that is judged")
    if "perf_confirm" in settings.sources:
        session = structs.replace(session, raw_runs=_confirmed(session.raw_runs, settings.perf_confirm))
    judged, verdict = judge.judge(session, before)
    return judge.conclude(judged, _with_kept(verdict, session.gate))


def with_failed_tests(verdict: Verdict, failed_tests: Sequence[str]) -> Verdict:
    """Fail the verdict of a session in which a project's own tests failed: it is never a baseline."""
    if not failed_tests:
        return verdict
    tests = "1 test" if len(failed_tests) == 1 else f"{len(failed_tests)} tests"
    message = f"{tests} of the project's own failed, {failed_tests[0]} first"
    return failed_by(verdict, Finding(severity="fail", kind=OWN_TEST, message=message))


def failed_by(verdict: Verdict, finding: Finding) -> Verdict:
    """Add one more reason to fail to a verdict."""
    kind = verdict.kind if verdict.fails else "failed"
    kept = [one for one in verdict.findings if one.kind not in STANDING]
    return structs.replace(verdict, kind=kind, findings=[*kept, finding])


def _measures_all(settings: Settings) -> bool:
    """Whether every planned run is wanted, however certain the answer is.

    The point of a soak is its duration; a control board's runs stand beside those of the board.
    """
    return settings.perf_all_rounds or settings.perf_preset == "soak" or bool(settings.device_reference)


def _unreadable(store: HistoryStore) -> list[Finding]:
    """Name the artifacts of the history that were skipped."""
    return [
        Finding(severity="warn", kind=UNREADABLE_ARTIFACT, where=str(error.path), message=f"skipped: {error}")
        for error in store.skipped
    ]


def _first_of_board(candidate: SessionArtifact, store: HistoryStore, *, named: bool) -> list[Finding]:
    """Say that a history has sessions of other boards only, and which may be the same hardware.

    Args:
        candidate: the session that is judged.
        store: the history.
        named: the user has given the board its identity.
    """
    if candidate.comparability is None:
        return []
    rows = store.select(Query(completed_only=True))
    others = [row for row in rows if row.comparability_key and row.measured]
    if not others:
        return []
    here = [row for row in others if row.target == candidate.target]
    moved = candidate.boards == 1 and not named and not candidate.device.get("reference_device")
    hint = ""
    if here or moved:
        where = "the newest at this address" if here else "the newest here"
        then = (here or others)[0].board
        advice = f"if that is the same hardware, pass --device-id={then} to continue its history"
        hint = f"; {where} is of {then}: {advice}"
    return [
        Finding(
            severity="warn" if hint else "info",
            kind=FIRST_OF_BOARD,
            message=f"no earlier session of this board, {identity_of(candidate)}{hint}.",
        )
    ]


def _place(session: SessionArtifact, store: HistoryStore) -> names.OrderKey:
    """Return where a session stands in the history, or would stand by its time."""
    for row in store.select():
        if row.session_id == session.session_id:
            return names.OrderKey(row.stamp, row.number, row.name)
    return names.OrderKey(names.stamp_at(session.timestamp_utc), 0, "")


def _confirmed(runs: list[RawRun], rounds: int) -> list[RawRun]:
    """Keep at most so many confirmation runs of each profile, the first ones."""
    indices: dict[str, set[int]] = {}
    for run in runs:
        if run.role == "confirm":
            indices.setdefault(run.profile, set()).add(run.run_index)
    kept = {profile: sorted(found)[:rounds] for profile, found in indices.items()}
    return [run for run in runs if run.role != "confirm" or run.run_index in kept[run.profile]]


def _with_kept(verdict: Verdict, before: Verdict | None) -> Verdict:
    """Add the findings that a session has from elsewhere than its figures."""
    known = {(finding.kind, finding.message) for finding in verdict.findings}
    kept: list[Finding] = [
        finding
        for finding in (before.findings if before is not None else ())
        if finding.kind in KEPT and (finding.kind, finding.message) not in known
    ]
    for finding in kept:
        if finding.severity == "fail":
            verdict = failed_by(verdict, finding)
        else:
            verdict = structs.replace(verdict, findings=[*verdict.findings, finding])
    return verdict
