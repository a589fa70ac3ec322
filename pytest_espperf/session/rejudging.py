"""Judging a session again, under another policy, against the history that was there before it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from pytest_espperf.config.settings import Settings
from pytest_espperf.errors import UsageError
from pytest_espperf.history import HistoryStore, names
from pytest_espperf.model.artifact import Finding, RawRun, SessionArtifact, Verdict
from pytest_espperf.model.findings import KEPT
from pytest_espperf.model.verdicts import VERDICTS
from pytest_espperf.session.judging import Judge, failed_by, identity_of


@dataclass(frozen=True)
class Judgement:
    """The session with its new verdict, and whether it means exit code 1."""

    artifact: SessionArtifact
    fails: bool


def judge_again(session: SessionArtifact, store: HistoryStore, settings: Settings, root: Path) -> Judgement:
    """Judge a session as if it had just ended, with the decisions of today. Nothing is written.

    Args:
        session: complete with its runs; need not be in the history.
        store: the history; what is not older than the session is not looked at.
        settings: how to judge. Where they say a number of confirmation rounds, no more of the session's own
            are counted in; others cannot be measured any more.
        root: what the path of a baseline is relative to.

    Raises:
        UsageError: a bad rule, or a baseline that is not there before the session, or not of its board.
        HistoryError: the history cannot be read.
    """
    judge = Judge.from_settings(settings)
    before = store.before(_place(session, store))
    judge.find_baseline(before, root, board=identity_of(session), alone=True)
    if judge.fixed is not None and judge.fixed.session_id == session.session_id:
        raise UsageError(f"{settings.where('perf_baseline')}: that is the very session that is judged")
    if "perf_confirm" in settings.sources:
        session = structs.replace(session, raw_runs=_confirmed(session.raw_runs, settings.perf_confirm))
    judged, verdict = judge.judge(session, before)
    verdict = _with_kept(verdict, session.gate)
    fails = judge.fails(verdict)
    passed = not fails and VERDICTS[verdict.kind].complete
    return Judgement(structs.replace(judged, gate=verdict, overall_pass=passed), fails)


def _place(session: SessionArtifact, store: HistoryStore) -> names.OrderKey:
    """Where a session stands in the history, or where it would stand by its time."""
    for row in store.select():
        if row.session_id == session.session_id:
            return names.OrderKey(row.stamp, row.number, row.name)
    return names.OrderKey(names.stamp_at(session.timestamp_utc), 0, "")


def _confirmed(runs: list[RawRun], rounds: int) -> list[RawRun]:
    """The runs with at most so many confirmation rounds of each profile, the first ones."""
    indices: dict[str, set[int]] = {}
    for run in runs:
        if run.role == "confirm":
            indices.setdefault(run.profile, set()).add(run.run_index)
    kept = {profile: sorted(found)[:rounds] for profile, found in indices.items()}
    return [run for run in runs if run.role != "confirm" or run.run_index in kept[run.profile]]


def _with_kept(verdict: Verdict, before: Verdict | None) -> Verdict:
    """The verdict with what the session was told from elsewhere than its figures."""
    told = {(finding.kind, finding.message) for finding in verdict.findings}
    kept: list[Finding] = [
        finding
        for finding in (before.findings if before is not None else ())
        if finding.kind in KEPT and (finding.kind, finding.message) not in told
    ]
    for finding in kept:
        if finding.severity == "fail":
            verdict = failed_by(verdict, finding)
        else:
            verdict = structs.replace(verdict, findings=[*verdict.findings, finding])
    return verdict
