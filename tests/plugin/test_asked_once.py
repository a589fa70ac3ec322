"""What the paths answer, in whole runs: asked once before the load, and compared with the baseline."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.load_servers import Handler, Peer, answer, serving
from support.plugin_project import Project, Web
from support.short_sessions import ANY_CHANGE

pytestmark = pytest.mark.timeout(600)  # several sessions, on a machine that may be busy

PAGE = answer(b"x" * 8000, b"200 OK", b"Content-Type: text/html")
LOGIN, CHANGE = answer(b"", b"302 Found", b"Location: /login"), "status 200 -> 302"


class Pages:
    """A board whose answers the test sets: by path, "" for any other."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {"": PAGE}
        self.asked: Counter[str] = Counter()
        self.delay_s = 0.01

    def __call__(self, peer: Peer) -> None:
        while (head := peer.request()) is not None:
            path = head.split()[1].decode()
            self.asked[path] += 1
            if peer.stopping.wait(self.delay_s):
                return
            peer.send(self.answers.get(path, self.answers[""]))


@contextmanager
def measured_at(project: Project, pages: Handler) -> Iterator[None]:
    with serving(pages) as server:
        project.web = Web(port=server.port)
        yield


@pytest.mark.parametrize("workers", [0, 1])
def test_a_missing_path_ends_a_session_before_its_load(project: Project, workers: int) -> None:
    if workers:
        pytest.importorskip("xdist")
    pages = Pages()
    pages.answers |= {"/b": answer(b"", b"404 Not Found")}
    with measured_at(project, pages):
        result = project.run("--perf-burst-duration=30", "--perf-long-duration=30", workers=workers)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*/b answers 404 (profile one, espperf.toml)*"])
    assert pages.asked["/a"] == 1
    assert pages.asked["/b"] == 2
    artifact = project.artifact()
    assert artifact["gate"]["verdict"] == "failed"
    assert artifact["hard_stop_reason"] == "/b answers 404 (profile one, espperf.toml)"
    assert artifact["raw_runs"] == []
    assert artifact["answers"]["one"]["/a"]["body_bytes"] == 8000
    assert artifact["answers"]["one"]["/b"]["trouble"] == "answers 404"


def test_paths_that_are_not_driven_are_not_asked_for(project: Project) -> None:
    pages = Pages()
    pages.answers |= {"/c": answer(b"", b"404 Not Found")}
    both = "--perf-profiles=one,two"
    with measured_at(project, pages):
        result = project.run(both, "-k", "one")
        assert result.ret == 0
        assert pages.asked["/c"] == 0
        assert project.run(both).ret == 1
    assert project.artifact()["answers"].keys() == {"one", "two"}


@pytest.mark.parametrize("workers", [0, 2])
def test_each_path_is_asked_once_in_a_session(project: Project, workers: int) -> None:
    """In another rhythm than the load: its requests come one by one, before the first phase."""
    if workers:
        pytest.importorskip("xdist")
    pages = Pages()
    with measured_at(project, pages):
        assert project.run("--perf-probe-path=/probe", workers=workers).ret == 0
    artifact = project.artifact()
    loaded = Counter[str]()
    for run in artifact["raw_runs"]:
        for result in run["results"]:
            for path, report in result["report"]["path_metrics"].items():
                loaded[path] += report["requests_total"]
    # Once for its answer; then once by a client that delays acknowledgements, whose first four do not count.
    assert {path: pages.asked[path] - count for path, count in loaded.items()} == {"/a": 1 + 5, "/b": 1 + 1}
    assert artifact["answers"]["one"]["/b"] == {
        "status": 200,
        "body_bytes": 8000,
        "content_type": "text/html",
        "encoding": "",
        "trouble": "",
    }


def test_a_transport_of_the_users_own_asks_too(project: Project) -> None:
    project.pytester.makeconftest(
        """
        import httpx, pytest

        @pytest.fixture(scope="session")
        def perf_transport():
            return httpx.AsyncHTTPTransport
        """
    )
    project.pytester.makepyfile("def test_mine(perf_phase): pass")
    pages = Pages()
    pages.answers |= {"/b": answer(b"", b"404 Not Found")}
    with measured_at(project, pages):
        result = project.run(suite=False)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*/b answers 404 (profile one, espperf.toml)*"])


def test_errors_of_a_load_are_told_with_their_reason(project: Project) -> None:
    """A path that answers the first request alone: what the session asks before the load."""
    pages = Pages()

    def failing(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            path = head.split()[1].decode()
            pages.asked[path] += 1
            if path == "/b" and pages.asked[path] > 1:
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok")
                return
            peer.send(PAGE)

    with measured_at(project, failing):
        result = project.run()
        assert result.ret == 1
        text = " ".join(result.stdout.str().split())
        assert "RemoteProtocolError: malformed response head: Duplicate Content-Length (/b, " in text
        pages.asked.clear()
        result = project.run("--perf-max-error-rate=100")
    text = " ".join(result.stdout.str().split())
    assert "info: one: errors: RemoteProtocolError: malformed response head: Duplicate" in text
    report = project.artifact()["raw_runs"][0]["results"][0]["report"]
    assert [(one["kind"], one["path"]) for one in report["error_reasons"]] == [("RemoteProtocolError", "/b")]


def test_a_firmware_with_a_login_is_no_improvement_until_it_is_accepted(
    project: Project,
) -> None:
    pages = Pages()
    with measured_at(project, pages):
        for _ in range(2):
            assert project.run(ANY_CHANGE).ret == 0
        pages.answers[""], pages.delay_s = LOGIN, 0.002
        for _ in range(2):
            result = project.run("--perf-strict", ANY_CHANGE)
            assert result.ret == 1
            found = project.artifact()["gate"]
            assert found["verdict"] == "inconclusive"
            assert CHANGE in " ".join(result.stdout.str().split())
        accept = [sys.executable, "-m", "pytest_espperf.cli", "accept", "latest", "--reason", "a login"]
        subprocess.run(accept, cwd=project.pytester.path, check=True, capture_output=True, timeout=100)
        project.run()
        assert "answers" not in {one["kind"] for one in project.artifact()["gate"]["findings"]}
        pages.answers[""] = PAGE
        project.run()
    assert "answers" in {one["kind"] for one in project.artifact()["gate"]["findings"]}
