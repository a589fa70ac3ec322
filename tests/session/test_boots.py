"""Timing of boots: the board is away for a while after the command that resets it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from pytest_espperf.config.lookup import resolve
from pytest_espperf.device import resolve_target
from pytest_espperf.device.console import SerialConsole
from pytest_espperf.device.http import HttpAnswer
from pytest_espperf.errors import ComputerError, DeviceError, UsageError
from pytest_espperf.session.boots import GOES_AWAY_S, check_reset, time_boot, time_boots
from pytest_espperf.session.time_budget import phase_budget
from pytest_espperf.sim import SimConfig, SimProcess


class Bench:
    """A board that goes away some time after it was reset, and comes back; its clock is the test's."""

    def __init__(self, *, away_s: float, back_s: float, status: int = 200) -> None:
        self.now = 0.0
        self.away_s, self.back_s, self.status = away_s, back_s, status
        self.began = 0.0
        self.said: list[str] = []
        self.took_s = 0.002
        self.error: Exception = DeviceError("ConnectError: refused")

    def ask(self, target: object, path: str, *, timeout_s: float) -> HttpAnswer:
        since = self.now - self.began
        if timeout_s < self.took_s:
            self.now += timeout_s
            raise DeviceError(f"ReadTimeout: no answer within {timeout_s:g} s")
        self.now += self.took_s
        if self.away_s <= since < self.back_s:
            self.now += timeout_s if "no answer within" in str(self.error) else 0.0
            raise self.error
        if since >= self.back_s and self.status < 500:
            self.began = self.now
        return HttpAnswer(self.status, b"")

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def boots(self, within_s: float = 1e9, **options: Any) -> list[float]:
        words = {"device_reset_cmd": f'"{sys.executable}" -c ""', "device_resets": "2", **options}
        board: Any = SimpleNamespace(console=None, target=object())
        settings = resolve(words, {}, {})
        return time_boots(
            board, settings, within_s=within_s, say=self.said.append, ask=self.ask,
            clock=lambda: self.now, sleep=self.sleep,
        )  # fmt: skip


def test_each_boot_ends_with_the_first_answer_after_the_board_was_away() -> None:
    boots = Bench(away_s=0.1, back_s=1.5).boots()
    assert boots == [pytest.approx(1500, abs=40)] * 2


def test_a_board_that_never_goes_away_has_no_boot_time() -> None:
    bench = Bench(away_s=1e9, back_s=2e9)
    assert bench.boots() == []
    assert "as if nothing had happened" in bench.said[-1]
    assert bench.now < 2 * GOES_AWAY_S


def test_a_slow_board_that_never_goes_away_has_no_boot_time() -> None:
    """Each answer takes longer than an attempt would wait by default."""
    bench = Bench(away_s=1e9, back_s=2e9)
    bench.took_s = 0.3
    assert bench.boots() == []


def test_one_lost_packet_is_no_reset() -> None:
    bench = Bench(away_s=0.1, back_s=0.12)
    bench.error = DeviceError("ReadTimeout: no answer within 0.25 s")
    assert bench.boots() == []
    bench = Bench(away_s=0.1, back_s=1.5)
    bench.error = DeviceError("ReadTimeout: no answer within 0.25 s")
    assert bench.boots() == [pytest.approx(1500, abs=400)] * 2


def test_answers_of_a_server_error_are_no_healthy_ones() -> None:
    with pytest.raises(DeviceError, match="status 503"):
        Bench(away_s=0.1, back_s=1.0, status=503).boots(device_boot_timeout_s="5")


def test_a_board_that_stays_away_is_an_error() -> None:
    with pytest.raises(DeviceError, match="no healthy answer to /hello"):
        Bench(away_s=0.1, back_s=1e9).boots(device_boot_timeout_s="5")


def test_what_this_computer_lacks_is_said_at_once() -> None:
    bench = Bench(away_s=0.0, back_s=1e9)
    bench.error = ComputerError("too few file descriptors")
    with pytest.raises(ComputerError, match="descriptors"):
        bench.boots()


def test_a_command_that_fails_is_an_error_that_does_not_show_it(tmp_path: Path) -> None:
    script = tmp_path / "reset_s3cret.py"
    script.write_text("print('no such port'); raise SystemExit(3)", encoding="utf-8")
    with pytest.raises(DeviceError, match=r"exit code 3.*no such port") as caught:
        Bench(away_s=0.1, back_s=1.0).boots(device_reset_cmd=f'"{sys.executable}" "{script}"')
    assert "s3cret" not in str(caught.value)


def test_the_watchdog_of_a_phase_leaves_time_for_boots() -> None:
    parts = {"phase": SimpleNamespace(duration_s=4.0), "profile": SimpleNamespace(login=None)}
    planned: Any = SimpleNamespace(**parts, role="run")
    again: Any = SimpleNamespace(**parts, role="confirm")
    plan: Any = SimpleNamespace(warmup_s=0.0)
    usual = phase_budget(resolve({}, {}, {}), plan, planned)
    settings = resolve({"device_reset_cmd": "x", "device_boot_timeout_s": "10"}, {}, {})
    assert phase_budget(settings, plan, planned).watchdog_s == usual.watchdog_s + 3 * 2 * 10
    assert phase_budget(settings, plan, again).watchdog_s == usual.watchdog_s


@pytest.mark.filterwarnings("ignore:set(Daemon|Name)")  # pyserial's
def test_the_lines_of_a_serial_port_reset_a_board(tmp_path: Path) -> None:
    """The reference device reboots when RTS falls; the port is pyserial's own server."""
    pytest.importorskip("serial")
    from support.reset_lines import reset_lines

    with SimProcess.start(SimConfig(time_scale=0.1, noise="none")) as device:
        url = f"http://{device.host}:{device.port}"
        falls = 0

        def reboot() -> None:
            nonlocal falls
            falls += 1
            httpx.post(f"{url}/debug/reboot", timeout=30)

        with reset_lines(reboot) as port:
            console = SerialConsole.open(port, tmp_path / "console.log")
            try:
                board: Any = SimpleNamespace(console=console, target=resolve_target(device.host, device.port))
                options = {"device_reset_lines": "yes", "device_serial": port, "device_resets": "2"}
                said: list[str] = []
                boots = time_boots(board, resolve(options, {}, {}), within_s=300, say=said.append)
            finally:
                console.close()
    assert falls == 2
    assert len(boots) == 2, said
    assert all(0 < one < 60_000 for one in boots)


@pytest.mark.skipif(sys.platform == "win32", reason="a pty")
def test_a_port_without_lines_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("serial")
    ours, theirs = os.openpty()
    console = SerialConsole.open(os.ttyname(theirs), tmp_path / "console.log")
    try:
        with pytest.raises(DeviceError, match=r"the serial port .* cannot reset the board"):
            console.reset()
    finally:
        console.close()
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"device_reset_lines": "yes"}, "needs --device-serial"),
        (
            {"device_reset_lines": "yes", "device_reset_cmd": "x", "device_serial": "COM14"},
            "resets the board already",
        ),
    ],
)
def test_one_way_to_reset_is_enough(options: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_reset(resolve(options, {}, {}))
    check_reset(resolve({"device_reset_lines": "yes", "device_serial": "COM14"}, {}, {}))


@pytest.mark.parametrize("within_s", [0.0, 0.5, 2.0])
def test_a_board_that_answers_all_the_time_was_not_seen_away(within_s: float) -> None:
    now, asked = [0.0], []

    def ask(try_s: float) -> int:
        asked.append(try_s)
        return 200

    def sleep(seconds: float) -> None:
        now[0] += seconds

    took_s = time_boot(ask, "/", patience_s=0.25, within_s=within_s, clock=lambda: now[0], sleep=sleep)
    assert took_s is None
    assert asked
