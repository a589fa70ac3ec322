"""Several boards at once, by pytest-xdist: one worker at each, everything kept by the controller."""

from __future__ import annotations

import pytest
from plugin_project import FAST, Project, Web

pytest.importorskip("xdist")

SUITE = ("--pyargs", "pytest_espperf.suite", "-m", "perf")
CLIENTS = 2
"""Of the burst phase, the most that one worker sends at a time."""


def run(project: Project, *words: str, boards: tuple[Web, ...] = (), suite: bool = True) -> pytest.RunResult:
    named = ",".join(web.address for web in boards or (project.web,))
    return project.pytester.runpytest_subprocess(
        *(SUITE if suite else ()), f"--device-ip={named}", *FAST, *words, timeout=100
    )


def name(web: Web) -> str:
    return web.address.replace(":", "-")


def verdicts(project: Project) -> dict[str, str]:
    return {one["target"]: one["gate"]["verdict"] for one in project.sessions()}


@pytest.mark.parametrize("dist", [(), ("--dist=each",)])
def test_boards_are_driven_at_the_same_time_and_each_by_one_worker(
    project: Project, reference: Web, dist: tuple[str, ...]
) -> None:
    boards = (project.web, reference)
    result = run(project, "-n3", *dist, "--perf-burst-duration=0.6", boards=boards)
    assert result.ret == 0, result.stdout.str()
    assert verdicts(project) == {web.address: "no-baseline" for web in boards}
    for web in boards:
        assert 0 < web.most_at_once <= CLIENTS, "no second worker beside the first"
    begins = [min(began for began, _ in web.spans) for web in boards]
    ends = [max(ended for _, ended in web.spans) for web in boards]
    assert max(begins) < min(ends), "the one had not ended when the other began"
    result.stdout.fnmatch_lines([f"{name(boards[0])}  no-baseline", f"{name(boards[1])}  no-baseline"])


def test_what_would_fail_is_measured_again_by_the_controller(project: Project, reference: Web) -> None:
    boards = (project.web, reference)
    assert run(project, "-n2", boards=boards).ret == 0
    reference.delay_s = 0.06
    result = run(project, "-n2", "--perf-export=csv=out.csv", "--junitxml=out.xml", boards=boards)
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"{name(boards[0])}  unchanged", f"{name(boards[1])}  regressed"])
    found = {one["target"]: one for one in project.sessions()[-2:]}
    assert {run["role"] for run in found[reference.address]["raw_runs"]} == {"run", "confirm"}
    assert {run["role"] for run in found[project.web.address]["raw_runs"]} == {"run"}
    report = found[project.web.address]["raw_runs"][0]["results"][0]["report"]
    assert report["histogram"]
    assert found[project.web.address]["comparability"]["fields"]["engine"]
    text = (project.pytester.path / "out.xml").read_text(encoding="utf-8")
    assert "histogram" not in text, "what the workers hand over is nobody else's business"
    assert (project.pytester.path / f"out-{name(reference)}.csv").exists()


def test_a_phase_whose_worker_died_is_void_and_said(project: Project, reference: Web) -> None:
    project.pytester.makepyfile(
        test_own=f"""
        import os, pathlib

        def test_phase(perf_phase, request):
            once = pathlib.Path("died")
            if "{name(reference)}-run1-one-long" in request.node.name and not once.exists():
                once.touch()
                os._exit(9)
        """
    )
    boards = (project.web, reference)
    result = run(project, "-n2", "-m", "perf", "test_own.py", boards=boards, suite=False)
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"*a worker died in {name(reference)}-run1-one-long: this phase is void*"])
    assert verdicts(project) == {project.web.address: "no-baseline", reference.address: "incomplete"}
    hurt = next(one for one in project.sessions() if one["target"] == reference.address)
    measured = [(run["run_index"], one["phase"]) for run in hurt["raw_runs"] for one in run["results"]]
    assert (1, "long") not in measured
    assert (1, "burst") in measured


def test_a_board_that_another_session_has_fails_its_own_session_only(
    project: Project, reference: Web
) -> None:
    with project.running("--perf-long-duration=20", "--perf-history=elsewhere") as process:
        while project.web.served < 20:
            assert process.poll() is None
        result = run(project, "-n2", boards=(project.web, reference))
        process.kill()
    assert result.ret == 1
    found = {one["target"]: one for one in project.sessions()}
    assert found[reference.address]["gate"]["verdict"] == "no-baseline"
    assert "another session" in found[name(project.web)]["hard_stop_reason"]


def test_one_board_has_one_worker_and_the_name_that_it_has_alone(project: Project) -> None:
    assert run(project, "-n2").ret == 0
    assert project.web.most_at_once <= CLIENTS
    result = project.run()
    assert result.ret == 0
    assert project.artifact()["gate"]["baseline"]["sessions"], "distributed or not, it is the same session"


def test_what_works_in_one_process_only_is_refused(project: Project) -> None:
    result = run(project, "-n2", "--perf-ab-baseline-cmd=x", "--perf-ab-candidate-cmd=y")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--perf-ab-baseline-cmd works in one process only: add -n0*"])
    assert project.web.served == 0


def test_among_other_tests_the_perf_tests_are_not_quietly_left_out(project: Project) -> None:
    project.pytester.makepyfile(test_own="def test_phase(perf_phase): pass\ndef test_other(): pass\n")
    result = run(project, "-n2", "test_own.py", suite=False)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*under pytest-xdist, perf tests are run by themselves: add -m perf*"])
    assert project.web.served == 0
