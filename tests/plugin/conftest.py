"""A small HTTP server on loopback, and a project that measures it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from plugin_project import Project, Web

import pytest_espperf.session  # noqa: F401 - loaded once, not by each run in this process


@pytest.fixture
def web() -> Iterator[Web]:
    """Python's own HTTP server, one thread a connection, on loopback."""
    with _served() as facts:
        yield facts


@pytest.fixture
def reference() -> Iterator[Web]:
    """Another one."""
    with _served() as facts:
        yield facts


@contextmanager
def _served() -> Iterator[Web]:
    facts = Web()
    counting = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one segment: no 40 ms of delayed ACK between them

        def do_GET(self) -> None:
            facts.served += 1
            facts.headers.append({name.lower(): value for name, value in self.headers.items()})
            if self.path.startswith("/pace/"):
                facts.delay_s = float(self.path.rpartition("/")[2])
            if self.path.startswith("/debug/"):
                self.send_error(404)
                return
            if facts.served > facts.hang_after:
                facts.released.wait(60)
                self.close_connection = True
                return
            began = time.monotonic()
            with counting:
                facts.at_once += 1
                facts.most_at_once = max(facts.most_at_once, facts.at_once)
            time.sleep(facts.delay_s)
            with counting:
                facts.at_once -= 1
                facts.spans.append((began, time.monotonic()))
            body = b'{"message":"ok"}'
            self.send_response(facts.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    facts.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield facts
    finally:
        facts.released.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


@pytest.fixture
def project(pytester: pytest.Pytester, web: Web, monkeypatch: pytest.MonkeyPatch) -> Project:
    # The user's own locks stay out of it, and so does the job that this suite may be run in.
    monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / "state"))
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    return Project(pytester, web)
