"""A session runs wherever its project's other tests do, and says everything once."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from support.load_servers import Peer, answer, serving
from support.plugin_project import FAST, Project

LOOP_HELD = """
import asyncio
import pytest

@pytest.fixture(scope="session", autouse=True)
def browser():
    loop = asyncio.new_event_loop()
    asyncio._set_running_loop(loop)  # as between two calls of playwright's synchronous API
    yield
    asyncio._set_running_loop(None)
    loop.close()
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="a shell closes the streams, git's test variable")


def git(project: Project, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words],
        cwd=project.pytester.path,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_a_loop_that_a_fixture_left_running_is_in_nobodys_way(project: Project) -> None:
    project.pytester.makeconftest(LOOP_HELD)
    project.pytester.makepyfile("def test_perf(perf_phase): assert perf_phase.report.ok")
    result = project.run(suite=False)
    result.assert_outcomes(passed=6)
    assert project.artifact()["gate"]["verdict"] == "no-baseline"


@pytest.mark.parametrize("option", ["--setup-only", "--setup-plan", "--collect-only"])
@pytest.mark.parametrize("workers", [0, 2])
def test_what_runs_no_test_drives_no_load_and_keeps_nothing(
    project: Project, option: str, workers: int
) -> None:
    result = project.run(option, workers=workers)
    assert result.ret == 0
    assert "rror" not in re.sub(r"error_rate", "", result.stdout.str())
    assert project.web.served == 0
    assert not project.history.exists()


@posix
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_lead_to_nowhere(project: Project, closed: str) -> None:
    words = ["-p", "no:xdist", "--pyargs", "pytest_espperf.suite", "-m", "perf", *FAST]
    words.append(f"--device-ip={project.web.address}")
    for module in (["pytest", *words], ["pytest_espperf.cli", "list"]):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", *module],
            cwd=project.pytester.path,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert project.artifact()["gate"]["verdict"] == "no-baseline"


@posix
def test_each_export_is_told_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    full = project.pytester.path / "file" / "out.xml"
    project.block("file")
    result = project.run("--perf-export=csv=out.csv", f"--perf-export=junit={full}")
    assert result.ret == 1
    lines = result.stdout.lines
    assert len([line for line in lines if line.startswith("exported csv: ")]) == 1
    assert len([line for line in lines if line.startswith("NOT EXPORTED: junit: ")]) == 1
    assert len([line for line in lines if line.startswith("::error")]) == 1


def test_our_own_sessions_are_no_change_of_the_repository(project: Project) -> None:
    git(project, "init", "-q")
    git(project, "add", "espperf.toml")
    git(project, "commit", "-qm", "x")
    exclude = project.pytester.path / ".git" / "info" / "exclude"
    exclude.write_text("runpytest-*\nstate\nstdout\nstderr\n")  # of pytester, and the fixture
    for _ in range(2):
        project.run("-p", "no:cacheprovider")
    assert [session["environment"]["git_dirty"] for session in project.sessions()] == [False, False]
    assert git(project, "status", "--porcelain") == ""
    (project.history / ".gitignore").unlink()  # to commit sessions on purpose
    project.run("-p", "no:cacheprovider")
    assert git(project, "status", "--porcelain") == "?? tools/\n"
    assert project.sessions()[-1]["environment"]["git_dirty"] is False


def test_a_folder_that_the_user_named_is_the_users(project: Project) -> None:
    assert project.run("--perf-history=kept").ret == 0
    assert not (project.pytester.path / "kept" / ".gitignore").exists()


def test_a_repository_that_git_refuses_is_told_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(project, "init", "-q")
    git(project, "commit", "-q", "--allow-empty", "-m", "x")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    result = project.run()
    assert result.ret == 0
    said = " ".join(result.stdout.str().split())
    if project.artifact()["environment"]["git_commit"] is not None:
        pytest.skip("this git does not look at owners, or trusts all folders")
    assert said.count("the commit could not be read: git refuses") == 1
    findings = project.artifact()["gate"]["findings"]
    assert [one["severity"] for one in findings if one["kind"] == "repository"] == ["warn"]


def test_a_redirect_of_the_probe_path_is_told_once(project: Project) -> None:
    def handle(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            moved = b"HTTP/1.1 301 Moved\r\nLocation: /new\r\nContent-Length: 0\r\n\r\n"
            peer.send(moved if head.startswith(b"GET /old ") else answer())

    with serving(handle) as server:
        place = f"--device-ip=127.0.0.1:{server.port}"
        result = project.run("--perf-probe-path=/old", place, device=False)
    (told,) = [line for line in result.stdout.lines if "a redirect to" in line]
    board = f"http://127.0.0.1:{server.port}"
    assert told.startswith(f"[espperf] WARNING: {board}/old answers 301, a redirect to {board}/new, which ")
    assert told.endswith("do not follow: measure that with --perf-probe-path '/new'")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each user has a home")
@pytest.mark.parametrize("home", [None, "/nowhere"])
def test_a_user_without_a_home_measures(
    project: Project, home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    # The name service knows nobody; root may write below /nowhere, and so the folder is not looked at there.
    (project.pytester.path / "nobody.py").write_text(
        "import os, pwd\n"
        "def getpwuid(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = getpwuid\n"
        "access = os.access\n"
        "os.access = lambda path, *a, **k: str(path) != '/' and access(path, *a, **k)\n"
    )
    result = project.run("-p", "nobody")
    assert result.ret == 0
    assert not (project.pytester.path / "~").exists()
