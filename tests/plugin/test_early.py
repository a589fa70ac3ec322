"""A session that ends early, and one that measures a disturbed run again: as whole pytest runs."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from support.plugin_project import USUAL_S, Project

pytestmark = pytest.mark.timeout(600)  # several sessions, on a machine that may be busy

FOUR_RUNS = ("--perf-runs=4",)
IN_ONE = ("--perf-confirm=2",)
FIRMWARES = ("--perf-confirm=2", "--perf-ab-baseline-cmd=exit 0", "--perf-ab-candidate-cmd=exit 0")


def past(project: Project, factor: float, count: int = 5) -> None:
    """Measure one session, and keep it several times over as if the board had been slower by a factor."""
    project.web.delay_s = USUAL_S
    assert project.run(*FOUR_RUNS, "--perf-all-rounds", "--perf-no-gate").ret == 0
    (first,) = project.history.glob("perf_*.json")
    session = json.loads(first.read_text(encoding="utf-8"))
    for path in project.history.iterdir():
        if path.is_file():
            path.unlink()
    for number in range(count):
        _write(project, slower(session, factor), number)


def _write(project: Project, session: dict[str, Any], number: int) -> None:
    stamp = f"20260101T00000{number}Z"
    session |= {"session_id": f"s{number}", "timestamp_utc": stamp, "gate": {"verdict": "unchanged"}}
    path = project.history / f"perf_{stamp}.json"
    path.write_text(json.dumps(session), encoding="utf-8")


def slower(session: dict[str, Any], factor: float) -> dict[str, Any]:
    """The session on a board that is slower in everything, and whose runs differ as on a busy machine."""
    made = copy.deepcopy(session)
    for run in made["raw_runs"]:
        here = factor * (1.4 if run["run_index"] % 2 else 0.7)
        for result, usual in zip(run["results"], session["raw_runs"][0]["results"], strict=True):
            report = result["report"]
            report["rps_ok"] = usual["report"]["rps_ok"] / here
            for name in ("p50_ms", "p95_ms", "p99_ms", "p95_tail_ms"):
                report[name] = usual["report"][name] * here
    return made


def measured(artifact: dict[str, Any]) -> list[tuple[str, int]]:
    return [(run["role"], run["run_index"]) for run in artifact["raw_runs"]]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_calm_profile_ends_after_two_runs(project: Project, workers: int) -> None:
    if workers:
        pytest.importorskip("xdist")
    past(project, 4.0)
    result = project.run(*FOUR_RUNS, "-rs", workers=workers)
    assert result.ret == 0, result.stdout.str()
    artifact = project.artifact()
    assert measured(artifact) == [("run", 1), ("run", 2)]
    assert artifact["ended_early"] == {"one": {"after": 2, "planned": 4, "why": "calm"}}
    assert artifact["runs_per_profile"] == 4
    assert artifact["gate"]["verdict"] in {"improved", "unchanged"}
    gates = {row["name"]: row["rounds"] for row in artifact["gate"]["gates"]}
    assert (gates["one:rps_ok"], gates["one:p95_ms"]) == (2, 2)
    result.stdout.fnmatch_lines(
        ["*one: unchanged after 2 of 4 runs*", "*SKIPPED*unchanged after 2 of 4 runs*"]
    )
    result.assert_outcomes(passed=6, skipped=4)


def test_a_profile_that_is_far_slower_ends_after_three_runs_and_fails(project: Project) -> None:
    past(project, 0.02)
    result = project.run(*FOUR_RUNS)
    assert result.ret == 1, result.stdout.str()
    artifact = project.artifact()
    assert measured(artifact) == [("run", 1), ("run", 2), ("run", 3)]
    assert artifact["ended_early"] == {"one": {"after": 3, "planned": 4, "why": "slower"}}
    assert artifact["gate"]["verdict"] == "regressed"
    result.stdout.fnmatch_lines(["*one: slower in each of 3 runs (4 planned)*"])


@pytest.mark.parametrize(
    ("words", "count"), [(("--perf-all-rounds",), 5), (("--perf-no-gate",), 5), ((), 4)], ids=str
)
def test_every_planned_run_is_measured_where_that_is_wanted(
    project: Project, words: tuple[str, ...], count: int
) -> None:
    past(project, 2.0, count)
    assert project.run(*FOUR_RUNS, *words).ret == 0
    artifact = project.artifact()
    assert measured(artifact) == [("run", index) for index in range(1, 5)]
    assert artifact["ended_early"] == {}


def pace(project: Project, **paces: float) -> None:
    """Let the server take so long from the phase of that name on; ``_`` stands for ``-``."""
    project.web.delay_s = USUAL_S
    known = {name.replace("_", "-"): delay_s for name, delay_s in paces.items()}
    project.pytester.makepyfile(
        paces=f"""
        import urllib.request
        PACES = {known!r}

        def pytest_runtest_setup(item):
            pace = next((pace for name, pace in PACES.items() if name in item.name), None)
            if pace is not None:
                urllib.request.urlopen(f"http://{project.web.address}/pace/{{pace}}").close()
        """
    )


def test_a_disturbed_run_is_measured_again_before_it_becomes_the_baseline(project: Project) -> None:
    pace(project, run2_one_burst=1.0, run3_one_burst=USUAL_S)
    # So long that a stall of the machine is no disturbed run.
    result = project.run("-p", "paces", "--perf-runs=3", "--perf-burst-duration=1", *IN_ONE)
    assert result.ret == 0, result.stdout.str()
    artifact = project.artifact()
    kinds = {finding["kind"]: finding["message"] for finding in artifact["gate"]["findings"]}
    if any("this computer stood still" in message for message in kinds.values()):
        pytest.skip("this computer stood still, and a run of another reason was measured again")
    assert measured(artifact) == [("run", 1), ("run", 2), ("run", 3), ("confirm", 1)]
    assert artifact["gate"]["verdict"] == "no-baseline"
    assert kinds["disturbed"].startswith("one: 1 run was far slower than the others (run 2) and left out")
    result.stdout.fnmatch_lines(["*one: a run was disturbed: measuring again (2 phases)*"])


@pytest.mark.parametrize(
    ("words", "again_s", "said"),
    [
        (("--perf-confirm=2",), USUAL_S, "1 run measured in its place kept it"),
        (("--perf-confirm=2",), 1.0, "measured again, 1 of 1 run broke one"),
        (("--perf-confirm=0",), USUAL_S, "nothing was measured in its place"),
        (("--perf-confirm=2", "--perf-no-gate"), 1.0, "measured again, 1 of 1 run broke one"),
        (FIRMWARES, USUAL_S, "1 run measured in its place kept it"),
    ],
)
def test_a_single_run_beyond_its_budget_fails_where_it_comes_again(
    project: Project, words: tuple[str, ...], again_s: float, said: str
) -> None:
    pace(project, run2_one_burst=1.0, run2_one_long=USUAL_S, confirm1_one_burst=again_s)
    result = project.run("-p", "paces", "--perf-runs=3", "--perf-worst-p95-ms=600", *words)
    artifact = project.artifact()
    findings = [one for one in artifact["gate"]["findings"] if one["kind"] == "worst-run"]
    assert len(findings) == 1
    assert said in findings[0]["message"]
    kept = "kept it" in said
    assert (result.ret, findings[0]["severity"]) == ((0, "warn") if kept else (1, "fail"))
    again = [] if words == ("--perf-confirm=0",) else [("confirm", 1)]
    assert measured(artifact) == [("run", 1), ("run", 2), ("run", 3), *again]
    if again:
        result.stdout.fnmatch_lines(["*one: a run broke the budget of any single run: measuring again*"])


def test_an_interruption_between_runs_leaves_a_session_that_is_incomplete(project: Project) -> None:
    past(project, 4.0)
    result = project.run(*FOUR_RUNS, "-k", "run1")
    assert result.ret == 0
    assert project.sessions()[-1]["gate"]["verdict"] == "incomplete"
