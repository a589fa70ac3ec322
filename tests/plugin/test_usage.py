"""Bad input: one clear sentence that names its source, exit code 4."""

from __future__ import annotations

import os
import sys

import pytest
from support.plugin_project import Project


def usage_error(project: Project, *arguments: str, device: bool = True) -> str:
    result = project.refuse(*arguments, device=device)
    assert result.ret == 4, result.stdout.str() + result.stderr.str()
    errors = [line for line in result.errlines if line.startswith("ERROR: ")]
    assert len(errors) == 1
    assert "Traceback" not in result.stderr.str()
    assert project.web.served == 0
    return errors[0]


def test_perf_without_a_device(project: Project) -> None:
    assert "--device-ip" in usage_error(project, device=False)


def test_plain_pytest_skips_perf_tests_with_the_reason(project: Project) -> None:
    project.pytester.makepyfile(
        "def test_mine(perf_phase): assert perf_phase.report.ok\ndef test_other(): pass"
    )
    result = project.run("-rs", device=False, suite=False)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["SKIPPED*no device: pass --device-ip*", "*1 passed, 4 skipped*"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--perf-profiles=nosuch"], "--perf-profiles: there is no profile 'nosuch'"),
        (["--perf-preset=quik"], "--perf-preset: 'quik'"),
        (["--perf-runs=0"], "--perf-runs: 0 must be at least 1"),
        (["--perf-long-duration=-1"], "--perf-long-duration: -1 must be above 0"),
        (["--perf-fail-on=p95:10%"], "--perf-fail-on: "),
        (["--perf-min-effect=p95_ms"], "--perf-min-effect: "),
        (["--perf-baseline=no_such_tag"], "--perf-baseline: "),
        (["--device-port=1"], "--device-port says 1"),
        (["--device-ca=/nowhere.pem", "--device-scheme=https"], "--device-ca: "),
    ],
)
def test_a_bad_option_names_itself(project: Project, arguments: list[str], says: str) -> None:
    assert says in usage_error(project, *arguments)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no ~user that is not known")
@pytest.mark.parametrize(
    "option",
    [
        "--perf-history=",
        "--perf-report=",
        "--perf-export=csv=",
        "--perf-baseline=",
        "--perf-lock-file=",
        "--device-ca=",
        "--device-lab=",
    ],
)
def test_a_path_in_the_folder_of_an_unknown_user(project: Project, option: str) -> None:
    arguments = [f"{option}~no-such-user-here/x.html", "--device-scheme=https"]
    message = usage_error(project, *arguments, device=option != "--device-lab=")
    assert message.startswith(
        f"ERROR: {option.partition('=')[0]}: '~no-such-user-here/x.html': there is no user"
    )


def test_a_name_that_does_not_resolve(project: Project) -> None:
    message = usage_error(project, "--device-ip=no-such-board.invalid", device=False)
    assert "--device-ip: 'no-such-board.invalid' does not resolve" in message


def test_a_bad_ini_value_and_a_bad_variable_name_their_source(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.pytester.makeini("[pytest]\nperf_request_timeout = soon\n")
    assert "perf_request_timeout in " in usage_error(project)
    monkeypatch.setenv("ESPPERF_PERF_REQUEST_TIMEOUT", "later")
    assert "environment variable ESPPERF_PERF_REQUEST_TIMEOUT" in usage_error(project)


def test_a_bad_profile_file(project: Project) -> None:
    (project.pytester.path / "espperf.toml").write_text("[profiles.one]\npath = ['/']\n")
    assert "did you mean 'paths'" in usage_error(project)


def test_a_history_that_cannot_be_written(project: Project) -> None:
    (project.pytester.path / "taken").write_text("")
    assert "taken" in usage_error(project, "--perf-history=taken")


def test_two_tests_of_the_same_phase(project: Project) -> None:
    project.pytester.makepyfile("def test_a(perf_phase): pass\ndef test_b(perf_phase): pass")
    result = project.refuse("-m", "perf", suite=False)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *test_b*test_a*measure the same phase*"])


def test_a_bad_option_does_not_trouble_a_plain_run(project: Project) -> None:
    project.pytester.makepyfile("def test_other(): pass")
    project.pytester.makeini("[pytest]\nperf_runs = 0\n")
    assert project.run(suite=False).ret == 0


@pytest.mark.parametrize(
    ("profiles", "says"),
    [
        ('["tvo"]', "did you mean 'two'"),
        ('["python_light"]', "not among those"),
        ('"two"', "takes a list of names"),
    ],
)
def test_a_bad_marker_is_one_sentence(project: Project, profiles: str, says: str) -> None:
    project.pytester.makepyfile(
        f"import pytest\n@pytest.mark.perf(profiles={profiles})\ndef test_t(perf_phase): pass\n"
    )
    result = project.refuse("-m", "perf", "--perf-profiles=two", suite=False)
    assert result.ret == 4
    assert says in result.stderr.str()


def test_a_projects_own_fixtures_of_the_same_names_are_its_own(project: Project) -> None:
    project.pytester.makeconftest("import pytest\n@pytest.fixture\ndef board(): return 'mine'")
    project.pytester.makepyfile("def test_a(board): assert board == 'mine'")
    result = project.run("-m", "not perf", suite=False, device=False)
    assert result.ret == 0
    result.assert_outcomes(passed=1)


def test_a_history_folder_that_moves_the_root_is_refused(project: Project) -> None:
    project.pytester.makeini("[pytest]\nperf_tag = from_the_ini_file\n")
    outside = project.pytester.path.parent / f"{project.pytester.path.name}-history"
    outside.mkdir()
    message = usage_error(project, "--perf-history", str(outside))
    assert f"write --perf-history={outside}" in message
    result = project.run(f"--perf-history={outside}")
    result.stdout.fnmatch_lines(["saved_json=*_from_the_ini_file.json"])


@pytest.mark.skipif(sys.platform == "win32", reason="serial ports are no files there")
def test_a_serial_port_that_moves_the_root_is_refused(project: Project) -> None:
    project.pytester.makeini("[pytest]\nperf_worst_p95_ms = 0.001\n")
    message = usage_error(project, "-p", "no:cacheprovider", "--device-serial", os.devnull)
    assert f"moved its root directory to /dev; write --device-serial={os.devnull}" in message


def test_a_second_device_is_refused_by_the_originals_command(project: Project) -> None:
    words = ("run", "sim", "--device-ip", project.web.address)
    result = project.pytester.run(sys.executable, "-m", "pytest_espperf.cli", *words)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*leave out --device-ip"])
