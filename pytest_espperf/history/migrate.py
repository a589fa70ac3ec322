"""Migration of old artifacts to the present schema, step by step: pure functions from dict to dict.

The history of the format stands at :data:`pytest_espperf.model.artifact.SCHEMA_VERSION`. A step never guesses
what was not measured: schema 0 has no comparability and no gate, so they stay unknown.

Steps do not validate: what they do not understand they hand on, and the reader names the field. They raise
nothing but what malformed values cause (TypeError, AttributeError, ...), which the reader turns into an
ArtifactError.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pytest_espperf.model.artifact import SCHEMA_VERSION, Json

_LATENCIES = ("p50_ms", "p95_ms", "p99_ms", "p95_tail_ms", "mean_ms", "max_ms")
_FAILED_MS = 99_999.0
"""What the original wrote as p95 and p99 of a phase that failed outright."""


def looks_like_schema_0(data: Mapping[str, Any]) -> bool:
    """Whether an object without ``schema_version`` is a file of the original tool."""
    return (
        "schema_version" not in data
        and isinstance(data.get("timestamp_utc"), str)
        and isinstance(data.get("raw_runs"), list)
        and ("profiles" in data or "target" in data)
    )


def migrate(data: Json, version: int) -> Json:
    """Migrate ``data`` from schema ``version`` to the present one.

    Raises:
        KeyError: ``version`` has no step; the caller checks the range first.
    """
    while version < SCHEMA_VERSION:
        data = MIGRATIONS[version](data)
        version += 1
    return data


def migrate_0_to_1(data: Json) -> Json:
    """Migrate a file of the original tool: no id, empty phases as 0 or 99,999 ms, nulls for unread values."""
    new = {key: value for key, value in data.items() if value is not None}
    new.pop("overall_pass_so_far", None)
    new["schema_version"] = 1
    new["session_id"] = _identity(data)
    new["comparability"] = None
    new["gate"] = None
    new["raw_runs"] = [_run(run) for run in data.get("raw_runs", ())]
    reports = _reports(new["raw_runs"])
    new["aggregated"] = {
        key: _cell(cell, reports.get(key, [])) for key, cell in (data.get("aggregated") or {}).items()
    }
    comparison = data.get("comparison_to_previous") or {}
    new["comparison_to_previous"] = {
        key: {name: value for name, value in deltas.items() if not isinstance(value, (str, dict, list))}
        for key, deltas in comparison.items()
        if isinstance(deltas, dict)
    }
    thresholds = data.get("thresholds") or {}
    new["thresholds"] = {name: value for name, value in thresholds.items() if value is not None}
    return new


def _identity(data: Json) -> str:
    """Derive an id that is the same for a session's final, latest and partial file."""
    facts = [str(data.get(key, "")) for key in ("timestamp_utc", "target", "profiles")]
    return "s0-" + hashlib.sha256("\n".join(facts).encode("utf-8", "replace")).hexdigest()[:12]


def _run(run: Json) -> Json:
    return {**run, "results": [_result(result) for result in run.get("results", ())]}


def _result(result: Json) -> Json:
    return {**_without_nulls(result), "report": _report(result.get("report") or {})}


def _report(report: Json) -> Json:
    new = _measured(report)
    paths = report.get("path_metrics") or {}
    new["path_metrics"] = {path: _measured(share) for path, share in paths.items() if share is not None}
    for key in ("stats_before", "stats_after", "mem_before", "mem_after"):
        if not isinstance(new.get(key, {}), dict):
            new[key] = {"unread": new[key]}
    return new


def _measured(share: Json) -> Json:
    """Figures of a phase or a path; latencies that no request stands behind become None."""
    new = _without_nulls(share)
    if not share.get("ok"):
        for name in _LATENCIES:
            if new.get(name) in (0, _FAILED_MS):
                new[name] = None
    counts = new.get("status_counts")
    if isinstance(counts, dict):
        new["status_counts"] = {str(status): count for status, count in counts.items()}
    return new


def _reports(raw_runs: list[Json]) -> dict[str, list[Json]]:
    """Group the (migrated) reports by profile and phase, in order."""
    cells: dict[str, list[Json]] = {}
    for run in raw_runs:
        for result in run["results"]:
            cells.setdefault(f"{result.get('profile')}:{result.get('phase')}", []).append(result["report"])
    return cells


def _cell(cell: Json, reports: list[Json]) -> Json:
    new = _without_nulls(cell)
    _summarise_measured(new, reports)
    paths = cell.get("path_metrics") or {}
    new["path_metrics"] = {path: dict(share) for path, share in paths.items() if share is not None}
    for path, share in new["path_metrics"].items():
        _summarise_measured(share, [report["path_metrics"].get(path) or {} for report in reports])
    return new


def _summarise_measured(summaries: Json, shares: list[Json]) -> None:
    """Where a run had no answer, the original counted 0 or 99,999 ms in: take the answered runs only."""
    if all(share.get("ok") for share in shares):
        return
    for name in _LATENCIES:
        if isinstance(summaries.get(name), dict):
            values = [share[name] for share in shares if share.get(name) is not None]
            summaries[name] = {
                "median": statistics.median(values) if values else None,
                "best": min(values, default=None),
                "worst": max(values, default=None),
                "mean": statistics.fmean(values) if values else None,
            }


def _without_nulls(data: Json) -> Json:
    return {key: value for key, value in data.items() if value is not None}


MIGRATIONS: Mapping[int, Callable[[Json], Json]] = MappingProxyType({0: migrate_0_to_1})
"""The step that leaves each old version."""
