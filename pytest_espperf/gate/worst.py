"""The guard against a single catastrophic run: budgets that no run may break twice.

The other budgets are judged on the median of the runs, so that one disturbed run fails nothing. A run that
exceeds one of these (``--perf-worst-error-rate``, ``--perf-worst-p95-ms``) is not waved through for that: its
profile is measured again, by as many runs as broke one, as disturbed rounds are. Where a replacement breaks
one as well, in whatever phase, the board does such things by itself, and the session fails. Where none does,
it is a warning.

Without a replacement (``--perf-confirm=0``, or the session ended before) a single such run fails the session:
nothing speaks for it, and a guard that measuring less switches off would be none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_espperf.gate.baseline import profiles_of
from pytest_espperf.gate.series import rounds_of
from pytest_espperf.model.artifact import Finding, PhaseResult, RunRole, SessionArtifact
from pytest_espperf.model.findings import WORST_RUN

Phases = dict[str, PhaseResult]
"""A round's results, by phase."""

REPLACEMENTS: tuple[RunRole, ...] = ("confirm", "ab-candidate")
"""Rounds of the same firmware that were measured later."""


def unresolved_worst(session: SessionArtifact) -> dict[str, int]:
    """Count by profile the planned runs that broke such a budget, where none was measured again."""
    counts = {profile: len(_broken(_planned(session, profile))) for profile in profiles_of(session)}
    return {name: count for name, count in counts.items() if count and not _replacements(session, name)}


def worst_findings(session: SessionArtifact) -> Iterator[Finding]:
    """Report a session's worst runs, and whether they fail it."""
    for profile in profiles_of(session):
        planned, again = _planned(session, profile), _replacements(session, profile)
        before, after = _broken(planned), _broken(again)
        if not before and not after:
            continue
        first = (before or after)[0]
        broke = f"{profile}:{first.phase}: {first.worst_reasons[0]}"
        if before:
            broke += f" ({len(before)} of {_runs(planned)})"
        fails = bool(before and not again) or (bool(after) and len(before) + len(after) > 1)
        if not again:
            then = ", and nothing was measured in its place"
        elif not before:
            then = f", in {len(after)} of {_runs(again)} measured again"
        elif after:
            then = f"; measured again, {len(after)} of {_runs(again)} broke one: {after[0].phase}, "
            then += after[0].worst_reasons[0]
        else:
            then = f"; {_runs(again)} measured in its place kept it"
        yield Finding(
            severity="fail" if fails else "warn",
            kind=WORST_RUN,
            where=f"{profile}:{first.phase}",
            message=f"{broke}{then}.",
        )


def _planned(session: SessionArtifact, profile: str) -> list[Phases]:
    return list(rounds_of(session, profile).values())


def _replacements(session: SessionArtifact, profile: str) -> list[Phases]:
    """Return the rounds in which a profile was measured again."""
    return [phases for role in REPLACEMENTS for phases in rounds_of(session, profile, (role,)).values()]


def _broken(rounds: Sequence[Phases]) -> list[PhaseResult]:
    """Of each round that broke such a budget, the first phase that did."""
    found = (next((one for one in phases.values() if one.worst_reasons), None) for phases in rounds)
    return [result for result in found if result is not None]


def _runs(rounds: Sequence[Phases]) -> str:
    return "1 run" if len(rounds) == 1 else f"{len(rounds)} runs"
