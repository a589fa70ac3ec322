"""Budgets of profiles against each other in one session, which the mood of the bench does not touch. Pure.

The figure of a profile may be at most so many times that of another profile, both as medians over the planned
runs; of a figure of which more is better (``rps_ok``, ``upload_mb_s``) at least so many times. It holds for
each phase that both have by the same name, else for the geometric means over the phases of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from pytest_espperf.model.artifact import Finding, RatioBudget, SessionArtifact
from pytest_espperf.model.findings import RATIO
from pytest_espperf.model.registry import METRICS

_MOST_LOG_RATIO = 700.0
"""``exp`` of it is 1e304."""


def ratio_findings(candidate: SessionArtifact) -> Iterator[Finding]:
    """Report the budgets that a session exceeds, and those that it cannot be judged by."""
    for budget in candidate.ratios:
        own, other = (_medians(candidate, name, budget.metric) for name in (budget.profile, budget.to))
        lacking = next((n for n, had in ((budget.profile, own), (budget.to, other)) if not had), None)
        if lacking is not None:
            if not (lacking == budget.profile and lacking not in candidate.profiles):
                yield Finding(
                    kind=RATIO,
                    where=budget.profile,
                    message=f"{_rule(budget)} was not judged: this session has no {budget.metric} "
                    f"of {lacking}.",
                )
            continue
        yield from _broken(budget, own, other)


def _medians(session: SessionArtifact, profile: str, metric: str) -> dict[str, float]:
    """Phase -> median over the planned runs; phases without a value above zero are missing."""
    return {
        cell.phase: value
        for cell in session.aggregated.values()
        if cell.profile == profile
        and (value := cell.summary(metric).median) is not None
        and 0 < value < math.inf
    }


def _broken(budget: RatioBudget, own: Mapping[str, float], other: Mapping[str, float]) -> Iterator[Finding]:
    both = {phase: (own[phase], other[phase]) for phase in own if phase in other}
    for phase, (mine, theirs) in (both or {"": (_mean(own), _mean(other))}).items():
        metric = METRICS[budget.metric]
        ratio = math.exp(min(math.log(mine) - math.log(theirs), _MOST_LOG_RATIO))
        higher = metric.better == "higher"
        if ratio >= budget.limit if higher else ratio <= budget.limit:
            continue
        where = f"{budget.profile}:{phase}" if phase else budget.profile
        bound = f"at least {budget.limit:g} times" if higher else f"at most {budget.limit:g} times"
        yield Finding(
            severity="fail",
            kind=RATIO,
            where=where,
            message=f"{where}: {metric.label} {metric.format(mine)} is {ratio:.3g} times that of "
            f"{budget.to} ({metric.format(theirs)}), and must be {bound}",
        )


def _rule(budget: RatioBudget) -> str:
    return f"the budget of {budget.profile} against {budget.to} ({budget.metric} = {budget.limit:g})"


def _mean(values: Mapping[str, float]) -> float:
    mean = math.exp(math.fsum(map(math.log, values.values())) / len(values))
    return min(max(mean, min(values.values())), max(values.values()))  # rounding of a tiny one may make it 0
