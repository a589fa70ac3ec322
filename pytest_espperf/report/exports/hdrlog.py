"""An HdrHistogram log: the latencies of every phase of every run, whole, tagged ``profile:phase:run1``."""

from __future__ import annotations

import re

from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.report.exports.figures import began, usable

_ENCODED = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_UNTAGGABLE = re.compile(r"[^\x21-\x2b\x2d-\x7e]")  # blanks, commas and what is no ASCII end a tag


def render_hdrlog(session: SessionArtifact) -> str:
    """Render the log, values in microseconds.

    Intervals stand one behind the other, each as long as its phase: the pauses between phases are not
    in an artifact. A confirmation run's tag ends in ``confirm1``, an A/B pair's in ``ab-baseline1`` and
    ``ab-candidate1``. A phase without an ok request has no interval.
    """
    lines = ["#[Histogram log format version 1.2]"]
    if (moment := began(session)) is not None:
        epoch = f"{moment.timestamp():.3f} (seconds since epoch)"
        lines += [f"#[StartTime: {epoch}, {moment.isoformat()}]", f"#[BaseTime: {epoch}]"]
    lines += [
        "# Values are in microseconds, Interval_Max is in milliseconds. Pauses between phases are left out.",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
    ]
    at_s = 0.0
    for run in session.raw_runs:
        for result in run.results:
            report = result.report
            if report.histogram is None or not _ENCODED.fullmatch(report.histogram):
                continue
            length_s, greatest_ms = _positive(report.elapsed), _positive(report.max_ms)
            tag = _UNTAGGABLE.sub("_", f"{result.profile}:{result.phase}:{run.role}{run.run_index}")
            lines.append(f"Tag={tag},{at_s:.3f},{length_s:.3f},{greatest_ms:.3f},{report.histogram}")
            at_s += length_s
    return "\n".join([*lines, ""])


def _positive(value: float | None) -> float:
    return max(0.0, value) if usable(value) else 0.0
