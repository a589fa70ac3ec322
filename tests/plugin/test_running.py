"""What a pytest user does with a session: run it, select, interrupt, look at what is left."""

from __future__ import annotations

import signal
import sys
import time
import xml.etree.ElementTree as ET

import pytest
from support.plugin_project import SLOW_S, TEN_TIMES, USUAL_S, Project, Web
from support.pytest_alone import ENVIRONMENT
from support.screen import Screen
from support.short_sessions import ANY_CHANGE

pytestmark = pytest.mark.timeout(600)  # several sessions, on a machine that may be busy


def test_a_first_session_is_recorded(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:  # for once among all plugins that are installed
        monkeypatch.delenv(name)
    result = project.run()
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*NO-BASELINE: *", "saved_json=*perf_*.json"])
    names = sorted(path.name for path in project.history.iterdir() if path.suffix in {".json", ".md"})
    assert [name.partition("_")[0] for name in names] == ["latest.json", "perf", "perf"]
    artifact = project.artifact()
    assert artifact["gate"]["verdict"] == "no-baseline"
    assert artifact["overall_pass"] is True
    assert [(run["profile"], run["run_index"]) for run in artifact["raw_runs"]] == [("one", 1), ("one", 2)]
    report = artifact["raw_runs"][0]["results"][0]["report"]
    assert report["ok"] == report["requests_total"] > 0
    assert set(report["path_metrics"]) == {"/a", "/b"}
    assert artifact["target"] == project.web.address
    assert artifact["settings"]["perf_runs"] == 2
    assert artifact["comparability"]["key"]


def test_a_regression_fails_and_is_never_the_bar(project: Project) -> None:
    project.web.delay_s = USUAL_S
    assert project.run().ret == 0
    project.web.delay_s = SLOW_S
    for _ in range(2):
        result = project.run(TEN_TIMES)
        assert result.ret == 1
        result.stdout.fnmatch_lines(
            ["*one:rps_ok is * % slower: * -> * req/s*", "FAILED *::verdict[[]one[]]*"]
        )
        assert project.artifact()["gate"]["verdict"] == "regressed"
    assert len(project.sessions()) == 3
    deltas = project.artifact()["comparison_to_previous"]["one:burst"]
    assert abs(deltas["p95_ms_median_pct"]) < 300  # plain deltas: to the failing session before
    project.web.delay_s = USUAL_S
    assert project.run("--perf-no-gate").ret == 0


def test_a_failing_verdict_stands_in_the_junit_file_by_name(project: Project) -> None:
    project.web.delay_s = USUAL_S
    project.run()
    project.web.delay_s = SLOW_S
    project.run("--junitxml=out.xml", "--perf-confirm=0", TEN_TIMES)
    cases = ET.parse(project.pytester.path / "out.xml").getroot().iter("testcase")
    failed = {str(case.get("name")): case.find("failure") for case in cases}
    (name,) = [name for name, failure in failed.items() if failure is not None]
    assert name == "verdict[one]"
    failure = failed[name]
    assert failure is not None
    gates = project.artifact()["gate"]["gates"]
    regressed = {gate["name"] for gate in gates if gate["verdict"] == "regressed"}
    assert {"one:burst:rps_ok", "one:long:rps_ok"} <= regressed
    assert all(gate in str(failure.text) for gate in regressed)


def test_test_ids_and_order(project: Project) -> None:
    result = project.run("--collect-only", "-q", "--perf-profiles=two")
    assert result.ret == 0
    ids = [line.partition("[")[2].rstrip("]") for line in result.outlines if "test_perf[" in line]
    assert ids == [
        f"run{run}-{profile}-{phase}"
        for run in (1, 2)
        for profile in ("one", "two")
        for phase in ("burst", "long")
    ]
    assert project.web.served == 0
    assert not project.history.exists()


def test_a_selection_is_incomplete(project: Project) -> None:
    result = project.run("-k", "burst")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*INCOMPLETE: *"])
    assert not (project.history / "latest.json").exists()
    assert project.artifact("latest.partial.json")["partial"] is True
    (saved,) = project.sessions()
    assert saved["gate"]["verdict"] == "incomplete"
    assert saved["overall_pass"] is False
    # ... and nothing is judged against it.
    assert project.run().ret == 0
    assert project.artifact()["gate"]["verdict"] == "no-baseline"
    assert not (project.history / "latest.partial.json").exists()


def test_stopping_at_the_first_failure_is_incomplete(project: Project) -> None:
    project.web.status = 500
    result = project.run("-x", "--perf-probe-retries=1")
    # A 500 is no sign of life: the probe refuses, and the session is failed, with its artifact.
    assert result.ret == 1
    assert project.artifact()["gate"]["verdict"] == "failed"


def test_errors_of_every_request_fail(project: Project) -> None:
    project.web.status = 404
    result = project.run()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["/a answers 404 (profile one, espperf.toml); /b answers 404 *"])
    assert project.artifact()["gate"]["verdict"] == "failed"


def test_last_failed_runs_what_failed(project: Project) -> None:
    project.web.status = 404
    project.run("--maxfail=1")
    project.web.status = 200
    result = project.run("--lf")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*1 passed*"])
    assert project.sessions()[-1]["gate"]["verdict"] == "incomplete"


def test_without_the_timeout_plugin(project: Project) -> None:
    assert project.run("-p", "no:timeout", "--strict-markers").ret == 0


@pytest.mark.parametrize("flag", ["-q", "-v", "-qq"])
def test_heartbeats_are_seen_and_keep_to_their_own_lines(project: Project, flag: str) -> None:
    result = project.run("--perf-heartbeat-ms=100", "--perf-burst-duration=0.5", "--perf-runs=1", flag)
    beats = [line for line in result.outlines if "[espperf] run" in line]
    assert beats
    assert all(line.startswith("[espperf] run ") for line in beats)
    assert any("one:burst" in line and "req/s" in line for line in beats)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
@pytest.mark.parametrize("flag", ["-v", "-q", "--color=yes"])
def test_on_a_terminal_the_running_phase_has_one_line_that_is_wiped_away(project: Project, flag: str) -> None:
    output = project.run_on_terminal("--perf-burst-duration=2.4", "--perf-runs=1", flag)
    screen, most, states = Screen(), 0, set()
    for part in output.splitlines(keepends=True):
        screen.feed(part)
        live = [line for line in screen.lines if "one:burst" in line and "left: " in line]
        most = max(most, len(live))
        states.update(live)
    assert most == 1, "one line, however often it is written"
    assert len(states) >= 2
    left = [line.rstrip() for line in screen.lines]
    assert not any("left: " in line for line in left), "it is wiped away"
    assert any("NO-BASELINE" in line for line in left)
    # Two phases, the verdicts of a profile and of the session.
    if flag == "-v":
        for name in ("run1-one-burst", "run1-one-long"):
            assert sum(name in line for line in left) == 1, "each phase is named once"
        assert sum("PASSED" in line for line in left) == 4
    else:
        assert sum(line.partition(" [")[0].rstrip().endswith("....") for line in left) == 1, "on one line"


def test_a_run_begins_with_what_will_be_measured(project: Project) -> None:
    def opening() -> str:
        outlines = project.run("--perf-confirm=0", ANY_CHANGE).outlines
        lines = [line for line in outlines if line.startswith("[espperf] ")]
        return " ".join(line.removeprefix("[espperf] ").strip() for line in lines)

    assert opening().startswith(f"board {project.web.address}: one x 2 runs (burst ")
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert opening().endswith(f"against 1 session of {today}")
    assert opening().endswith(f"against 2 accepted sessions since {today}")
    assert "[espperf] board" not in project.run("-q").stdout.str()


def test_a_run_without_a_baseline_can_fail(project: Project) -> None:
    result = project.run("--perf-require-baseline")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["no-baseline: *", "*NO-BASELINE: the first session of its kind*", "next: --perf-require-baseline *"]
    )
    assert project.artifact()["gate"]["verdict"] == "no-baseline"
    assert project.run("--perf-require-baseline").ret == 0


def test_a_hanging_board_fails_within_its_budget(project: Project) -> None:
    project.web.hang_after = 60
    result = project.run(
        "--perf-request-timeout=0.5", "--perf-probe-retries=1", "--perf-phase-timeout-min-s=5"
    )
    assert result.ret == 1
    artifact = project.artifact()
    assert artifact["gate"]["verdict"] == "failed"
    assert "no healthy answer" in artifact["hard_stop_reason"]
    # By the test that met it, and as the headline.
    assert " ".join(result.stdout.str().split()).count("gave no healthy answer") == 2
    result.stdout.fnmatch_lines(["*the session was stopped: see the error of test_perf*"])
    assert "Traceback" not in result.stdout.str()


def test_a_dead_board_is_a_failed_session_with_artifacts(project: Project) -> None:
    result = project.run(
        "--device-ip=127.0.0.1:9", "--perf-probe-retries=2", "--perf-phase-timeout-min-s=5", device=False
    )
    assert result.ret == 1
    assert project.artifact()["gate"]["verdict"] == "failed"
    assert project.artifact()["overall_pass"] is False
    result.stdout.fnmatch_lines(["*no healthy answer to /hello in 2 tries*"])
    assert len([line for line in result.outlines if "not measured" in line]) <= 3


def test_hard_timeout(project: Project) -> None:
    result = project.run("--perf-hard-timeout-s=0.5", "--perf-burst-duration=0.4")
    assert result.ret == 1
    assert "hard timeout" in project.artifact()["hard_stop_reason"]
    assert project.artifact()["gate"]["verdict"] == "failed"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="each instruction has a line")
@pytest.mark.parametrize("words", [(), ("--full-trace",)], ids=["short", "full"])
def test_ctrl_c_may_come_where_no_line_of_code_is(pytester: pytest.Pytester, words: tuple[str, ...]) -> None:
    pytester.makepyfile(
        """
        import types

        def stop():
            raise KeyboardInterrupt

        units = len(stop.__code__.co_code) // 2
        lines = bytes([0x80 | 15 << 3]) * units  # each of them without a place, see locations.md of CPython

        def test_it():
            types.FunctionType(stop.__code__.replace(co_linetable=lines), globals())()
        """
    )
    result = pytester.runpytest_subprocess(*words)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "NoneType" not in result.stdout.str() + result.stderr.str()
    result.stdout.fnmatch_lines(["*KeyboardInterrupt*"])


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to one process is POSIX")
def test_ctrl_c_keeps_what_was_measured(project: Project) -> None:
    with project.running("--perf-long-duration=100") as process:
        deadline = time.monotonic() + 60
        partial = project.history / "latest.partial.json"
        while time.monotonic() < deadline:
            if partial.exists() and project.artifact("latest.partial.json")["raw_runs"]:
                break
            time.sleep(0.05)
        time.sleep(0.3)  # into the long phase
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert "INCOMPLETE" in output
    assert project.artifact("latest.partial.json")["raw_runs"][0]["results"][0]["phase"] == "burst"
    assert not (project.history / "latest.json").exists()
    assert project.run().ret == 0


def test_a_second_session_on_the_same_board_is_refused(project: Project) -> None:
    with project.running("--perf-long-duration=100") as process:
        deadline = time.monotonic() + 60
        while project.web.served < 20 and time.monotonic() < deadline:
            time.sleep(0.05)
        result = project.run("--perf-history=elsewhere")
        assert result.ret == 4
        result.stderr.fnmatch_lines([f"ERROR: the board * by another session (pid {process.pid} on *"])
    # kill -9 leaves neither the lock nor the history in anybody's way.
    assert project.run().ret == 0


def test_what_would_fail_is_measured_again_before_its_verdict(project: Project) -> None:
    project.web.delay_s = USUAL_S
    assert project.run().ret == 0
    project.web.delay_s = SLOW_S
    result = project.run("-v", "--perf-confirm=2", "--junitxml=out.xml", TEN_TIMES)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*espperf* one: slower, or not clear enough: measuring again*", "*verdict[[]one[]] FAILED*"]
    )
    artifact = project.artifact()
    assert artifact["gate"]["verdict"] == "regressed"
    assert [(run["role"], run["run_index"]) for run in artifact["raw_runs"]] == [
        ("run", 1),
        ("run", 2),
        ("confirm", 1),
        ("confirm", 2),
    ]
    assert artifact["aggregated"]["one:burst"]["sample_count"] == 2


def test_a_stall_that_is_gone_when_measured_again_does_not_fail(project: Project) -> None:
    project.web.delay_s = USUAL_S
    assert project.run().ret == 0
    # Slow for as long as the planned rounds take, and well again for the confirmation.
    project.pytester.makeconftest(
        f"""
        def pytest_runtest_logfinish(nodeid):
            if "run2-one-long" in nodeid:
                import urllib.request
                urllib.request.urlopen("http://{project.web.address}/pace/{USUAL_S}").close()
        """
    )
    project.web.delay_s = SLOW_S
    # The machine's own load may come and go: only what is nearer to the stall than to the usual counts.
    floor = "--perf-min-effect=p95_ms:90,rps_ok:35"
    words = ("--perf-confirm=3", floor, TEN_TIMES, "--confcutdir=.", "-p", "conftest")
    result = project.run(*words)
    assert result.ret == 0
    artifact = project.artifact()
    assert "confirm" in {run["role"] for run in artifact["raw_runs"]}
    # By the noise floor, too, it would have failed; on a machine too noisy for that there is only the rule.
    assert artifact["gate"]["verdict"] in {"inconclusive", "unchanged"}


def test_a_report_is_drawn_and_named(project: Project) -> None:
    result = project.run("--perf-report=out/report.html")
    assert result.ret == 0
    path = project.pytester.path / "out" / "report.html"
    assert result.outlines.count(f"exported report: {path}") == 1
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert project.artifact()["session_id"] in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--perf-report=.",), "--perf-report: . is a folder: name a file"),
        (("--perf-report=x", "--perf-export=csv=x"), "--perf-report and csv would both write"),
        (("--perf-report=file/x.html",), "--perf-report: file/x.html cannot be written: "),
        (("--perf-export=csv=file/a/x.csv",), "--perf-export: file/a/x.csv cannot be written: "),
        (("--perf-site=file/site",), "--perf-site: file/site cannot be written: "),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_before_anything_is_measured(
    project: Project, words: tuple[str, ...], said: str
) -> None:
    (project.pytester.path / "file").touch()
    result = project.refuse(*words)
    assert result.ret == 4
    assert said in result.stderr.str()
    assert project.web.served == 0


def test_a_report_that_is_lost_fails_the_run_and_not_the_session(project: Project) -> None:
    project.block("blocked")
    result = project.run("--perf-report=blocked/report.html")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["NOT EXPORTED: report: *blocked*cannot be written: *"])
    assert project.artifact()["gate"]["verdict"] == "no-baseline"


def test_a_site_is_brought_up_to_date_and_fails_the_run_where_it_is_lost(project: Project) -> None:
    result = project.run("--perf-site=site")
    assert result.ret == 0
    index = project.pytester.path / "site" / "index.html"
    result.stdout.fnmatch_lines([f"exported site: {index}"])
    (report,) = (index.parent / "sessions").iterdir()
    assert report.name in index.read_text(encoding="utf-8")
    report.unlink()
    report.parent.rmdir()
    project.block("site/sessions")
    result = project.run("--perf-site=site")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["NOT EXPORTED: site: *cannot be written: *", "FAILED espperf::export site*"])
    refused = project.refuse("--perf-site=site/index.html")
    assert refused.ret == 4
    assert "--perf-site: site/index.html is a file: name a folder" in refused.stderr.str()


def test_a_reference_board_is_measured_beside_each_planned_round(project: Project, reference: Web) -> None:
    result = project.run(f"--device-reference={reference.address}", "--perf-save-samples")
    assert result.ret == 0
    artifact = project.artifact()
    assert [(run["role"], run["run_index"], run["board"]) for run in artifact["raw_runs"]] == [
        (role, index, reference.address if role == "reference" else "")
        for index in (1, 2)
        for role in ("run", "reference")
    ]
    assert all(len(run["results"]) == 2 for run in artifact["raw_runs"])
    assert artifact["aggregated"]["one:burst"]["sample_count"] == 2, "the board's own rounds alone"
    assert artifact["device"]["reference"] == {
        "name": reference.address,
        "address": "127.0.0.1",
        "lost": "",
    }
    assert reference.served > 20


def test_a_reference_board_that_dies_fails_nobody(project: Project, reference: Web) -> None:
    reference.hang_after = 30
    result = project.run(
        f"--device-reference={reference.address}", "--perf-request-timeout=2", "--perf-probe-retries=1"
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"*WARNING: the control board {reference.address} was lost at one:*"])
    artifact = project.artifact()
    assert artifact["gate"]["verdict"] == "no-baseline"
    assert "lost" in artifact["device"]["reference"]["lost"]


def test_the_board_cannot_be_its_own_reference(project: Project) -> None:
    result = project.refuse(f"--device-reference={project.web.address}")
    assert result.ret == 4
    assert "--device-reference: that is the board that is measured" in result.stderr.str()
