"""What a project does with the fixtures, and what a project without perf tests notices: nothing."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys

from support.plugin_project import Project


def test_a_projects_own_benchmark(project: Project) -> None:
    project.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.perf(profiles=["two"])
        def test_mine(perf_phase, board, watchdog):
            assert perf_phase.profile == "two"
            assert perf_phase.report.ok
            assert board.url.startswith("http://127.0.0.1:")
            assert watchdog.watchdog_s >= 45

        @pytest.mark.perf
        def test_board_alone(board, device_ip, device_port, health_probe):
            assert board.target.address == device_ip
            assert board.target.port == device_port
            assert health_probe().status == 200
        """
    )
    result = project.run("-m", "perf", "--perf-profiles=two", suite=False)
    assert result.ret == 0
    result.assert_outcomes(passed=5, skipped=2)  # a selection has no verdict
    # Profile "one" was planned, and no test took it: that is a selection.
    assert project.sessions()[0]["gate"]["verdict"] == "incomplete"
    assert {run["profile"] for run in project.sessions()[0]["raw_runs"]} == {"two"}


def test_a_projects_own_assertion_fails_its_item(project: Project) -> None:
    project.pytester.makepyfile("def test_mine(perf_phase): assert perf_phase.report.p95_ms < 0.001")
    result = project.run("-m", "perf", suite=False)
    assert result.ret == 1
    result.assert_outcomes(failed=5, passed=1)  # the session fails, and not the profile
    assert project.artifact()["gate"]["verdict"] == "failed"
    assert project.artifact()["overall_pass"] is False
    assert "4 tests of the project's own failed" in result.stdout.str()


def test_the_address_from_a_fixture_of_the_projects_own(project: Project) -> None:
    project.pytester.makeconftest(
        f"""
        import pytest

        @pytest.fixture
        def device_ip():
            return "127.0.0.1"

        @pytest.fixture
        def device_port():
            return {project.web.port}
        """
    )
    project.pytester.makepyfile("def test_mine(perf_phase): assert perf_phase.report.ok")
    result = project.run("-m", "perf", suite=False, device=False)
    assert result.ret == 0
    assert project.artifact()["target"] == project.web.address


def test_an_httpx_transport_of_the_projects_own(project: Project) -> None:
    project.pytester.makeconftest(
        """
        import httpx
        import pytest

        @pytest.fixture(scope="session")
        def perf_transport():
            return lambda: httpx.MockTransport(lambda request: httpx.Response(200, text="mine"))
        """
    )
    result = project.run("--confcutdir=.", "-p", "conftest")
    assert result.ret == 0
    assert project.artifact()["raw_runs"][0]["results"][0]["report"]["ok"]
    assert not any("x-mine" in headers for headers in project.web.headers)
    assert project.web.served < 40  # probes, and the connects that time the link


def test_the_profile_list(project: Project) -> None:
    result = project.run("--perf-list-profiles", device=False)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["one *", "    /a", "    /b", "two *"])


def test_headers_are_sent_and_never_kept(project: Project) -> None:
    result = project.run("--device-header", "X-Key: s3cr3t", "-v")
    assert result.ret == 0
    assert all(headers.get("x-key") == "s3cr3t" for headers in project.web.headers)
    assert all(headers.get("accept-encoding") == "identity" for headers in project.web.headers)
    assert "s3cr3t" not in result.stdout.str() + result.stderr.str()
    for path in project.history.rglob("*"):
        if path.is_file():
            assert b"s3cr3t" not in path.read_bytes()


def test_what_cannot_be_read_is_named_skipped_and_kept(project: Project) -> None:
    assert project.run().ret == 0
    bad = {
        "perf_20200101T000000Z_truncated.json": '{"schema_version": 1, "raw_runs": [',
        "perf_20200102T000000Z_foreign.json": '{"hello": "world"}',
        "perf_20200103T000000Z_newer.json": json.dumps({"schema_version": 99, "timestamp_utc": "x"}),
    }
    for name, text in bad.items():
        (project.history / name).write_text(text)
    result = project.run("--perf-no-gate")
    assert result.ret == 0
    for name, text in bad.items():
        assert name in result.stdout.str()
        assert (project.history / name).read_text() == text


IMPORTS = """
import sys, pytest
code = pytest.main(["-q", "-p", "no:cacheprovider", sys.argv[1]])
heavy = {"httpx", "asyncio", "msgspec", "httptools", "hdrh", "sqlite3", "filelock", "ssl", "platformdirs"}
print("LOADED", sorted(heavy & set(sys.modules)), int(code))
"""


def test_a_plain_run_loads_nothing_heavy(project: Project) -> None:
    test = project.pytester.makepyfile("def test_other(): pass")
    # asyncio and ssl may be loaded by other installed plugins: only ours is let in.
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(test)],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
        cwd=project.pytester.path,
        env=dict(os.environ) | {"PYTEST_ADDOPTS": "-p espperf"},
    )
    assert "LOADED [] 0" in done.stdout, done.stdout + done.stderr


def test_an_open_loop_keeps_its_rate(project: Project) -> None:
    (project.pytester.path / "espperf.toml").write_text(
        '[profiles.one]\npaths = ["/a", {path = "/b", contains = "message"}, {path = "/c", size = 16}]\n'
        "[profiles.one.phases.steady]\nrate = 50\nclients = 3\nduration_s = 0.5\n"
    )
    assert project.run().ret == 0
    report = project.artifact()["raw_runs"][0]["results"][0]["report"]
    assert report["rate_rps"] == 50
    assert report["requests_total"] == 25
    assert report["error_kinds"] == {}


def test_raw_samples_where_they_are_asked_for(project: Project) -> None:
    assert project.run("--perf-save-samples").ret == 0
    report = project.artifact()["raw_runs"][0]["results"][0]["report"]
    with gzip.open(project.history / report["samples_file"], "rt") as file:
        assert len(file.readlines()) == 1 + report["requests_total"]


def test_a_shuffled_order_is_put_right(project: Project) -> None:
    project.pytester.makeconftest("def pytest_collection_modifyitems(items): items.reverse()")
    project.pytester.makepyfile("def test_mine(perf_phase): pass\ndef test_other(): pass")
    result = project.run("-v", suite=False)
    assert result.ret == 0
    ran = [line.split()[0].partition("::")[2] for line in result.outlines if "PASSED" in line]
    assert ran == [
        "test_other",
        *(f"test_mine[run{run}-one-{phase}]" for run in (1, 2) for phase in ("burst", "long")),
    ]


def test_a_phase_that_is_run_again_counts_once(project: Project) -> None:
    # As pytest-rerunfailures does it: the same item's protocol twice.
    project.pytester.makeconftest(
        """
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            if "run1-one-burst" in item.name:
                runtestprotocol(item, nextitem=nextitem, log=False)
        """
    )
    project.pytester.makepyfile("def test_mine(perf_phase): pass")
    assert project.run("-m", "perf", suite=False).ret == 0
    assert project.artifact()["gate"]["verdict"] == "no-baseline"
    assert project.artifact()["aggregated"]["one:burst"]["sample_count"] == 2


TYPO = '[profiles.shop]\npaths = ["/a"]\nwieght = 2\n'
TESTS = """
    import pytest

    def test_other(): pass

    def test_perf(perf_phase): assert perf_phase.report.ok
"""


def test_a_typo_in_a_table_stops_no_other_test(project: Project) -> None:
    (project.pytester.path / "espperf.toml").write_text(TYPO)
    project.pytester.makepyfile(TESTS)
    without = project.run(suite=False, device=False)
    assert without.ret == 0
    without.assert_outcomes(passed=1, skipped=1)
    with_device = project.run(suite=False)
    assert with_device.ret == 1
    with_device.assert_outcomes(passed=1, errors=1)
    with_device.stdout.fnmatch_lines(
        ["ERROR *::test_perf[[]unusable[]] - *", "*espperf.toml: [[]profiles.shop[]]*"]
    )
    alone = project.refuse("-m", "perf", suite=False)
    assert alone.ret == 4


def test_a_marker_brings_its_profile_along(project: Project) -> None:
    project.pytester.makepyfile(
        """
        import pytest

        def test_perf(perf_phase): assert perf_phase.profile == "one"

        @pytest.mark.perf(profiles=["two"])
        def test_two(perf_phase): assert perf_phase.profile == "two"

        @pytest.mark.perf(profiles=["tow"])
        def test_typo(perf_phase): pass
        """
    )
    result = project.run("-m", "perf", suite=False)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*there is no profile 'tow'; did you mean 'two'?*"])
    result.assert_outcomes(passed=11, errors=1)
    assert project.artifact()["profiles"] == ["one", "two"]
    assert project.artifact()["gate"]["verdict"] == "no-baseline", "the session is whole"


def test_a_run_for_perf_tests_that_has_none_says_what_to_run(project: Project) -> None:
    project.pytester.makepyfile("def test_other(): pass")
    result = project.refuse("-m", "perf", suite=False)
    assert result.ret == 4
    assert (
        f"pytest --pyargs pytest_espperf.suite -m perf --device-ip {project.web.address}"
        in result.stderr.str()
    )


def test_a_typo_in_the_ini_file_is_an_error(project: Project) -> None:
    project.pytester.makeini("[pytest]\nperf_run = 3\n")
    result = project.refuse("-W", "ignore")
    assert result.ret == 4
    assert "perf_run in " in result.stderr.str()
    assert "did you mean 'perf_runs'?" in result.stderr.str()
