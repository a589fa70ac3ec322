"""Odd but valid figures are shown, compared, judged and drawn, or left out; nothing ends in a traceback."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st
from msgspec import structs
from support.history_samples import sessions

from pytest_espperf.gate import comparison, judge
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import PhaseEvent, PhaseReport, SessionArtifact, Timeline
from pytest_espperf.output.reports import gather
from pytest_espperf.report import render_markdown, render_terminal
from pytest_espperf.report.boards import Ended, make_overview, render_boards
from pytest_espperf.report.comparison import render_comparison
from pytest_espperf.report.html import page
from pytest_espperf.report.html.charts import course_chart, distribution_chart, trend_data
from pytest_espperf.report.html.data import Course, Distribution, Trend, TrendPoint, TrendSession
from pytest_espperf.report.html.page import render_overview

pytestmark = pytest.mark.timeout(600)  # two minutes of a processor that others want too

ANY = settings(
    derandomize=True,
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
ODD = [0.0, -0.0, 5e-324, -5e-324, 1e-300, 1.0, -1.0, 1e12, 1e300, 1.7e308, -1.7e308]
figures = st.sampled_from(ODD) | st.floats(allow_nan=False, allow_infinity=False)
counts = st.lists(st.sampled_from([0, 1, -1, 2**63 - 1]), max_size=3)
latencies = st.lists(st.none() | figures, max_size=3)
timelines = st.builds(
    Timeline, slice_s=figures, ok=counts, err=counts, p50_ms=latencies, p95_ms=latencies, max_ms=latencies
)
reports = st.builds(
    PhaseReport,
    elapsed=figures,
    stalled_s=figures,
    timeline=st.none() | timelines,
    events=st.lists(st.builds(PhaseEvent, at_s=figures, kind=st.text(), text=st.text()), max_size=2),
    mem_before=st.dictionaries(st.sampled_from(["internal_free", "psram_free"]), figures),
    mem_after=st.dictionaries(st.sampled_from(["internal_free", "psram_free"]), figures),
)


def check(chart: Any) -> None:
    """A browser can read the chart: JSON has no infinity."""
    json.loads(page.to_script(chart), parse_constant=pytest.fail)


@seed(20261129)
@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=3), reports), max_size=3))
@example([("a", PhaseReport(elapsed=1.0, timeline=Timeline(slice_s=1.0, ok=[1, 1], p50_ms=[1.0])))])
@example([("a", PhaseReport(elapsed=1.0, timeline=Timeline(slice_s=0.0, ok=[1], err=[0], p50_ms=[1.0])))])
@example([("a", PhaseReport(mem_before={"internal_free": 5e-324}, mem_after={"internal_free": 1.0}))])
def test_any_course_is_drawn(runs: list[tuple[str, PhaseReport]]) -> None:
    check(course_chart(Course("a:b", tuple(runs))))


@seed(20261129)
@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            TrendPoint,
            session=st.builds(TrendSession, file=st.text(max_size=3), when=st.text(max_size=3)),
            value=figures,
            verdict=st.text(max_size=3),
            kind=st.sampled_from(["history", "failing", "doubtful"]),
            baseline=st.none() | figures,
            limit=st.none() | figures,
            d_pct=st.none() | figures,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_trend_is_drawn(points: list[TrendPoint]) -> None:
    check(trend_data([Trend("", "a", "p95_ms", tuple(points))]))


@seed(20261129)
@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), figures), max_size=3))
def test_any_distribution_is_drawn(curve: list[tuple[float, float]]) -> None:
    check(distribution_chart(Distribution("a:b", curve, curve)))


@seed(20261129)
@given(st.sampled_from(["p95_ms", "rps_ok", "error_rate"]), figures, figures)
@example("p95_ms", 100.0, 5e-324)
@example("rps_ok", 5e-324, 1e308)
def test_any_two_medians_are_compared(metric: str, before: float, after: float) -> None:
    comparison._slower(metric, before, after)


@ANY
@given(one=sessions, other=sessions)
def test_any_session_is_shown_compared_judged_and_drawn(
    one: SessionArtifact, other: SessionArtifact, tmp_path_factory: pytest.TempPathFactory
) -> None:
    drawn = page.render_html(gather(one, HistoryStore(Path("there is none"))))
    assert all(char.isprintable() or char == "\n" for char in drawn)
    for data in re.findall(r'<script type="application/json">(.*?)</script>', drawn, flags=re.DOTALL):
        json.loads(data, parse_constant=pytest.fail)
    assert all(line.text.isprintable() for line in render_terminal(one, verbosity=1))
    assert all(line.isprintable() for line in render_markdown(one).split("\n"))
    ended = {"a": Ended(session=one, fails=False), "b": Ended(session=other, fails=True)}
    assert render_overview(make_overview(ended))
    assert render_boards({"a": one, "b": other})
    alike = structs.replace(
        other, aggregated=other.aggregated | one.aggregated, comparability=one.comparability
    )
    if one.contest is None and alike.contest is None:
        assert render_comparison(comparison.compare(one, alike))
    judge(one, [alike])
