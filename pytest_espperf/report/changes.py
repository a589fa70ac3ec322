"""Changes in the few words that sentences, badges and comments share: ``60 % slower``, ``239 -> 149 req/s``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_espperf.model.artifact import GateRow, Verdict
from pytest_espperf.model.registry import METRICS
from pytest_espperf.model.text import grouped
from pytest_espperf.model.verdicts import rank

MAIN_METRIC = "rps_ok"
"""The metric that gives the size of a change where several changed alike: it is the steadiest."""

POINTS = "error_rate"
"""The metric whose change is given in percentage points: it is a percentage itself."""


def size_text(metric: str, before: float | None, after: float | None, slower_pct: float | None) -> str:
    """Describe a change in percent, as ``60 % slower`` or ``25 % faster``; "" where it is unknown.

    Of errors in percentage points, as ``2.5 points more errors``. A reader who divides the two values gets
    the same figure.
    """
    if metric == POINTS:
        if before is None or after is None:
            return ""
        return f"{grouped(abs(after - before), 1)} points {'more' if after >= before else 'fewer'} errors"
    if slower_pct is None:
        return ""
    if slower_pct >= 0 or slower_pct <= -100:
        return f"{grouped(slower_pct, 0)} % slower"
    higher = metric in METRICS and METRICS[metric].better == "higher"
    return f"{grouped(100 / (1 + slower_pct / 100) - 100 if higher else -slower_pct, 0)} % faster"


def pair_text(metric: str, before: float | None, after: float | None) -> str:
    """Two values with their unit, as ``239 -> 149 req/s`` or ``p95 145 -> 252 ms``; "" without both."""
    if before is None or after is None or metric not in METRICS:
        return ""
    label = "" if metric == MAIN_METRIC else f"{METRICS[metric].label} "
    digits = _digits(min(abs(before), abs(after)))
    return f"{label}{grouped(before, digits)} -> {grouped(after, digits)} {METRICS[metric].unit}"


def value_text(metric: str, value: float | None) -> str:
    """Format one value with its unit in three digits, as ``239 req/s``; ``-`` where there is none."""
    if value is None or metric not in METRICS:
        return "-" if value is None else f"{value:.3g}"
    return f"{grouped(value, _digits(abs(value)))} {METRICS[metric].unit}"


def _digits(least: float) -> int:
    """Choose the decimals with which a value has three digits."""
    return 0 if least >= 100 else 1 if least >= 10 else 2


def gate_size(row: GateRow) -> str:
    """Describe the change of a gate; see :func:`size_text`."""
    return size_text(row.metric, row.baseline, row.now, row.d_pct)


def worst_first(gates: Iterable[GateRow]) -> list[GateRow]:
    """Sort gates: the worst verdict first, then the largest slowdown."""
    return sorted(gates, key=lambda row: (rank(row.verdict), -(row.d_pct or 0.0)))


def with_news(verdict: Verdict) -> list[GateRow]:
    """List the gates that say more than "unchanged" or why they were not judged, worst first."""
    dull = {"unchanged", "no-baseline"}
    telling = [row for row in verdict.gates if row.verdict not in dull]
    return [row for row in worst_first(telling) if rank(row.verdict) < rank("")]


def gate_of_profile(gates: Sequence[GateRow], profile: str) -> GateRow | None:
    """Choose the gate that stands for a profile: of those with the worst verdict the throughput, if any.

    None where the profile has no gate with a change.
    """
    own = [row for row in worst_first(gates) if row.profile == profile and gate_size(row)]
    worst = [row for row in own if row.verdict == own[0].verdict]
    return next((row for row in worst if row.metric == MAIN_METRIC), worst[0] if worst else None)
