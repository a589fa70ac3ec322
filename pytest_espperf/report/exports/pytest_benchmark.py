"""The JSON that pytest-benchmark writes, for its ``compare`` and for what reads its files."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from pytest_espperf import __version__
from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.model.registry import METRICS, Metric
from pytest_espperf.model.text import json_printable
from pytest_espperf.report.exports.figures import began, board_of, cells, planned_reports, usable


def render_pytest_benchmark(session: SessionArtifact) -> str:
    """One benchmark for each cell and latency metric; ``data`` has one value a run, in seconds.

    ``rounds`` is the number of runs, not of requests: each value is a percentile of one run. ``ops`` is
    1 / mean, as that tool defines it; the throughput stands in ``extra_info``.
    """
    environment, moment = session.environment, began(session)
    document = {
        "machine_info": {
            "node": str(environment.get("host") or ""),
            "system": str(environment.get("platform") or ""),
            "python_version": str(environment.get("python") or ""),
            "board": board_of(session),
        },
        "commit_info": {"id": environment.get("git_commit"), "dirty": environment.get("git_dirty")},
        "benchmarks": list(_benchmarks(session)),
        "datetime": moment.isoformat() if moment is not None else session.timestamp_utc,
        "version": f"pytest-espperf {__version__}",
    }
    return json_printable(json.dumps(document, indent=2, allow_nan=False, default=str)) + "\n"


def _benchmarks(session: SessionArtifact) -> Iterator[dict[str, Any]]:
    for cell in cells(session):
        reports = planned_reports(session, cell.profile, cell.phase)
        for metric in METRICS.values():
            if metric.unit != "ms":
                continue
            runs = [(index, report.value(metric.name)) for index, report in reports]
            found = [(index, value / 1e3) for index, value in runs if usable(value)]
            if found:
                yield _benchmark(session, f"{cell.profile}:{cell.phase}", metric, found, cell.rps_ok.median)


def _benchmark(
    session: SessionArtifact,
    cell: str,
    metric: Metric,
    found: Sequence[tuple[int, float]],
    rps: float | None,
) -> dict[str, Any]:
    name = f"{cell}:{metric.name}"
    return {
        "group": metric.label,
        "name": name,
        "fullname": f"espperf::{name}",
        "params": None,
        "param": None,
        "extra_info": {
            "data": f"one value a run: {metric.label} of its requests, in seconds",
            "runs": [index for index, _ in found],
            "rps_ok": rps if usable(rps) else None,
            "session_id": session.session_id,
            "tag": session.tag,
        },
        "options": {},
        "stats": statistics_of([value for _, value in found]),
    }


def statistics_of(data: Sequence[float]) -> dict[str, Any]:
    """pytest-benchmark's statistics, quartiles as it computes them.

    Args:
        data: at least one value, in the order measured.
    """
    ordered, count, total = sorted(data), len(data), sum(data)
    mean = statistics.mean(data)
    deviation = statistics.stdev(data) if count > 1 else 0.0
    q1, q3 = _quartile(ordered), -_quartile([-value for value in reversed(ordered)])
    fence = 1.5 * (q3 - q1)
    # None within: equal values, and a quartile of them that rounding has moved.
    within = [value for value in ordered if q1 - fence <= value <= q3 + fence] or ordered
    far = sum(abs(value - mean) > deviation for value in data)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": count,
        "median": statistics.median(data),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": count - len(within),
        "stddev_outliers": far,
        "outliers": f"{far};{count - len(within)}",
        "ld15iqr": within[0],
        "hd15iqr": within[-1],
        "ops": count / total if total else 0,
        "total": total,
        "data": list(data),
        "iterations": 1,
    }


def _quartile(ordered: Sequence[float]) -> float:
    """Compute the first quartile: of an even number the lower half's median, of an odd one a mean."""
    count = len(ordered)
    if count == 1:
        return ordered[0]
    if count % 2 == 0:
        return statistics.median(ordered[: count // 2])
    quarter, left = divmod(count, 4)
    if left == 1:
        return 0.25 * ordered[quarter - 1] + 0.75 * ordered[quarter]
    return 0.75 * ordered[quarter] + 0.25 * ordered[quarter + 1]
