"""Findings of the comparison: baseline, disturbed rounds, unclear profiles, standing. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from pytest_espperf.gate.baseline import name_of, profiles_of
from pytest_espperf.gate.differences import finding_about
from pytest_espperf.gate.policy import MIN_CHANGE
from pytest_espperf.gate.reference import LEAST_SESSIONS
from pytest_espperf.gate.rows import has_bound, is_composite, pct
from pytest_espperf.gate.series import COMPOSITES, ProfileRounds, Series, gateable_phases, rounds_of
from pytest_espperf.model.artifact import Finding, GateRow, SessionArtifact, Verdict
from pytest_espperf.model.findings import (
    ANSWERS,
    DISTURBED,
    ENDED_EARLY,
    ENVIRONMENT_SHIFT,
    HELD_BACK,
    NAMED_BASELINE,
    NO_BASELINE,
    NOT_EXCLUDED,
    NOT_JUDGED,
    PROVISIONAL,
    REFERENCE,
)
from pytest_espperf.model.standing import KEPT_OUT_MOST
from pytest_espperf.model.verdicts import FAILING, MAY_JOIN

MOST_CHANGES = 3
"""Paths whose answers changed that one finding names."""


def has_comparable_figures(candidate: SessionArtifact) -> bool:
    """Whether later sessions could be compared with any profile of this one."""
    return any(gateable_phases(rounds_of(candidate, profile)) for profile in profiles_of(candidate))


def answer_findings(
    changed: Mapping[str, Sequence[str]], what: str = "other answers than in the baseline"
) -> Iterator[Finding]:
    """List the profiles with changed answers; see :mod:`pytest_espperf.gate.answers`.

    Args:
        changed: the changed paths of each, in words.
        what: that has changed, against what.
    """
    for profile, changes in changed.items():
        more = f"; and {len(changes) - MOST_CHANGES} more paths" if len(changes) > MOST_CHANGES else ""
        yield Finding(
            severity="warn",
            kind=ANSWERS,
            where=profile,
            message=f"{profile}: {what}: {'; '.join(changes[:MOST_CHANGES])}{more}.",
        )


def standing_findings(
    candidate: SessionArtifact, verdict: Verdict, *, gives_way: bool, changed: bool = False
) -> Iterator[Finding]:
    """Report whether a session that does not fail may be a baseline, where its verdict leaves that open.

    Args:
        candidate: the session.
        verdict: of it.
        gives_way: it joins the baseline even if it looks slower, see
            :attr:`pytest_espperf.gate.baseline.BaselineChoice.gives_way`.
        changed: whether its answers are others than the baseline's.
    """
    if verdict.kind not in MAY_JOIN:
        return
    if changed:
        yield Finding(
            severity="warn",
            kind=HELD_BACK,
            message="the answers changed: this session is not used as a baseline unless it is accepted.",
        )
        return
    slower = [row for row in verdict.gates if row.looks_slower or _unclear_otherwise(row)]
    if slower and gives_way:
        yield Finding(
            severity="warn",
            kind=PROVISIONAL,
            message=f"this session looks slower, and so did the {KEPT_OUT_MOST} before it, most of them "
            "without proof: it joins the baseline, which may be what is odd.",
        )
    elif slower:
        worst = max(slower, key=lambda row: row.d_pct or 0.0)
        yield Finding(
            severity="warn",
            kind=HELD_BACK,
            where=worst.profile,
            message=f"{_looks(worst)}, which is not proven: this session is not used as a baseline.",
        )
    elif verdict.kind == "inconclusive":
        unclear = [row for row in verdict.gates if row.verdict == "inconclusive"]
        if has_comparable_figures(candidate) and all(has_bound(row) for row in unclear):
            yield Finding(
                kind=PROVISIONAL,
                message="nothing stands out of the noise: this session joins the baseline, which sharpens "
                "later answers.",
            )


def _unclear_otherwise(row: GateRow) -> bool:
    """Whether a rule without a bound of its own could not be decided."""
    return row.verdict == "inconclusive" and not has_bound(row)


def _looks(row: GateRow) -> str:
    """Describe a gate that looks slower without proof."""
    if row.metric == "error_rate":
        return f"{row.name} rose from {row.baseline or 0.0:.1f} % to {row.now or 0.0:.1f} %"
    if row.d_pct is None or row.d_pct < pct(MIN_CHANGE):
        return f"{row.name} looked slower in the planned runs, and not when measured again"
    return f"{row.name} looks {row.d_pct:.0f} % slower"


def disturbed_findings(candidate: SessionArtifact, profiles: Sequence[ProfileRounds]) -> Iterator[Finding]:
    """Name disturbed rounds, and what was done about them."""
    for one in profiles:
        again = bool(rounds_of(candidate, one.profile, ("confirm",)))
        if one.disturbed.unclear:
            message = "two runs differ so much that one of them was disturbed, and it is not known which."
        elif one.disturbed.rounds:
            count = len(one.disturbed.rounds)
            named = ", ".join(f"{role} {index}" for role, index in sorted(one.disturbed.rounds))
            were = "1 run was" if count == 1 else f"{count} runs were"
            message = f"{were} far slower than the others ({named}) and left out"
            message += "; measured again." if again else "."
        else:
            continue
        yield Finding(severity="warn", kind=DISTURBED, where=one.profile, message=f"{one.profile}: {message}")


def early_findings(candidate: SessionArtifact) -> Iterator[Finding]:
    """Name profiles that ended before their planned rounds, and why."""
    ended: dict[tuple[int, int, str], list[str]] = {}
    for profile, early in candidate.ended_early.items():
        ended.setdefault((early.after, early.planned, early.why), []).append(profile)
    if ended:
        why = {"calm": "nothing slower in sight", "slower": "each run was slower than the threshold"}
        parts = [
            f"after {after} of {planned} runs: {', '.join(names)} ({why[reason]})"
            for (after, planned, reason), names in ended.items()
        ]
        yield Finding(kind=ENDED_EARLY, message=f"ended {'; '.join(parts)}.")


def reference_findings(candidate: SessionArtifact, series: Sequence[Series]) -> Iterator[Finding]:
    """Describe what the control board showed, and what was taken out for it."""
    if not any(run.role == "reference" for run in candidate.raw_runs):
        return
    moves = [(one.name, one.environment) for one in series if one.environment is not None]
    if moves:
        moved = ", ".join(
            f"{name} {pct(here.moved):+.1f} % ({pct(here.shift):+.1f} % taken out)" for name, here in moves
        )
        message = f"the control board was slower than usual by: {moved}."
    else:
        message = (
            f"the control board is used once {LEAST_SESSIONS} accepted sessions, and half of all, have it."
        )
    yield Finding(kind=REFERENCE, message=message)


def lost_reference_findings(candidate: SessionArtifact) -> Iterator[Finding]:
    """Warn that the control board was not measured to the end, however much of it was."""
    described = candidate.device.get("reference")
    lost = described.get("lost") if isinstance(described, dict) else None
    if lost:
        yield Finding(
            severity="warn",
            kind=REFERENCE,
            message=f"{lost}. It was not measured from there on: what moves on both boards may count as this "
            "one's.",
        )


def change_findings(rows: Sequence[GateRow], changed: Collection[str] = ()) -> Iterator[Finding]:
    """Name what no reader of a table may miss: profiles without a clear answer, and a bench that changed.

    A profile that another gate shows to be slower has its answer.

    Args:
        rows: of all gates.
        changed: the profiles whose answers changed, which have a finding of their own.
    """
    answered = {*changed, *(row.profile for row in rows if row.verdict in FAILING)}
    unclear = [row for row in rows if row.verdict == "inconclusive" and row.profile not in answered]
    for profile in dict.fromkeys(row.profile for row in unclear):
        worst = max((row for row in unclear if row.profile == profile), key=lambda row: row.d_pct or 0.0)
        yield Finding(
            severity="warn",
            kind=NOT_EXCLUDED,
            where=profile,
            message=f"{' '.join(filter(None, (worst.name, worst.moved)))}: {worst.detail}.",
        )
    for row in rows:
        if row.verdict == "environment-shift":
            yield Finding(
                severity="warn",
                kind=ENVIRONMENT_SHIFT,
                where=row.profile,
                message=f"{row.name} is {row.d_pct or 0.0:.0f} % slower than before"
                f"{f' ({row.moved})' if row.moved else ''}, and so is the old firmware: the surroundings "
                "changed. Earlier sessions are no longer the baseline.",
            )


def named_baseline_finding(named: Sequence[SessionArtifact]) -> Finding:
    """Fail a session that could not be compared with the baseline that was named."""
    return Finding(
        severity="fail",
        kind=NAMED_BASELINE,
        message=f"nothing of this session can be compared with {name_of(named[-1])}, which was named as its "
        "baseline.",
    )


def not_judged_findings(
    candidate: SessionArtifact, baselines: Mapping[str, Sequence[SessionArtifact]], rows: Sequence[GateRow]
) -> Iterator[Finding]:
    """Name profiles that were compared with nothing; those without any answer have findings of their own."""
    seen = {(row.profile, row.metric) for row in rows if is_composite(row)}
    judged = {profile for profile, _ in seen if all((profile, metric) in seen for metric in COMPOSITES)}
    names = profiles_of(candidate)
    new: list[str] = []
    for profile in names:
        rounds = rounds_of(candidate, profile)
        if profile in baselines:
            if profile not in judged and rounds:
                message = f"{profile} has a baseline, but no figures that can be compared with it."
                yield Finding(severity="warn", kind=NOT_JUDGED, where=profile, message=message)
        elif not any(one.report.ok for phases in rounds.values() for one in phases.values()):
            continue
        elif gateable_phases(rounds):
            new.append(profile)
        else:
            message = (
                f"{profile}: nothing comparable was measured before, and this session has no figures to "
                "compare later ones with; absolute budgets apply."
            )
            yield Finding(severity="warn", kind=NOT_JUDGED, where=profile, message=message)
    if new:
        yield finding_about(
            new, names, Finding(kind=NO_BASELINE, message="no baseline yet; absolute budgets apply.")
        )
