"""The real servers: do they answer the routes of the profiles, and can they be slowed down?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.pytest_alone import ENVIRONMENT
from support.real_servers import SERVERS, RealServer, missing, needs_cc, two_writes
from support.short_sessions import SHORT

from pytest_espperf.config.profiles import BUILT_IN
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import SessionArtifact

PATHS = sorted({path for paths in BUILT_IN.values() for path in paths})


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealServer]:
    if reason := missing(request.param):
        pytest.skip(reason)
    with SERVERS[request.param](tmp_path, 0.1) as started:
        yield started


def test_the_routes_of_the_built_in_profiles_answer(server: RealServer) -> None:
    with httpx.Client(base_url=f"http://{server.address}", trust_env=False, timeout=60) as client:
        answers = {path: client.get(path) for path in PATHS}
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(PATHS, 200)
    assert answers["/hello"].text == "hello"
    assert answers["/api/ping"].json() == {"ok": True}
    assert len(answers["/static/large.txt"].content) == 16000


def test_the_cost_changes_while_it_runs_and_the_answer_keeps_its_length(server: RealServer) -> None:
    with httpx.Client(base_url=f"http://{server.address}", trust_env=False, timeout=60) as client:
        before = client.get("/template")
        server.cost(0.2)
        assert client.get("/cost?heavy=0.2").json() == {"heavy": 0.2}
        assert len(client.get("/template").content) == len(before.content) > 500


def run_on(server: RealServer, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A short session on a server, with a history in ``folder``."""
    return subprocess.run(
        [sys.executable, "-m", "pytest_espperf.cli", "run", server.address, *words],
        env={**os.environ, **ENVIRONMENT, **SHORT, "ESPPERF_PERF_HISTORY": str(folder / "history")},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_session_on_it_is_recorded(server: RealServer, tmp_path: Path) -> None:
    done = run_on(server, tmp_path, "--perf-no-gate")
    assert done.returncode == 0, done.stdout + done.stderr
    (session,) = HistoryStore(tmp_path / "history").sessions()
    assert [result.report.ok > 0 for _, result in session.results()] == [True, True]


@needs_cc
def test_head_and_body_come_by_a_write_each_or_by_one(tmp_path: Path) -> None:
    for writes in (1, 2):
        with two_writes(tmp_path, writes=writes) as server:
            body = httpx.get(f"http://{server.address}/deps", trust_env=False, timeout=60).json()
        assert body["writes"] == writes


def quickest_ms(session: SessionArtifact) -> float:
    """The least median of any phase: other work on this machine adds to the others."""
    return min(ms for _, result in session.results() if (ms := result.report.p50_ms) is not None)


@needs_cc
@pytest.mark.timeout(600)  # several sessions, on a machine that may be busy
def test_a_firmware_that_begins_to_answer_by_two_writes_is_regressed_and_measured(tmp_path: Path) -> None:
    def session(writes: int) -> tuple[int, str, SessionArtifact]:
        with two_writes(tmp_path, writes=writes) as server:
            alone = ("--perf-burst-clients=1", "--perf-long-clients=1")
            done = run_on(server, tmp_path, "--device-id=bench", *alone)
        return done.returncode, done.stdout, list(HistoryStore(tmp_path / "history").sessions())[-1]

    code, said, before = session(1)
    assert code == 0, said
    for _ in range(5):  # a busy machine may hide the 40 ms of such a wait
        code, said, now = session(2)
        if code:
            break
    assert code == 1, said
    assert now.gate is not None
    assert "python_heavy:delayed_ack" in {row.name for row in now.gate.gates if row.verdict == "regressed"}
    assert "delayed_ack" in said
    assert "TCP_NODELAY" in said
    # The wait is the client's, and not in the figures.
    old, new = (quickest_ms(one) for one in (before, now))
    assert new < old + 20
