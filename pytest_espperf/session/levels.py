"""What a round measured, as one number for each gate: the same composites that a session is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_espperf.gate.series import COMPOSITES, composite, natural
from pytest_espperf.model.artifact import RawRun
from pytest_espperf.model.gates import MAIN_METRIC, of_throughput

Levels = dict[str, float]
"""Log composite of each gate, ``python_heavy:rps_ok``, slower larger."""


def levels_of(runs: Sequence[RawRun]) -> Levels:
    """Return the log composites of a round."""
    found: Levels = {}
    for run in runs:
        phases = {result.phase: result for result in run.results}
        paced = {name: result.report.paced for name, result in phases.items()}
        names: Mapping[str, Sequence[str]] = {MAIN_METRIC: of_throughput(paced)}
        for metric in COMPOSITES:
            value = composite(phases, names.get(metric, tuple(phases)), metric)
            if value is not None:
                found[f"{run.profile}:{metric}"] = value
    return found


def usual_metric(runs: Sequence[RawRun]) -> str:
    """Choose the throughput, or the p95 where schedules or pauses pace all phases."""
    paced = all(result.report.paced for run in runs for result in run.results)
    return "p95_ms" if paced else MAIN_METRIC


def mean_of(levels: Sequence[float], metric: str) -> float | None:
    """Return the geometric mean of log composites in the unit of their metric; None where there is none."""
    return round(natural(sum(levels) / len(levels), metric), 3) if levels else None
