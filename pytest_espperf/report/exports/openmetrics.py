"""OpenMetrics text: medians as gauges in base units, readable as Prometheus' older text format too.

That is why there is no ``info`` family, which the older format does not know, and why samples carry no
time: a Pushgateway and node_exporter's text files refuse it. The session's time is a gauge of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_espperf.artifact import SessionArtifact
from pytest_espperf.registry import METRICS, Metric
from pytest_espperf.report.exports.figures import began, board_of, figures
from pytest_espperf.report.terminal import printable


def render_openmetrics(session: SessionArtifact) -> str:
    """The session as OpenMetrics text, with its ``# EOF``."""
    common = {"board": board_of(session), "tag": session.tag}
    verdict = session.gate.kind if session.gate is not None else ""
    facts = {**common, "session": session.session_id, "verdict": verdict}
    lines = _head("espperf_pass", "", "Whether the session passed: 1 or 0.")
    lines.append(_sample("espperf_pass", facts, float(session.overall_pass)))
    if (moment := began(session)) is not None:
        name = "espperf_session_start_seconds"
        lines += _head(name, "seconds", "When the session began, since the epoch.")
        lines.append(_sample(name, common, moment.timestamp()))
    found = list(figures(session, paths=True))
    for metric in METRICS.values():
        name, unit, parts = _family(metric)
        samples = [
            _sample(
                name,
                {"profile": figure.profile, "phase": figure.phase, "path": figure.path, **common},
                figure.median / parts,
            )
            for figure in found
            if figure.metric is metric
        ]
        if samples:
            lines += _head(name, unit, f"Median over a phase's runs: {metric.label}. path: empty for all.")
            lines += samples
    return "\n".join([*lines, "# EOF", ""])


def _family(metric: Metric) -> tuple[str, str, float]:
    """Name and unit of a metric's family, and how many of ours make one of it."""
    if metric.unit == "ms":
        return f"espperf_{metric.name.removesuffix('_ms')}_seconds", "seconds", 1e3
    if metric.unit == "%":
        return f"espperf_{metric.name.removesuffix('_rate')}_ratio", "ratio", 1e2
    return f"espperf_{metric.name.removesuffix('_total')}", "", 1.0  # _total is for counters


def _head(name: str, unit: str, text: str) -> list[str]:
    lines = [f"# TYPE {name} gauge"]
    if unit:
        lines.append(f"# UNIT {name} {unit}")
    return [*lines, f"# HELP {name} {text}"]


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    told = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
    return f"{name}{{{told}}} {value!r}"


def _escape(text: str) -> str:
    flat = "\n".join(printable(line) for line in text.split("\n"))
    return flat.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
