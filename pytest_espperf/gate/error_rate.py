"""The error-rate rule: more errors than the baseline had.

Pooled over a profile's phases and rounds, a session regressed where its error rate lies more than half a
percentage point above the median of the baseline's sessions, with at least 5 errors in at least 2 rounds, and
still does with its worst round left out: a stall confined to one run is not a regression, also not on
a board that always has a few errors. Where the errors of the baseline vary from round to round,
the rise must also exceed three standard errors of a session's rate; a smaller one is inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from pytest_espperf.artifact import GateRow, RunRole, SessionArtifact
from pytest_espperf.computer import own_fault
from pytest_espperf.gate import policy as p
from pytest_espperf.gate.series import rounds_of
from pytest_espperf.gate.stats import variance

Counted = list[tuple[int, int]]
"""(requests, errors) of each round."""


def count(session: SessionArtifact, profile: str, role: RunRole = "run") -> Counted:
    """The rounds of a profile in which anything was asked; without what this computer was at fault for."""
    found = []
    for phases in rounds_of(session, profile, (role,)).values():
        reports = [result.report for result in phases.values() if not own_fault(result.report)]
        asked = sum(report.requests_total for report in reports)
        if asked:
            found.append((asked, sum(report.err for report in reports)))
    return found


def rate(rounds: Counted) -> float:
    """Pooled error rate in percent; 0.0 where nothing was asked."""
    asked = sum(requests for requests, _ in rounds)
    return 100.0 * sum(errors for _, errors in rounds) / asked if asked else 0.0


def spread(sessions: Sequence[Counted]) -> float:
    """Standard deviation of the rounds' error rates within their sessions, pooled, in percentage points."""
    rates = [[100.0 * errors / requests for requests, errors in rounds] for rounds in sessions]
    freedom = sum(len(one) - 1 for one in rates)
    return math.sqrt(sum((len(one) - 1) * variance(one) for one in rates) / freedom) if freedom else 0.0


def too_many(rounds: Counted, baseline: float, rise: float = p.ERROR_POINTS) -> bool:
    """Whether the rule fails against a baseline rate in percent, by a rise in percentage points."""
    limit = baseline + rise
    touched = [errors for _, errors in rounds if errors]
    if sum(touched) < p.ERROR_MIN_COUNT or len(touched) < p.ERROR_MIN_ROUNDS:
        return False
    worst = max(range(len(rounds)), key=lambda i: rounds[i][1] / rounds[i][0])
    return rate(rounds) > limit and rate(rounds[:worst] + rounds[worst + 1 :]) > limit


def error_change(candidate: SessionArtifact, profile: str, past: Sequence[SessionArtifact]) -> float:
    """How many percentage points the pooled error rate lies above the baseline; 0.0 without an error."""
    now = count(candidate, profile)
    rates = [rate(rounds) for session in past if (rounds := count(session, profile))]
    return rate(now) - median(rates) if rates and any(errors for _, errors in now) else 0.0


def error_row(candidate: SessionArtifact, profile: str, past: Sequence[SessionArtifact]) -> GateRow | None:
    """The rule's row; None where there is nothing to compare.

    A failing row is measured again like any other: with confirmation rounds all rounds together must
    fail, and the new ones alone must show half of the rise; with A/B pairs the new firmware must
    fail against the old.
    """
    now = count(candidate, profile)
    counted = [rounds for session in past if (rounds := count(session, profile))]
    if not now or not counted:
        return None
    baseline = median(rate(rounds) for rounds in counted)
    rise = max(p.ERROR_POINTS, p.ERROR_SIGMAS * spread(counted) / math.sqrt(len(now)))
    word, detail, confirmation = "unchanged", "", ""
    if too_many(now, baseline):
        word = "regressed"
        errors = sum(errors for _, errors in now)
        detail = f"{errors} errors, {rate(now) - baseline:+.2f} percentage points"
        old, new = count(candidate, profile, "ab-baseline"), count(candidate, profile, "ab-candidate")
        again = count(candidate, profile, "confirm")
        if old and new:
            confirmation = "pairs"
            if not too_many(new, rate(old)):
                word, detail = "environment-shift", f"{detail}; the old firmware fares as badly now"
        elif again:
            confirmation = "rounds"
            if not (too_many(now + again, baseline) and rate(again) > baseline + p.ERROR_POINTS / 2):
                word, detail = "inconclusive", f"{detail}; not confirmed by {len(again)} more runs"
        if word == "regressed" and confirmation != "pairs" and not too_many(now + again, baseline, rise):
            word = "inconclusive"
            detail += (
                f"; errors vary as much from run to run here, {rise:.1f} points and more would stand out"
            )
    return GateRow(
        name=f"{profile}:error_rate",
        profile=profile,
        metric="error_rate",
        rule="error-rate",
        verdict=word,
        baseline=baseline,
        now=rate(now),
        sessions=len(counted),
        suspect=word != "unchanged",
        confirmation=confirmation,
        looks_slower=word == "inconclusive",
        detail=detail,
    )
