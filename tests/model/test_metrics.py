from __future__ import annotations

import base64
import math
import random
import struct
import zlib
from array import array

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from pytest_espperf.load.recorder import Recorder
from pytest_espperf.model.artifact import PathReport, PhaseReport, PhaseResult, RawRun
from pytest_espperf.model.metrics import (
    MAX_HISTOGRAM_BYTES,
    Answered,
    aggregate,
    make_histogram,
    make_timeline,
    percentile,
    percentile_curve,
    stalled_seconds,
    summarise,
)
from pytest_espperf.model.samples import Outcome, PhaseSamples

finite = st.floats(min_value=0, max_value=1e6, allow_nan=False)


@given(st.lists(finite, min_size=1), st.floats(min_value=0, max_value=1))
def test_percentile_is_numpys(values: list[float], fraction: float) -> None:
    values.sort()
    assert percentile(values, fraction) == pytest.approx(float(np.percentile(values, fraction * 100)))
    assert values[0] <= percentile(values, fraction) <= values[-1]


def test_no_value_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no value"):
        percentile([], 0.5)


@given(st.lists(st.floats(min_value=1e-6, max_value=500), min_size=1, max_size=200))
def test_the_histogram_is_read_by_its_own_library(seconds: list[float]) -> None:
    decoded = HdrHistogram.decode(make_histogram(seconds))
    assert decoded.get_total_count() == len(seconds)
    # Three significant digits: within 0.1 % (and the rounding to whole microseconds).
    assert decoded.get_max_value() == pytest.approx(max(seconds) * 1e6, rel=2e-3, abs=1)


def samples(
    rows: list[tuple[float, float, int, int]], outcomes: list[Outcome], lag: list[float] | None = None
) -> PhaseSamples:
    made = PhaseSamples(
        paths=("/a", "/b"),
        clients=2,
        duration_s=1.0,
        outcomes=outcomes,
        start_s=array("f", [row[0] for row in rows]),
        service_s=array("f", [row[1] for row in rows]),
        ttfb_s=array("f", [math.nan for _ in rows]),
        path=array("B", [row[2] for row in rows]),
        outcome=array("B", [row[3] for row in rows]),
    )
    made.lag_s = array("f", lag or [])
    made.elapsed_s = max((row[0] + row[1] for row in rows), default=1.0)
    return made


OK, BUSY, TIMEOUT = Outcome(200, None), Outcome(503, "http_503"), Outcome(None, "ReadTimeout")


def test_figures_of_a_small_phase_by_hand() -> None:
    report = summarise(
        samples([(0.0, 0.1, 0, 0), (0.0, 0.3, 1, 0), (0.1, 0.2, 0, 1), (0.3, 0.7, 1, 2)], [OK, BUSY, TIMEOUT])
    )
    assert (report.requests_total, report.ok, report.err) == (4, 2, 2)
    assert report.error_rate == 50.0
    assert report.elapsed == pytest.approx(1.0)
    assert report.rps_ok == pytest.approx(2.0)
    assert report.p50_ms == pytest.approx(200.0)  # failed requests have no latency
    assert report.max_ms == pytest.approx(300.0)
    assert report.status_counts == {"200": 2, "503": 1}
    assert report.error_kinds == {"ReadTimeout": 1, "http_503": 1}
    assert report.path_metrics["/a"].error_rate == 50.0
    assert report.path_metrics["/b"].p95_ms == pytest.approx(300.0)
    assert report.p95_tail_ms is None  # nothing ended well in the last quarter


def test_an_empty_phase_is_not_reported_as_zero_milliseconds() -> None:
    report = summarise(samples([], [OK]))
    assert report.p50_ms is None
    assert report.p99_ms is None
    assert report.histogram is None
    assert report.stalled_s == report.elapsed


def test_open_loop_latency_runs_from_the_intended_start() -> None:
    report = summarise(samples([(0.5, 0.1, 0, 0), (0.6, 0.1, 0, 0)], [OK], lag=[0.4, 0.5]))
    assert report.p50_ms == pytest.approx(550.0)
    assert report.service_p50_ms == pytest.approx(100.0)


def test_exact_percentiles_of_many_samples_match_numpy() -> None:
    rng = random.Random(7)
    latencies = [rng.lognormvariate(-4, 1) for _ in range(5000)]
    report = summarise(samples([(0.0, value, 0, 0) for value in latencies], [OK]))
    as_stored = np.array(latencies, dtype=np.float32).astype(float) * 1e3
    for name, level in (("p50_ms", 50), ("p95_ms", 95), ("p99_ms", 99)):
        assert getattr(report, name) == pytest.approx(float(np.percentile(as_stored, level)))


def test_seconds_lost_to_an_outage_are_told() -> None:
    steady = [Answered(index / 100, 0.02) for index in range(1, 200)]
    last_s = steady[-1].end_s
    assert stalled_seconds(steady, 2.0) == 0.0
    assert stalled_seconds([*steady, Answered(6.0, 0.02)], 6.1) == pytest.approx(6.0 - last_s)
    assert stalled_seconds(steady, 5.0) == pytest.approx(5.0 - last_s)
    # It hung, and answered after all; and it hung for most of the time.
    assert stalled_seconds([*steady, Answered(6.0, 4.0)], 6.1) == pytest.approx(6.0 - last_s)
    assert stalled_seconds([*steady, Answered(60.0, 58.0)], 60.1) == pytest.approx(60.0 - last_s)


def test_an_outage_that_outlasts_a_warm_phase_is_a_stall() -> None:
    """Its rates are over the time in which requests were started; its last ones hung for 4 s more."""
    rows = [(0.1 * k, 0.1, 0, 0) for k in range(9)] + [(0.9, 4.0, 0, 1)]
    made = samples(rows, [OK, TIMEOUT])
    made.elapsed_s = 1.0
    report = summarise(made)
    assert report.rps_ok == 9
    assert report.stalled_s == pytest.approx(4.0)


SLOW_BY_NATURE = {
    "one client": [Answered(2.0 * k, 2.0) for k in range(1, 5)],
    "clients answered together": [Answered(4.5 * (k // 3 + 1), 4.5) for k in range(12)],
    "clients in a queue": [Answered(2.0 * k, 6.0) for k in range(1, 10)],
    "one slow path of two": [
        answer
        for k in range(5)
        for answer in (Answered(4.55 * k + 0.05, 0.05, 0), Answered(4.55 * k + 4.55, 4.5, 1))
    ],
    "one slow request in fifty": [
        answer
        for k in range(4)
        for answer in (
            *(Answered(4.5 * k + 0.05 * j, 0.05, 0) for j in range(1, 50)),
            Answered(4.5 * k + 4.5, 2.05, 1),
        )
    ],
}


@pytest.mark.parametrize("answers", SLOW_BY_NATURE.values(), ids=SLOW_BY_NATURE)
def test_a_board_that_is_slow_by_nature_is_not_stalled(answers: list[Answered]) -> None:
    lasted_s = answers[-1].end_s
    assert stalled_seconds(answers, lasted_s) == 0.0
    # Three times as long is not its nature.
    late_s = lasted_s + 14.0
    assert stalled_seconds([*answers, Answered(late_s, 14.0, answers[-1].path)], late_s) == pytest.approx(
        14.0
    )


def test_an_error_answer_is_an_answer() -> None:
    rows = [(0.5 * k, 0.5, 0, 1) for k in range(8)]
    assert summarise(samples(rows, [OK, Outcome(503, "http_503")])).stalled_s == 0.0
    cannot_be_read = samples(rows, [OK, Outcome(None, "RemoteProtocolError")])
    assert summarise(cannot_be_read).stalled_s == pytest.approx(4.0)
    cannot_be_read.ttfb_s = array("f", [0.1] * len(rows))
    assert summarise(cannot_be_read).stalled_s == 0.0
    assert summarise(samples(rows, [OK, TIMEOUT])).stalled_s == pytest.approx(4.0)


def result(ok: int, p95: float | None, rps: float, *, passed: bool = True) -> PhaseResult:
    path = PathReport(requests_total=ok, ok=ok, p95_ms=p95, rps_ok=rps)
    report = PhaseReport(requests_total=ok, ok=ok, p95_ms=p95, rps_ok=rps, path_metrics={"/a": path})
    return PhaseResult(profile="x", phase="burst", passed=passed, report=report)


def test_best_and_worst_follow_the_direction() -> None:
    runs = [
        RawRun(profile="x", run_index=index, results=[result(10, p95, rps, passed=index != 3)])
        for index, (p95, rps) in enumerate([(10.0, 100.0), (30.0, 80.0), (20.0, 90.0)], 1)
    ]
    cell = aggregate(runs)["x:burst"]
    assert (cell.p95_ms.median, cell.p95_ms.best, cell.p95_ms.worst) == (20.0, 10.0, 30.0)
    assert (cell.rps_ok.median, cell.rps_ok.best, cell.rps_ok.worst) == (90.0, 100.0, 80.0)
    assert cell.sample_count == 3
    assert cell.pass_rate == pytest.approx(2 / 3)
    assert cell.path_metrics["/a"].p95_ms.median == 20.0


def test_a_run_without_answers_has_no_latency_to_aggregate() -> None:
    runs = [RawRun(profile="x", run_index=1, results=[result(0, None, 0.0)])]
    assert aggregate(runs)["x:burst"].p95_ms.median is None


def test_confirmation_rounds_are_not_aggregated() -> None:
    runs = [
        RawRun(profile="x", run_index=1, results=[result(1, 10.0, 1.0)]),
        RawRun(profile="x", run_index=2, role="confirm", results=[result(1, 99.0, 1.0)]),
    ]
    assert aggregate(runs)["x:burst"].p95_ms.median == 10.0


def test_a_timeline_has_every_request_where_it_ended() -> None:
    rows = [(0.0, 0.1, 0, 0), (0.1, 0.1, 1, 1), (0.3, 0.1, 0, 0), (0.3, 0.6, 0, 0), (0.9, 0.12, 0, 2)]
    timeline = make_timeline(samples(rows, [OK, BUSY, TIMEOUT]))
    assert timeline is not None
    assert timeline.slice_s == pytest.approx(0.255)
    assert timeline.ok == [1, 1, 0, 1]
    assert timeline.err == [1, 0, 0, 1]
    assert timeline.p50_ms == [pytest.approx(100), pytest.approx(100), None, pytest.approx(600)]


@given(
    st.lists(
        st.tuples(
            st.floats(0, 100), st.floats(1e-4, 100), st.integers(0, 1), st.integers(0, 2), st.floats(0, 1)
        ),
        min_size=1,
    )
)
def test_a_timelines_figures_are_those_of_the_phase(rows: list[tuple[float, float, int, int, float]]) -> None:
    made = samples([row[:4] for row in rows], [OK, BUSY, TIMEOUT], [row[4] for row in rows])
    timeline, report = make_timeline(made), summarise(made)
    assert timeline is not None
    assert sum(timeline.ok) == report.ok
    assert sum(timeline.err) == report.err
    assert len(timeline.ok) == len(timeline.max_ms) <= 60
    worst = max((value for value in timeline.max_ms if value is not None), default=None)
    assert worst == (pytest.approx(report.max_ms, abs=1e-3) if report.ok else None)


def test_a_percentile_curve_joins_histograms_and_ends_where_the_values_end() -> None:
    rng = random.Random(20261125)
    parts = [[rng.lognormvariate(-4, 0.5) for _ in range(500)] for _ in range(4)]
    curve = percentile_curve([*(make_histogram(part) for part in parts), "no histogram"])
    values = sorted(value for part in parts for value in part)
    assert curve[-1][0] == pytest.approx(100 * (1 - 1 / 2000))
    for at, milliseconds in curve:
        below, above = (float(np.percentile(values, at, method=how)) * 1e3 for how in ("lower", "higher"))
        assert below * 0.998 <= milliseconds <= above * 1.002
    assert percentile_curve([]) == []


def test_a_histogram_that_unpacks_to_more_than_a_phase_can_have_is_left_out() -> None:
    honest = make_histogram([0.01] * 100)
    raw = base64.b64decode(honest)
    packer = zlib.compressobj(9)
    packed = packer.compress(zlib.decompress(raw[8:])[:40])
    packed += packer.compress(bytes(MAX_HISTOGRAM_BYTES)) + packer.flush()
    bomb = base64.b64encode(raw[:4] + struct.pack(">i", len(packed)) + packed).decode()
    assert percentile_curve([bomb]) == []
    assert percentile_curve([bomb, honest]) == percentile_curve([honest])


def test_the_widest_histogram_of_a_phase_is_small_enough() -> None:
    spread = [1e-6 * 1.0012**step for step in range(16_800)]
    assert percentile_curve([make_histogram(spread)])


def test_answers_to_requests_of_the_warm_up_are_no_silence() -> None:
    """A board that works off what the warm-up left in its queue, while the phase's own requests wait."""
    waiting = samples([(0.0, 6.0, 0, 0)], [TIMEOUT])
    waiting.elapsed_s = 6.0
    assert summarise(waiting).stalled_s == pytest.approx(6.0)
    waiting.warm_answers = [(0.6 * number, 4.0, 0) for number in range(1, 10)]
    assert summarise(waiting).stalled_s == 0.0


def test_the_recorder_keeps_answers_of_the_warm_up_that_came_within_the_phase() -> None:
    made = PhaseSamples(("/",), 2, 1.0)
    recorder = Recorder(made)
    recorder.start_at(1_000_000_000)
    answered, silent = recorder.table.index(200, None), recorder.table.index(None, "ReadTimeout")
    recorder.add(0, answered, 100, 200, 900_000_000, 100)  # over before
    recorder.add(0, answered, 900_000_000, 0, 1_500_000_000, 900_000_000)
    recorder.add(0, silent, 900_000_000, 0, 1_600_000_000, 900_000_000)
    assert len(made) == 0
    assert made.warm_answers == [pytest.approx((0.5, 0.6, 0))]


def test_figures_of_connections_that_serve_one_request_each() -> None:
    rows = [(0.0, 0.1, 0, 0), (0.2, 0.3, 0, 0), (0.6, 0.4, 0, 1)]
    made = samples(rows, [OK, TIMEOUT])
    made.reuse = False
    made.opening_s = array("f", [0.5, 1.5, 0.0])  # what failed waited for no connection that counts
    made.connect_s = array("f", [0.5, 1.5])
    assert summarise(made).figures == {
        "connect_ms": pytest.approx(1000.0),
        "connect_p95_ms": pytest.approx(1450.0),
        "connect_p99_ms": pytest.approx(1490.0),
        "wait_p50_ms": pytest.approx(1200.0),
        "wait_p95_ms": pytest.approx(1740.0),
    }
    made.handshake_s = array("f", [0.4, 1.0])
    made.resumed = 1
    figures = summarise(made).figures
    assert figures["connect_ms"] == pytest.approx(300.0)  # TCP alone
    assert figures["handshake_ms"] == pytest.approx(700.0)
    assert figures["handshake_p95_ms"] == pytest.approx(970.0)
    assert figures["resumed_share"] == 50.0
    assert summarise(made).connect_p50_ms == pytest.approx(1000.0)  # with TLS, as it always was
    made.reuse = True
    assert summarise(made).figures == {}


def test_the_lag_of_an_open_loop_has_the_opening_in_it() -> None:
    made = samples([(0.5, 0.1, 0, 0)], [OK], lag=[0.4])
    made.reuse = False
    made.opening_s = array("f", [0.3])
    assert summarise(made).figures["wait_p50_ms"] == pytest.approx(500.0)


def test_no_connection_has_no_figures() -> None:
    made = samples([(0.0, 0.1, 0, 0)], [TIMEOUT])
    made.reuse = False
    made.opening_s = array("f", [0.0])
    assert summarise(made).figures == {}


def test_assets_have_figures_of_their_own_and_are_no_requests_of_the_phase() -> None:
    made = samples([(0.0, 1.0, 0, 0), (1.0, 1.0, 0, 1)], [OK, BUSY])
    made.paths = ("/",)
    made.figures = {"not_modified_share": 0.25}
    made.parts = samples([(0.2, 0.1, 0, 0), (0.2, 0.3, 1, 0), (1.8, 0.1, 0, 1)], [OK, BUSY])
    report = summarise(made)
    assert (report.requests_total, report.ok, report.err) == (2, 1, 1)
    assert list(report.path_metrics) == ["/", "/a", "/b"]
    assert (report.path_metrics["/a"].ok, report.path_metrics["/a"].err) == (1, 1)
    assert report.path_metrics["/b"].p50_ms == pytest.approx(300.0)
    assert report.path_metrics["/a"].rps_ok == pytest.approx(0.5)
    assert report.figures == {"not_modified_share": 0.25}


def test_what_clients_pause_is_no_stall_and_an_outage_is_one() -> None:
    calm = [Answered(2.1 * number, 0.1) for number in range(1, 6)]
    assert stalled_seconds(calm, 10.5) > 9
    assert stalled_seconds(calm, 10.5, think_time_s=2.0) == 0
    assert stalled_seconds([*calm, Answered(40.5, 30.0)], 40.5, think_time_s=2.0) == pytest.approx(30.0)


def test_a_schedule_or_pauses_pace_a_phase() -> None:
    made = samples([(0.0, 0.1, 0, 0)], [OK])
    assert not summarise(made).paced
    made.think_time_s = 2.0
    assert summarise(made).paced
    made = samples([(0.0, 0.1, 0, 0)], [OK], lag=[0.0])
    made.rate_rps = 5.0
    assert summarise(made).paced
