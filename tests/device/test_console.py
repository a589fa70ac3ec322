"""The serial console: markers, the reader thread over sockets and ptys, and what a session makes of it."""

from __future__ import annotations

import os
import random
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.load_servers import wait_until

from pytest_espperf.device import ConsoleEvent, SerialConsole
from pytest_espperf.device.console import MAX_EVENTS, FirstAndLast
from pytest_espperf.device.markers import LONGEST_LINE, Scanner, printable
from pytest_espperf.errors import UsageError
from pytest_espperf.sim.process import SimProcess

PANIC = b"Guru Meditation Error: Core  0 panic'ed (StoreProhibited). Exception was unhandled.\r\n"


def scan(data: bytes) -> tuple[list[str], list[ConsoleEvent]]:
    return Scanner().feed(data, 1.0)


class TestMarkers:
    """Pure."""

    @pytest.mark.parametrize(
        ("line", "kind", "fatal"),
        [
            (PANIC, "panic", True),
            (b"abort() was called at PC 0x4008\n", "abort()", True),
            (b"assert failed: xQueueSemaphoreTake queue.c:1545 (pxQueue)\n", "crash", True),
            (b"***ERROR*** A stack overflow in task http has been detected.\n", "crash", True),
            (b"Backtrace: 0x42:0x3f\n", "crash", True),
            (b"Brownout detector was triggered\n", "brownout", True),
            (b"rst:0xf (BROWNOUT_RST),boot:0x8\n", "reboot", True),
            (b"MPY: soft reboot\n", "soft reboot", True),
            (b"E (1) task_wdt: Task watchdog got triggered. The\n", "task watchdog", False),
            (b"Traceback (most recent call last):\n", "exception", False),
        ],
    )
    def test_each_marker(self, line: bytes, kind: str, fatal: bool) -> None:
        _, (event,) = scan(b"\x1b[0;31mI (3) app: hello\x1b[0m\n" + line)
        assert (event.kind, event.fatal) == (kind, fatal)

    def test_a_reset_code_is_told_in_words(self) -> None:
        _, (event,) = scan(b"rst:0x15 (USB_UART_CHIP_RESET),boot:0x8\r\n")
        assert event.text.endswith("(reset over USB)")
        _, (unknown,) = scan(b"rst:0xabcdef0123456789abcdef\n")
        assert "rst:0xabc" in unknown.text

    def test_a_backtrace_belongs_to_the_panic_before_it(self) -> None:
        lines = PANIC + b"PC: 0x42\r\n" * 10 + b"Backtrace: 0x42:0x3f 0x43:0x3f\r\n"
        _, (event,) = scan(lines)
        assert str(event).endswith("| Backtrace: 0x42:0x3f 0x43:0x3f")
        _, (died, another) = scan(PANIC + b"x\n" * 60 + b"Backtrace: 0x42\n")
        assert (died.backtrace, another.kind) == ("", "crash")

    def test_bytes_come_in_any_pieces(self) -> None:
        rng = random.Random(20261125)
        text = b"boot\r\n" + PANIC + b"\nabort() was called\r" + b"x" * 2500 + b"\nend\n"
        whole = scan(text)
        for _ in range(50):
            scanner, lines, events, at = Scanner(), [], [], 0
            while at < len(text):
                size = rng.randint(1, 40)
                some, found = scanner.feed(text[at : at + size], 1.0)
                lines += some
                events += found
                at += size
            assert "".join(lines) == "".join(whole[0])
            assert [event.kind for event in events] == ["panic", "abort()"]

    def test_a_hostile_line_is_tame_and_bounded(self) -> None:
        lines, _ = scan(b"\x1b]0;title\x07\x1b[2J\x00\xff<script>\n")
        assert lines == ["�]0;title���<script>"]
        assert printable(b"\xe2\x82\xac\t1") == "€ 1"
        lines, _ = scan(b"y" * 10_000)
        assert {len(line) for line in lines} == {LONGEST_LINE}


class Wire:
    """A TCP port in place of a serial line, as a terminal server gives it."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.url = f"socket://127.0.0.1:{self.port}"

    def accept(self) -> socket.socket:
        self.server.settimeout(10)
        return self.server.accept()[0]


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.server.close()


def heard(console: SerialConsole, count: int, besides: str = "") -> list[ConsoleEvent]:
    """The next events, ``besides`` those of a kind."""
    events: list[ConsoleEvent] = []

    def enough() -> bool:
        events.extend(event for event in console.take() if event.kind != besides)
        return len(events) >= count

    assert wait_until(enough), events
    return events


def says(console: SerialConsole, end: socket.socket) -> ConsoleEvent:
    """Panic until it is heard: a port that is opened throws away what came before."""
    events: list[ConsoleEvent] = []

    def heard_now() -> bool:
        end.sendall(PANIC)
        time.sleep(0.05)
        events.extend(console.take())
        return bool(events)

    assert wait_until(heard_now)
    return events[0]


class TestReading:
    """The thread."""

    def test_lines_go_to_the_log_and_markers_are_handed_out_once(self, wire: Wire, tmp_path: Path) -> None:
        log = tmp_path / "serial.log"
        console = SerialConsole.open(wire.url, log)
        try:
            with wire.accept() as end:
                end.sendall(b"I (1) app: up\r\n" + PANIC)
                (event,) = heard(console, 1)
                assert event.kind == "panic"
                assert console.take() == []
        finally:
            console.close()
        text = log.read_text(encoding="utf-8")
        assert "app: up" in text
        assert "Guru Meditation" in text

    def test_a_port_that_vanishes_is_an_event_and_comes_back(self, wire: Wire, tmp_path: Path) -> None:
        console = SerialConsole.open(wire.url, tmp_path / "serial.log")
        try:
            wire.accept().close()
            (lost,) = heard(console, 1)
            assert (lost.kind, lost.fatal) == ("lost", False)
            with wire.accept() as end:
                assert says(console, end).kind == "panic"
            assert "was lost" in console.notes[0]
        finally:
            console.close()

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
    def test_a_pty(self, tmp_path: Path) -> None:
        import termios

        master, slave = os.openpty()
        console = SerialConsole.open(os.ttyname(slave), tmp_path / "serial.log", baud=57_600)
        try:
            assert termios.tcgetattr(slave)[4:6] == [termios.B57600, termios.B57600]
            os.write(master, b"rst:0x1 (POWERON)\r\n")
            assert heard(console, 1)[0].text == "rst:0x1 (POWERON) (power-on)"
        finally:
            console.close()
            os.close(master)
            os.close(slave)

    @pytest.mark.parametrize(
        "url",
        [
            "/nowhere/ttyUSB9",
            "socket://127.0.0.1:1",
            "what://is-this",
            "COM99",
            "loop://?logging=x",
            "hwgrep://(",
        ],
    )
    def test_what_cannot_be_opened_is_said(self, url: str, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="ini: perf") as error:
            SerialConsole.open(url, tmp_path / "serial.log", source="ini: perf")
        assert url in str(error.value)

    def test_without_pyserial(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setitem(sys.modules, "serial", None)
        with pytest.raises(UsageError, match=r"pip install 'pytest-espperf\[serial\]'"):
            SerialConsole.open("COM14", tmp_path / "serial.log")

    def test_a_full_log_ends_and_reading_goes_on(
        self, wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pytest_espperf.device.console.MAX_LOG_BYTES", 200)
        console = SerialConsole.open(wire.url, tmp_path / "serial.log")
        try:
            with wire.accept() as end:
                end.sendall(b"a line of noise\r\n" * 50)
                end.sendall(PANIC)
                assert heard(console, 1)[0].kind == "panic"
        finally:
            console.close()
        assert (tmp_path / "serial.log").stat().st_size < 3000
        assert any("was full" in note for note in console.notes)

    def test_a_flood_of_warnings_pushes_no_panic_out(self, wire: Wire, tmp_path: Path) -> None:
        console = SerialConsole.open(wire.url, tmp_path / "serial.log")
        try:
            with wire.accept() as end:
                end.sendall(PANIC + b"Traceback (most recent call last):\r\n" * 3000 + PANIC)
                events: list[ConsoleEvent] = []

                def both() -> bool:
                    events.extend(console.take())
                    return sum(event.fatal for event in events) == 2

                assert wait_until(both)
        finally:
            console.close()

    def test_the_port_is_given_away_and_taken_back(self, wire: Wire, tmp_path: Path) -> None:
        """A tool that flashes the board needs it for itself."""
        console = SerialConsole.open(wire.url, tmp_path / "serial.log")
        try:
            with wire.accept() as end, console.released():
                end.settimeout(5)
                assert end.recv(10) == b"", "it was closed"
            with wire.accept() as end:
                assert says(console, end).kind == "panic"
        finally:
            console.close()

    def test_what_makes_a_console_doubtful_is_said(self, wire: Wire, tmp_path: Path) -> None:
        console = SerialConsole.open(wire.url, tmp_path / "serial.log")
        try:
            with wire.accept() as end:
                assert "no data came" in console.remarks()[0]
                end.sendall(b"\xf8\x80\xfe\x00\x8e" * 50 + b"\n")
                assert wait_until(lambda: "baud" in "".join(console.remarks()))
        finally:
            console.close()

    def test_an_unwritable_log_is_noted(self, wire: Wire, tmp_path: Path) -> None:
        console = SerialConsole.open(wire.url, tmp_path / "no folder" / "serial.log")
        try:
            with wire.accept() as end:
                end.sendall(PANIC)
                heard(console, 1)
                assert wait_until(lambda: bool(console.notes))
        finally:
            console.close()


def hang(device: SimProcess) -> bool:
    device.configure(fault="hang@0:0.05")
    time.sleep(0.1)
    return True


@pytest.mark.parametrize("kind", ["socket", pytest.param("pty", marks=pytest.mark.skipif("os.name == 'nt'"))])
def test_the_reference_devices_console(kind: str, tmp_path: Path) -> None:
    with SimProcess.start(console=kind) as device:
        console = SerialConsole.open(device.console_url, tmp_path / "serial.log")
        try:
            # A socket's listener is known to the device a moment after it connects.
            assert wait_until(lambda: hang(device) and console.take())
            device.configure(fault="reboot@0:0.2")
            panic, reboot = heard(console, 2, besides="task watchdog")
            assert panic.kind == "panic"
            assert panic.backtrace.startswith("Backtrace: 0x")
            assert reboot.text.endswith("(software reset of the CPU)")
            device.configure(fault="refuse@0:0.2")
            (power,) = heard(console, 1, besides="task watchdog")
            assert power.text.endswith("(power-on)")
            device.configure(fault="hang@0:0.2")
            assert heard(console, 1)[0].kind == "task watchdog"
        finally:
            console.close()


# --- floods -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fatal", [True, False])
def test_of_a_flood_the_first_and_the_last_are_kept_and_the_rest_counted(fatal: bool) -> None:
    kept = FirstAndLast()
    for number in range(10_000):
        kept.add(ConsoleEvent(float(number), "reboot", fatal, f"line {number}"))
    events = kept.take()
    assert len(events) == MAX_EVENTS + 1
    assert events[0].text == "line 0"
    assert events[-1].text == "line 9999"
    assert "9,900 more lines" in events[MAX_EVENTS // 2].text
    assert [event.at_s for event in events] == sorted(event.at_s for event in events)
    assert {event.fatal for event in events} == {fatal}
    assert kept.take() == []


@pytest.mark.parametrize("count", [0, 1, MAX_EVENTS // 2, MAX_EVENTS])
def test_what_is_no_flood_is_kept_whole(count: int) -> None:
    kept = FirstAndLast()
    for number in range(count):
        kept.add(ConsoleEvent(float(number), "reboot", True, f"line {number}"))
    assert [event.text for event in kept.take()] == [f"line {number}" for number in range(count)]
