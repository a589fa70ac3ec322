"""Sessions of several machines with one history."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from plugin_project import Project

from pytest_espperf.cli import main


class Machines:
    """Where each machine's user has caches, and what lies there."""

    def __init__(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        self._project = project
        self._patch = monkeypatch
        self._folder = project.pytester.path
        self.share = self._folder / "share"
        self.share.mkdir()

    def run(self, name: str, *words: str) -> pytest.RunResult:
        self._go_to(name)
        return self._project.run(f"--perf-history={self.share.as_uri()}", *words)

    def run_here(self, name: str, *words: str) -> pytest.RunResult:
        """In this process: quicker."""
        self._go_to(name)
        return self._project.refuse(f"--perf-history={self.share.as_uri()}", *words)

    def _go_to(self, name: str) -> None:
        home = self._folder / name
        self._patch.setenv("HOME", str(home))
        self._patch.setenv("XDG_CACHE_HOME", str(home / "cache"))

    def saved(self, name: str) -> list[dict[str, Any]]:
        """The sessions of a machine's copy, oldest first."""
        found = sorted((self._folder / name).rglob("perf_*.json"))
        return [json.loads(path.read_text(encoding="utf-8")) for path in found]


@pytest.fixture
def machines(project: Project, monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(project, monkeypatch)


def test_a_session_without_the_share_says_so_and_goes_to_the_other_machines_later(
    machines: Machines, project: Project
) -> None:
    gone = machines.share.rename(machines.share.with_name("gone"))
    first = machines.run("a", "-W", "error", "-q")
    assert first.ret == 0
    first.stdout.fnmatch_lines(
        [
            "*WARNING: the shared history file://*/share cannot be used now: there is no folder*",
            "  warn: the shared history*",
            "saved_md=*",
            "NOT SHARED: file://*/share still cannot be used, see above; it is kept on this machine*",
        ]
    )
    (theirs,) = machines.saved("a")
    assert theirs["overall_pass"]
    assert theirs["gate"]["verdict"] == "no-baseline"
    (finding,) = (one for one in theirs["gate"]["findings"] if one["kind"] == "shared-history")
    assert finding["severity"] == "warn"
    assert "it was never copied here: there is no baseline" in finding["message"]
    assert not machines.share.exists()
    gone.rename(machines.share)
    assert main(["list", f"--perf-history={machines.share.as_uri()}"]) == 0  # what gets through, at last

    second = machines.run_here("b", "-W", "error")
    second.stdout.fnmatch_lines(
        [
            "*shared history file://*/share: 1 session, 1 new on this machine",
            "saved_md=*",
            "shared: 1 session to file://*/share (2 sessions there; this machine's copy is of *)",
        ]
    )
    assert not project.history.exists()
    assert theirs == machines.saved("b")[0]
    own = machines.saved("b")[1]
    assert own["gate"]["verdict"] != "no-baseline"
    assert own["gate"]["baseline"]["sessions"] == [theirs["session_id"]]
    assert own["settings"]["perf_history"] == machines.share.as_uri()
    assert sorted(path.stem for path in machines.share.rglob("sessions/*.json")) == sorted(
        session["session_id"] for session in (theirs, own)
    )


def test_a_quiet_session_says_nothing_of_sharing_that_went_well(machines: Machines) -> None:
    result = machines.run_here("a", "--perf-runs=1", "-k", "burst", "-q")
    result.stdout.fnmatch_lines(["saved_md=*"])
    assert "shared" not in result.stdout.str()
    assert len(list(machines.share.rglob("sessions/*.json"))) == 1


def test_a_password_in_the_url_is_refused_and_written_nowhere(project: Project) -> None:
    result = project.refuse("--perf-history=s3://AKIA:hunter2@bucket/x")
    assert result.ret == 4
    assert "the URL holds a password or a key" in result.stderr.str()
    assert "hunter2" not in result.stderr.str() + result.stdout.str()
    files = [path for path in project.pytester.path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"hunter2" in path.read_bytes()]


def test_a_missing_package_is_told_before_anything_is_measured(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setenv("HOME", str(project.pytester.path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(project.pytester.path))
    result = project.refuse("--perf-history=s3://bucket/x")
    assert result.ret == 4
    assert "pip install 'pytest-espperf[remote]' s3fs" in result.stderr.str()
    assert project.web.served == 0
