"""Several boards in one run: each with a session, a bar and a verdict of its own."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import lxml.html
import pytest
from support.plugin_project import BELOW_20_S, LESS_THAN_20, SLOW_S, TEN_TIMES, Project, Web

from pytest_espperf.config.settings import Settings
from pytest_espperf.errors import BoardBusyError
from pytest_espperf.history.names import OrderKey
from pytest_espperf.history.rows import Query, row_of
from pytest_espperf.session.boards import short_name, why_unreached
from pytest_espperf.session.context import make_context
from pytest_espperf.session.record import SessionRecord
from pytest_espperf.session.state import SessionState

pytestmark = pytest.mark.timeout(600)  # several sessions, on a machine that may be busy


def test_each_board_is_judged_by_itself_and_one_that_regressed_fails_the_run(
    project: Project, reference: Web
) -> None:
    # Of what the other board serves in a second there is not so much to lose, however busy the machine is.
    words = (f"--device-ip={project.web.address},{reference.address}", TEN_TIMES, LESS_THAN_20)
    project.web.delay_s = BELOW_20_S
    names = [address.replace(":", "-") for address in (project.web.address, reference.address)]
    first = project.run(*words, "--perf-export=csv=out.csv", device=False)
    assert first.ret == 0
    first.stdout.fnmatch_lines([f"{names[0]}  no-baseline", f"{names[1]}  no-baseline", "*12 passed*"])
    assert {path.name for path in project.pytester.path.glob("out*.csv")} == {
        f"out-{name}.csv" for name in names
    }
    reference.delay_s = SLOW_S
    second = project.run(*words, "--perf-report=report.html", device=False)
    assert second.ret == 1
    second.stdout.fnmatch_lines(
        [f"{names[0]}  unchanged", f"{names[1]}  regressed", f"FAILED *::verdict[[]{names[1]}-one[]]*"]
    )
    second.stdout.no_fnmatch_line(f"FAILED *::verdict[[]{names[0]}-*")
    verdicts = {one["target"]: one["gate"]["verdict"] for one in project.sessions()[-2:]}
    assert verdicts == {project.web.address: "unchanged", reference.address: "regressed"}
    # The first board's session is there already when the second board's is judged.
    first.stdout.fnmatch_lines([f"*info: no earlier session of this board, {reference.address}."])
    # One page is over both; who is to be measured again is chosen as it says.
    page = project.pytester.path / "report.html"
    second.stdout.fnmatch_lines([f"exported report of all boards: {page}"])
    shown: Any = lxml.html.fromstring(page.read_text(encoding="utf-8"))
    rows = [row.text_content().split()[:2] for row in shown.iterfind(".//tbody/tr")]
    assert rows == [[names[1], "regressed"], [names[0], "unchanged"]]
    links = [link.get("href") for link in shown.iterfind(".//tbody//a")]
    assert len(links) == 4
    assert all((page.parent / link).is_file() for link in links)
    (choice,) = re.findall(r"-k (\S+)", shown.text_content())
    chosen = project.refuse(*words, "--collect-only", "-q", "-k", choice, device=False)
    assert sum(names[1] in line for line in chosen.outlines) == 4
    assert not any(names[0] in line for line in chosen.outlines)
    assert "differs in" not in first.stdout.str()
    assert "of this board" not in second.stdout.str()


def test_a_board_that_is_away_fails_its_own_session_and_no_others(project: Project, reference: Web) -> None:
    reference.hang_after = 0
    project.block("blocked")
    result = project.run(
        "--device-ip",
        project.web.address,
        "--device-ip",
        reference.address,
        "--perf-probe-retries=1",
        "--perf-request-timeout=2",
        "--perf-report=blocked/report.html",
        device=False,
    )
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "NOT EXPORTED: report of all boards: *report.html cannot be written: *",
            "FAILED espperf::export report of all boards*",
        ]
    )
    verdicts = {one["target"]: one["gate"]["verdict"] for one in project.sessions()}
    assert verdicts == {project.web.address: "no-baseline", reference.address: "failed"}


def test_a_board_that_another_session_has_fails_its_own_session_only(
    project: Project, reference: Web
) -> None:
    with project.running("--perf-long-duration=100", "--perf-history=elsewhere") as process:
        while project.web.served < 20:
            assert process.poll() is None
            time.sleep(0.02)
        result = project.run(f"--device-ip={reference.address},{project.web.address}", "-q", device=False)
        process.kill()
    assert result.ret == 1
    found = {one["target"]: one for one in project.sessions()}
    assert found[reference.address]["gate"]["verdict"] == "no-baseline"
    assert "another session" in found[project.web.address]["hard_stop_reason"]
    assert project.artifact()["target"] == reference.address, "what was never reached is not the latest"
    names = [web.address.replace(":", "-") for web in (reference, project.web)]
    result.stdout.fnmatch_lines(
        [f"{names[0]}: NO-BASELINE: *", f"{names[1]}: FAILED: the session was stopped: *"]
    )


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
        f"--device-ip={project.web.address},{reference.address}",
        "-v",
        "test_own.py",
        device=False,
        suite=False,
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device-ip=sim,sim",), "--device-ip names sim twice, and each is measured once: leave one out"),
        (("--device-ip=a:1", "--device-ip=b,a:1"), "--device-ip names a:1 twice"),
        (
            ("--device-ip=a,A:8080",),
            "--device-ip: a and A:8080 are one board, or would both be called A-8080",
        ),
        (("--device-ip=a:1,a-1",), "--device-ip: a:1 and a-1 are one board, or would both be called a-1"),
        (
            ("--device-ip=nohost.invalid,localhost:1,127.0.0.1:1",),
            "--device-ip: localhost:1 and 127.0.0.1:1 are one board, and each is measured once",
        ),
        (
            ("--device-ip=127.0.0.1:1", "--device-reference=localhost:1"),
            "--device-reference: that is the board that is measured; name another one",
        ),
    ],
)
def test_one_board_given_twice_is_refused(project: Project, words: tuple[str, ...], said: str) -> None:
    result = project.refuse(*words, device=False)
    assert result.ret == 4
    assert said in result.stderr.str()


@pytest.mark.parametrize(
    ("busy", "said"),
    [
        ("of the left", "s3/left and 10.0.0.2:80 are one board, and each is measured once"),
        ("of the right", "it is busy"),
        ("of a stranger", "it is busy"),
        ("", "it is busy"),
    ],
)
def test_a_board_that_this_very_run_has_under_another_name_is_told(busy: str, said: str) -> None:
    left = Settings(device_id="s3/left")
    right = Settings(device_ip=("10.0.0.2",), device_port=80)
    error = BoardBusyError("it is busy", session=busy)
    others = {"of the left": left, "of the right": right}
    assert why_unreached(error, right, others).startswith(said)


@pytest.mark.parametrize(
    ("settings", "target", "board"),
    [
        (Settings(device_ip=("10.0.0.2",)), "10.0.0.2:8080", "10.0.0.2:8080"),
        (Settings(device_ip=("[::1]:81",)), "::1:81", "::1:81"),
        (Settings(device_ip=("10.0.0.2:81",), device_id="s3"), "10.0.0.2:81", "s3"),
        (Settings(device_id="s3/left"), "s3/left", "s3/left"),
        (Settings(device_ip=("sim",), sim_time_scale=2), "sim x2", "sim x2"),
        (Settings(), "", ""),
    ],
)
def test_a_board_that_was_never_reached_has_the_names_that_it_would_have_had(
    settings: Settings, target: str, board: str, tmp_path: Path
) -> None:
    context = make_context(settings, tmp_path, board="a-short-name", folder=tmp_path)
    artifact = SessionRecord(context).artifact(SessionState())
    assert artifact.target == target
    row = row_of(artifact, OrderKey("20260101T000000Z", 1, "perf_20260101T000000Z.json"))
    assert (row.target, row.board) == (target, board)
    assert Query(board=board).matches(row, None)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("esp-1", "esp-1"),
        ("Rack_2.left", "Rack_2.left"),
        ("192.168.0.135:8080", "192.168.0.135-8080"),
        ("rack:esp-1", "rack-esp-1"),
        ("[::1]:8080", "1--8080-[0-9a-f]{6}"),
        ("rack/esp 1", "rack-esp-1-[0-9a-f]{6}"),
        ("плата", "board-[0-9a-f]{6}"),
        ("..", "board-[0-9a-f]{6}"),
        ("x" * 99, "x{60}-[0-9a-f]{6}"),
    ],
)
def test_a_name_is_fit_for_a_test_id_and_a_file(text: str, name: str) -> None:
    assert re.fullmatch(name, short_name(text))


def test_names_that_look_alike_once_cleaned_stay_apart() -> None:
    alike = ["rack/1", "rack 1", "rack-1", "-rack-1", "rack-1.", "x" * 61, "x" * 60]
    assert len({short_name(text) for text in alike}) == len(alike)
