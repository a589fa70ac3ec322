"""``espperf doctor`` against servers that are well and servers that are not, and the command."""

from __future__ import annotations

import http.server
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.load_servers import CHUNKED, Handler, Peer, always, answer, once, serving
from support.nginx_server import needs_nginx, nginx

from pytest_espperf.cli import doctor as command
from pytest_espperf.cli import main
from pytest_espperf.config.settings import Settings
from pytest_espperf.device import BoardLock
from pytest_espperf.doctor import (
    Check,
    Effort,
    Examination,
    examine,
    render_json,
    render_page,
)
from pytest_espperf.errors import BoardBusyError
from pytest_espperf.load.acks import prompt_acks
from pytest_espperf.model.workload import Target
from pytest_espperf.sim.config import SimConfig
from pytest_espperf.sim.process import SimProcess

QUICK = Effort(
    contact_s=3.0,
    probe_s=2.0,
    connects=3,
    idle_s=0.02,
    wakes=2,
    requests=20,
    connections=5,
    served_s=1.0,
    recover_s=0.05,
    rounds=2,
    round_s=0.08,
    pause_s=0.02,
    listen_s=0.2,
)
SECRET = "s3cr3t-t0ken-7f1b"
MACHINE = {"clock", "generator", "event loop", "time stamps", "software", "system", "history"}


def settings(host: str, **values: Any) -> Settings:
    usual = {"perf_probe_retries": 1, "perf_request_timeout": 1.0, "perf_metrics_retries": 0}
    return Settings(device_ip=(host,), **(usual | values))


def found(
    host: str,
    root: Path,
    *,
    effort: Effort = QUICK,
    say: Callable[[str], None] = lambda text: None,
    **values: Any,
) -> dict[str, Check]:
    """Every check by its name."""
    checks = list(examine(settings(host, **values), root, say=say, effort=effort))
    by_name = {check.name: check for check in checks}
    assert len(by_name) == len(checks)
    assert all(bool(check.advice) == (check.status != "ok") for check in checks)
    assert by_name.keys() >= MACHINE
    return by_name


def failed(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if check.status == "fail"}


@pytest.fixture(scope="module")
def device() -> Iterator[SimProcess]:
    with SimProcess.start(SimConfig(time_scale=0.2, noise="none"), console="socket") as process:
        yield process


@pytest.fixture
def sim(device: SimProcess) -> Iterator[SimProcess]:
    """A reference device that is fix again afterwards."""
    yield device
    device.configure(fault=[], rate_limit=False, max_connections=20, boot_info=False)


def at(sim: SimProcess) -> str:
    return f"{sim.host}:{sim.port}"


# --- the reference device


def test_the_reference_device_is_well_and_locked_meanwhile(sim: SimProcess, tmp_path: Path) -> None:
    lock = BoardLock(Target("http", sim.host, sim.port, "x"))
    refused = []

    def say(text: str) -> None:
        if text.startswith("noise"):
            with pytest.raises(BoardBusyError):
                lock.acquire()
            refused.append(text)

    checks = found(at(sim), tmp_path, say=say)
    assert len(refused) == 1
    lock.acquire()
    lock.release()
    for name in ("address", "lock", "connect", "answer", "encoding", "telemetry", "heap", "after load"):
        assert checks[name].status == "ok", checks[name]
    assert checks["answer"].values["http_version"] == "1.1"
    assert checks["keep-alive"].values == {"requests": 16, "ended": "announced"}
    assert checks["connections"].values["connections"] == QUICK.connections
    assert checks["delayed ACK"].status == "ok"
    assert checks["connections"].status == checks["rate limiter"].status == checks["errors"].status == "ok"
    assert checks["power save"].values["rounds"] == QUICK.wakes
    assert checks["idle connects"].values["connects"] == QUICK.connects
    assert len(checks["throughput"].values["rps_ok"]) == QUICK.rounds
    assert checks["errors"].values["requests"] > 0
    assert checks["generator"].values["cpu_share"] > 0
    assert not list(tmp_path.iterdir()), "the history folder is looked at, and not made"


def test_the_built_in_device_is_started_and_ended(tmp_path: Path) -> None:
    pytest.importorskip("serial")
    checks = found("sim", tmp_path, sim_time_scale=0.2, sim_noise="none", device_serial="sim")
    assert not failed(checks)
    assert "no data came" in checks["console"].figure
    port = int(checks["address"].figure.split("port ")[1].split(",")[0])
    with pytest.raises(OSError, match=r"."):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()


def test_over_tls(tmp_path: Path) -> None:
    pytest.importorskip("trustme")
    few = replace(QUICK, wakes=1, connections=2, requests=2, rounds=1)
    checks = found("sim", tmp_path, effort=few, device_scheme="https", sim_time_scale=0.2)
    assert not failed(checks)
    assert checks["TLS"].figure.endswith("certificate checked")
    assert checks["time stamps"].status == "note"


@pytest.mark.parametrize("trusted", [False, True])
def test_tls_that_does_not_come_up_says_what_to_do(trusted: bool, tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with serving(lambda peer: None, context=None if trusted else context) as server:
        checks = found(f"127.0.0.1:{server.port}", tmp_path, device_scheme="https")
    assert failed(checks) == {"TLS"}
    assert ("--device-scheme" if trusted else "--device-ca") in checks["TLS"].advice
    assert "answer" not in checks


# --- servers that we did not write


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing."""

    def log_error(self, *args: object) -> None:
        """Nor of errors."""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Python's own server: HTTP/1.0, a connection for each request."""
    (tmp_path / "hello").write_text("hello")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_pythons_own_server_has_no_telemetry_and_no_kept_connection(web: str, tmp_path: Path) -> None:
    checks = found(web, tmp_path)
    assert not failed(checks)
    assert checks["telemetry"].status == "note"
    assert "404" in checks["telemetry"].figure
    assert checks["answer"].values["http_version"] == "1.0"
    assert checks["keep-alive"].values["requests"] == 1
    assert checks["connections"].values["ended"] == "not kept"
    assert checks["errors"].status == "ok"
    assert "heap" not in checks
    assert "after load" not in checks


def test_a_path_that_is_not_there_is_not_loaded(web: str, tmp_path: Path) -> None:
    checks = found(web, tmp_path, perf_probe_path="/nothing")
    assert not failed(checks)
    assert checks["answer"].status == "warn"
    assert "--perf-probe-path" in checks["answer"].advice
    assert "404" in checks["throughput"].figure
    assert "errors" not in checks


@needs_nginx
def test_nginx_is_measured_as_it_is_configured(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    effort = replace(QUICK, requests=60, served_s=8.0)
    with nginx(tmp_path / "server") as port:
        checks = found(f"127.0.0.1:{port}", tmp_path, effort=effort, perf_probe_path="/static/large.txt")
    assert not failed(checks)
    assert checks["telemetry"].status == "note"
    assert checks["keep-alive"].values == {"requests": 50, "ended": "announced"}  # keepalive_requests 50
    assert checks["connections"].status == checks["errors"].status == "ok"


# --- what is wrong


def test_a_dead_port_is_said_within_the_probes_tries(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    effort = replace(QUICK, probe_s=30.0)
    checks = found(f"127.0.0.1:{port}", tmp_path, effort=effort, perf_probe_retries=2)
    assert failed(checks) == {"connect", "answer"}
    assert "--device-port" in checks["connect"].advice
    assert "in 2 tries" in checks["answer"].figure
    assert checks.keys() - MACHINE - {"repository"} == {"address", "lock", "connect", "answer"}


def test_a_name_that_does_not_resolve_is_a_failed_check(tmp_path: Path) -> None:
    checks = found("nobody.invalid", tmp_path)
    assert failed(checks) == {"address"}
    assert checks.keys() - MACHINE - {"repository"} == {"address"}


def test_a_board_under_measurement_is_left_alone(sim: SimProcess, tmp_path: Path) -> None:
    lock = BoardLock(Target("http", sim.host, sim.port, "x"))
    lock.acquire()
    try:
        checks = found(at(sim), tmp_path)
    finally:
        lock.release()
    assert failed(checks) == {"lock"}
    assert "being measured by another session (pid " in checks["lock"].figure
    assert "connect" not in checks


def test_a_rate_limiter_is_met(tmp_path: Path) -> None:
    tokens = iter(range(60))

    def handle(peer: Peer) -> None:
        while peer.request() is not None:
            allowed = next(tokens, None) is not None
            peer.send(answer() if allowed else answer(b"", b"429 Too Many Requests", b"Retry-After: 1"))

    rounds = replace(QUICK, round_s=1.0)  # in which a busy machine asks often enough
    with serving(handle) as server:
        checks = found(f"127.0.0.1:{server.port}", tmp_path, effort=rounds)
    assert checks["rate limiter"].status == "warn"
    assert checks["rate limiter"].values["answered_429"] > 0
    assert checks["errors"].values["errors"] == {}
    assert not failed(checks)


def test_two_sockets_are_too_few_for_a_session_and_enough_for_the_doctor(
    sim: SimProcess, tmp_path: Path
) -> None:
    sim.configure(max_connections=2)
    checks = found(at(sim), tmp_path)
    assert checks["connections"].status == "warn"
    assert checks["connections"].values == {"connections": 2, "ended": "closed", "clients": 12}
    assert "--perf-burst-clients 2" in checks["connections"].advice
    assert checks["errors"].status == "ok"
    assert checks["throughput"].values["clients"] == 2


def test_a_board_that_hangs_midway_is_not_asked_again(sim: SimProcess, tmp_path: Path) -> None:
    def say(text: str) -> None:
        if text.startswith("link"):
            sim.configure(fault=["hang@0"])

    checks = found(at(sim), tmp_path, say=say)
    assert failed(checks) == {"power save"}
    assert "ReadTimeout" in checks["power save"].figure
    assert "keep-alive" not in checks
    assert "throughput" not in checks


def test_a_board_that_hangs_from_the_start_is_no_healthy_one(sim: SimProcess, tmp_path: Path) -> None:
    sim.configure(fault=["hang@0"])
    checks = found(at(sim), tmp_path)
    assert failed(checks) == {"answer"}
    assert checks["connect"].status == "ok"


def test_a_reboot_under_load_is_told_by_figures_and_console(sim: SimProcess, tmp_path: Path) -> None:
    pytest.importorskip("serial")

    def say(text: str) -> None:
        if text.startswith("noise"):
            sim.configure(boot_info=True, fault=["reboot@0.3:0.2"])

    sim.configure(boot_info=True)
    checks = found(at(sim), tmp_path, say=say, device_serial=sim.console_url)
    assert failed(checks) >= {"after load", "console"}
    assert "boot_id went from" in checks["after load"].figure
    assert checks["console"].figure.startswith("it died: panic: Guru Meditation")


def test_a_console_that_cannot_be_opened_is_a_failed_check(sim: SimProcess, tmp_path: Path) -> None:
    pytest.importorskip("serial")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    checks = found(at(sim), tmp_path, device_serial=f"socket://127.0.0.1:{port}")
    assert failed(checks) == {"console"}
    assert "cannot be opened" in checks["console"].figure


def one_at_a_time() -> Callable[[Peer], None]:
    """A server that keeps connections, and reads from one of them at a time."""
    turn = threading.Lock()

    def handle(peer: Peer) -> None:
        with turn:
            while peer.request() is not None:
                peer.send(answer())

    return handle


def silent_after(requests: int) -> Callable[[Peer], None]:
    """A server that closes a kept connection without a word."""

    def handle(peer: Peer) -> None:
        for _ in range(requests):
            if peer.request() is None:
                return
            peer.send(answer())

    return handle


def test_a_server_of_one_connection_holds_one(tmp_path: Path) -> None:
    with serving(one_at_a_time()) as server:
        checks = found(f"127.0.0.1:{server.port}", tmp_path)
    assert checks["connections"].values["connections"] == 1
    assert checks["connections"].values["ended"] == "unanswered"
    assert checks["throughput"].values["clients"] == 1


def test_a_close_without_a_word_is_counted_and_no_fault(tmp_path: Path) -> None:
    with serving(silent_after(7)) as server:
        checks = found(f"127.0.0.1:{server.port}", tmp_path)
    assert checks["keep-alive"].status == "note"
    assert checks["keep-alive"].values == {"requests": 7, "ended": "silent"}
    assert not failed(checks)


def test_an_older_connection_closed_for_a_newer_one_is_seen(tmp_path: Path) -> None:
    held: list[Peer] = []
    purging = threading.Event()

    def handle(peer: Peer) -> None:
        if peer.request() is None:
            return
        held.append(peer)
        if purging.is_set() and len(held) > 3:
            held.pop(0).sock.shutdown(socket.SHUT_RDWR)
        peer.send(answer())
        while peer.request() is not None:
            peer.send(answer())
        if peer in held:
            held.remove(peer)

    def say(text: str) -> None:
        if text.startswith("limits"):
            purging.set()

    with serving(handle) as server:
        checks = found(f"127.0.0.1:{server.port}", tmp_path, say=say)
    assert checks["connections"].values == {"connections": 3, "ended": "dropped", "clients": 12}


def test_a_compressed_answer_is_told(tmp_path: Path) -> None:
    def handle(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            assert b"accept-encoding: identity" in request.lower()
            peer.send(answer(b"xx", b"200 OK", b"Content-Encoding: gzip"))

    with serving(handle) as server:
        checks = found(f"127.0.0.1:{server.port}", tmp_path)
    assert checks["encoding"].status == "warn"
    assert checks["encoding"].figure.startswith("gzip")


def left_open(response: bytes) -> Handler:
    """Answers one request, and leaves the connection open."""

    def handle(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(response)
            peer.until_gone()

    return handle


def in_two_writes(peer: Peer) -> None:
    while peer.request() is not None:
        peer.send(answer(b"hello"))
        peer.stopping.wait(0.01)
        peer.send(b"xx")


UNREADABLE: dict[str, tuple[Handler, str]] = {
    "Content-Length twice": (
        always(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
        "Duplicate Content-Length",
    ),
    "lines that end in LF": (
        once(b"HTTP/1.1 200 OK\nContent-Type: text/html\nConnection: close\n\nhello"),
        "lines end in LF alone",
    ),
    "no last chunk": (
        left_open(CHUNKED + b"5\r\nhello\r\n"),
        "5 bytes of a chunked body came, and no last chunk",
    ),
    "no end at all": (left_open(b"HTTP/1.1 200 OK\r\n\r\nhello"), "the connection was not closed"),
    "half a body": (
        left_open(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"),
        "5 bytes of the body came, and Content-Length says 9",
    ),
    "more than Content-Length": (
        always(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nh\xc3\xa4ll\xc3\xb6"),
        "2 bytes came beyond Content-Length, which says 5",
    ),
    "more, a moment later": (in_two_writes, "2 bytes came beyond Content-Length, which says 5"),
}


@pytest.mark.parametrize(("handler", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_board_whose_answers_the_load_cannot_read_is_not_well(
    handler: Handler, reason: str, tmp_path: Path
) -> None:
    with serving(handler) as server:
        checks = found(f"127.0.0.1:{server.port}", tmp_path)
    assert checks["answer"].status == "fail"
    assert reason in checks["answer"].figure
    assert "console" not in checks["answer"].advice, "it lives, and its answers are wrong"


def test_a_dead_board_is_not_said_to_send_anything(tmp_path: Path) -> None:
    with serving(lambda peer: peer.until_gone()) as server:
        checks = found(f"127.0.0.1:{server.port}", tmp_path, perf_request_timeout=0.5)
    assert checks["answer"].status == "fail"
    assert "what comes" not in checks["answer"].figure


def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    checks = found("nobody.invalid", tmp_path, perf_history="file/history")
    assert failed(checks) == {"address", "history"}
    assert "--perf-history" in checks["history"].advice


# --- secrets, and what a board says


def test_a_headers_value_is_shown_nowhere_even_if_the_board_repeats_it(tmp_path: Path) -> None:
    asked = []

    def handle(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            asked.append(request)
            body = {"requests_started": 10**6, "boot_id": f"{SECRET}\x1b[2J{len(asked)}"}
            peer.send(answer(json.dumps(body).encode(), f"200 {SECRET}".encode()))

    with serving(handle) as server:
        checks = found(
            f"127.0.0.1:{server.port}",
            tmp_path,
            device_header=(("Authorization", f"Bearer {SECRET}"), ("X-Key", SECRET)),
        )
    assert any(f"X-Key: {SECRET}".encode() in request for request in asked)
    assert checks["after load"].status == "fail"
    assert "boot_id went from <redacted>" in checks["after load"].figure
    whole = Examination("board", "now", tuple(checks.values()))
    for text in (render_page(whole), render_json(whole)):
        assert SECRET not in text
        assert all(line.isprintable() for line in text.splitlines())


# --- the command


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command, in an empty folder, with less effort."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "examine", partial(examine, effort=QUICK))


def test_the_command_shows_the_page(
    sim: SimProcess, quick: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "pytest.ini").write_text(
        f"[pytest]\ndevice_port = {sim.port}\ndevice_header =\n  X: {SECRET}\n"
    )
    assert main(["doctor", sim.host, "--perf-request-timeout", "2"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"espperf doctor {sim.host}\n")
    assert f"port {sim.port}, given as an address" in shown.out
    assert "X: <redacted>" in shown.out
    assert "closed after 16 requests" in shown.out
    assert "[espperf] link: 3 connects" in shown.err
    assert SECRET not in shown.out + shown.err


def test_the_command_as_json_and_its_exit_code(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert main(["doctor", f"127.0.0.1:{port}", "--perf-probe-retries", "1", "--json"]) == 1
    loaded = json.loads(capsys.readouterr().out)
    assert loaded["status"] == "fail"
    assert loaded["options"] == {"perf_probe_retries": 1}
    assert {check["name"] for check in loaded["checks"] if check["status"] == "fail"} == {"connect", "answer"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["http://board"], "it is a URL"),
        (["127.0.0.1:81", "--device-port", "82"], "give one of them"),
        (["127.0.0.1", "--perf-probe-path", "hello"], "--perf-probe-path: 'hello' is no request path"),
        (["127.0.0.1", "--device-scheme", "https", "--device-ca", "nowhere.pem"], "nowhere.pem"),
        (["sim", "--sim-slowdown", "nothing=2"], "--sim-slowdown: 'nothing' is no profile"),
        (["127.0.0.1", "--device-header", "X: \u00e9"], "outside ASCII"),
    ],
)
def test_usage_errors_are_one_sentence(
    quick: None, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *words]) == 4
    shown = capsys.readouterr()
    assert says in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_an_interrupted_command_shows_what_it_has(
    sim: SimProcess, quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(text: str) -> None:
        if text.startswith("limits"):
            raise KeyboardInterrupt

    monkeypatch.setattr(command, "_say", say)
    assert main(["doctor", at(sim)]) == 2
    page = capsys.readouterr().out
    assert "INTERRUPTED" in page
    assert "power save" in page
    assert "throughput" not in page
    lock = BoardLock(Target("http", sim.host, sim.port, "x"))
    lock.acquire()
    lock.release()


def test_the_command_in_a_process_of_its_own_ends_with_ctrl_c(sim: SimProcess, tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("Ctrl-C cannot be sent to one process there")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest_espperf.cli", "doctor", at(sim), "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert any(line.startswith("[espperf] link") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == 2
    assert "Traceback" not in err
    assert json.loads(out)["interrupted"] is True


@pytest.mark.skipif(not prompt_acks(), reason="the timer is Linux's here")
def test_answers_that_wait_for_their_client_are_told_with_the_cure(tmp_path: Path) -> None:
    def handle(peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        while peer.request() is not None:
            head, _, body = answer(b"x" * 99).partition(b"\r\n\r\n")
            peer.send(head + b"\r\n\r\n")
            peer.send(body)

    with serving(handle) as server:
        for _ in range(5):  # a busy machine may hide 40 ms
            check = found(f"127.0.0.1:{server.port}", tmp_path)["delayed ACK"]
            if check.status == "warn":
                break
    assert check.status == "warn"
    assert "TCP_NODELAY" in check.advice
    assert check.values["waits_ms"]["/hello"] > 20
