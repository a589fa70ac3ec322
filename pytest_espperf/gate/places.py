"""Where time is lost: every path of every compared phase against the baseline, for readers. Pure.

Nothing is judged here. The same holds for the changes to the previous session, phase by phase.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from pytest_espperf.gate import policy
from pytest_espperf.model.artifact import PathAggregate, PathChange, SessionArtifact
from pytest_espperf.model.registry import METRICS

PATH_METRICS = ("p95_ms", "p50_ms")
"""The metrics that are compared. A closed loop asks for its paths in turn: their throughput is the same."""


def places(
    candidate: SessionArtifact, baselines: Mapping[str, Sequence[SessionArtifact]]
) -> list[PathChange]:
    """Compare the paths of all profiles that have a baseline, the worst first.

    Args:
        candidate: the session.
        baselines: profile -> the sessions of its baseline.
    """
    found = [
        change
        for profile, baseline in baselines.items()
        for change in _of_profile(candidate, profile, baseline)
    ]
    return sorted(found, key=lambda change: -change.d_pct)


def _of_profile(
    candidate: SessionArtifact, profile: str, baseline: Sequence[SessionArtifact]
) -> Iterator[PathChange]:
    for name, cell in candidate.aggregated.items():
        if cell.profile != profile:
            continue
        for path, figures in cell.path_metrics.items():
            earlier = [
                session.aggregated[name].path_metrics[path]
                for session in baseline
                if name in session.aggregated and path in session.aggregated[name].path_metrics
            ]
            for metric in PATH_METRICS:
                now = _median(figures, metric)
                then = median([value for one in earlier if (value := _median(one, metric))] or [0.0])
                if now and then:
                    ratio = now / then if METRICS[metric].better == "lower" else then / now
                    yield PathChange(
                        profile=profile,
                        phase=cell.phase,
                        path=path,
                        metric=metric,
                        baseline=then,
                        now=now,
                        d_pct=100.0 * (ratio - 1.0),
                    )


def _median(figures: PathAggregate, metric: str) -> float:
    """Median of a metric of a path; 0 where it has none."""
    value: float | None = getattr(figures, metric).median
    return value or 0.0


def compare_to_previous(
    candidate: SessionArtifact, previous: SessionArtifact
) -> dict[str, dict[str, float | None]]:
    """``comparison_to_previous``: per cell the change of each metric's median, now minus then.

    ``<metric>_median_delta`` is in the metric's unit, ``<metric>_median_pct`` in percent of the previous
    median, None where that is zero. Both are None where either session has no figure. Cells that
    only one of the two has are left out.
    """
    table: dict[str, dict[str, float | None]] = {}
    for cell, now in candidate.aggregated.items():
        then = previous.aggregated.get(cell)
        if then is None:
            continue
        row: dict[str, float | None] = {}
        for metric in (*policy.METRICS, *(name for name in now.figures if name in then.figures)):
            old, new = then.summary(metric), now.summary(metric)
            delta = None if old.median is None or new.median is None else new.median - old.median
            row[f"{metric}_median_delta"] = delta
            row[f"{metric}_median_pct"] = (
                100.0 * delta / old.median if delta is not None and old.median else None
            )
        table[cell] = row
    return table
