"""Verdicts as test items: reported by name, selected by their id, in the cache only while they fail."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest
from support.plugin_project import TEN_TIMES, USUAL_S, Project

pytestmark = pytest.mark.timeout(600)  # several sessions each

VERDICT, SESSION = "test_perf.py::verdict[one]", "test_perf.py::session_verdict"


def cached(project: Project) -> list[str]:
    path = project.pytester.path / ".pytest_cache" / "v" / "cache" / "lastfailed"
    return sorted(json.loads(path.read_text())) if path.exists() else []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_regressed_profile_is_a_failed_test_of_its_name(slower: Project, workers: int) -> None:
    result = slower.run("-m", "perf", TEN_TIMES, "--junitxml=out.xml", suite=False, workers=workers)
    assert result.ret == 1
    result.assert_outcomes(failed=1, passed=5)
    result.stdout.fnmatch_lines(["FAILED test_perf.py::verdict[[]one[]] - *"])
    cases = list(ET.parse(slower.pytester.path / "out.xml").getroot().iter("testcase"))
    failed = {case.get("name") for case in cases if case.find("failure") is not None}
    assert failed == {"verdict[one]"}
    assert [case.get("name") for case in cases][-2:] == ["verdict[one]", "session_verdict"]
    assert cached(slower) == [VERDICT]


def test_the_last_failed_verdict_is_measured_again_and_leaves_the_cache(slower: Project) -> None:
    slower.run("-m", "perf", TEN_TIMES, suite=False)
    again = slower.run("-m", "perf", TEN_TIMES, "--lf", suite=False)
    assert again.ret == 1, "all of the profile was measured, and it is as slow as before"
    again.assert_outcomes(failed=1, passed=4)
    slower.web.delay_s = USUAL_S
    fixed = slower.run("-m", "perf", TEN_TIMES, "--lf", suite=False)
    assert fixed.ret == 0
    assert cached(slower) == []


@pytest.mark.parametrize("chosen", [VERDICT, SESSION])
def test_an_id_brings_what_it_judges(slower: Project, chosen: str) -> None:
    result = slower.run(chosen, TEN_TIMES, suite=False)
    result.assert_outcomes(failed=1, passed=4 + int(chosen == SESSION))  # what no item said is reported, too
    assert slower.artifact()["gate"]["verdict"] == "regressed"
    assert result.ret == 1, "the session fails, whichever of its items were run"


def test_verdicts_that_were_left_out_fail_the_run_all_the_same(slower: Project) -> None:
    result = slower.run("-m", "perf", "-k", "not verdict", TEN_TIMES, suite=False)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["FAILED test_perf.py::verdict[[]one[]] - *"])


def test_a_selection_is_not_judged(project: Project) -> None:
    result = project.run("-k", "burst or verdict", "-rs")
    assert result.ret == 0
    result.assert_outcomes(passed=2, skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED *incomplete: 2 of 4 phases were not measured: *"])


def test_a_project_without_a_device_has_no_verdicts(project: Project) -> None:
    project.pytester.makepyfile("def test_perf(perf_phase): pass\ndef test_other(): pass")
    result = project.run(suite=False, device=False)
    assert result.ret == 0
    result.assert_outcomes(passed=1, skipped=4)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_measured_again_is_no_test_of_its_own(slower: Project, workers: int) -> None:
    result = slower.run("-m", "perf", "--perf-confirm=2", "-v", suite=False, workers=workers)
    percents = [int(percent) for line in result.outlines for percent in re.findall(r"\[ *(\d+)%\]", line)]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert len(percents) == 6
    assert [run["role"] for run in slower.sessions()[-1]["raw_runs"]].count("confirm") == 2


def test_an_assertion_that_fails_while_measured_again_is_in_the_verdict(slower: Project) -> None:
    slower.pytester.makepyfile(
        test_perf="def test_perf(request, perf_phase): assert 'confirm' not in request.node.name, 'too slow'"
    )
    result = slower.run("-m", "perf", "--perf-confirm=1", suite=False)
    assert result.ret == 1
    assert "confirm1-one-burst: AssertionError: too slow" in result.stdout.str()
    assert "own-test" in {one["kind"] for one in slower.sessions()[-1]["gate"]["findings"]}
