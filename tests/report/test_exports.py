"""Each format is read by a parser or tool that is not ours, or by a rule of its tool put into Python."""

from __future__ import annotations

import csv
import io
import random
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import xmlschema
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from hypothesis import given, seed
from hypothesis import strategies as st
from msgspec import structs
from prometheus_client import parser as older
from pytest_benchmark.stats import Stats
from support.export_readers import SCHEMA, benchmark_results, bmf, families
from support.export_sessions import PATHS, PHASES, PROFILES, session

from pytest_espperf.model.artifact import PathReport, SessionArtifact, Verdict
from pytest_espperf.report.exports import EXPORTS
from pytest_espperf.report.exports.pytest_benchmark import statistics_of

SEED = 20261126
CELLS = [f"{profile}:{phase}" for profile in PROFILES for phase in PHASES]


@pytest.fixture(scope="module")
def sample() -> SessionArtifact:
    print(f"seed {SEED}")
    return session(random.Random(SEED))


def rendered(name: str, artifact: SessionArtifact, behind: str = "") -> str:
    return EXPORTS[name].renderers[behind](artifact)


def reports(artifact: SessionArtifact) -> list[tuple[tuple[str, ...], Any]]:
    """Every phase and path as measured, by what names it."""
    return [
        ((one.profile, one.phase, str(run.run_index), run.role, path), figures)
        for run in artifact.raw_runs
        for one in run.results
        for path, figures in {"": one.report, **one.report.path_metrics}.items()
    ]


# --- github-action-benchmark ---------------------------------------------------------------------


def test_the_github_action_gets_each_direction_in_a_file_of_its_own(sample: SessionArtifact) -> None:
    bigger = {entry["name"]: entry for entry in benchmark_results(_bigger(sample))}
    smaller = {entry["name"]: entry for entry in benchmark_results(_smaller(sample))}
    assert set(bigger) == {f"{cell} throughput" for cell in CELLS}
    labels = ("p50", "p95", "p99", "p95 of the last quarter", "errors")
    assert set(smaller) == {f"{cell} {label}" for cell in CELLS for label in labels}
    p95 = sample.aggregated["heavy:burst"].p95_ms
    entry = smaller["heavy:burst p95"]
    assert (entry["value"], entry["unit"]) == (p95.median, "ms")
    assert entry["range"] == f"{p95.best:.2f} .. {p95.worst:.2f}"
    rps = sample.aggregated["heavy:burst"].rps_ok
    assert bigger["heavy:burst throughput"]["range"] == f"{rps.worst:.1f} .. {rps.best:.1f}"


def _bigger(artifact: SessionArtifact) -> str:
    return rendered("github-action-benchmark", artifact, "-bigger")


def _smaller(artifact: SessionArtifact) -> str:
    return rendered("github-action-benchmark", artifact, "-smaller")


# --- Bencher -------------------------------------------------------------------------------------


def test_bencher_gets_nanoseconds_and_operations_a_second(sample: SessionArtifact) -> None:
    found = bmf(rendered("bencher", sample))
    assert list(found) == CELLS
    cell, measures = sample.aggregated["light:long"], found["light:long"]
    assert set(measures) == {
        *("latency", "latency-p95", "latency-p99", "latency-p95-tail"),
        *("throughput", "error-rate"),
    }
    assert cell.p50_ms.median is not None
    assert measures["latency"]["value"] == pytest.approx(cell.p50_ms.median * 1e6)
    assert measures["throughput"] == {
        "value": cell.rps_ok.median,
        "lower_value": cell.rps_ok.worst,
        "upper_value": cell.rps_ok.best,
    }
    assert measures["error-rate"]["value"] == cell.error_rate.median


# --- OpenMetrics ---------------------------------------------------------------------------------


def test_openmetrics_has_base_units_and_a_sample_for_each_cell_and_path(sample: SessionArtifact) -> None:
    found = families(rendered("openmetrics", sample))
    p95 = found["espperf_p95_seconds"]
    assert (p95.type, p95.unit) == ("gauge", "seconds")
    values = {
        (one.labels["profile"], one.labels["phase"], one.labels["path"]): one.value for one in p95.samples
    }
    assert set(values) == {(a, b, c) for a in PROFILES for b in PHASES for c in ("", *PATHS)}
    cell = sample.aggregated["heavy:long"]
    assert cell.p95_ms.median is not None
    assert values["heavy", "long", ""] == pytest.approx(cell.p95_ms.median / 1e3)
    inner = cell.path_metrics[PATHS[1]].p95_ms.median
    assert inner is not None
    assert values["heavy", "long", PATHS[1]] == pytest.approx(inner / 1e3)
    assert all(one.labels["board"] == "bench-1" and one.labels["tag"] == "t1" for one in p95.samples)
    assert found["espperf_error_ratio"].unit == "ratio"
    assert {"espperf_rps_ok", "espperf_requests", "espperf_p95_tail_seconds"} <= set(found)
    (passed,) = found["espperf_pass"].samples
    assert (passed.value, passed.labels["verdict"]) == (0.0, "regressed")


def test_the_older_prometheus_format_reads_the_same(sample: SessionArtifact) -> None:
    text = rendered("openmetrics", structs.replace(sample, tag='a"b\\c\nd'))
    assert text.endswith("# EOF\n")
    told = {family.name: family for family in older.text_string_to_metric_families(text)}
    for name, family in families(text).items():
        assert [one[:3] for one in told[name].samples] == [one[:3] for one in family.samples]


def test_a_label_comes_back_as_it_was(sample: SessionArtifact) -> None:
    for tag in ('say "hi"', "a\\b", "two\nlines", "\\n", 'x"} 1 # EOF'):
        (passed,) = families(rendered("openmetrics", structs.replace(sample, tag=tag)))[
            "espperf_pass"
        ].samples
        assert passed.labels["tag"] == tag


# --- pytest-benchmark ----------------------------------------------------------------------------


def test_pytest_benchmark_compares_two_sessions(sample: SessionArtifact, tmp_path: Path) -> None:
    other = session(random.Random(SEED + 1))
    files = [tmp_path / "before.json", tmp_path / "after.json"]
    for file, artifact in zip(files, (sample, other), strict=True):
        file.write_text(rendered("pytest-benchmark", artifact), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", "--csv=out.csv", *map(str, files)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Failed to load" not in said
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    metrics = ("p50_ms", "p95_ms", "p99_ms", "p95_tail_ms")
    assert len(rows) == 2 * len(CELLS) * len(metrics)
    for cell in CELLS:
        for metric in metrics:
            found = [row for row in rows if row["name"].endswith(f"{cell}:{metric}")]
            medians = [getattr(one.aggregated[cell], metric).median / 1e3 for one in (sample, other)]
            assert sorted(float(row["median"]) for row in found) == pytest.approx(sorted(medians))
            assert {row["rounds"] for row in found} == {"3"}


def their_statistics(data: list[float]) -> Any:
    make: Any = Stats  # it has no types
    stats = make()
    for value in data:
        stats.update(value)
    return stats


@seed(SEED)
@given(st.lists(st.floats(1e-6, 60), min_size=1, max_size=40))
def test_statistics_are_those_of_pytest_benchmark_itself(data: list[float]) -> None:
    theirs, ours = their_statistics(data), statistics_of(data)
    assert ours["data"] == data
    for name in ("min", "max", "mean", "stddev", "rounds", "median", "iqr", "q1", "q3", "ops", "total"):
        assert ours[name] == pytest.approx(getattr(theirs, name), abs=1e-12), name
    assert set(ours) == {*Stats.fields, "data", "iterations"}


def test_outliers_are_those_of_pytest_benchmark_itself() -> None:
    rng = random.Random(SEED)
    for count in range(1, 60):
        data = [rng.lognormvariate(0, 1) for _ in range(count)]
        theirs, ours = their_statistics(data), statistics_of(data)
        assert {name: ours[name] for name in Stats.fields if "outlier" in name or "15" in name} == {
            name: getattr(theirs, name) for name in Stats.fields if "outlier" in name or "15" in name
        }


# --- JUnit ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(str(SCHEMA))


def test_junit_has_a_case_for_each_gate(sample: SessionArtifact, schema: xmlschema.XMLSchema) -> None:
    text = rendered("junit", sample)
    schema.validate(text)
    root = ET.fromstring(text)
    answers = {
        case.get("name"): [(child.tag, child.get("type")) for child in case] for case in root.iter("testcase")
    }
    assert answers == {
        "verdict": [("failure", "regressed")],
        "light:long: budget": [("failure", "budget")],
        "heavy:p95_ms": [("failure", "regressed")],
        "heavy:p99_ms": [("skipped", "not-gateable")],
        "heavy:rps_ok": [("system-out", None)],
        "light:p95_ms": [],
        "light:rps_ok": [("system-out", None)],
    }
    assert (root.get("tests"), root.get("failures")) == ("7", "3")
    told = {one.get("name"): one.get("value") for one in root.iter("property")}
    assert told["heavy:p95_ms.d_pct"] == "80.5"
    assert told["espperf.verdict"] == "regressed"
    p95 = sample.aggregated["heavy:burst"].p95_ms.median
    assert p95 is not None
    assert float(told["espperf.heavy:burst.p95_ms"] or 0) == pytest.approx(p95, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "passed", "answer"),
    [("unchanged", True, None), ("incomplete", False, "skipped"), ("inconclusive", False, "failure")],
)
def test_the_verdict_itself_is_a_case(
    sample: SessionArtifact, kind: Any, passed: bool, answer: str | None
) -> None:
    artifact = structs.replace(sample, gate=Verdict(kind=kind), overall_pass=passed)
    (case,) = ET.fromstring(rendered("junit", artifact)).iter("testcase")
    assert [child.tag for child in case] == ([answer] if answer else [])


# --- HdrHistogram --------------------------------------------------------------------------------


def test_an_hdr_log_has_the_latencies_of_each_phase_by_tag(sample: SessionArtifact, tmp_path: Path) -> None:
    file = tmp_path / "out.hlog"
    file.write_text(rendered("hdrlog", sample), encoding="utf-8")
    reader = HistogramLogReader(str(file), HdrHistogram(1, 600_000_000, 3))
    found: dict[str, Any] = {}
    while (histogram := reader.get_next_interval_histogram()) is not None:
        found[histogram.get_tag()] = histogram
    reader.close()
    wanted = {
        f"{profile}:{phase}:{role}{run}": figures
        for (profile, phase, run, role, path), figures in reports(sample)
        if path == ""
    }
    assert set(found) == set(wanted)
    assert "heavy:burst:confirm1" in found
    for tag, figures in wanted.items():
        assert found[tag].get_total_count() == figures.ok
        assert found[tag].get_max_value() / 1e3 == pytest.approx(figures.max_ms, rel=2e-3)
        assert found[tag].get_value_at_percentile(50) / 1e3 == pytest.approx(figures.p50_ms, rel=0.02)
    starts = [histogram.get_start_time_stamp() for histogram in found.values()]
    assert starts == sorted(starts)
    assert starts[0] == 1795687872000.0  # 2026-11-26 10:11:12 UTC


# --- CSV -----------------------------------------------------------------------------------------


def test_csv_gives_the_numbers_back(sample: SessionArtifact) -> None:
    rows = list(csv.DictReader(io.StringIO(rendered("csv", sample))))
    keys = ("profile", "phase", "run", "role", "path")
    found = {tuple(row[key] for key in keys): row for row in rows}
    assert len(rows) == len(found) == len(reports(sample))
    for key, figures in reports(sample):
        row = found[key]
        for name in PathReport.__struct_fields__:
            value = getattr(figures, name)
            column = {"error_rate": "error_rate_pct"}.get(name, name)
            if isinstance(value, (int, float)):
                assert float(row[column]) == value, name
            elif value is None and column in row:
                assert row[column] == ""


def test_no_text_of_a_csv_is_a_formula(sample: SessionArtifact) -> None:
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "a\n=1"):
        rows = csv.DictReader(io.StringIO(rendered("csv", structs.replace(sample, tag=text)), newline=""))
        (tag,) = {row["tag"] for row in rows}
        assert tag.isprintable()
        assert tag[0] not in "=+-@"
