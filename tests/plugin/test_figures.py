"""Figures of the firmware's own, end to end: the fixture, files and workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.plugin_project import Project
from support.short_sessions import ANY_CHANGE

OWN = """
def test_mine(perf_metric):
    perf_metric("render_ms", 12.5, unit="ms")
    perf_metric("render_ms", 13.5, unit="ms")

def test_perf(perf_phase, perf_metric):
    perf_metric("answers", perf_phase.report.ok, better="higher")
"""


def figures(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = project.sessions()[-1]["figures"]
    return found


@pytest.mark.parametrize("words", [(), ("-n2",)])
def test_tests_and_files_have_figures_in_the_session(project: Project, words: tuple[str, ...]) -> None:
    if words:
        pytest.importorskip("xdist")
    project.pytester.makepyfile(test_own=OWN)
    (project.pytester.path / "app.bin").write_bytes(b"1" * 4000)
    result = project.run(*words, "--perf-file=app=app.bin", suite=False)
    assert result.ret == 0, result.stdout.str()
    found = figures(project)
    assert found["app"] == {"unit": "bytes", "better": "lower", "values": [4000.0], "source": "file"}
    assert sorted(found["render_ms"]["values"]) == [12.5, 13.5]
    assert found["answers"]["better"] == "higher"
    assert len(found["answers"]["values"]) == 4, "one of each phase of each run"
    (project.pytester.path / "app.bin").write_bytes(b"1" * 5000)
    result = project.run(*words, "--perf-file=app=app.bin", ANY_CHANGE, suite=False)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*figure:app is 25 % worse*4,000 -> 5,000 bytes*"])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("perf_metric('p95_ms', 1)", "*perf_metric: 'p95_ms' is a metric of every session*"),
        ("perf_metric('a b', 1)", "*perf_metric: 'a b' is no name of a figure*"),
        ("perf_metric('a', float('nan'))", "*perf_metric: nan is not a finite number*"),
        ("perf_metric('a', 1, better='up')", "*perf_metric: better is 'lower' or 'higher', not 'up'*"),
    ],
)
def test_bad_figures_fail_their_test_with_a_board_or_without(
    pytester: pytest.Pytester, call: str, words: str
) -> None:
    pytester.makepyfile(f"def test_it(perf_metric): {call}")
    result = pytester.runpytest_subprocess()
    assert result.ret == 1
    result.stdout.fnmatch_lines([words])


MARKED = """
import pytest

@pytest.mark.perf
def test_render(perf_metric):
    perf_metric("render_ms", 12.5, unit="ms")

def test_plain(perf_metric):
    perf_metric("plain_ms", 12.5, unit="ms")
"""


def test_a_marked_test_is_run_with_the_perf_tests(project: Project) -> None:
    project.pytester.makepyfile(test_own=MARKED)
    result = project.run("test_own.py")
    assert result.ret == 0, result.stdout.str()
    assert list(figures(project)) == ["render_ms"]


def test_a_marked_test_is_a_plain_one_without_a_board(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MARKED)
    pytester.runpytest_subprocess().assert_outcomes(passed=2)
    pytester.runpytest_subprocess("-m", "not perf").assert_outcomes(passed=1, deselected=1)
    pytester.runpytest_subprocess("-m", "perf").assert_outcomes(passed=1, deselected=1)
    assert not (pytester.path / "tools").exists()


def test_without_a_board_nothing_is_kept_and_nothing_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(perf_metric): perf_metric('a', 1)")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    assert not (pytester.path / "tools").exists()


def test_a_missing_file_ends_the_run_before_anything_is_measured(project: Project) -> None:
    result = project.run("--perf-file=app=absent.bin")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--perf-file: absent.bin cannot be read*"])
    assert project.web.served == 0
    assert not list(Path(project.pytester.path).glob("tools/perf_history/perf_*.json"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_gauge_without_a_value_is_a_finding_and_so_is_a_rule_without_one(
    project: Project, workers: int
) -> None:
    if workers:
        pytest.importorskip("xdist")
    table = project.pytester.path / "espperf.toml"
    gauges = '[telemetry.gauges]\npeak = "server.peak"\nfree = "heap_free"\n'
    table.write_text(table.read_text(encoding="utf-8") + gauges, encoding="utf-8")
    rules = ("--perf-fail-on=figure:nix:3%", "--perf-min-effect=figure:nil:1")
    result = project.run(*rules, workers=workers)
    assert result.ret == 0, result.stdout.str()
    findings = project.sessions()[-1]["gate"]["findings"]
    where = [one["where"] for one in findings if one["kind"] == "figures" and one["severity"] == "warn"]
    assert sorted(where) == ["figure:free", "figure:nil", "figure:nix", "figure:peak"]
    result.stdout.fnmatch_lines(["*figure:peak: the gauge has no value in this session*"])
