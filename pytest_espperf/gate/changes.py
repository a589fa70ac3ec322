"""What of the changes between two sessions is noise, by the gates' own thresholds. Pure.

The noise of a profile's throughput and p95 is the slowdown that its gate needs to fail in session B, else in
A. Where neither has such a gate, it is what the gate would need with A as its only baseline: it follows from
how the runs of both sessions differ. The same holds for a phase or a path, which has no gate of its own, and
no less noise than its profile. Errors changed where the gate's rule of errors says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from pytest_espperf.gate import policy as p
from pytest_espperf.gate.baseline import profiles_of
from pytest_espperf.gate.noise import composites_factor, gate_error, history_noise, noises
from pytest_espperf.gate.rows import Counted, count, pct, rate, too_many
from pytest_espperf.gate.series import (
    COMPOSITES,
    GATES,
    Series,
    bound,
    build_all,
    natural,
    rounds_of,
    undisturbed_rounds,
)
from pytest_espperf.gate.stats import round_variance, t_quantile
from pytest_espperf.model.artifact import MAIN_RULE, PathReport, SessionArtifact
from pytest_espperf.model.comparison import ChangeWord, ProfileChange
from pytest_espperf.model.computer import own_fault
from pytest_espperf.model.gates import units_of
from pytest_espperf.model.registry import METRICS, common_unit

Limits = Mapping[str, float]
"""Gate (``profile:metric``) -> log ratio up to which a change is noise."""


def gate_limits(a: SessionArtifact, b: SessionArtifact) -> Limits:
    """Find the noise of every profile and gated metric that both sessions have figures of."""
    series = _series(a, b)
    limits = (
        {
            name: noise.smallest
            for name, noise in noises(series, alpha=p.ALPHA, factor=composites_factor(series)).items()
        }
        if series
        else {}
    )
    for session in (a, b):  # the thresholds of B count before those of A
        for row in session.gate.gates if session.gate is not None else ():
            fails_at = row.smallest_detectable_pct
            if row.rule == MAIN_RULE and row.name in limits and fails_at is not None and fails_at > 0:
                limits[row.name] = math.log1p(fails_at / 100)
    return limits


def profile_changes(a: SessionArtifact, b: SessionArtifact, limits: Limits) -> Iterator[ProfileChange]:
    """Describe the change of each profile that both sessions have, in B's order."""
    series = _series(a, b)
    units = [units_of(session) for session in (a, b)]
    for profile in (name for name in profiles_of(b) if name in profiles_of(a)):
        own = [one for one in series if one.profile == profile]
        errors = _error_change(count(a, profile), count(b, profile))
        unit = common_unit(one.get(profile, "") for one in units)
        yield replace(_change(profile, own, limits, errors), unit=unit)


def _series(a: SessionArtifact, b: SessionArtifact) -> list[Series]:
    """Pair the rounds of B with those of A, as if A were the baseline."""
    common = [profile for profile in profiles_of(b) if profile in profiles_of(a)]
    return build_all(b, undisturbed_rounds(b, {profile: [a] for profile in common}, 1), GATES, 1)


def _change(profile: str, own: Sequence[Series], limits: Limits, errors: float | None) -> ProfileChange:
    """Choose the metric that gives the size: one that is slower, one that is faster, or else the first."""
    word: ChangeWord = "within-noise"
    if not own:
        word = "unknown" if errors is None else "worse" if errors > 0 else "better"
        return ProfileChange(profile, word, errors=errors)
    slower = [one for one in own if _shift(one) > limits[one.name]]
    faster = [one for one in own if _shift(one) < -limits[one.name]]
    if slower or (errors or 0.0) > 0:
        word = "worse"
    elif faster or errors is not None:
        word = "better"
    shown = next(iter([*slower, *([] if word == "worse" else faster)]), None)
    if shown is None and errors is not None:
        return ProfileChange(profile, word, errors=errors)
    shown = shown or own[0]
    return ProfileChange(
        profile,
        word,
        metric=shown.metric,
        a=natural(median(shown.past[0]), shown.metric),
        b=natural(median(shown.every), shown.metric),
        slower_pct=pct(_shift(shown)),
        noise_pct=pct(limits[shown.name]),
        errors=errors,
    )


def _shift(series: Series) -> float:
    return median(series.every) - median(series.past[0])


def more_errors(before: Counted, after: Counted) -> bool:
    """Whether there are more errors than before, by the rule of the gate."""
    return bool(before and after) and too_many(after, rate(before))


def _error_change(before: Counted, after: Counted) -> float | None:
    """Compute by how many percentage points errors rose or fell; None where that is no change."""
    if more_errors(before, after) or more_errors(after, before):
        return rate(after) - rate(before)
    return None


@dataclass(frozen=True)
class RowReadings:
    """Planned runs of one phase or path: log values by metric, requests and errors of each run."""

    values: Mapping[str, tuple[float, ...]]
    counted: Counted

    def __getitem__(self, metric: str) -> tuple[float, ...]:
        return self.values[metric]


def readings_of(session: SessionArtifact, cell: str, path: str = "") -> RowReadings:
    """Read the planned runs of a cell (``profile:phase``), or of one of its paths."""
    aggregate = session.aggregated[cell]
    reports: list[PathReport] = []
    for phases in rounds_of(session, aggregate.profile).values():
        result = phases.get(aggregate.phase)
        if result is None or bound(result.report) or own_fault(result.report):
            continue
        share = result.report.path_metrics.get(path) if path else result.report
        if share is not None:
            reports.append(share)
    return RowReadings(
        values={metric: tuple(_logs(reports, metric)) for metric in COMPOSITES},
        counted=[(one.requests_total, one.err) for one in reports if one.requests_total],
    )


def _logs(reports: Sequence[PathReport], metric: str) -> Iterator[float]:
    """Logarithms of a metric, slower larger."""
    for report in reports:
        value: float | None = getattr(report, metric)
        if value is not None and math.isfinite(value) and value > 0:
            yield -math.log(value) if METRICS[metric].better == "higher" else math.log(value)


def spread_limit(before: Sequence[float], after: Sequence[float]) -> float:
    """Compute the log ratio up to which a change is noise, from the runs of both sessions; none empty."""
    history = history_noise([before])
    error = gate_error(history, factor=1.0, rounds=len(after), within_now=round_variance([after]))
    return max(p.MIN_CHANGE, t_quantile(p.ALPHA, error.df) * error.sigma)
