"""The plain deltas to the previous session, for people and scripts; no judgement."""

from __future__ import annotations

from pytest_espperf.artifact import SessionArtifact, Summary
from pytest_espperf.gate.policy import METRICS


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
        for metric in METRICS:
            old: Summary = getattr(then, metric)
            new: Summary = getattr(now, metric)
            delta = None if old.median is None or new.median is None else new.median - old.median
            row[f"{metric}_median_delta"] = delta
            row[f"{metric}_median_pct"] = (
                100.0 * delta / old.median if delta is not None and old.median else None
            )
        table[cell] = row
    return table
