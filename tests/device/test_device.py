from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_espperf.device import (
    BoardLock,
    Telemetry,
    TelemetryReading,
    address,
    probe,
    reboot_signs,
    resolve_target,
)
from pytest_espperf.device.address import mdns_address
from pytest_espperf.device.http import MAX_BODY_BYTES, HttpAnswer, get
from pytest_espperf.device.telemetry import MOST_BYTES
from pytest_espperf.errors import BoardBusyError, DeviceError, ProbeError, UsageError
from pytest_espperf.model.figures import number_at
from pytest_espperf.model.workload import Target

HERE = Target(scheme="http", address="127.0.0.1", port=1, host_header="127.0.0.1:1")


class Clock:
    """A clock that only moves when something sleeps or takes its time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def answers(clock: Clock, *script: HttpAnswer | str, takes: float = 0.0) -> Callable[..., HttpAnswer]:
    """A board that plays a script, the last line for ever; a str is an error."""
    left = list(script)

    def fetch(target: Target, path: str, *, timeout_s: float) -> HttpAnswer:
        clock.now += min(takes, timeout_s)
        line = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(line, str):
            raise DeviceError(line)
        return line

    return fetch


# --- address


def test_a_name_that_does_not_resolve_names_its_source() -> None:
    with pytest.raises(UsageError, match="environment variable X: 'no such host' does not resolve"):
        resolve_target("no such host", 80, source="environment variable X")


def test_host_header_and_ipv6() -> None:
    assert resolve_target("127.0.0.1", 81).host_header == "127.0.0.1:81"
    assert resolve_target("127.0.0.1", 80).host_header == "127.0.0.1"
    assert resolve_target("127.0.0.1", 443).host_header == "127.0.0.1:443"
    assert resolve_target("127.0.0.1", 443, scheme="https").host_header == "127.0.0.1"
    assert resolve_target("127.0.0.1", 80, scheme="https").host_header == "127.0.0.1:80"
    assert resolve_target("::1", 80).host_header == "[::1]"
    six = resolve_target("::1", 81)
    assert six.host_header == "[::1]:81"
    assert six.origin == "http://[::1]:81"


@pytest.mark.skipif(sys.platform != "linux", reason="the name of the loopback interface")
def test_the_zone_of_a_link_local_address_is_kept() -> None:
    target = resolve_target("fe80::1%lo", 81)
    assert target.address == "fe80::1%lo"
    assert target.host_header == "[fe80::1]:81"


def test_an_mdns_name_is_sent_as_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolver(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [
            (socket.AF_INET6, 1, 6, "", ("fe80::2", port, 0, 0)),
            (socket.AF_INET, 1, 6, "", ("10.9.8.7", port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    monkeypatch.setattr(address, "ANSWERS_S", 0.05)
    target = resolve_target("board.local", 8080)
    assert (target.address, target.host_header) == ("10.9.8.7", "10.9.8.7:8080")
    assert resolve_target("board.example", 8080).host_header == "board.example:8080"
    assert resolve_target("board.example.", 80).host_header == "board.example"
    assert resolve_target("b\u00fccher.example", 80).host_header == "xn--bcher-kva.example"
    assert resolve_target("b\u00fccher.example", 80).tls_name == "xn--bcher-kva.example"


def test_of_several_addresses_the_one_that_answers_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """All requests go to it: neither a dead address nor a look-up is part of what is measured."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = [
            (socket.AF_INET6, 1, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, 1, 6, "", ("192.0.2.1", port)),  # of no network: silent, or unreachable
            (socket.AF_INET, 1, 6, "", ("127.0.0.1", port)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert resolve_target("board.example", port).address == "127.0.0.1"
    monkeypatch.setattr(address, "ANSWERS_S", 0.6)
    assert resolve_target("board.example", port).address == "192.0.2.1", "none answers: it may still boot"


def test_an_mdns_name_is_asked_of_the_link() -> None:
    """Against the answers of another implementation of the protocol, on loopback."""
    zeroconf = pytest.importorskip("zeroconf")
    name = f"espperf-{os.getpid()}"
    try:
        board = zeroconf.Zeroconf(interfaces=["127.0.0.1"])
    except OSError as error:
        pytest.skip(f"no multicast here: {error}")
    try:
        board.register_service(
            zeroconf.ServiceInfo(
                "_http._tcp.local.",
                f"{name}._http._tcp.local.",
                addresses=[socket.inet_aton("127.0.0.1")],
                port=8080,
                server=f"{name}.local.",
            )
        )
        assert mdns_address(f"{name}.local", interfaces=["127.0.0.1"]) == ("127.0.0.1", "")
        none = mdns_address("nobody-of-that-name.local", "unknown", interfaces=["127.0.0.1"], wait_s=0.3)
        assert none == ("", "unknown; no board answered to it by mDNS")
    finally:
        board.close()


def test_without_the_extra_an_mdns_name_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf", None)

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UsageError, match=r"known; pip install 'pytest-espperf\[mdns\]'"):
        resolve_target("board.local", 8080)


# --- probe


def test_the_probe_waits_longer_each_time() -> None:
    clock = Clock()
    found = probe(
        HERE,
        "/hello",
        tries=12,
        timeout_s=6,
        fetch=answers(clock, "refused", "refused", HttpAnswer(503, b""), HttpAnswer(200, b"")),
        sleep=clock.sleep,
        clock=clock,
    )
    assert found.tries == 4
    assert clock.slept == [0.25, 0.5, 0.75]


def test_a_404_is_a_sign_of_life() -> None:
    clock = Clock()
    assert (
        probe(HERE, "/", tries=1, timeout_s=1, fetch=answers(clock, HttpAnswer(404, b"")), clock=clock).status
        == 404
    )


def test_a_dead_board_is_told_in_one_sentence() -> None:
    clock = Clock()
    with pytest.raises(ProbeError, match=r"no healthy answer to /hello in 3 tries .*met: refused") as caught:
        probe(
            HERE,
            "/hello",
            tries=3,
            timeout_s=6,
            fetch=answers(clock, "refused"),
            sleep=clock.sleep,
            clock=clock,
        )
    assert "\n" not in str(caught.value)
    assert clock.slept == [0.25, 0.5]


@pytest.mark.parametrize(
    ("met", "tries"),
    [
        ("RemoteProtocolError: malformed chunk", 3),
        ("RemoteProtocolError: Server disconnected without sending a response.", 12),  # it may still boot
        ("ConnectError: refused", 12),
    ],
)
def test_an_answer_that_is_malformed_each_time_is_not_waited_for(met: str, tries: int) -> None:
    clock = Clock()
    with pytest.raises(ProbeError, match=f"in {tries} tries"):
        probe(HERE, "/", tries=12, timeout_s=6, fetch=answers(clock, met), sleep=clock.sleep, clock=clock)


def test_a_hung_board_does_not_use_up_more_than_the_budget() -> None:
    clock = Clock()
    with pytest.raises(ProbeError):
        probe(
            HERE,
            "/hello",
            tries=12,
            timeout_s=6,
            budget_s=20,
            fetch=answers(clock, "no answer", takes=6.0),
            sleep=clock.sleep,
            clock=clock,
        )
    assert clock.now - 100.0 <= 20.6


# --- the small GET, against sockets


@contextmanager
def server(respond: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept one connection after another and let ``respond`` do what it likes with it."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                continue
            with connection:
                connection.settimeout(5)
                try:
                    connection.recv(65536)
                    respond(connection)
                except OSError:
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        thread.join(timeout=10)
        listener.close()


def at(port: int) -> Target:
    return Target(scheme="http", address="127.0.0.1", port=port, host_header=f"127.0.0.1:{port}")


def test_a_plain_answer() -> None:
    with server(lambda c: c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as port:
        found = get(at(port), "/", timeout_s=5)
    assert found == HttpAnswer(200, b"ok", took_s=found.took_s)
    assert 0 < found.took_s < 5


def test_a_slow_drip_ends_with_the_deadline() -> None:
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX: ":
            connection.sendall(bytes([byte]))
            if stop.wait(0.1):
                return

    with server(drip) as port:
        with pytest.raises(DeviceError, match=r"no answer within 0\.5 s"):
            get(at(port), "/", timeout_s=0.5)
        stop.set()


# asyncio leaves the socket of a TLS handshake that is cancelled to the garbage collection.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_tls_handshake_that_never_ends_is_named() -> None:
    stop = threading.Event()

    def silent(_: socket.socket) -> None:
        stop.wait(5)

    with server(silent) as port:
        board = Target("https", "127.0.0.1", port, f"127.0.0.1:{port}", insecure=True)
        with pytest.raises(DeviceError) as caught:
            get(board, "/", timeout_s=0.5)
        with pytest.raises(DeviceError) as plain:
            get(at(port), "/", timeout_s=0.5)
        stop.set()
    said = str(caught.value)
    del caught
    gc.collect()
    assert said == "no answer within 0.5 s (the TLS handshake did not end)"
    assert "TLS" not in str(plain.value)


@pytest.mark.parametrize(
    "answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"]
)
def test_a_broken_answer_is_a_device_error(answer: bytes) -> None:
    with server(lambda c: c.sendall(answer)) as port, pytest.raises(DeviceError):
        get(at(port), "/", timeout_s=5)


def test_an_endless_body_is_cut() -> None:
    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(64):
            connection.sendall(b"x" * 65536)

    with server(endless) as port:
        assert len(get(at(port), "/", timeout_s=5).body) == 1 << 20


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(DeviceError, match="ConnectError"):
        get(at(port), "/", timeout_s=5)


def test_a_missing_ca_file_is_a_usage_error() -> None:
    secure = Target("https", "127.0.0.1", 1, "x", ca_file="/nowhere/ca.pem")
    with pytest.raises(UsageError, match=r"--device-ca: /nowhere/ca\.pem"):
        get(secure, "/", timeout_s=1)


# --- telemetry


def test_telemetry_is_optional_and_a_404_is_not_asked_again() -> None:
    asked: list[str] = []

    def fetch(target: Target, path: str, *, timeout_s: float) -> HttpAnswer:
        asked.append(path)
        return HttpAnswer(404, b"")

    telemetry = Telemetry(HERE, timeout_s=1, fetch=fetch)
    assert telemetry.read(reset=True).stats == {}
    assert telemetry.read().memory == {}
    assert asked == ["/debug/server-stats?reset=1", "/debug/memory-stats"]
    assert len(telemetry.notes) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_telemetry_behind_a_login_is_not_absent(status: int) -> None:
    telemetry = Telemetry(HERE, timeout_s=1, fetch=lambda *_, **__: HttpAnswer(status, b""))
    assert telemetry.read_stats() == {}
    assert not telemetry.absent
    assert any(f"status {status}" in note for note in telemetry.notes)


def test_a_busy_board_is_asked_again() -> None:
    clock = Clock()
    body = json.dumps({"server": {"requests_started": 3}}).encode()
    telemetry = Telemetry(
        HERE,
        timeout_s=1,
        fetch=answers(clock, HttpAnswer(503, b""), "reset", HttpAnswer(200, body)),
        sleep=clock.sleep,
        clock=clock,
    )
    assert telemetry.read().stats == {"server": {"requests_started": 3}}
    assert clock.slept[:2] == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b"[" * 100000])
def test_telemetry_that_is_no_object_is_noted_not_raised(body: bytes) -> None:
    clock = Clock()
    telemetry = Telemetry(HERE, timeout_s=1, fetch=answers(clock, HttpAnswer(200, body)), clock=clock)
    assert telemetry.read().stats == {}
    assert "server-stats" in telemetry.notes[0]


def test_the_version_that_a_board_tells_is_noted_as_often_as_it_changes() -> None:
    told = ["1.0", "1.0", "1.1", "1.0", {"version": "2"}, 3, " ", "x" * 500, "a\x1b[31mb"]
    answers_ = iter(told)
    telemetry = Telemetry(
        HERE,
        timeout_s=1,
        fetch=lambda *_, **__: HttpAnswer(200, json.dumps({"app": {"firmware": next(answers_)}}).encode()),
    )
    seen = []
    for _ in told:
        telemetry.read_stats()
        seen.append(telemetry.version)
    assert seen[:7] == ["1.0", "1.0", "1.1", "1.0", "1.0", "1.0", "1.0"]
    assert telemetry.versions[:2] == ["1.0", "1.1"]
    assert len(seen[7]) <= 80
    assert "\x1b" not in seen[8]


def test_a_silent_board_costs_no_more_than_the_budget() -> None:
    clock = Clock()
    telemetry = Telemetry(
        HERE, timeout_s=6, fetch=answers(clock, "no answer", takes=6.0), sleep=clock.sleep, clock=clock
    )
    telemetry.read(budget_s=4.0)
    assert clock.now - 100.0 <= 4.1


# --- lock

HOLD = """
import sys, time
from pathlib import Path
from pytest_espperf.device import BoardLock
from pytest_espperf.model.workload import Target
lock = BoardLock(Target("http", "127.0.0.1", 1, "x"), folder=Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_session_is_refused_with_the_holders_name(tmp_path: Path) -> None:
    with holder(tmp_path) as process, pytest.raises(BoardBusyError) as caught:
        BoardLock(HERE, folder=tmp_path).acquire()
    for part in (f"pid {process.pid}", socket.gethostname(), "started 20", "command: "):
        assert part in str(caught.value)


def test_a_lock_left_by_kill_is_free(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait(timeout=60)
        lock = BoardLock(HERE, folder=tmp_path)
        lock.acquire()
        lock.release()
        lock.release()
    assert not list(tmp_path.glob("*.json"))


def test_boards_do_not_share_a_lock_but_one_address_does(tmp_path: Path) -> None:
    first = BoardLock(HERE, folder=tmp_path, session="5e5510")
    first.acquire()
    other = BoardLock(at(2), folder=tmp_path)
    other.acquire()
    other.release()
    with pytest.raises(BoardBusyError, match=f"pid {os.getpid()} ") as busy:
        BoardLock(HERE, folder=tmp_path).acquire()
    assert busy.value.session == "5e5510"
    first.release()


def test_one_more_lock_file(tmp_path: Path) -> None:
    extra = tmp_path / "other" / "my.lock"
    first = BoardLock(HERE, folder=tmp_path / "a", extra=extra)
    first.acquire()
    with pytest.raises(BoardBusyError):
        BoardLock(at(2), folder=tmp_path / "b", extra=extra).acquire()
    first.release()
    second = BoardLock(at(2), folder=tmp_path / "b", extra=extra)
    second.acquire()
    second.release()


def test_the_holders_command_shows_no_header_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["pytest", "--device-header", "Authorization: s3cr3t", "--device-header=A: s3cr3t"]
    )
    lock = BoardLock(HERE, folder=tmp_path)
    lock.acquire()
    try:
        texts = [path.read_text() for path in tmp_path.glob("*.json")]
        assert texts
        assert not any("s3cr3t" in text for text in texts)
    finally:
        lock.release()


def test_a_command_line_in_another_encoding_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", b"--rootdir=/pr\xfcf".decode("utf-8", "surrogateescape")])
    lock = BoardLock(HERE, folder=tmp_path)
    lock.acquire()
    try:
        with pytest.raises(BoardBusyError, match=r"--rootdir=/pr\ufffd+f"):
            BoardLock(HERE, folder=tmp_path).acquire()
    finally:
        lock.release()


def test_an_unusable_lock_folder_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made"):
        BoardLock(HERE, folder=tmp_path / "file").acquire()


# --- reboots


def reading(started: int, low: int, **more: object) -> TelemetryReading:
    return TelemetryReading(
        stats={"server": {"requests_started": started}, **more}, memory={"heap": {"internal_min_free": low}}
    )


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (reading(0, 100), reading(50, 100), ""),
        (reading(0, 100), reading(120, 90), ""),
        (reading(0, 100), reading(49, 100), "49 requests started, and it answered 50"),
        (reading(0, 100), reading(50, 101), "rose from 100 to 101"),
        (reading(0, 1, boot_id="a"), reading(50, 1, boot_id="b"), "boot_id went from a to b"),
        (reading(0, 1, uptime_ms=900), reading(50, 1, uptime_ms=20), "uptime_ms fell from 900 to 20"),
        (TelemetryReading(), TelemetryReading(), ""),
        (reading(0, 1), TelemetryReading(stats={"server": 3}, memory={"heap": None}), ""),
    ],
)
def test_signs_of_a_reboot(before: TelemetryReading, after: TelemetryReading, says: str) -> None:
    signs = reboot_signs(before, after, answered=50)
    assert says in " ".join(signs)
    assert bool(signs) == bool(says)


# --- telemetry that is too much ---------------------------------------------------------------------


def big(**more: Any) -> bytes:
    """A reading of 5,000 values with the figures that are asked for at its end."""
    return json.dumps({**{f"noise{number}": number for number in range(5000)}, **more}).encode()


@pytest.mark.parametrize(
    "body",
    [
        big(requests_started=7, heap={"internal_free": 1000}),
        json.dumps(
            {"requests_started": 7, "text": "x" * MOST_BYTES, "heap": {"internal_free": 1000}}
        ).encode(),
        json.dumps(
            {"requests_started": 7, "deep": [[[0] * 50] * 50], "heap": {"internal_free": 1000}}
        ).encode(),
    ],
)
def test_of_a_large_reading_the_figures_are_kept_that_rules_look_at(body: bytes) -> None:
    telemetry = Telemetry(at(1), 1.0, fetch=lambda *_, **__: HttpAnswer(200, body))
    reading = telemetry.read_stats()
    assert number_at(reading, "requests_started") == 7
    assert number_at(reading, "internal_free") == 1000
    assert len(json.dumps(reading)) < 2000
    assert any("are more than is kept of a reading" in note for note in telemetry.notes)


def test_a_reading_longer_than_what_is_read_is_said_to_be_just_that() -> None:
    body = b'{"a": "' + b"x" * MAX_BODY_BYTES
    telemetry = Telemetry(at(1), 1.0, fetch=lambda *_, **__: HttpAnswer(200, body[:MAX_BODY_BYTES]))
    assert telemetry.read_stats() == {}
    assert any("longer than 1 MB" in note for note in telemetry.notes)
