"""Budgets of profiles against each other in one session, which the mood of the bench does not touch. Pure.

The figure of a profile may be at most so many times that of another profile, both as medians over the planned
runs; of a figure of which more is better (``rps_ok``, ``upload_mb_s``) at least so many times. It holds for
each phase that both have by the same name, else for the geometric means over the phases of each.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

from pytest_espperf.model.artifact import Finding, RatioBudget, SessionArtifact
from pytest_espperf.model.findings import RATIO
from pytest_espperf.model.gates import MAIN_METRIC, of_throughput
from pytest_espperf.model.registry import METRICS

_MOST_LOG_RATIO = 700.0
"""``exp`` of it is 1e304."""


def ratio_findings(candidate: SessionArtifact) -> Iterator[Finding]:
    """Report the budgets that a session exceeds, and those that it cannot be judged by."""
    for budget in candidate.ratios:
        own, other = (_medians(candidate, name, budget.metric) for name in (budget.profile, budget.to))
        lacking = next((n for n, had in ((budget.profile, own), (budget.to, other)) if not had), None)
        if lacking is not None:
            measured = any(run.results for run in candidate.raw_runs)
            if measured and not (lacking == budget.profile and lacking not in candidate.profiles):
                yield Finding(
                    kind=RATIO,
                    where=budget.profile,
                    message=f"{budget.profile}: its budget against {budget.to} ({budget.metric} = "
                    f"{budget.limit:g}) was not judged: this session has no {budget.metric} of {lacking}.",
                )
            continue
        both = {phase: (own[phase], other[phase]) for phase in own if phase in other}
        if not both:
            mine = _mean_of(candidate, budget.profile, budget.metric, own)
            both[""] = mine, _mean_of(candidate, budget.to, budget.metric, other)
        yield from _broken(budget, both)


def _medians(session: SessionArtifact, profile: str, metric: str) -> dict[str, float]:
    """Phase -> median over the planned runs; phases without a value above zero are missing."""
    return {
        cell.phase: value
        for cell in session.aggregated.values()
        if cell.profile == profile
        and (value := cell.summary(metric).median) is not None
        and 0 < value < math.inf
    }


def _mean_of(session: SessionArtifact, profile: str, metric: str, medians: Mapping[str, float]) -> float:
    """Compute the geometric mean over the phases, of throughput over those that a gate compares."""
    if metric == MAIN_METRIC:
        cells = [cell for cell in session.aggregated.values() if cell.profile == profile]
        chosen = of_throughput({cell.phase: cell.paced for cell in cells if cell.phase in medians})
        return _mean([medians[phase] for phase in chosen])
    return _mean(medians.values())


def _broken(budget: RatioBudget, compared: Mapping[str, tuple[float, float]]) -> Iterator[Finding]:
    for phase, (mine, theirs) in compared.items():
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


def _mean(values: Collection[float]) -> float:
    mean = math.exp(min(math.fsum(map(math.log, values)) / len(values), _MOST_LOG_RATIO))
    return min(max(mean, min(values)), max(values))  # a tiny one is rounded to 0, a huge one cut
