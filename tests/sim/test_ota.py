"""Firmware over the air: two slots, switched and flashed over HTTP and by the console of a real process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from pytest_espperf.sim import SimConfig, SimProcess
from pytest_espperf.sim.images import image_of

PATIENCE_S = 60.0
QUIET = {"noise": "none", "time_scale": 0.1}
TWO = {"a": {"version": "1.0"}, "b": {"version": "1.1", "slowdown": {"all": 10}, "boot_s": 0.5}}
DEAD = {"version": "1.2", "boot_s": 0.5, "boots": False}


def device(**changes: Any) -> SimProcess:
    config = SimConfig().merged({**QUIET, "slot": TWO, "boot_info": True, **changes})
    return SimProcess.start(config, console="socket")


@pytest.fixture
def sim() -> Iterator[SimProcess]:
    with device() as running:
        yield running


def ask(sim: SimProcess, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(sim.host, sim.port, timeout=PATIENCE_S)
    try:
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")
    finally:
        connection.close()


def eventually(sim: SimProcess, path: str) -> Any:
    """Ask until the device answers."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, answer = ask(sim, "GET", path)
            if status == 200:
                return answer
        time.sleep(0.02)
    pytest.fail("the device did not come back")


def eventually_runs(sim: SimProcess, slot: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if (shown := eventually(sim, "/ota"))["running"] == slot:
            return shown
        time.sleep(0.02)
    pytest.fail(f"slot {slot} does not run")


def eventually_has_booted(sim: SimProcess, boot_id: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while eventually(sim, "/debug/server-stats")["boot_id"] < boot_id:
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Terminal:
    """Who has the console open: what it printed since, and a keyboard."""

    def __init__(self, sim: SimProcess) -> None:
        url = urlsplit(sim.console_url)
        assert url.hostname is not None
        self.socket = socket.create_connection((url.hostname, url.port or 0), timeout=PATIENCE_S)
        self.seen = ""

    def __enter__(self) -> Terminal:  # noqa: PYI034 - typing.Self needs Python 3.11
        self.type("hello?")  # the answer shows that it is connected
        self.wait_for("Unrecognized command")
        self.seen = ""
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close()

    def type(self, line: str, end: str = "\r\n") -> None:
        self.socket.sendall(f"{line}{end}".encode())

    def wait_for(self, text: str) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.seen and time.monotonic() < deadline:
            self.seen += self.socket.recv(4096).decode()
        assert text in self.seen
        return self.seen


def test_a_switch_boots_the_other_slot_whose_firmware_is_another_one(sim: SimProcess) -> None:
    assert ask(sim, "GET", "/ota") == (
        200,
        {
            "running": "a",
            "boot": "a",
            "version": "1.0",
            "slots": {
                "a": {"partition": "ota_0", "version": "1.0", "state": "valid"},
                "b": {"partition": "ota_1", "version": "1.1", "state": "valid"},
            },
        },
    )
    first = eventually(sim, "/debug/server-stats")
    assert first["firmware"] == "1.0"
    status, answer = ask(sim, "POST", "/ota/switch?slot=b")
    assert (status, answer) == (200, {"slot": "b", "partition": "ota_1", "rebooting": True})
    shown = eventually_runs(sim, "b")
    assert (shown["boot"], shown["version"]) == ("b", "1.1")
    second = eventually(sim, "/debug/server-stats")
    assert (second["firmware"], second["reset_reason"]) == ("1.1", "software")
    assert second["boot_id"] == first["boot_id"] + 1
    ask(sim, "POST", "/ota/switch")  # to what does not run
    assert eventually_runs(sim, "a")["version"] == "1.0"


def test_a_switch_resets_open_connections_and_the_device_is_away_for_its_boot(sim: SimProcess) -> None:
    with socket.create_connection((sim.host, sim.port), timeout=PATIENCE_S) as idle:
        ask(sim, "GET", "/ota")  # the device has taken the idle connection by then
        ask(sim, "POST", "/ota/switch?slot=b")
        with contextlib.suppress(ConnectionResetError):
            assert idle.recv(1) == b""
            pytest.fail("the connection was ended in order")
    assert eventually_runs(sim, "b")["version"] == "1.1"


def test_each_slot_has_its_own_pace_errors_and_leak(sim: SimProcess) -> None:
    sim.configure(slot={"b": {"version": "1.1", "error_rate": {"/deps": 1}, "leak_bytes": 4_000}})

    def took_s() -> float:
        """Best of some, on one connection: the worker, not the connection, is the subject."""
        connection = http.client.HTTPConnection(sim.host, sim.port, timeout=PATIENCE_S)
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            connection.request("GET", "/template-compat")
            connection.getresponse().read()
            taken.append(time.perf_counter() - began)
        connection.close()
        return min(taken)

    assert ask(sim, "GET", "/deps")[0] == 200
    ask(sim, "POST", "/ota/switch?slot=b")
    eventually_runs(sim, "b")
    assert ask(sim, "GET", "/deps")[0] == 500
    before = eventually(sim, "/debug/memory-stats")["heap"]["internal_free"]
    for _ in range(4):
        ask(sim, "GET", "/hello")
    assert before - eventually(sim, "/debug/memory-stats")["heap"]["internal_free"] >= 4 * 4_000
    fast = took_s()
    ask(sim, "POST", "/ota/flash?switch=1", {"version": "slow", "slowdown": {"python_heavy": 100}})
    assert eventually_runs(sim, "a")["version"] == "slow"
    assert ask(sim, "GET", "/deps")[0] == 200
    assert took_s() > 3 * fast


def test_a_slot_is_flashed_and_booted_when_it_is_switched_to(sim: SimProcess) -> None:
    image = {"version": "2.0", "slowdown": {"hello": 1.5}}
    assert ask(sim, "POST", "/ota/flash?slot=ota_1", image) == (
        200,
        {"slot": "b", "partition": "ota_1", "version": "2.0"},
    )
    shown = eventually(sim, "/ota")
    assert (shown["running"], shown["slots"]["b"]["version"]) == ("a", "2.0")
    ask(sim, "POST", "/ota/switch?slot=b")
    assert eventually_runs(sim, "b")["version"] == "2.0"


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/ota/flash?slot=b", b"\x7fELF", 400, "no JSON"),
        ("/ota/flash?slot=b", None, 400, "no JSON"),
        ("/ota/flash?slot=b", {"slowdown": {}}, 400, "no version"),
        ("/ota/flash?slot=b", {"version": "1", "speed": 2}, 400, "nothing that an image has"),
        ("/ota/flash?slot=c", {"version": "1"}, 400, "no slot"),
        ("/ota/flash?slot=a", {"version": "1"}, 409, "is running"),
        ("/ota/switch?slot=", None, 400, "no slot"),
        ("/ota/switch?slot=ota_2", None, 400, "no slot"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    sim: SimProcess, path: str, body: Any, status: int, said: str
) -> None:
    before = eventually(sim, "/ota")
    answered, why = ask(sim, "POST", path, body)
    assert (answered, said in why["error"]) == (status, True)
    assert eventually(sim, "/ota") == before


def test_the_routes_have_methods_and_take_no_orders_from_web_pages(sim: SimProcess) -> None:
    assert ask(sim, "POST", "/ota")[0] == 405
    assert ask(sim, "GET", "/ota/switch?slot=b")[0] == 405
    for path in ("/ota/switch?slot=b", "/ota/flash?slot=b"):
        assert ask(sim, "POST", path, {"version": "evil"}, Origin="http://evil.example")[0] == 403
    assert eventually(sim, "/ota")["slots"]["b"]["version"] == "1.1"


def test_the_console_prints_the_boot_of_the_slot_and_takes_orders(sim: SimProcess) -> None:
    with Terminal(sim) as terminal:
        terminal.type("ota")
        assert '"running": "a"' in terminal.wait_for("\n")
        terminal.type("ota switch c")
        terminal.wait_for("no slot: use a or b")
        terminal.type("ota swi", end="")
        terminal.type("tch b", end="\r")
        seen = terminal.wait_for("http server on port")
        assert "rst:0xc" in seen
        assert "Loaded app from partition ota_1" in seen
        assert re.search(r"app_init: App version: +1\.1", seen)
        assert "Guru Meditation" not in seen
        assert eventually_runs(sim, "b")["version"] == "1.1"
        boots = eventually(sim, "/debug/server-stats")["boot_id"]
        terminal.seen = ""
        terminal.type("restart")
        assert "ota_1" in terminal.wait_for("http server on port")
        assert eventually(sim, "/debug/server-stats")["boot_id"] == boots + 1


def test_a_request_of_a_browser_to_the_consoles_port_is_no_order(sim: SimProcess) -> None:
    url = urlsplit(sim.console_url)
    connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=PATIENCE_S)
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("POST", "/", "\r\nota switch b\r\n")
        connection.getresponse()
    connection.close()
    with Terminal(sim) as terminal:
        terminal.type("ota")
        assert '"boot": "a"' in terminal.wait_for("\n")


def test_firmware_that_does_not_boot_kills_the_device_until_the_console_helps(sim: SimProcess) -> None:
    with Terminal(sim) as terminal:
        assert ask(sim, "POST", "/ota/flash?slot=b&switch=1", DEAD)[0] == 200
        seen = terminal.wait_for("Rebooting...")
        assert "App version:      1.2" in seen
        for _ in range(3):
            with pytest.raises(OSError):  # noqa: PT011 - the kind depends on the moment
                ask(sim, "GET", "/ota")
            time.sleep(0.05)
        terminal.type("ota switch a")
        shown = eventually_runs(sim, "a")
        assert shown["slots"]["b"]["state"] == "invalid"
        assert ask(sim, "GET", "/hello")[0] == 200


def test_with_rollback_the_old_firmware_comes_back() -> None:
    with device(rollback=True) as sim, Terminal(sim) as terminal:
        ask(sim, "POST", "/ota/flash?slot=b&switch=1", DEAD)
        seen = terminal.wait_for("http server on port")
        assert seen.index("1.2") < seen.index("falling back") < seen.index("ota_0")
        shown = eventually(sim, "/ota")
        assert (shown["running"], shown["version"], shown["slots"]["b"]["state"]) == ("a", "1.0", "invalid")
        assert eventually(sim, "/debug/server-stats")["boot_id"] == 2


def test_a_reboot_or_a_crash_keeps_the_slot(sim: SimProcess) -> None:
    ask(sim, "POST", "/ota/switch?slot=b")
    eventually_runs(sim, "b")
    boots = eventually(sim, "/debug/server-stats")["boot_id"]
    ask(sim, "POST", "/debug/reboot")
    eventually_has_booted(sim, boots + 1)
    sim.configure(fault="reboot@0.1:0.2")
    eventually_has_booted(sim, boots + 2)
    assert eventually(sim, "/ota")["running"] == "b"


def test_who_connects_in_the_moment_of_a_reboot_is_answered_or_reset_and_never_left_alone(
    sim: SimProcess,
) -> None:
    sim.configure(slot={name: {"version": name, "boot_s": 0.1} for name in "ab"})
    with Terminal(sim) as terminal:
        for attempt in range(20):
            terminal.seen = ""
            terminal.type("restart")
            time.sleep(attempt * 1e-4)
            with (
                contextlib.suppress(ConnectionError),  # which a time-out is not
                socket.create_connection((sim.host, sim.port), timeout=PATIENCE_S) as late,
            ):
                late.sendall(b"GET /ota HTTP/1.1\r\nHost: localhost\r\n\r\n")
                late.recv(1)
            terminal.wait_for("http server on port")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pty")
def test_a_pty_takes_orders_too() -> None:
    with SimProcess.start(SimConfig().merged({**QUIET, "slot": TWO}), console="pty") as sim:
        keyboard = os.open(sim.console_url, os.O_RDWR | os.O_NOCTTY)
        try:
            os.write(keyboard, b"ota switch b\n")
            assert eventually_runs(sim, "b")["version"] == "1.1"
        finally:
            os.close(keyboard)


def test_settings_show_what_the_slots_began_with(sim: SimProcess) -> None:
    assert {slot: image_of(image) for slot, image in sim.configuration()["slot"].items()} == {
        slot: image_of(image) for slot, image in TWO.items()
    }
