"""Beside the real plugins that report tests, repeat them, select them or cut them off from the network."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
from support.plugin_project import TEN_TIMES, Project

pytestmark = pytest.mark.timeout(600)  # several sessions each

VERDICT = "verdict[one]"


def beside(module: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed (nox -s plugins)")


def regressed(slower: Project, *words: str) -> pytest.RunResult:
    result = slower.run("-m", "perf", TEN_TIMES, *words, suite=False)
    assert result.ret == 1, result.stdout.str()
    return result


@beside("pytest_html")
def test_html_shows_the_failure(slower: Project) -> None:
    regressed(
        slower,
        "-p",
        "pytest_metadata.plugin",
        "-p",
        "pytest_html.plugin",
        "--html=out.html",
        "--self-contained-html",
    )
    page = (slower.pytester.path / "out.html").read_text()
    assert re.findall(r"(\d+) (Failed|Passed)", page)[:2] == [("1", "Failed"), ("5", "Passed")]
    assert VERDICT in page


@beside("allure_pytest")
def test_allure_shows_the_failure(slower: Project) -> None:
    regressed(slower, "-p", "allure_pytest.plugin", "--alluredir=allure")
    results = [
        json.loads(path.read_text()) for path in (slower.pytester.path / "allure").glob("*result.json")
    ]
    assert {one["name"] for one in results if one["status"] == "failed"} == {VERDICT}
    assert len(results) == 6


@beside("pytest_jsonreport")
def test_json_report_has_the_failure(slower: Project) -> None:
    regressed(
        slower,
        "-p",
        "pytest_metadata.plugin",
        "-p",
        "pytest_jsonreport.plugin",
        "--json-report",
        "--json-report-file=out.json",
    )
    report = json.loads((slower.pytester.path / "out.json").read_text())
    assert report["summary"] == {"passed": 5, "failed": 1, "total": 6, "collected": 6}
    (failed,) = [test for test in report["tests"] if test["outcome"] == "failed"]
    assert failed["nodeid"] == f"test_perf.py::{VERDICT}"
    assert failed["call"]["longrepr"]


@beside("pytest_sugar")
def test_sugar_counts_to_100_percent(slower: Project) -> None:
    result = regressed(slower, "-p", "pytest_sugar", "--force-sugar")
    percents = [int(percent) for percent in re.findall(r"(\d+)%", result.stdout.str()) if percent]
    assert max(percents) == 100
    assert VERDICT in result.stdout.str()


@beside("pytest_instafail")
def test_instafail_shows_the_failure_at_once(slower: Project) -> None:
    result = regressed(slower, "-p", "pytest_instafail", "--instafail")
    assert f"_ {VERDICT} _" in result.stdout.str()


@beside("teamcity")
def test_teamcity_and_pycharm_are_told_of_the_failure(slower: Project) -> None:
    result = regressed(slower, "-p", "teamcity.pytest_plugin", "--teamcity")
    failed = [line for line in result.outlines if "##teamcity[testFailed" in line]
    assert len(failed) == 1
    assert "name='test_perf.verdict(one)'" in failed[0]
    assert result.stdout.str().count("##teamcity[testFinished") == 6


@beside("pytest_cov")
def test_cov_reports_after_what_is_measured_again(slower: Project) -> None:
    result = slower.run("-m", "perf", "-p", "pytest_cov.plugin", "--cov=.", "--perf-confirm=1", suite=False)
    text = result.stdout.str()
    assert text.index("measuring again") < text.index("coverage:")


@beside("pytest_split")
@pytest.mark.parametrize("group", [1, 2])
def test_split_leaves_a_session_to_one_group(project: Project, group: int) -> None:
    words = ("-p", "pytest_split.plugin", "--splits=2", f"--group={group}")
    result = project.run(*words)
    assert len(list(project.history.glob("perf_*.json"))) == (group == 1)
    if group == 1:
        assert project.artifact()["gate"]["verdict"] == "no-baseline"
    assert "incomplete" not in result.stdout.str()


@beside("pytest_rerunfailures")
def test_reruns_measure_no_phase_twice(project: Project) -> None:
    project.pytester.makepyfile("def test_perf(perf_phase): assert perf_phase.report.p95_ms < 0.001")
    result = project.run("-m", "perf", "-p", "pytest_rerunfailures", "--reruns=2", suite=False)
    assert result.ret == 1
    assert " rerun" not in result.stdout.str().splitlines()[-1]


@beside("pytest_repeat")
def test_repeated_tests_are_refused(project: Project) -> None:
    result = project.run("-p", "pytest_repeat", "--count=2")
    assert result.ret == 4
    assert "--count=2 (pytest-repeat) would measure each phase 2 times" in result.stderr.str()


@beside("pytest_socket")
def test_a_closed_network_is_refused(project: Project) -> None:
    result = project.run("-p", "pytest_socket", "--disable-socket")
    assert result.ret == 4
    assert "--disable-socket (pytest-socket) keeps perf tests from the board" in result.stderr.str()


@beside("pytest_socket")
def test_an_open_socket_by_marker_is_measured(project: Project) -> None:
    project.pytester.makepyfile(
        "import pytest\npytestmark = pytest.mark.enable_socket\n"
        "def test_perf(perf_phase): assert perf_phase.report.ok"
    )
    result = project.run("-m", "perf", "-p", "pytest_socket", "--disable-socket", suite=False)
    assert result.ret == 0
    assert project.artifact()["gate"]["verdict"] == "no-baseline"


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("pytest_randomly", ("-p", "pytest_randomly")),
        ("pytest_order", ("-p", "pytest_order.plugin")),
        ("pytest_asyncio", ("-p", "pytest_asyncio.plugin")),
        ("pytest_benchmark", ("-p", "pytest_benchmark.plugin")),
    ],
)
def test_a_session_is_whole_beside(
    module: str, words: tuple[str, ...], project: Project, tmp_path: Path
) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed (nox -s plugins)")
    result = project.run(*words, "-W", "ignore::pytest.PytestDeprecationWarning")
    assert result.ret == 0, result.stdout.str()
    assert project.artifact()["gate"]["verdict"] == "no-baseline"
    assert [run["run_index"] for run in project.artifact()["raw_runs"]] == [1, 2]
