"""Medians of cells for services that draw them over commits: github-action-benchmark and Bencher."""

from __future__ import annotations

import json
from typing import Any, Literal

from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.model.gates import MAIN_METRIC
from pytest_espperf.model.registry import METRICS, Metric
from pytest_espperf.model.text import json_printable
from pytest_espperf.report.exports.figures import board_of, figures

NS_PER_MS = 1e6
LATENCY_OF = "p50_ms"
"""The metric behind Bencher's own measure ``latency``; its other adapters report a median or mean there."""


def render_github_action_benchmark(session: SessionArtifact, *, better: Literal["lower", "higher"]) -> str:
    """Render the JSON array of github-action-benchmark's tools ``custom{Bigger,Smaller}IsBetter``.

    One entry for each cell and metric of the direction; ``range`` are the least and the greatest run.
    """
    rows = []
    for figure in figures(session):
        metric = figure.metric
        if metric.better == better:
            digits = max(metric.digits_of(figure.low), metric.digits_of(figure.high))
            extra = [
                f"{figure.runs} {'values' if figure.is_own else 'runs'}",
                f"board: {board_of(session)}",
                f"session: {session.session_id}",
            ]
            rows.append(
                {
                    "name": figure.name,
                    "unit": metric.unit,
                    "value": figure.median,
                    "range": f"{figure.low:.{digits}f} .. {figure.high:.{digits}f}",
                    "extra": "\n".join(extra),
                }
            )
    return _json(rows)


def render_bencher(session: SessionArtifact) -> str:
    """Bencher Metric Format, version 0: a benchmark for each cell, a measure for each metric.

    ``latency`` and ``throughput`` are the measures that every project there has, in nanoseconds and
    operations per second; the other latencies (``latency-p95``) are in nanoseconds too, ``error-rate`` is
    in percent. Bounds are the least and the greatest run.
    """
    benchmarks: dict[str, dict[str, Any]] = {}
    for figure in figures(session):
        measure, factor = _measure(figure.metric)
        benchmarks.setdefault(figure.cell, {})[measure] = {
            "value": figure.median * factor,
            "lower_value": figure.low * factor,
            "upper_value": figure.high * factor,
        }
    return _json(benchmarks)


def _measure(metric: Metric) -> tuple[str, float]:
    """Return the slug of a metric's measure, and what a value is multiplied by."""
    if metric.name == LATENCY_OF:
        return "latency", NS_PER_MS
    if metric.unit == "ms" and metric.name in METRICS:
        return f"latency-{metric.name.removesuffix('_ms').replace('_', '-')}", NS_PER_MS
    if metric.name == MAIN_METRIC:
        return "throughput", 1.0
    return metric.name.replace("_", "-"), 1.0


def _json(value: object) -> str:
    return json_printable(json.dumps(value, indent=2, allow_nan=False)) + "\n"
