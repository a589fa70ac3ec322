"""The commit that is measured is recorded, or it is reported why it is not."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_espperf.doctor.machine import judge_repository
from pytest_espperf.session.identity import describe_environment
from pytest_espperf.session.repository import Repository, describe_repository
from pytest_espperf.system import git as asking

HISTORY = Path("tools") / "perf_history"

posix = pytest.mark.skipif(sys.platform == "win32", reason="a script in place of git")


def git(folder: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=folder, check=True, stdout=-3
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a commit, below a folder that is none."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a").write_text("1")
    git(folder, "add", "a")
    git(folder, "commit", "-qm", "x")
    return folder


@pytest.fixture
def instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that programs are looked for in; empty."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def script(folder: Path, text: str) -> None:
    (folder / "git").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "git").chmod(0o755)


def lines(root: Path) -> list[tuple[str, str]]:
    """What the doctor says of it."""
    return [(check.status, check.figure) for check in judge_repository(describe_environment(root))]


def test_a_clean_and_a_changed_one(project: Path) -> None:
    found = describe_repository(project)
    assert found.commit is not None
    assert found == Repository(found.commit, dirty=False)
    assert lines(project) == [("ok", found.commit)]
    git(project, "checkout", "-q", "--detach")
    assert describe_repository(project) == found
    (project / "b").write_text("2")
    assert describe_repository(project) == Repository(found.commit, dirty=True)
    assert lines(project) == [("ok", f"{found.commit} with uncommitted changes")]


def test_no_repository_is_no_trouble(tmp_path: Path, instead: Path) -> None:
    assert describe_repository(tmp_path) == Repository()
    assert lines(tmp_path) == []


def test_no_repository_is_no_trouble_with_git(tmp_path: Path) -> None:
    assert describe_repository(tmp_path) == Repository()


@pytest.mark.parametrize("below", [Path(), Path("firmware")])
def test_our_own_sessions_change_nothing(project: Path, below: Path) -> None:
    root, history = project / below, project / below / HISTORY
    history.mkdir(parents=True)
    (history / "latest.json").write_text("{}")
    assert describe_repository(root, apart=history).dirty is False
    git(project, "add", "-f", ".")
    git(project, "commit", "-qm", "sessions are kept here")
    (history / "latest.json").write_text("[]")
    assert describe_repository(root, apart=history).dirty is False
    assert describe_repository(root, apart=project.parent / "elsewhere").dirty is True
    (history.parent / "tool.py").write_text("1")
    assert describe_repository(root, apart=history).dirty is True


def test_a_folder_that_git_refuses(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # of git's own tests, for a foreign owner
    found = describe_repository(project)
    if found.commit is not None:
        pytest.skip("this git does not look at owners, or trusts all folders")
    assert "git refuses" in found.trouble
    assert "dubious ownership" in found.trouble
    assert f"git config --global --add safe.directory {project}" in found.trouble
    assert describe_environment(project)["git_trouble"] == found.trouble
    assert lines(project) == [("note", found.trouble)]


def test_git_is_not_installed(project: Path, instead: Path) -> None:
    expected = Repository(trouble="the commit could not be read: git is not installed")
    assert describe_repository(project) == expected
    (project / "firmware").mkdir()
    assert describe_repository(project / "firmware") == expected


@posix
def test_git_that_hangs_is_not_waited_for(
    project: Path, instead: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "TIMEOUT_S", 2.0)
    script(instead, "exec /bin/sleep 100")
    assert describe_repository(project).trouble.endswith("git did not answer within 2 s")
    script(instead, 'case "$*" in *status*) exec /bin/sleep 100;; esac; echo 0123abcd')
    found = describe_repository(project)
    assert (found.commit, found.dirty) == ("0123abcd", None)
    assert "uncommitted is not known: git did not answer" in found.trouble


@posix
def test_what_git_leaves_behind_with_its_output_is_not_waited_for(
    project: Path, instead: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook or helper that holds the pipes: the answer is there, and no time-out is met."""
    monkeypatch.setattr(asking, "TIMEOUT_S", 60.0)
    script(instead, "/bin/sleep 60 & echo 0123abcd")
    began = time.monotonic()
    found = describe_repository(project)
    assert found.commit == "0123abcd"
    assert not found.trouble
    assert time.monotonic() - began < 60  # for which the pipe stays open, each time


@posix
def test_git_that_cannot_be_started(project: Path, instead: Path) -> None:
    (instead / "git").write_text("x")
    (instead / "git").chmod(0o755)
    assert "git cannot be started" in describe_repository(project).trouble


def test_no_commit_yet(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert describe_repository(tmp_path) == Repository(dirty=False)
    assert lines(tmp_path) == [("note", "it has no commit yet")]


def test_a_bare_repository(project: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(project), "bare")
    found = describe_repository(tmp_path / "bare")
    assert found == Repository(describe_repository(project).commit)


def test_a_broken_one(project: Path) -> None:
    (project / ".git" / "HEAD").unlink()
    assert "git says 'not a git repository" in describe_repository(project).trouble
    (project / ".git").rename(project / ".git-away")
    (project / ".git").write_text("gitdir: /nowhere/at/all\n")  # a work tree without its repository
    assert "git says 'not a git repository: /nowhere/at/all'" in describe_repository(project).trouble
