"""A session in the formats of other tools. Pure: artifact in, text out.

:data:`EXPORTS` is the one list of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.report.exports.badge import render_badge
from pytest_espperf.report.exports.dashboards import render_bencher, render_github_action_benchmark
from pytest_espperf.report.exports.figures import properties
from pytest_espperf.report.exports.hdrlog import render_hdrlog
from pytest_espperf.report.exports.junit import render_junit
from pytest_espperf.report.exports.openmetrics import render_openmetrics
from pytest_espperf.report.exports.pytest_benchmark import render_pytest_benchmark
from pytest_espperf.report.exports.table import render_csv

__all__ = ["EXPORTS", "Export", "Renderer", "properties"]

Renderer = Callable[[SessionArtifact], str]


class Export(NamedTuple):
    """One format of another tool.

    Attributes:
        renderers: of its files: what is put behind the stem of a file's name ("" for nothing) -> its text.
        help: one line.
    """

    renderers: Mapping[str, Renderer]
    help: str


EXPORTS: Mapping[str, Export] = {
    "badge": Export({"": render_badge}, "badge of shields (JSON): verdict and size, for its endpoint badge"),
    "bencher": Export({"": render_bencher}, "Bencher Metric Format (JSON), for bencher run --adapter json"),
    "csv": Export({"": render_csv}, "every phase of every run, and every path of it"),
    "github-action-benchmark": Export(
        {
            "-bigger": partial(render_github_action_benchmark, better="higher"),
            "-smaller": partial(render_github_action_benchmark, better="lower"),
        },
        "two files of JSON: out.json makes out-bigger.json (customBiggerIsBetter) and out-smaller.json",
    ),
    "hdrlog": Export({"": render_hdrlog}, "HdrHistogram log of whole latency distributions"),
    "junit": Export({"": render_junit}, "JUnit XML, a test case for each gate"),
    "openmetrics": Export({"": render_openmetrics}, "medians as gauges, for Prometheus and compatible tools"),
    "pytest-benchmark": Export(
        {"": render_pytest_benchmark}, "what pytest-benchmark compare reads (JSON), one value a run"
    ),
}
