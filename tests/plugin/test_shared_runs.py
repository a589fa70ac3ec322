"""Sessions of several machines with one history."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import pytest
from support.distributed_bench import SUITE
from support.plugin_project import FAST, Project, Web

from pytest_espperf.cli import main
from pytest_espperf.history import HistoryStore
from pytest_espperf.history.shared.pull import Pulled
from pytest_espperf.history.shared.push import Pushed
from pytest_espperf.history.shared.sync import Sync
from pytest_espperf.plugin import ending


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

    def run_here(self, name: str, *words: str, device: bool = True) -> pytest.RunResult:
        """In this process: quicker."""
        self._go_to(name)
        return self._project.refuse(f"--perf-history={self.share.as_uri()}", *words, device=device)

    def run_distributed(self, name: str, *words: str) -> pytest.RunResult:
        self._go_to(name)
        shared = f"--perf-history={self.share.as_uri()}"
        return self._project.pytester.runpytest_subprocess(*SUITE, *FAST, shared, *words, timeout=100)

    def _go_to(self, name: str) -> None:
        home = self._folder / name
        self._patch.setenv("HOME", str(home))
        self._patch.setenv("XDG_CACHE_HOME", str(home / "cache"))

    def saved(self, name: str) -> list[dict[str, Any]]:
        """The sessions of a machine's copy, oldest first."""
        copies = {path.parent for path in (self._folder / name).rglob("perf_*.json")}
        paths = [copy / name for copy in copies for name in HistoryStore(copy).file_names()]
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


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


COUNTING = """
import os
from pathlib import Path

from pytest_espperf.history.shared.sync import Sync

def counted(name, do):
    def doing(sync):
        with Path(os.environ["COUNTED"]).open("a", encoding="utf-8") as counted:
            counted.write(name + "\\n")
        return do(sync)

    return doing

Sync.pull = counted("pull", Sync.pull)
Sync.push = counted("push", Sync.push)
"""
"""A plugin of pytest's: each process writes down when it pulls and pushes."""


def both(*webs: Web) -> str:
    return "--device-ip=" + ",".join(web.address for web in webs)


def test_workers_leave_it_to_the_controller_to_pull_and_push_once_for_all_boards(
    machines: Machines, project: Project, reference: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xdist")
    counted = project.pytester.path / "counted.txt"
    monkeypatch.setenv("COUNTED", str(counted))
    (project.pytester.path / "counting.py").write_text(COUNTING, encoding="utf-8")
    boards = both(project.web, reference)
    result = machines.run_distributed("a", "-p", "counting", "-n2", "--perf-runs=1", boards)
    assert result.ret == 0
    assert counted.read_text(encoding="utf-8").split() == ["pull", "push"]
    check_said_once(result, machines)


def test_a_run_over_several_boards_pulls_and_pushes_once(
    machines: Machines, project: Project, reference: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, int]] = []
    pull, push = Sync.pull, Sync.push

    def counted_pull(sync: Sync) -> Pulled:
        done.append(("pull", project.web.served + reference.served))
        return pull(sync)

    def counted_push(sync: Sync) -> Pushed:
        done.append(("push", len(machines.saved("a"))))
        return push(sync)

    monkeypatch.setattr(Sync, "pull", counted_pull)
    monkeypatch.setattr(Sync, "push", counted_push)
    boards = both(project.web, reference)
    result = machines.run_here("a", "--perf-runs=1", boards, device=False)
    assert result.ret == 0
    assert done == [("pull", 0), ("push", 2)], "before anything was measured, after all was saved"
    check_said_once(result, machines)


def check_said_once(result: pytest.RunResult, machines: Machines) -> None:
    said = [line for line in result.outlines if "shared" in line]
    assert len(said) == 2
    url = machines.share.as_uri()
    assert said[0].endswith(f"shared history {url}: no session yet, 0 new on this machine")
    assert said[1].startswith(f"shared: 2 sessions to {url} (2 sessions there; ")
    assert len(list(machines.share.rglob("sessions/*.json"))) == 2


@pytest.mark.parametrize("in_full", [2, 1])
def test_what_several_boards_could_not_share_is_said_once_and_stands_in_each_verdict(
    machines: Machines, project: Project, reference: Web, monkeypatch: pytest.MonkeyPatch, in_full: int
) -> None:
    monkeypatch.setattr(ending, "MOST_IN_FULL", in_full)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    machines.share.rename(machines.share.with_name("gone"))
    boards = both(project.web, reference)
    result = machines.run_here("a", "-q", "--perf-runs=1", boards, device=False)
    assert result.ret == 0
    output = result.stdout.str()
    assert output.count("WARNING: the shared history") == 1
    assert output.count("  warn: the shared history") == 1
    assert output.count("::warning title=espperf shared-history::") == 1
    assert output.count("NOT SHARED") == 1
    assert "still cannot be used, see above; 2 sessions of this run are kept on this machine" in output
    assert ("saved_md=" in output) == (in_full == 2), "there is nothing to be done about a board"
    kinds = [[one["kind"] for one in saved["gate"]["findings"]] for saved in machines.saved("a")]
    assert [found.count("shared-history") for found in kinds] == [1, 1]


def test_ctrl_c_while_sessions_are_sent_leaves_all_that_was_to_be_written(
    machines: Machines, project: Project, reference: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(_: Sync) -> Pushed:
        for _press in range(3):  # the third is obeyed at once
            signal.raise_signal(signal.SIGINT)
        raise AssertionError

    monkeypatch.setattr(Sync, "push", pressed)
    boards = both(project.web, reference)
    result = machines.run_here(
        "a", "--perf-runs=1", "--perf-report=report.html", "--perf-export=csv=out.csv", boards, device=False
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["NOT SHARED: * was not waited for; 2 sessions of this run are kept on *"])
    assert [saved["gate"]["verdict"] for saved in machines.saved("a")] == ["no-baseline"] * 2
    here = project.pytester.path
    assert len(list(here.glob("out-*.csv"))) == len(list(here.glob("report-*.html"))) == 2
    assert (here / "report.html").exists()
    assert not list(here.rglob("*.partial.json"))


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
