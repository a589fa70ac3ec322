"""What a session makes of each fault of a board, and of its own machine: fault x moment.

Each row runs the packaged suite in a process of its own on a reference device in another, with a console. The
device, or the disk, or the session, comes to its fault before the session, in the middle of a phase, between
two, or while the result is being written.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.paths import TESTS
from support.pytest_alone import ENVIRONMENT
from support.short_sessions import NO_TIME_BUDGETS

from pytest_espperf.history import HistoryStore
from pytest_espperf.sim.config import SimConfig
from pytest_espperf.sim.process import SimProcess

WORDS = (
    *("-m", "pytest", "--pyargs", "pytest_espperf.suite", "-m", "perf", "-v", "-s"),
    *("-p", "no:xdist", "-p", "no:cacheprovider", "--color=no"),
    *("--perf-profiles=python_light", "--perf-runs=2", "--perf-burst-clients=4", "--perf-long-clients=2"),
    *("--perf-burst-duration=0.3", "--perf-long-duration=0.2", "--perf-request-timeout=0.6"),
    *("--perf-probe-retries=3", "--perf-heartbeat-ms=100", "--perf-settle-ms=20", "--perf-confirm=0"),
    *("--perf-between-runs-ms=150", "--perf-metrics-retries=1", *NO_TIME_BUDGETS),
)
LONGEST_S = 150.0
"""What takes longer hangs: four phases, each with a probe of 3 x 2 s, two readings of telemetry and of the
link, and its load, are bounded by less; a session that is stopped by its first dead probe takes a tenth."""


pytestmark = pytest.mark.timeout(600)  # several sessions, on a machine that may be busy

AS: tuple[str, ...] = ()
"""A command that runs another one with fewer rights."""

MOMENTS = {
    # what the session prints, and how often, before the moment has come
    "before": ("", 0),
    "during": ("req/s", 1),
    "between": ("PASSED", 1),
    "halfway": ("PASSED", 3),
    "held": ("HELD", 1),
    "writing": ("WRITING", 1),
}
PAUSE = """
import sys, time
from pathlib import Path
from pytest_espperf.history import files

publish = files.Staged.publish_new

def paused(self, name):
    print("WRITING", file=sys.__stdout__, flush=True)
    ends = time.monotonic() + 90
    while not Path("go").exists() and time.monotonic() < ends:
        time.sleep(0.01)
    return publish(self, name)

files.Staged.publish_new = paused
"""
"""A pytest plugin that stops a session when its result is on the disk and has no name yet."""

HOLD = """
import sys, time
from pathlib import Path

def pytest_runtest_logfinish():
    if not Path("go").exists():
        print("HELD", file=sys.__stdout__, flush=True)
    ends = time.monotonic() + 90
    while not Path("go").exists() and time.monotonic() < ends:
        time.sleep(0.01)
"""
"""Another one, that stops it behind its first phase."""

PAUSES = {"writing": PAUSE, "held": HOLD}


@dataclass
class Run:
    """How a session ended."""

    code: int
    output: str
    seconds: float
    artifact: dict[str, Any]
    folder: Path

    @property
    def verdict(self) -> str:
        return str(self.artifact["gate"]["verdict"])

    @property
    def told(self) -> str:
        """All that the artifact says of reasons, in one text."""
        gate = self.artifact["gate"]
        return json.dumps([gate["findings"], self.artifact["raw_runs"], self.artifact["hard_stop_reason"]])


CONFIG = SimConfig(time_scale=0.2, noise="none", slowdown={"all": 4.0})
"""Of a device whose faults pass in a fifth of their time, and whose load is none to speak of here."""


@pytest.fixture
def device() -> Iterator[SimProcess]:
    with SimProcess.start(CONFIG, console="socket") as process:
        yield process


def start(place: Path, device: SimProcess, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(*AS, sys.executable, *WORDS, f"--device-ip={device.host}:{device.port}"),
            *([f"--device-serial={device.console_url}"] if device.console_url else []),
            *(f"--perf-history={place / 'history'}", *words),
        ],
        cwd=place,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env={
            **os.environ,
            **ENVIRONMENT,
            "PYTHONIOENCODING": "utf-8",
            "PYTHONPATH": os.pathsep.join(map(str, (place, TESTS))),
            "XDG_STATE_HOME": str(place / "state"),
        },
    )


def drive(
    place: Path, device: SimProcess, moment: str, act: Callable[[subprocess.Popen[str]], None], *words: str
) -> Run:
    """Run a session; ``act`` once, at its moment."""
    (place / "pytest.ini").write_text("[pytest]\n")
    began = time.monotonic()
    if moment in PAUSES:
        (place / "pause.py").write_text(PAUSES[moment])
        words += ("-p", "pause")
    process = start(place, device, *words)
    assert process.stdout is not None
    watchdog = threading.Timer(LONGEST_S + 30, process.kill)
    watchdog.start()
    lines = []
    mark, waits = MOMENTS[moment]
    try:
        for line in process.stdout:
            lines.append(line)
            if mark and waits and mark in line:
                waits -= 1
                if not waits:
                    act(process)
                    (place / "go").touch()
        code = process.wait(60)
    finally:
        watchdog.cancel()
        process.kill()
        process.stdout.close()
    output = "".join(lines)
    assert not waits, output
    folder = place / "history"
    partials = sorted(path.name for path in folder.glob("latest.partial*.json"))
    names = HistoryStore(folder).file_names() or partials
    assert names, output
    artifact = json.loads((folder / names[-1]).read_text())
    return Run(code, output, time.monotonic() - began, artifact, folder)


def fault(device: SimProcess, **changes: Any) -> Callable[[object], None]:
    def act(_: object) -> None:
        device.configure(**changes)

    return act


def check(run: Run) -> None:
    """What holds whatever happened."""
    assert "Traceback" not in run.output, run.output
    assert "INTERNALERROR" not in run.output, run.output
    assert run.seconds < LONGEST_S, run.output
    assert all(entry.artifact.session_id for entry in HistoryStore(run.folder).entries())


FAULTS: list[tuple[str, dict[str, Any], tuple[str, ...], str]] = [
    # name, what the device is reported, the moments at which it fails, what is reported
    ("hang", {"fault": "hang@0"}, ("before", "during", "between"), "no answer within"),
    ("power-off", {"fault": "refuse@0"}, ("before", "during", "between"), "no healthy answer"),
    ("reboot", {"fault": "reboot@0:1"}, ("during", "between"), "Guru Meditation Error"),
    ("reset", {"fault": "reset@0"}, ("before", "during"), "no healthy answer"),
    ("truncate", {"fault": "truncate@0"}, ("during",), "error rate"),
    ("malformed", {"fault": "malformed@0"}, ("during",), "error rate"),
    ("slow drip", {"fault": "slowloris@0"}, ("during",), "error rate"),
    ("garbage length", {"fault": "garbage-length@0"}, ("during",), "error rate"),
    ("huge body", {"fault": "huge-body@0"}, ("during",), ""),
    ("errors", {"error_rate": {"python_light": 0.05}, "slowdown": {}}, ("before",), "error rate"),
    # 16 KB have to be gone before it counts, however few requests a busy machine makes.
    ("slow leak", {"leak_bytes": 120}, ("before",), "internal_"),
    ("fast leak", {"leak_bytes": 400}, ("before",), "did not come back"),
    (
        "rate limiter",
        {"rate_limit": True, "time_scale": 1, "slowdown": {"all": 0.05}},
        ("before",),
        "rate limiter was measured",
    ),
    ("accept limit", {"max_connections": 2}, ("before",), "connections rejected"),
]
ONE_PROBE = ("--perf-probe-retries=1",)
WORDS_OF = {
    # Each try takes two seconds of such a board.
    "hang": ONE_PROBE,
    "slow drip": ONE_PROBE,
    # A slow trend needs rounds to be told from an accident.
    "slow leak": ("--perf-runs=5",),
    "fast leak": ("--perf-runs=3",),
    # In the first half of them the board may have tokens for each request.
    "rate limiter": ("--perf-runs=4", "--perf-burst-clients=12", "--perf-long-clients=8"),
}


@pytest.mark.parametrize(
    ("row", "moment"),
    [
        pytest.param((changes, says, WORDS_OF.get(name, ())), moment, id=f"{name.replace(' ', '-')}-{moment}")
        for name, changes, moments, says in FAULTS
        for moment in moments
    ],
)
def test_a_faulty_board_is_never_green(
    row: tuple[dict[str, Any], str, tuple[str, ...]], moment: str, device: SimProcess, tmp_path: Path
) -> None:
    changes, says, words = row
    if moment == "before":
        device.configure(**changes)
    run = drive(tmp_path, device, moment, fault(device, **changes), *words)
    check(run)
    assert run.code == 1, run.output
    assert run.verdict == "failed", run.output
    assert says in run.told + run.output
    assert run.artifact["overall_pass"] is False


def test_a_board_that_boots_before_the_session_is_waited_for(device: SimProcess, tmp_path: Path) -> None:
    device.configure(fault="reboot@0:12")
    run = drive(tmp_path, device, "before", fault(device), "--perf-probe-retries=12")
    check(run)
    assert (run.code, run.verdict) == (0, "no-baseline"), run.output


def test_a_heap_that_falls_to_pieces_fails(device: SimProcess, tmp_path: Path) -> None:
    run = drive(tmp_path, device, "halfway", fault(device, fragmentation=0.95), "--perf-runs=3")
    check(run)
    assert (run.code, run.verdict) == (1, "failed"), run.output
    assert "heap fragmentation" in run.told


def test_a_garbage_collectors_sawtooth_is_no_leak(device: SimProcess, tmp_path: Path) -> None:
    run = drive(tmp_path, device, "before", fault(device))
    check(run)
    free = [
        result["report"]["mem_after"]["heap"]["internal_free"]
        for raw in run.artifact["raw_runs"]
        for result in raw["results"]
    ]
    assert len(set(free)) > 1, "there is a sawtooth"
    assert (run.code, run.verdict) == (0, "no-baseline"), run.output


def test_a_stop_of_seconds_in_one_run_is_said(device: SimProcess, tmp_path: Path) -> None:
    """It fails no session by itself (a stall confined to one run is the bench's, more often than not)."""
    run = drive(
        tmp_path,
        device,
        "during",
        fault(device, fault="hang@0:8"),
        *("--perf-request-timeout=8", "--perf-max-error-rate=50", "--perf-burst-duration=2.5"),
    )
    check(run)
    findings = {finding["kind"]: finding for finding in run.artifact["gate"]["findings"]}
    assert findings["stalled"]["severity"] == "warn"
    assert "s without an answer" in run.output
    assert "Task watchdog" in findings["console"]["message"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("moment", ["during", "between"])
@pytest.mark.parametrize(
    ("number", "codes"),
    [(signal.SIGINT, {2}), (signal.SIGTERM, {-signal.SIGTERM, 2, 143}), (signal.SIGKILL, {-signal.SIGKILL})],
)
def test_a_session_that_is_killed_leaves_what_it_had(
    number: int, codes: set[int], moment: str, device: SimProcess, tmp_path: Path
) -> None:
    run = drive(tmp_path, device, moment, lambda process: os.kill(process.pid, number))
    check(run)
    assert run.code in codes, run.output
    assert not (run.folder / "latest.json").exists(), "only a complete session is the latest"
    if moment == "between":
        return
    again = drive(tmp_path, device, "before", fault(device))
    assert (again.code, again.verdict) == (0, "no-baseline"), again.output
    assert "an earlier session was interrupted: it is kept" in again.output or number == signal.SIGINT
    assert len(list(run.folder.glob("perf_*.json"))) == 2, "the interrupted one and the whole one"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_twice_while_the_result_is_written_does_not_lose_it(
    device: SimProcess, tmp_path: Path
) -> None:
    def twice(process: subprocess.Popen[str]) -> None:
        for _ in range(2):
            os.kill(process.pid, signal.SIGINT)
            time.sleep(0.2)

    run = drive(tmp_path, device, "writing", twice)
    check(run)
    assert (run.code, run.verdict) == (2, "no-baseline"), run.output
    assert (run.folder / "latest.json").exists()
    assert not list(run.folder.glob("latest.partial*.json"))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_while_the_result_is_written(number: int, device: SimProcess, tmp_path: Path) -> None:
    run = drive(tmp_path, device, "writing", lambda process: os.kill(process.pid, number))
    check(run)
    assert run.code == -number, run.output
    assert [path.name for path in run.folder.glob("*.json")] == ["latest.partial.json"]
    assert sum(len(raw["results"]) for raw in run.artifact["raw_runs"]) == 4, "all phases are there"


def test_a_board_that_dies_while_the_result_is_written_changes_nothing(
    device: SimProcess, tmp_path: Path
) -> None:
    run = drive(tmp_path, device, "writing", fault(device, fault="hang@0"))
    check(run)
    assert (run.code, run.verdict) == (0, "no-baseline"), run.output


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte, where the history is."""
    folder = tmp_path / "history"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Until there is no byte left."""
    try:
        with (disk / "filling").open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))
    except OSError:
        return


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[object], None]]:
    """Takes the right to write into the history away; from root, too."""
    if sys.platform == "win32":
        pytest.skip("POSIX rights")
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write anywhere")
        drop = ("setpriv", "--inh-caps=-dac_override", "--bounding-set=-dac_override")
        monkeypatch.setitem(globals(), "AS", drop)
    folder = tmp_path / "history"
    folder.mkdir()
    yield lambda _: folder.chmod(0o555)
    folder.chmod(0o755)


def broken_disk(
    place: Path, device: SimProcess, moment: str, breaks: Callable[[object], None]
) -> Iterator[Run]:
    """A session, then another one whose disk breaks."""
    first = drive(place, device, "before", fault(device))
    yield first
    kept = {path.name: path.read_bytes() for path in first.folder.glob("perf_*")}
    run = drive(place, device, moment, breaks)
    check(run)
    assert {path.name: path.read_bytes() for path in run.folder.glob("perf_*")} == kept
    yield run


def test_a_full_disk_is_said_and_loses_nothing_earlier(
    device: SimProcess, small_disk: Path, tmp_path: Path
) -> None:
    _, run = broken_disk(tmp_path, device, "during", lambda _: fill(small_disk))
    assert run.code == 1, run.output
    assert "NOT SAVED: the history folder" in run.output
    assert "No space left on device" in run.output


@pytest.mark.parametrize("moment", ["during", "writing"])
def test_a_history_that_becomes_read_only_is_said_and_loses_nothing_earlier(
    moment: str, device: SimProcess, read_only: Callable[[object], None], tmp_path: Path
) -> None:
    _, run = broken_disk(tmp_path, device, moment, read_only)
    assert run.code == 1, run.output
    assert "NOT SAVED: the history folder" in run.output


def test_a_read_only_history_is_refused_before_anything_is_measured(
    device: SimProcess, read_only: Callable[[object], None], tmp_path: Path
) -> None:
    sessions = broken_disk(tmp_path, device, "before", fault(device))
    first = next(sessions)
    read_only(None)
    run = next(sessions)
    assert run.code == 4, run.output
    assert f"the history folder {run.folder} cannot be written: Permission denied" in run.output
    assert run.artifact == first.artifact


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="POSIX limits")
def test_a_file_size_limit_is_a_full_disk(
    device: SimProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    # A compiled module that the limit cuts short would be loaded by the processes of other tests.
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    if not hasattr(resource, "prlimit"):
        pytest.skip("no prlimit on this platform")

    def limit(process: subprocess.Popen[str]) -> None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, 4096))

    run = drive(tmp_path, device, "during", limit)
    check(run)
    assert run.code == 1, run.output
    assert "cannot be written" in run.output


def test_a_clock_set_back_an_hour_is_said_and_loses_nothing(device: SimProcess, tmp_path: Path) -> None:
    first = drive(tmp_path, device, "before", fault(device))
    (tmp_path / "clock_back.py").write_text(
        "import datetime\nfrom pytest_espperf.session import record\n\n"
        "class Late(datetime.datetime):\n"
        "    @classmethod\n"
        "    def now(cls, tz=None):\n"
        "        return super().now(tz) - datetime.timedelta(hours=1)\n\n"
        "record.datetime = Late\n"
    )
    run = drive(tmp_path, device, "before", fault(device), "-p", "clock_back")
    check(run)
    names = sorted(path.name for path in run.folder.glob("perf_*.json"))
    assert len(names) == 2
    latest = json.loads((run.folder / "latest.json").read_text())
    assert latest["session_id"] != first.artifact["session_id"], "the latest is what was measured last"
    assert latest["gate"]["verdict"] != "no-baseline", "the first is its baseline, later name or not"
    assert (run.code == 0) == latest["overall_pass"], run.output
    assert "the clock was set back" in run.output


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders, links only for some users")
def test_a_history_of_pipes_and_links_stops_no_session(device: SimProcess, tmp_path: Path) -> None:
    folder = tmp_path / "history"
    folder.mkdir()
    for name in ("index.msgpack", "perf_20260101T000000Z_pipe.json", "latest.partial.json"):
        os.mkfifo(folder / name)
    for name in ("latest.json", "perf_20260102T000000Z_endless.json", "latest.partial-x.json"):
        (folder / name).symlink_to("/dev/zero")
    precious = tmp_path / "precious"
    precious.write_text("content")
    (folder / ".latest.partial.lock").symlink_to(precious)
    run = drive(tmp_path, device, "before", fault(device))
    check(run)
    assert run.code == 0, run.output
    assert run.verdict == "no-baseline", run.output
    assert "perf_20260102T000000Z_endless.json: is a link" in run.told
    assert "perf_20260101T000000Z_pipe.json: is not a regular file" in run.told
    assert precious.read_text() == "content"


def test_a_second_session_on_the_same_board_is_refused(device: SimProcess, tmp_path: Path) -> None:
    codes = []

    def second(_: object) -> None:
        other = start(tmp_path, device)
        output, _ = other.communicate(timeout=90)
        codes.append((other.returncode, output))

    run = drive(tmp_path, device, "held", second)
    check(run)
    assert run.verdict == "no-baseline"
    ((code, output),) = codes
    assert code == 4
    assert "another session" in output
