"""Several boards at once, by pytest-xdist: one worker at each, everything kept by the controller."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from support.board_server import Boards
from support.plugin_project import BELOW_20_S, FAST, LESS_THAN_20, SLOW_S, TEN_TIMES, Project, Span, Web
from support.short_sessions import ANY_CHANGE

pytest.importorskip("xdist")

from support.distributed_bench import SUITE, driven_by_two, driven_together

from pytest_espperf.plugin.xdist import BoardScheduling, Names

pytestmark = pytest.mark.timeout(600)  # several sessions, on a machine that may be busy

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
    both = threading.Barrier(2)
    for web in boards:
        web.at_first = lambda: both.wait(60)
    result = run(project, "-n3", *dist, boards=boards)
    assert not both.broken, "each was asked for the first time while the other one was being asked"
    assert result.ret == 0, result.stdout.str()
    assert verdicts(project) == {web.address: "no-baseline" for web in boards}
    for web in boards:
        assert 0 < web.most_at_once <= CLIENTS, "no second worker beside the first"
    result.stdout.fnmatch_lines([f"{name(boards[0])}  no-baseline", f"{name(boards[1])}  no-baseline"])
    ended = [line.split(": measured, ") for line in result.outlines if ": measured, " in line]
    assert {board for board, _ in ended} == {f"[espperf] {name(web)}" for web in boards}
    assert [count for _, count in ended] == ["1 of 2 boards", "2 of 2 boards"]


def test_what_would_fail_is_measured_again_by_the_controller(project: Project, reference: Web) -> None:
    boards = (project.web, reference)
    project.web.delay_s = BELOW_20_S
    assert run(project, "-n2", boards=boards).ret == 0
    reference.delay_s = SLOW_S
    # However much else this machine does: a rule knows no noise, and the other board has less to lose.
    words = (TEN_TIMES, LESS_THAN_20, "--perf-export=csv=out.csv", "--junitxml=out.xml")
    result = run(project, "-n2", *words, boards=boards)
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
        import os

        def test_phase(perf_phase, request):
            if "{name(reference)}-run1-one-long" in request.node.name:
                with open("deaths", "a") as deaths:
                    deaths.write("x")
                os._exit(9)
        """
    )
    boards = (project.web, reference)
    result = run(project, "-n2", "-m", "perf", "test_own.py", boards=boards, suite=False)
    assert result.ret == 1
    said = [line for line in result.outlines if "this phase is void" in line]
    assert said == [
        f"[espperf] WARNING: a worker died in {name(reference)}-run1-one-long: this phase is void"
    ]
    deaths = (project.pytester.path / "deaths").read_text(encoding="utf-8")
    assert deaths == "x", "what killed one worker is not tried on the next"
    assert verdicts(project) == {project.web.address: "no-baseline", reference.address: "incomplete"}
    hurt = next(one for one in project.sessions() if one["target"] == reference.address)
    assert any(
        "a worker died in one:long of run 1" in finding["message"] for finding in hurt["gate"]["findings"]
    )
    measured = [(run["run_index"], one["phase"]) for run in hurt["raw_runs"] for one in run["results"]]
    assert (1, "long") not in measured
    assert sorted(measured) == [(1, "burst"), (2, "burst"), (2, "long")]


def test_a_board_that_another_session_has_fails_its_own_session_only(
    project: Project, reference: Web
) -> None:
    with project.running("--perf-long-duration=100", "--perf-history=elsewhere") as process:
        while project.web.served < 20:
            assert process.poll() is None
            time.sleep(0.02)
        alone = run(project, "-n2")
        assert (alone.ret, project.sessions()) == (4, [])
        assert "is being measured by another session" in alone.stderr.str()
        result = run(project, "-n2", boards=(reference, project.web))
        process.kill()
    assert result.ret == 1
    assert project.artifact()["target"] == reference.address, "what was never reached is not the latest"
    result.stdout.fnmatch_lines(["FAILED: the session was stopped: *"])
    found = {one["target"]: one for one in project.sessions()}
    assert found[reference.address]["gate"]["verdict"] == "no-baseline"
    assert "another session" in found[project.web.address]["hard_stop_reason"]
    result.stdout.fnmatch_lines([f"*{name(project.web)}: stopped, * of 2 boards"])


@pytest.mark.parametrize("processes", [("-n0",), ("-n2",)])
def test_a_second_ctrl_c_leaves_each_board_interrupted(
    project: Project, reference: Web, processes: tuple[str, ...]
) -> None:
    project.pytester.makeconftest(
        """
        import pytest

        def pytest_configure(config):
            if not hasattr(config, "workerinput"):
                config.pluginmanager.register(Impatient())

        class Impatient:
            @pytest.hookimpl(trylast=True)
            def pytest_runtest_logreport(self, report):
                if report.when == "call":
                    raise KeyboardInterrupt

            def pytest_keyboard_interrupt(self):
                raise KeyboardInterrupt
        """
    )
    boards = (project.web, reference)
    run(project, *processes, boards=boards)
    assert verdicts(project) == {web.address: "incomplete" for web in boards}
    said = {one["gate"]["findings"][0]["message"] for one in project.sessions()}
    assert said == {"the run was interrupted"}


def test_boards_that_no_worker_was_left_for_are_incomplete(project: Project, reference: Web) -> None:
    project.pytester.makepyfile(test_own="import os\ndef test_phase(perf_phase): os._exit(9)\n")
    with Boards.running(1, 0.005) as more:
        named = f"--device-ip={project.web.address},{reference.address},{more.addresses[0]}"
        words = ("-m", "perf", "test_own.py", "-n2", "--max-worker-restart=0", named)
        result = project.pytester.runpytest_subprocess(*FAST, *words, timeout=100)
    assert result.ret == 1
    assert set(verdicts(project).values()) == {"incomplete"}
    said = {one["target"]: one["gate"]["findings"][0]["message"] for one in project.sessions()}
    assert said.pop(more.addresses[0]) == "no worker was left"
    died = "4 of 4 phases were not measured: a worker died in one:burst of run 1; no worker was left"
    assert said == {web.address: died for web in (project.web, reference)}
    result.stdout.fnmatch_lines(["next: find out what ended the worker*"])


def test_one_board_has_one_worker_and_the_name_that_it_has_alone(project: Project) -> None:
    lost = run(project, "-n2", "--device-reference=127.0.0.1:9", "--perf-probe-retries=1")
    assert lost.ret == 0
    assert project.web.most_at_once <= CLIENTS
    said = "WARNING: the control board 127.0.0.1:9 was lost at one:burst: "
    assert [line.count(f"[espperf] {said}") for line in lost.outlines if said in line] == [1]
    assert not [line for line in lost.outlines if " of 1 boards" in line]
    (told,) = (one for one in project.artifact()["gate"]["findings"] if one["kind"] == "reference")
    assert told["severity"] == "warn"
    assert "the control board 127.0.0.1:9 was lost at one:burst: " in told["message"]
    result = project.run(ANY_CHANGE)
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


def test_groups_of_the_users_own_change_nothing(project: Project, reference: Web) -> None:
    project.pytester.makepyfile(
        test_own="""
        import pytest

        @pytest.mark.xdist_group("all")
        def test_phase(perf_phase): pass
        """
    )
    boards = (project.web, reference)
    words = ("-n2", "--dist=loadgroup", "-m", "perf", "-q", "test_own.py")
    result = run(project, *words, boards=boards, suite=False)
    assert result.ret == 0
    assert "[espperf]" not in result.stdout.str()
    assert verdicts(project) == {web.address: "no-baseline" for web in boards}
    assert all(0 < web.most_at_once <= CLIENTS for web in boards)


def test_workers_that_are_not_to_be_used_are_not(project: Project) -> None:
    result = run(project, "--tx=2*popen", "--dist=no")
    assert result.ret == 0
    assert verdicts(project) == {project.web.address: "no-baseline"}


def test_of_many_boards_the_fine_ones_are_lines_of_a_table_alone(project: Project) -> None:
    with Boards.running(5, 0.005) as boards:
        named = ",".join([*boards.addresses, project.web.address])
        project.web.status = 500
        words = (*SUITE, *FAST, f"--device-ip={named}", "-n2", "--perf-runs=1", "--perf-probe-retries=1")
        result = project.pytester.runpytest_subprocess(*words, timeout=100)
    assert result.ret == 1
    lines = result.outlines
    table = lines.index(next(line for line in lines if "espperf: boards" in line))
    assert [line.split() for line in lines[table + 1 : table + 6]] == [
        [address.replace(":", "-"), "no-baseline"] for address in boards.addresses
    ]
    assert lines[table + 6].split() == [name(project.web), "failed"]
    assert [line for line in lines if "= espperf: 127" in line] == [
        f" espperf: {name(project.web)} ".center(80, "=")
    ]
    result.stdout.fnmatch_lines(["5 of 6 boards are shown in this table alone (-v shows them in full); *"])
    assert len(project.sessions()) == 6


class Node:
    gateway = SimpleNamespace(id="gw")
    shutting_down = False

    def __init__(self) -> None:
        self.sent: list[int] = []

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        assert indices, "a worker that is sent nothing waits for ever"
        self.sent += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def test_what_a_dead_worker_left_undone_is_taken_up_but_for_the_test_it_died_in() -> None:
    tests = [f"t[{board}-{number}]" for board in "abc" for number in range(3)]
    option = SimpleNamespace(loadscopereorder=False)
    config = SimpleNamespace(getvalue=lambda _: ["2*popen"], option=option)
    scheduling = BoardScheduling(config, MagicMock(), lambda nodeid: nodeid[2])  # type: ignore[arg-type]
    dying, other = Node(), Node()
    for node in (dying, other):
        scheduling.add_node(node)
        scheduling.add_node_collection(node, tests)
    scheduling.schedule()
    assert (dying.sent, other.sent) == ([0, 1, 2], [3, 4, 5])
    for index in (0, 1, 2, 6):  # its first board, and one test of the next
        scheduling.mark_test_complete(dying, index)
    assert dying.sent == [0, 1, 2, 6, 7, 8]
    assert scheduling.remove_node(dying) == "t[c-1]"
    for index in (3, 4):
        scheduling.mark_test_complete(other, index)
    assert other.sent == [3, 4, 5, 8]
    for index in (5, 8):
        scheduling.mark_test_complete(other, index)
    assert not scheduling.has_pending
    assert other.shutting_down


@pytest.mark.parametrize(
    ("nodeid", "found"),
    [
        ("t.py::test[left-run1-one-long]", "left-run1-one-long"),
        ("t.py::test[left-2-run1-one-long]", "left-2-run1-one-long"),
        ("t.py::test[x-left-run1-one-long-y]", "left-run1-one-long"),
        ("t.py::test[left-run1-one-long]@group", "left-run1-one-long"),
        ("d[1]/t.py::test[left-run1-one-long]", "left-run1-one-long"),
        ("t.py::test[a::b-left-run1-one-long]", "left-run1-one-long"),
        ("t.py::test[left]", "left"),
        ("t.py::test[left-long]", "left"),
        ("t.py::test[left-2]", "left-2"),
        ("t.py::test[lefty]", None),
        ("left/t.py::test", None),
        ("t.py::test[]", None),
    ],
)
def test_a_tests_id_tells_the_name_that_comes_first_and_is_longest(nodeid: str, found: str | None) -> None:
    known = ("", "2", "left", "left-2", "long", "left-run1-one-long", "left-2-run1-one-long")
    names = Names({one: one for one in known})
    assert names.of(nodeid) == found
    assert names.of(nodeid) == found, "nor is it another one the next time"


def test_what_boards_saw_tells_two_workers_and_two_boards_at_once() -> None:
    one = [Span(0, 2, "a"), Span(2, 4, "a")]
    later = [Span(4.5, 5, "b")]
    assert driven_by_two([*one, *later]) == 0
    assert driven_by_two([*one, Span(1, 3, "b")]) == 2
    assert driven_together([one, later]) == 0
    assert driven_together([one, [Span(4, 5, "b")]]) == 0, "the one had ended"
    assert driven_together([one, [Span(1, 2.5, "b"), Span(3, 6, "b")]]) == 3
