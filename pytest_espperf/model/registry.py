"""The metric registry: the only list of metrics, with unit, direction and formatter. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pytest_espperf.model.text import grouped

WHOLE_RPS = 20.0
"""Throughput (req/s) from which on decimals say nothing."""


@dataclass(frozen=True)
class Metric:
    """One metric of the registry.

    Attributes:
        name: key in reports and aggregates.
        label: how people write it.
        unit: ``ms``, ``req/s`` or ``%``.
        better: which direction is better.
        digits: decimals shown.
        gateable_from: least number of ok requests from which it may be judged.
    """

    name: str
    label: str
    unit: str
    better: Literal["lower", "higher"]
    digits: int = 2
    gateable_from: int = 1

    def format(self, value: float | None) -> str:
        """Format the value with its unit, ``-`` where there is none."""
        return "-" if value is None else f"{grouped(value, self.digits)} {self.unit}"

    def change(self, before: float, now: float) -> str:
        """Format a change with its unit: ``72 -> 41 req/s``, ``44.4 -> 70.1 ms``.

        Both values have as many decimals as the smaller one needs for three significant digits, and no more
        than :attr:`digits`; a throughput is given in whole requests where it is not small.
        """
        least = min(abs(before), abs(now))
        digits = min(self.digits, 0 if least >= 100 else 1 if least >= 10 else 2)
        if self.name == "rps_ok" and least >= WHOLE_RPS:
            digits = 0
        return f"{grouped(before, digits)} -> {grouped(now, digits)} {self.unit}"

    @property
    def best(self) -> Any:
        """The function that chooses the best value, ``min`` or ``max``."""
        return min if self.better == "lower" else max

    @property
    def worst(self) -> Any:
        """The function that chooses the worst value."""
        return max if self.better == "lower" else min


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("rps_ok", "throughput", "req/s", "higher", digits=1),
        Metric("p50_ms", "p50", "ms", "lower"),
        Metric("p95_ms", "p95", "ms", "lower", gateable_from=20),
        Metric("p99_ms", "p99", "ms", "lower", gateable_from=1400),
        # Of 59 values one lies above p95 with 95 % certainty; these are those of the last quarter.
        Metric("p95_tail_ms", "p95 of the last quarter", "ms", "lower", gateable_from=59),
        Metric("error_rate", "errors", "%", "lower"),
        Metric("requests_total", "requests", "", "higher", digits=0),
    )
}
"""The only list of metrics. What is aggregated is what stands here and in ``CellAggregate``."""
