"""The metric registry: the only list of metrics, with unit, direction and formatter. Data only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pytest_espperf.model.text import grouped

AS_NEEDED = -1
"""Number of decimals of a metric whose values may be of any size: as many as each needs."""

Better = Literal["lower", "higher"]
"""Which direction of a figure is better."""

WHOLE_RPS = 20.0
"""Throughput (req/s) from which on decimals say nothing."""

COUNTED: Mapping[str, str] = {"requests": "req", "page": "pages", "websocket": "msg", "events": "events"}
"""What a phase of each kind counts, as the unit of its throughput names it: a ``msg`` is a round trip."""

PER_SECOND = "per s"
"""The unit of a throughput over phases of several kinds, and the head of a column that has several."""


def rate_unit(kinds: Iterable[str]) -> str:
    """Name the unit of the throughput of phases: ``req/s``, ``pages/s``, ``msg/s`` or ``events/s``.

    Args:
        kinds: of the phases; several have none in common.
    """
    units = {f"{COUNTED.get(kind, 'req')}/s" for kind in kinds}
    return units.pop() if len(units) == 1 else PER_SECOND


def kind_of_path(kind: str, place: int) -> str:
    """Say what a phase counts on one of its paths: the first one of a page is the page, others its assets."""
    return "requests" if kind == "page" and place else kind


def common_unit(units: Iterable[str]) -> str:
    """Name what values of these units have in common: their unit, or else :data:`PER_SECOND`."""
    found = set(units)
    return found.pop() if len(found) == 1 else PER_SECOND


REQUEST_RATE = rate_unit(("requests",))
RATES = frozenset({PER_SECOND, *(rate_unit((kind,)) for kind in COUNTED)})
"""All that a throughput's unit can be."""


@dataclass(frozen=True)
class Metric:
    """One metric of the registry.

    Attributes:
        name: key in reports and aggregates.
        label: how people write it.
        unit: ``ms``, ``req/s``, ``MB/s`` or ``%``; of a firmware's own figure any. That of a throughput
            follows from what is counted, see :func:`rate_unit`.
        better: which direction is better.
        digits: decimals shown; :data:`AS_NEEDED` for as many as a value needs.
        gateable_from: least number of ok requests from which it may be judged.
        only_some: only some phases have it: it stands in ``PhaseReport.figures``, and is no field.
        gated: of those, whether it is compared with the baseline.
    """

    name: str
    label: str
    unit: str
    better: Better
    digits: int = 2
    gateable_from: int = 1
    only_some: bool = False
    gated: bool = False

    def digits_of(self, value: float) -> int:
        """Choose the decimals with which a value is shown."""
        if self.digits != AS_NEEDED:
            return self.digits
        size = abs(value)
        if size >= 1000 or float(value).is_integer():
            return 0
        return 2 if size >= 1 else min(9, 2 - math.floor(math.log10(size)))

    def number(self, value: float | None) -> str:
        """Format the value without its unit, ``-`` where there is none."""
        return "-" if value is None else grouped(value, self.digits_of(value))

    def format(self, value: float | None) -> str:
        """Format the value with its unit, ``-`` where there is none."""
        return "-" if value is None else f"{self.number(value)} {self.unit}".rstrip()

    def change(self, before: float, now: float) -> str:
        """Format a change with its unit: ``72 -> 41 req/s``, ``44.4 -> 70.1 ms``.

        Both values have as many decimals as the smaller one needs for three significant digits, and no more
        than :attr:`digits`; a throughput is given in whole requests where it is not small.
        """
        least = min(abs(before), abs(now))
        digits = min(self.digits, 0 if least >= 100 else 1 if least >= 10 else 2)
        if self.name == "rps_ok" and least >= WHOLE_RPS:
            digits = 0
        if self.digits == AS_NEEDED:
            digits = max(self.digits_of(before), self.digits_of(now))
        return f"{grouped(before, digits)} -> {grouped(now, digits)} {self.unit}".rstrip()

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
        Metric("rps_ok", "throughput", REQUEST_RATE, "higher", digits=1),
        Metric("p50_ms", "p50", "ms", "lower"),
        Metric("p95_ms", "p95", "ms", "lower", gateable_from=20),
        Metric("p99_ms", "p99", "ms", "lower", gateable_from=1400),
        # Of 59 values one lies above p95 with 95 % certainty; these are those of the last quarter.
        Metric("p95_tail_ms", "p95 of the last quarter", "ms", "lower", gateable_from=59),
        Metric("error_rate", "errors", "%", "lower"),
        Metric("requests_total", "requests", "", "higher", digits=0),
        # Only some phases have these.
        Metric("connect_ms", "connect time", "ms", "lower", only_some=True, gated=True),
        Metric("connect_p95_ms", "connect time p95", "ms", "lower", only_some=True),
        Metric("connect_p99_ms", "connect time p99", "ms", "lower", only_some=True),
        Metric("handshake_ms", "TLS handshake", "ms", "lower", only_some=True, gated=True),
        Metric("handshake_p95_ms", "TLS handshake p95", "ms", "lower", only_some=True),
        Metric("handshake_p99_ms", "TLS handshake p99", "ms", "lower", only_some=True),
        Metric("wait_p50_ms", "wait p50", "ms", "lower", only_some=True),
        Metric("wait_p95_ms", "wait p95", "ms", "lower", only_some=True),
        Metric("upload_mb_s", "upload", "MB/s", "higher", digits=3, only_some=True, gated=True),
        Metric("download_mb_s", "download", "MB/s", "higher", digits=3, only_some=True, gated=True),
        Metric("resumed_share", "resumed TLS sessions", "%", "higher", digits=1, only_some=True),
        Metric("not_modified_share", "answers 304", "%", "higher", digits=1, only_some=True),
        Metric("upgrade_ms", "WebSocket upgrade", "ms", "lower", only_some=True),
        Metric("ws_unsolicited", "unasked WebSocket messages", "", "lower", digits=0, only_some=True),
        Metric("first_event_ms", "time to the first event", "ms", "lower", only_some=True),
        Metric("events_missed", "events left out", "", "lower", digits=0, only_some=True),
    )
}
"""The only list of metrics. What is aggregated is what stands here and in ``CellAggregate``."""

GATED_FIGURES: tuple[str, ...] = tuple(name for name, metric in METRICS.items() if metric.gated)
"""The metrics of some phases only that are compared with the baseline."""

OWN = "figure"
"""What stands before the name of a firmware's own figure: ``figure:boot_ms``."""


def own_gate(name: str) -> str:
    """Name the gate of a firmware's own figure: ``figure:boot_ms``."""
    return f"{OWN}:{name}"


def find_metric(name: str, unit: str = "", better: str = "") -> Metric | None:
    """Find the metric of a name: of the registry, or else a firmware's own figure; None where it is neither.

    Args:
        name: of the metric.
        unit: of an own figure, and of a throughput that counts no requests.
        better: direction of an own figure, "" where it is none.
    """
    known = METRICS.get(name)
    if known is not None:
        return replace(known, unit=unit) if known.unit in RATES and unit in RATES else known
    if better not in ("lower", "higher"):
        return None
    return Metric(name, name, unit, "higher" if better == "higher" else "lower", digits=AS_NEEDED)
