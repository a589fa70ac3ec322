"""Secrets stay out of everything that is kept or shown; what a board sends is text and nothing else."""

from __future__ import annotations

import contextlib
import http.server
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.gate_sessions import run, session, with_runs
from support.plugin_project import Project, Web

from pytest_espperf.config.lookup import resolve
from pytest_espperf.device.http import get
from pytest_espperf.errors import UsageError
from pytest_espperf.gate import judge
from pytest_espperf.load import run_phase
from pytest_espperf.model.artifact import PhaseEvent
from pytest_espperf.model.workload import PhaseSpec, RequestSpec, Target
from pytest_espperf.report import render_markdown
from pytest_espperf.sim.process import SimProcess

SECRET = "s3cr3t-t0ken-7f1b"


def kept(folder: Path) -> str:
    return "".join(
        path.read_bytes().decode("utf-8", errors="replace") for path in folder.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("status", [200, 500])
def test_a_headers_value_is_nowhere_afterwards(project: Project, web: Web, status: int) -> None:
    web.status = status
    result = project.run(
        "-vv",
        "-s",
        "--perf-save-samples",
        "--perf-probe-retries=2",
        "--device-header",
        f"Authorization: Bearer {SECRET}",
    )
    assert any(SECRET in value for headers in web.headers for value in headers.values()), "it was sent"
    assert result.ret == (0 if status == 200 else 1)
    assert SECRET not in result.stdout.str() + result.stderr.str()
    assert SECRET not in kept(project.history)


@pytest.mark.parametrize("how", ["command line", "environment", "ini"])
def test_a_command_for_the_firmware_is_nowhere_afterwards(
    project: Project, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = f"flash --pin {SECRET} || echo {SECRET}; exit 1"
    words = []
    if how == "command line":
        words = [f"--perf-ab-baseline-cmd={command}", "--perf-ab-candidate-cmd", command]
    elif how == "environment":
        monkeypatch.setenv("ESPPERF_PERF_AB_BASELINE_CMD", command)
        monkeypatch.setenv("ESPPERF_PERF_AB_CANDIDATE_CMD", command)
    else:
        words = ["-o", f"perf_ab_baseline_cmd={command}", "-o", f"perf_ab_candidate_cmd={command}"]
    result = project.run("-vv", "-s", f"--perf-export=junit={project.history / 'x.xml'}", *words)
    assert result.ret == 0
    assert SECRET not in result.stdout.str() + result.stderr.str()
    assert SECRET not in kept(project.history)
    assert "<redacted, digest " in kept(project.history)


def test_a_headers_value_is_in_no_message_when_the_board_is_gone(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = project.run(
        *("-vv", f"--device-ip=127.0.0.1:{port}", "--perf-probe-retries=1"),
        *("--device-header", f"X-Key: {SECRET}"),
        device=False,
    )
    assert result.ret == 1
    assert SECRET not in result.stdout.str() + result.stderr.str()
    assert SECRET not in kept(project.history)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("device_ip", f"user:{SECRET}@192.168.0.135"),
        ("device_ip", f"http://user:{SECRET}@192.168.0.135"),
        ("device_serial", f"rfc2217://user:{SECRET}@10.0.0.2:4000"),
        ("device_header", SECRET),
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(option: str, value: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve({option: value}, {}, {})
    assert SECRET not in str(error.value)


class Elsewhere:
    """A server that sends its clients to another one, which counts who comes."""

    def __init__(self) -> None:
        self.visits = 0
        outer = self

        class Other(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.visits += 1
                self.send_response(200)
                self.end_headers()

        self.other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other)

        class Sends(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{outer.other.server_port}/")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.sends = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sends)
        for server in (self.other, self.sends):
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def close(self) -> None:
        for server in (self.other, self.sends):
            server.shutdown()
            server.server_close()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    servers = Elsewhere()
    yield servers
    servers.close()


def test_nobody_is_followed_to_another_host(elsewhere: Elsewhere) -> None:
    port = elsewhere.sends.server_port
    target = Target(scheme="http", address="127.0.0.1", port=port, host_header=f"127.0.0.1:{port}")
    assert get(target, "/", timeout_s=5).status == 302
    samples = run_phase(
        target,
        (RequestSpec("/"),),
        PhaseSpec("burst", 2, 0.2),
        request_timeout_s=5,
        deadline_s=10,
    )
    assert len(samples) > 0
    assert elsewhere.visits == 0


def test_what_a_board_says_is_text_in_the_report() -> None:
    """A serial line, a reason and a counter with markup in it."""
    hostile = "<script>alert(1)</script> | [x](http://evil) `code` ![](y)"
    rng = random.Random(20261125)
    bad = run(
        "python_light",
        1,
        (1.0, 1.0),
        fail=hostile,
        events=[PhaseEvent(at_s=1, kind=hostile, text=hostile)],
        counters={hostile: 3},
    )
    artifact = with_runs(session(rng), [bad])
    artifact = msgspec.structs.replace(artifact, gate=judge(artifact, []))
    text = render_markdown(artifact)
    assert "alert" in text
    assert "<script" not in text.replace("\\<script", "")
    assert "[x](" not in text.replace("\\[x\\](", "")


def test_the_reference_device_is_on_loopback() -> None:
    with SimProcess.start(console="socket") as device:
        assert device.host == "127.0.0.1"
        assert device.console_url.startswith("socket://127.0.0.1:")


@pytest.mark.parametrize("github", ["", "true"])
def test_a_boards_status_line_is_text_in_what_pytest_prints(
    project: Project, monkeypatch: pytest.MonkeyPatch, github: str
) -> None:
    """In the progress, the failure section and the short summary."""
    monkeypatch.setenv("GITHUB_ACTIONS", github)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):  # closed below
                while True:
                    link, _ = server.accept()
                    with link:
                        link.recv(4096)
                        link.sendall(b"HTTP/9.9 \x1b[2J##[add-mask]e\xe2\x80\xae\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = server.getsockname()[1]
        result = project.run(f"--device-ip=127.0.0.1:{port}", "--perf-probe-retries=1", device=False)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    said = result.stdout.str() + result.stderr.str()
    assert result.ret == 1
    assert "add-mask" in said
    assert not {"\x1b", "\u202e"} & set(said)
    assert "##[" not in said
