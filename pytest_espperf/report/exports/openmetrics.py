"""OpenMetrics text: medians as gauges in base units, readable as Prometheus' older text format too.

That is why there is no ``info`` family, which the older format does not know, and why samples carry no
time: a Pushgateway and node_exporter's text files refuse it. The session's time is a gauge of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.model.registry import METRICS, Metric
from pytest_espperf.model.text import printable
from pytest_espperf.report.exports.figures import began, board_of, figures


@dataclass(frozen=True)
class Family:
    """Gauges that share one name.

    Attributes:
        name: with its unit at the end.
        unit: ``seconds``, ``ratio`` or "".
        help: one line.
        samples: labels and value; the labels' values are escaped as both text formats want them.
    """

    name: str
    unit: str
    help: str
    samples: list[tuple[Mapping[str, str], float]]


def families(session: SessionArtifact, *, paths: bool) -> list[Family]:
    """List gauges of a session: whether it passed, when it began, medians; those of paths where asked for."""
    common = _escaped({"board": board_of(session), "tag": session.tag})
    verdict = session.gate.kind if session.gate is not None else ""
    facts = {**common, **_escaped({"session": session.session_id, "verdict": verdict})}
    found = [
        Family(
            "espperf_pass",
            "",
            "Whether the session passed: 1 or 0.",
            [(facts, float(session.overall_pass))],
        )
    ]
    if (moment := began(session)) is not None:
        found.append(
            Family(
                "espperf_session_start_seconds",
                "seconds",
                "When the session began, since the epoch.",
                [(common, moment.timestamp())],
            )
        )
    all_figures = list(figures(session, paths=paths))
    for metric in METRICS.values():
        name, unit, parts = _family(metric)
        samples: list[tuple[Mapping[str, str], float]] = []
        for figure in all_figures:
            if figure.metric.name == metric.name:
                where = {"profile": figure.profile, "phase": figure.phase}
                where |= {"path": figure.path} if paths else {}
                samples.append(({**_escaped(where), **common}, figure.median / parts))
        if samples:
            about = f"Median over a phase's runs: {metric.label}. path: empty for all."
            found.append(Family(name, unit, about, samples))
    own: list[tuple[Mapping[str, str], float]] = [
        ({**_escaped({"figure": one.phase, "unit": one.metric.unit}), **common}, one.median)
        for one in all_figures
        if one.is_own
    ]
    if own:
        found.append(Family("espperf_figure", "", "Median of a figure of the firmware's own.", own))
    return found


def render_openmetrics(session: SessionArtifact) -> str:
    """Render the session as OpenMetrics text, with its ``# EOF``."""
    lines: list[str] = []
    for family in families(session, paths=True):
        lines += _head(family)
        lines += [_sample(family.name, labels, value) for labels, value in family.samples]
    return "\n".join([*lines, "# EOF", ""])


def _family(metric: Metric) -> tuple[str, str, float]:
    """Name and unit of a metric's family, and how many of ours make one of it."""
    if metric.unit == "ms":
        return f"espperf_{metric.name.removesuffix('_ms')}_seconds", "seconds", 1e3
    if metric.unit == "%":
        return f"espperf_{metric.name.removesuffix('_rate')}_ratio", "ratio", 1e2
    if metric.unit == "MB/s":
        return f"espperf_{metric.name.removesuffix('_mb_s')}_bytes_per_second", "bytes_per_second", 1e-6
    return f"espperf_{metric.name.removesuffix('_total')}", "", 1.0  # _total is for counters


def _head(family: Family) -> list[str]:
    lines = [f"# TYPE {family.name} gauge"]
    if family.unit:
        lines.append(f"# UNIT {family.name} {family.unit}")
    return [*lines, f"# HELP {family.name} {family.help}"]


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    pairs = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return f"{name}{{{pairs}}} {value!r}"


def _escaped(labels: Mapping[str, str]) -> dict[str, str]:
    return {label: _escape(text) for label, text in labels.items()}


def _escape(text: str) -> str:
    flat = "\n".join(printable(line) for line in text.split("\n"))
    return flat.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
