"""Sessions of WebSocket and of server-sent events on the reference device, from options to verdict."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.pytest_alone import ENVIRONMENT
from support.short_sessions import ANY_CHANGE, UNHURRIED

pytestmark = pytest.mark.timeout(300)

LIVE = """
[profiles.chat.phases.closed]
kind = "websocket"
path = "/ws"
size = 64
clients = 2
duration_s = 0.5
[profiles.chat.phases.open]
kind = "websocket"
path = "/ws"
message = '{"id": {n}}'
rate = 40
clients = 2
duration_s = 0.5
[profiles.feed.phases.steady]
kind = "events"
path = "/events?rate=50"
clients = 2
duration_s = 1
"""
WORDS = (
    *("--pyargs", "pytest_espperf.suite", "-m", "perf", "-p", "no:xdist", "-p", "no:cacheprovider"),
    *("--device-ip=sim", "--sim-noise=none", "--perf-runs=2", "--perf-confirm=0", ANY_CHANGE),
    *("--perf-settle-ms=10", "--perf-heartbeat-ms=200", "--perf-between-runs-ms=0", "--perf-tolerance=1000"),
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {**ENVIRONMENT, **UNHURRIED}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "espperf.toml").write_text(LIVE)
    return tmp_path


def run(place: Path, *words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run pytest; ``before`` is done in its process first."""
    code = f"import sys, pytest; {before or 'pass'}; sys.exit(pytest.main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *WORDS, *words],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def latest(place: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((place / "tools" / "perf_history" / "latest.json").read_text())
    return loaded


def test_two_sessions_of_streams(place: Path) -> None:
    for _ in range(2):
        done = run(place, "--perf-profiles=chat,feed")
        assert done.returncode == 0, done.stdout + done.stderr
    assert "signs of a reboot" not in done.stdout
    beats = [line for line in done.stdout.splitlines() if "[espperf] run" in line]
    assert {unit for line in beats for unit in ("req/s", "msg/s", "events/s") if unit in line} == {
        "msg/s",
        "events/s",
    }
    session = latest(place)
    reports = {
        f"{result['profile']}:{result['phase']}": result["report"]
        for one in session["raw_runs"]
        for result in one["results"]
    }
    assert {name: report["kind"] for name, report in reports.items()} == {
        "chat:closed": "websocket",
        "chat:open": "websocket",
        "feed:steady": "events",
    }
    assert all(report["err"] == 0 and report["ok"] > 10 for report in reports.values())
    assert list(reports["chat:closed"]["path_metrics"]) == ["/ws"]
    assert reports["chat:open"]["ok"] == 20
    assert reports["chat:open"]["figures"]["upgrade_ms"] > 0
    assert reports["feed:steady"]["figures"]["first_event_ms"] > 0
    phases = session["comparability"]["fields"]["profiles"]["chat"]["phases"]
    assert phases["closed"] == {
        "clients": 2,
        "duration_s": 0.5,
        "rate_rps": None,
        "kind": "websocket",
        "path": "/ws",
        "size": 64,
        "binary": False,
    }
    assert session["gate"]["verdict"] in {"unchanged", "inconclusive", "improved", "regressed"}


def test_messages_that_are_lost_fail_the_session(place: Path) -> None:
    done = run(
        place,
        "--perf-profiles=chat",
        "--sim-error-rate=/ws=0.5",
        "--perf-request-timeout=0.3",
        "--perf-runs=1",
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "ws_lost" in done.stdout


def test_without_the_package_the_session_is_refused_at_once(place: Path) -> None:
    done = run(
        place, "--perf-profiles=chat", before="sys.modules['websockets'] = None; sys.path_importer_cache"
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert "pip install 'pytest-espperf[websocket]'" in done.stderr + done.stdout
    assert "espperf.toml" in done.stderr + done.stdout
    assert not (place / "tools" / "perf_history" / "latest.json").exists()


def test_without_the_package_events_are_measured(place: Path) -> None:
    done = run(place, "--perf-profiles=feed", "--perf-runs=1", before="sys.modules['websockets'] = None")
    assert done.returncode == 0, done.stdout + done.stderr
