"""Several boards in one run: each with a session, a bar and a verdict of its own."""

from __future__ import annotations

import pytest
from plugin_project import Project, Web


def test_each_board_is_judged_by_itself_and_one_that_regressed_fails_the_run(
    project: Project, reference: Web
) -> None:
    boards = f"--device-ip={project.web.address},{reference.address}"
    names = [address.replace(":", "-") for address in (project.web.address, reference.address)]
    first = project.run(boards, "--perf-export=csv=out.csv")
    assert first.ret == 0
    first.stdout.fnmatch_lines([f"{names[0]}  no-baseline", f"{names[1]}  no-baseline", "*8 passed*"])
    assert {path.name for path in project.pytester.path.glob("out*.csv")} == {
        f"out-{name}.csv" for name in names
    }
    reference.delay_s = 0.06
    second = project.run(boards)
    assert second.ret == 1
    second.stdout.fnmatch_lines(
        [f"{names[0]}  unchanged", f"{names[1]}  regressed", f"FAILED espperf::{names[1]}::one:*"]
    )
    second.stdout.no_fnmatch_line(f"FAILED espperf::{names[0]}*")
    verdicts = {one["target"]: one["gate"]["verdict"] for one in project.sessions()[-2:]}
    assert verdicts == {project.web.address: "unchanged", reference.address: "regressed"}
    assert "differs in board" not in second.stdout.str()


def test_a_board_that_is_away_fails_its_own_session_and_no_others(project: Project, reference: Web) -> None:
    reference.hang_after = 0
    result = project.run(
        "--device-ip",
        project.web.address,
        "--device-ip",
        reference.address,
        "--perf-probe-retries=1",
        "--perf-request-timeout=0.5",
        device=False,
    )
    assert result.ret == 1
    verdicts = {one["target"]: one["gate"]["verdict"] for one in project.sessions()}
    assert verdicts == {project.web.address: "no-baseline", reference.address: "failed"}


def test_a_board_that_another_session_has_fails_its_own_session_only(
    project: Project, reference: Web
) -> None:
    with project.running("--perf-long-duration=20", "--perf-history=elsewhere") as process:
        while project.web.served < 20:
            assert process.poll() is None
        result = project.run(f"--device-ip={project.web.address},{reference.address}")
        process.kill()
    assert result.ret == 1
    found = {one["target"]: one for one in project.sessions()}
    assert found[reference.address]["gate"]["verdict"] == "no-baseline"
    name = project.web.address.replace(":", "-")
    assert "another session" in found[name]["hard_stop_reason"]


def test_a_test_of_a_board_runs_on_each(project: Project, reference: Web) -> None:
    project.pytester.makepyfile(
        test_own="""
        import httpx, pytest

        @pytest.mark.perf
        def test_it_answers(board):
            assert httpx.get(board.url + "/a").status_code == 200

        @pytest.mark.perf
        def test_phase(perf_phase, device_port):
            assert perf_phase.report.ok
        """
    )
    result = project.run(
        f"--device-ip={project.web.address},{reference.address}", "-v", "test_own.py", suite=False
    )
    assert result.ret == 0
    lines = [line for line in result.outlines if "PASSED" in line]
    for web in (project.web, reference):
        name = web.address.replace(":", "-")
        assert sum(f"test_it_answers[{name}]" in line for line in lines) == 1
        assert sum(f"test_phase[{name}-run" in line for line in lines) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device-id=bench",), "--device-id means one board, and --device-ip names 2: measure that one"),
        (("--device-serial=socket://127.0.0.1:1",), "--device-serial means one board"),
        (("--perf-ab-baseline-cmd=x", "--perf-ab-candidate-cmd=y"), "--perf-ab-baseline-cmd means one board"),
    ],
)
def test_what_means_one_board_is_refused_for_several(
    project: Project, words: tuple[str, ...], said: str
) -> None:
    result = project.refuse("--device-ip=127.0.0.1:1,127.0.0.1:2", *words, device=False)
    assert result.ret == 4
    assert said in result.stderr.str()


def test_two_names_of_one_board_are_refused(project: Project) -> None:
    result = project.refuse("--device-ip=a:1,a/1", device=False)
    assert result.ret == 4
