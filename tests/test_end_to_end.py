"""The main job on real servers in other processes: the reference device, and nginx."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.nginx_server import needs_nginx, nginx
from support.paths import ROOT
from support.pytest_alone import ENVIRONMENT
from support.short_sessions import ANY_CHANGE, UNHURRIED

from pytest_espperf.history import HistoryStore
from pytest_espperf.sim.config import SimConfig
from pytest_espperf.sim.process import SimProcess

pytestmark = pytest.mark.timeout(600)  # several sessions, on a machine that may be busy

SUITE = ("--pyargs", "pytest_espperf.suite", "-m", "perf", "-p", "no:xdist", "-p", "no:cacheprovider")
SHORT = (
    "--perf-runs=2",
    "--perf-burst-duration=0.15",
    "--perf-burst-clients=6",
    "--perf-long-duration=0.15",
    "--perf-long-clients=3",
    "--perf-confirm=1",
    "--perf-settle-ms=10",
    "--perf-between-runs-ms=0",
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project; locks and options of the user's own stay out."""
    for name, value in {**ENVIRONMENT, **UNHURRIED}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def run(place: Path, *words: str, timeout_s: float = 100) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def written_ns(path: Path) -> int:
    """When a file was written last; 0 where there is none, as while a session replaces or removes it."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def latest(place: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((place / "tools" / "perf_history" / "latest.json").read_text())
    return loaded


def test_a_slowdown_of_one_profile_is_named_twice(place: Path) -> None:
    words = (
        *("-m", "pytest", *SUITE, *SHORT, "--device-ip=sim", "--sim-noise=none"),
        "--perf-profiles=python_light,python_heavy",
        # The other profile cannot lose so much, however busy the machine is: it has less.
        "--perf-min-effect=p95_ms:1e5,rps_ok:100",
    )
    # A loss of seven eighths breaks the rule, too, where the noise floor is too high.
    slow = ("--sim-slowdown=python_light=8", "--perf-fail-on=rps_ok:60%")
    verdicts = []
    for extra in ((), (), slow, slow):
        done = run(place, *words, *extra)
        verdicts.append((done.returncode, latest(place)["gate"]["verdict"]))
        if extra:
            assert "verdict[python_light] - " in done.stdout
            assert "verdict[python_heavy] - " not in done.stdout
    assert verdicts[0] == (0, "no-baseline")
    assert verdicts[1][0] == 0
    assert verdicts[2:] == [(1, "regressed"), (1, "regressed")]


def original_command_line(address: str, *profiles: str, tag: str) -> list[str]:
    """The seed document's recommended command, with shorter phases."""
    return [
        str(ROOT / "tools" / "perf_regression.py"),
        *(address, "--profiles", ",".join(profiles), "--runs", "2", "--burst-duration", "0.3"),
        *("--long-duration", "0.3", "--heartbeat-ms", "100", "--hard-timeout-s", "1800", "--tag", tag),
    ]


def test_the_originals_command_line_against_the_reference_device(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESPPERF_PERF_SETTLE_MS", "10")
    device = SimProcess.start(SimConfig(time_scale=0.4))
    try:
        done = run(
            place,
            *original_command_line(
                f"{device.host}:{device.port}",
                "c_static_only",
                "python_light",
                "python_heavy",
                tag="baseline_isolated_v1",
            ),
        )
    finally:
        device.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[espperf] run 1/2 c_static_only:burst" in done.stdout
    artifact = latest(place)
    assert artifact["tag"] == "baseline_isolated_v1"
    assert artifact["runs_per_profile"] == 2
    assert len(artifact["aggregated"]) == 6
    (saved,) = (place / "tools" / "perf_history").glob("perf_*_baseline_isolated_v1.json")
    assert f"saved_json={saved}" in done.stdout
    report = artifact["raw_runs"][0]["results"][0]["report"]
    # The board closes a connection after 16 answers: connects, never errors.
    assert report["err"] == 0
    assert report["connects"] >= report["clients"]
    assert report["stats_after"]["server"]["requests_handled"] >= report["requests_total"]
    assert report["mem_after"]["heap"]["internal_free"] > 0


def test_every_flag_of_the_original(place: Path) -> None:
    device = SimProcess.start(SimConfig(time_scale=0.2))
    flags = {
        "--port": device.port,
        "--profiles": "api,mixed,static",
        "--runs": 1,
        "--timeout": 5,
        "--burst-clients": 3,
        "--burst-duration": 0.3,
        "--long-clients": 2,
        "--long-duration": 0.3,
        "--metrics-retries": 2,
        "--metrics-retry-delay-ms": 10,
        "--post-phase-settle-ms": 10,
        "--between-runs-sleep-ms": 10,
        "--history-dir": "kept/here",
        "--lock-file": "my.lock",
        "--heartbeat-ms": 1000,
        "--phase-timeout-multiplier": 2,
        "--phase-timeout-min-s": 20,
        "--hard-timeout-s": 60,
        "--probe-path": "/api/ping",
        "--probe-retries": 3,
        "--tag": "all",
        "--max-error-rate": 1,
        "--max-p95-ms": 1900,
        "--max-p99-ms": 2900,
        "--max-tail-p95-ratio": 3,
        "--max-internal-free-drop": 100000,
        "--max-psram-free-drop": 500000,
    }
    words = [str(word) for flag in flags.items() for word in flag]
    try:
        done = run(place, str(ROOT / "tools" / "perf_regression.py"), device.host, *words)
    finally:
        device.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    artifact = json.loads((place / "kept" / "here" / "latest.json").read_text())
    assert artifact["profiles"] == ["api", "mixed", "static"]
    assert artifact["thresholds"]["max_p95_ms"] == 1900
    assert artifact["raw_runs"][0]["results"][0]["report"]["clients"] == 3


def test_the_bench_of_what_a_phase_takes_beside_its_load(place: Path) -> None:
    words = ("--perf-profiles=python_light", *SHORT, "--perf-link-probes=off")
    done = run(place, str(ROOT / "tools" / "bench_overhead.py"), "--noise=none", "--", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    _, head, names, *rows, overhead, wall = done.stdout.splitlines()
    assert "none noise, sessions: 1" in head
    columns = names.split()
    cells = {cells[0]: dict(zip(columns, cells[1:], strict=False)) for cells in map(str.split, rows)}
    assert list(cells) == ["python_light:burst", "python_light:long", "all"]
    assert [row["link"] for row in cells.values()] == ["0"] * 3
    assert overhead.startswith("overhead of a phase: median ")
    assert wall.endswith("exit code 0")


@needs_nginx
def test_the_originals_command_line_against_nginx(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESPPERF_PERF_SETTLE_MS", "10")
    with nginx(place, server="keepalive_requests 5;") as port:
        done = run(
            place, *original_command_line("127.0.0.1", "c_static_only", tag="nginx"), "--port", str(port)
        )
    assert done.returncode == 0, done.stdout + done.stderr
    artifact = latest(place)
    assert artifact["gate"]["verdict"] == "no-baseline"
    report = artifact["raw_runs"][0]["results"][0]["report"]
    assert report["ok"] == report["requests_total"] > 0
    assert report["connects"] > report["clients"]  # nginx closed after 5 answers, and that is no error
    assert report["stats_after"] == {}
    assert any("server-stats" in note for note in artifact["device"]["telemetry_notes"])


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_kill_9_at_random_moments_loses_nothing(place: Path) -> None:
    seed = 20261123
    print(f"seed {seed}")  # shown with a failure
    rng = random.Random(seed)
    device = SimProcess.start(SimConfig(time_scale=0.5))
    words = (
        *("-m", "pytest", *SUITE, f"--device-ip={device.host}:{device.port}", "--perf-profiles=python_light"),
        *("--perf-runs=2", "--perf-burst-duration=0.15", "--perf-long-duration=0.15", "--perf-settle-ms=0"),
        *("--perf-burst-clients=4", "--perf-long-clients=2", "--perf-between-runs-ms=100", ANY_CHANGE),
    )
    history = place / "tools" / "perf_history"
    partial = history / "latest.partial.json"
    try:
        assert run(place, *words).returncode == 0
        kept = {path.name: path.read_bytes() for path in history.glob("perf_*")}
        for _ in range(8):
            before = written_ns(partial)
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=place,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=dict(os.environ),
            )
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:
                if written_ns(partial) not in {before, 0}:
                    break
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.9))
            process.send_signal(signal.SIGKILL)
            process.wait()
            store = HistoryStore(history)
            assert len(list(store.sessions())) >= 1
            assert store.skipped == []
            for name, data in kept.items():
                assert (history / name).read_bytes() == data
        done = run(place, *words)
    finally:
        device.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = [session.gate.kind for session in HistoryStore(history).sessions() if session.gate]
    assert verdicts.count("incomplete") >= 4
    assert verdicts[-1] in {"unchanged", "improved", "inconclusive"}


def test_the_originals_own_artifacts_are_shown_and_never_the_bar(place: Path) -> None:
    history = place / "tools" / "perf_history"
    history.mkdir(parents=True)
    for path in (ROOT / "tests" / "data" / "history" / "schema0").glob("*.json"):
        shutil.copy(path, history / path.name)
    done = run(
        place,
        *("-m", "pytest", *SUITE, *SHORT, "--device-ip=sim", "--sim-time-scale=0.1"),
        *("--perf-profiles=python_light", "--perf-runs=1"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert latest(place)["gate"]["verdict"] == "no-baseline"
    listing = run(place, "-m", "pytest_espperf.cli", "list")
    assert listing.returncode == 0
    assert "unjudged" in listing.stdout


def test_the_reference_device_alone(place: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest_espperf.sim", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=place,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "listening on http://127.0.0.1:" in line
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def test_a_reboot_in_mid_session_fails(place: Path) -> None:
    done = run(
        place,
        *("-m", "pytest", *SUITE, *SHORT, "--device-ip=sim", "--sim-time-scale=0.2"),
        # After 5 s: a busy machine has begun by then, and an idle one has not ended.
        *("--perf-profiles=python_light", "--perf-runs=10"),
        *("--sim-fault=reboot@25", "--perf-request-timeout=2"),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "signs of a reboot" in done.stdout
    assert latest(place)["gate"]["verdict"] == "failed"
