"""Sessions of several machines with one history."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from plugin_project import Project


class Machines:
    """Where each machine's user has caches, and what lies there."""

    def __init__(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        self._project = project
        self._patch = monkeypatch
        self._folder = project.pytester.path
        self.share = self._folder / "share"
        self.share.mkdir()

    def run(self, name: str, *words: str) -> pytest.RunResult:
        home = self._folder / name
        self._patch.setenv("HOME", str(home))
        self._patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        return self._project.run(f"--perf-history={self.share.as_uri()}", *words)

    def saved(self, name: str) -> list[dict[str, Any]]:
        """The sessions of a machine's copy, oldest first."""
        found = sorted((self._folder / name).rglob("perf_*.json"))
        return [json.loads(path.read_text(encoding="utf-8")) for path in found]


@pytest.fixture
def machines(project: Project, monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(project, monkeypatch)


def test_a_session_is_judged_against_those_of_other_machines_and_goes_to_them(
    machines: Machines, project: Project
) -> None:
    first = machines.run("a", "-W", "error")
    assert first.ret == 0
    first.stdout.fnmatch_lines(["*shared history file://*/share: no session yet, 0 new on this machine"])
    assert not project.history.exists()
    second = machines.run("b", "-W", "error")
    second.stdout.fnmatch_lines(["*shared history file://*/share: 1 session, 1 new on this machine"])
    second.stdout.no_fnmatch_line("*NOT SHARED*")
    theirs, own = machines.saved("b")
    assert theirs == machines.saved("a")[0]
    assert theirs["gate"]["verdict"] == "no-baseline"
    assert own["gate"]["verdict"] != "no-baseline"
    assert own["gate"]["baseline"]["sessions"] == [theirs["session_id"]]
    assert own["settings"]["perf_history"] == machines.share.as_uri()
    assert sorted(path.stem for path in machines.share.rglob("sessions/*.json")) == sorted(
        session["session_id"] for session in (theirs, own)
    )


def test_a_share_that_is_gone_stops_no_session_and_is_said_in_its_verdict(machines: Machines) -> None:
    gone = machines.share.rename(machines.share.with_name("gone"))
    result = machines.run("a")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*WARNING: the shared history file://*/share cannot be used now: there is no folder*",
            "*NOT SHARED: file://*/share: there is no folder*",
        ]
    )
    (own,) = machines.saved("a")
    assert own["overall_pass"]
    (finding,) = (one for one in own["gate"]["findings"] if one["kind"] == "shared-history")
    assert finding["severity"] == "warn"
    assert "it was never copied here: there is no baseline" in finding["message"]
    assert not machines.share.exists()
    gone.rename(machines.share)


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
