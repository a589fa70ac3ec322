"""``espperf watch``: passes against the baseline, of which nothing is left; boards that come and go."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.board_server import served
from support.plugin_project import FAST, SLOW_S, USUAL_S, Project, Web
from support.short_sessions import ANY_CHANGE
from support.site_board import Page, Site, serving_site

from pytest_espperf.cli import main
from pytest_espperf.cli import watch as command
from pytest_espperf.config.settings import Settings
from pytest_espperf.device import BoardLock
from pytest_espperf.errors import BoardBusyError, UsageError
from pytest_espperf.history import names
from pytest_espperf.load import guard
from pytest_espperf.model.workload import Target
from pytest_espperf.session import watching
from pytest_espperf.session.watching import BoardAway, BoardBack, BoardWatch, MeasuredPass, SpoiledPass

REFUSED = tuple(f"--{name.replace('_', '-')}=" for name in command.NOT_TAKEN)
PASS = [word for word in FAST if not word.startswith(REFUSED)]
"""The options of the sessions, without those that a watch does not take."""

SHORT: dict[str, Any] = {
    "perf_profiles": ("page",),
    "perf_burst_duration": 0.1,
    "perf_long_duration": 0.1,
    "perf_burst_clients": 2,
    "perf_long_clients": 1,
    "perf_settle_ms": 0.0,
    "perf_between_runs_ms": 0.0,
    "perf_metrics_retries": 0,
    "perf_request_timeout": 1.0,
    "perf_link_probes": "off",
    "perf_max_p95_ms": 1e9,
    "perf_max_p99_ms": 1e9,
    "perf_max_tail_p95_ratio": 1e9,
}


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No rest, locks of our own, and figures that are compared however busy this machine is."""
    monkeypatch.setattr(watching, "REST_S", 0.01)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("BOUND_CPU_SHARE", "BOUND_TURNAROUND_SHARE", "BOUND_LAG_MS"):
        monkeypatch.setattr(guard, name, float("inf"))


@pytest.fixture
def web() -> Iterator[Web]:
    with served() as facts:
        facts.delay_s = USUAL_S
        yield facts


@pytest.fixture
def project(pytester: pytest.Pytester, web: Web) -> Project:
    return Project(pytester, web)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A board that is not served yet, and a project with a profile of its page."""
    (tmp_path / "espperf.toml").write_text(
        '[profiles.page]\npaths = ["/"]\n[telemetry]\nstats = ""\nmemory = ""\n', encoding="utf-8"
    )
    return Site({"/": Page(), "/hello": Page()})


def watch_of(site: Site, root: Path, lines: list[str] | None = None, **more: Any) -> BoardWatch:
    settings = Settings(device_ip=(site.address,), **(SHORT | more))
    return BoardWatch(settings, root, say=(lines if lines is not None else []).append)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for what Python compiles."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


# --- against the baseline


def test_passes_are_compared_with_the_baseline_and_leave_nothing(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert project.run().ret == 0
    (project.history / names.INDEX).unlink()
    before = files_of(project.pytester.path)
    capsys.readouterr()
    assert main(["watch", project.web.address, *PASS, ANY_CHANGE, "--passes=2"]) == 0
    said = capsys.readouterr()
    assert len(re.findall(r"one +[+-]\d", said.out)) == said.out.count(" %") == 2
    assert "baseline: 2 sessions" in said.err
    assert "nothing is stored" in said.err
    assert "not compared" not in said.err
    assert files_of(project.pytester.path) == before


def test_a_slower_firmware_is_seen_and_measured_again(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert project.run().ret == 0
    project.web.delay_s = SLOW_S
    capsys.readouterr()
    words = [*PASS, "--passes=1", "--json", "--perf-fail-on=rps_ok:70%"]
    assert main(["watch", project.web.address, *words]) == 0
    event = json.loads(capsys.readouterr().out)
    assert (event["event"], event["verdict"]) == ("pass", "regressed")
    change = event["profiles"]["one"]
    assert change["verdict"] == "regressed"
    assert change["d_pct"] > 70
    assert len(event["baseline"]) == 1


def test_without_a_baseline_it_names_the_command_that_records_one(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", project.web.address, *PASS, "--passes=2"]) == 0
    said = capsys.readouterr()
    assert said.err.count("not compared: no accepted session of this board") == 1
    assert f"next: espperf run {project.web.address} --perf-preset quick" in said.err
    assert said.out.count(" req/s") == 2
    assert not project.history.exists()


def test_what_differs_from_the_baseline_is_said(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert project.run().ret == 0
    capsys.readouterr()
    assert main(["watch", project.web.address, *PASS, "--perf-burst-duration=0.3", "--passes=2"]) == 0
    said = capsys.readouterr()
    assert said.err.count("not compared: ") == 1
    assert "0.3" in said.err
    assert " %" not in said.out


# --- boards that come and go


def test_a_board_that_is_flashed_is_waited_for(site: Site, tmp_path: Path) -> None:
    with ExitStack() as serving:
        serving.enter_context(serving_site(site))
        with watch_of(site, tmp_path) as watch:
            events = watch.events(passes=2)
            assert isinstance(next(events), MeasuredPass)
            serving.close()
            away = next(events)
            assert isinstance(away, BoardAway)
            assert "gave no healthy answer" in away.reason
            serving.enter_context(serving_site(site))
            back = next(events)
            assert isinstance(back, BoardBack)
            assert isinstance(next(events), MeasuredPass)
            assert list(events) == []


def test_a_board_that_leaves_in_the_midst_of_a_pass_spoils_no_more_than_that(
    site: Site, tmp_path: Path
) -> None:
    with serving_site(site), watch_of(site, tmp_path) as watch:
        events = watch.events(passes=2)
        site.pages["/"] = Page(status=404)
        spoiled = next(events)
        assert isinstance(spoiled, SpoiledPass)
        assert "/ answers 404" in spoiled.reason
        site.pages["/"] = Page()
        measured = next(events)
        assert isinstance(measured, MeasuredPass)
        assert measured.trouble == ""


def test_a_firmware_that_cannot_be_measured_is_said_once(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    site.pages["/"] = Page(status=404)
    with serving_site(site):
        assert main(["watch", site.address, "--perf-profiles=page", "--passes=3"]) == 0
    assert capsys.readouterr().out.count("not measured: / answers 404") == 1


# --- the board is one's own


def test_a_second_session_is_refused(site: Site, tmp_path: Path) -> None:
    with serving_site(site), watch_of(site, tmp_path) as watch:
        next(watch.events())
        with pytest.raises(BoardBusyError), watch_of(site, tmp_path):
            pass
    lock = BoardLock(Target("http", "127.0.0.1", site.port, "x"))
    lock.acquire()
    lock.release()


def test_several_boards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one board"):
        BoardWatch(Settings(device_ip=("10.0.0.1", "10.0.0.2")), tmp_path, say=print)


# --- its end


def started(site: Site, folder: Path) -> subprocess.Popen[str]:
    words = ["--perf-profiles=page", "--perf-burst-duration=0.1", "--perf-long-duration=0.1"]
    return subprocess.Popen(
        [sys.executable, "-m", "pytest_espperf.cli", "watch", site.address, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
    )


posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@posix_only
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_ctrl_c_is_its_usual_end(site: Site, tmp_path: Path, sent: signal.Signals, code: int) -> None:
    with serving_site(site), started(site, tmp_path) as process:
        assert process.stdout is not None
        assert "page" in process.stdout.readline()
        process.send_signal(sent)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert not list((tmp_path / "state").rglob("*.json")), "the holder of the lock"
    assert not (tmp_path / "tools").exists()


@posix_only
def test_it_ends_when_nobody_reads_it(site: Site, tmp_path: Path) -> None:
    with serving_site(site), started(site, tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 141
