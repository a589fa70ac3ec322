"""A board's serial console: read in a thread, kept in a log, its markers handed out. Needs pyserial.

The port is opened without resetting the board (see ``_open``), and given away while a tool flashes it. A
port that goes away (a board with native USB takes it along when it reboots) is an event, and is opened again
once it is back.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from pytest_espperf.device.markers import ConsoleEvent, Scanner
from pytest_espperf.device.printed import PrintedFigure, read_figure
from pytest_espperf.errors import DeviceError, UsageError

BAUD = 115_200
"""Baud rate of an ESP32's console by default."""

READ_S = 0.1
"""Longest wait for bytes: what the time of a line is good for."""

RESET_S = 0.1
"""How long a board is held in reset."""

TRY_AGAIN_S = 0.5
MAX_LOG_BYTES = 64 * 1024 * 1024
MAX_EVENTS = 100
"""Events that are kept until they are fetched, of the fatal ones and of the others each: the first and the
last. A board that prints the same line for ever must not fill the memory, nor the artifact."""

MAX_FIGURES = 10_000
"""Printed figures that are kept until they are fetched: the first ones."""

_STOP_S = 3.0


class FirstAndLast:
    """The first and the last of many events, and how many came between them."""

    def __init__(self, most: int = MAX_EVENTS) -> None:
        self._first: list[ConsoleEvent] = []
        self._last: deque[ConsoleEvent] = deque(maxlen=most // 2)
        self._most_first = most - most // 2
        self._count = 0

    def add(self, event: ConsoleEvent) -> None:
        """Take one more event."""
        self._count += 1
        if len(self._first) < self._most_first:
            self._first.append(event)
        else:
            self._last.append(event)

    def take(self) -> list[ConsoleEvent]:
        """Return what was kept, oldest first, with a line in the place of the others; start again."""
        kept = [*self._first, *self._last]
        dropped = self._count - len(kept)
        if dropped:
            place = len(self._first)
            before = self._first[-1]
            note = f"{dropped:,} more lines like those before and after"
            kept.insert(place, ConsoleEvent(before.at_s, before.kind, before.fatal, note))
        self._first, self._count = [], 0
        self._last.clear()
        return kept


class SerialConsole:
    """An open console.

    Attributes:
        url: what was opened.
        log: the file that all lines are written to.
        notes: what a reader should know: the log is full, the port was lost.
    """

    def __init__(self, url: str, log: Path, port: Any, baud: int, clock: Callable[[], float]) -> None:
        self.url = url
        self._baud = baud
        self.log = log
        self.notes: list[str] = []
        self._port = port
        self._clock = clock
        self._began_s = clock()
        self._scanner = Scanner()
        self._fatal, self._warnings = FirstAndLast(), FirstAndLast()
        self._figures: list[PrintedFigure] = []
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._paused = threading.Event()
        self._away = threading.Event()
        self._losses = 0
        self._read_bytes = 0
        self._strange_bytes = 0
        self._logged = 0
        self._file: IO[str] | None = None
        self._thread = threading.Thread(target=self._run, name="espperf-console", daemon=True)

    @classmethod
    def open(
        cls,
        url: str,
        log: Path,
        *,
        baud: int = BAUD,
        source: str = "--device-serial",
        clock: Callable[[], float] = time.monotonic,
    ) -> SerialConsole:
        """Open a console and begin to read it.

        Args:
            url: as pyserial takes it: ``COM14``, ``/dev/ttyUSB0``, ``socket://host:port``, ``rfc2217://...``.
            log: the file to write to; made with the first line.
            baud: bits per second; a network port or a native USB port does not care.
            source: where the URL came from, for the message.
            clock: monotonic seconds.

        Raises:
            UsageError: pyserial is missing, or the port cannot be opened.
        """
        console = cls(url, log, _open(url, baud, source), baud, clock)
        console._thread.start()
        return console

    def take(self) -> list[ConsoleEvent]:
        """Return the events since the last call, oldest first."""
        with self._lock:
            kept = [*self._fatal.take(), *self._warnings.take()]
        return sorted(kept, key=lambda event: event.at_s)

    def take_figures(self) -> list[PrintedFigure]:
        """Return the figures that were printed since the last call, in order."""
        with self._lock:
            taken, self._figures = self._figures, []
        return taken

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Give the port to somebody else for a while: a tool that flashes the board over it."""
        self._paused.set()
        self._away.wait(_STOP_S)
        try:
            yield
        finally:
            self._paused.clear()

    def reset(self) -> None:
        """Hold the board in reset for a moment, by the line that esptool uses: RTS pulls EN down.

        DTR is released first: it pulls down the pin that would make the board wait for a download.

        Raises:
            DeviceError: the port is away, or has no such lines.
        """
        try:
            self._port.dtr = False
            self._port.rts = True
            time.sleep(RESET_S)
            self._port.rts = False
        except Exception as error:  # noqa: BLE001 - pyserial's handlers raise what their transports do
            raise DeviceError(f"the serial port {self.url} cannot reset the board: {error}") from None

    def remarks(self) -> list[str]:
        """List the notes, and what makes it doubtful that this is the board's console at all."""
        remarks = list(self.notes)
        if self._losses > 1:
            remarks.append(f"the serial port was lost {self._losses} times")
        if not self._read_bytes:
            remarks.append(f"no data came from {self.url}: is it the board's port?")
        elif self._strange_bytes * 4 > self._read_bytes:
            remarks.append(f"most of the data from {self.url} is unreadable: is its baud rate {self._baud}?")
        return remarks

    def close(self) -> None:
        """Stop reading; idempotent."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    # --- the thread

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                if self._paused.is_set():
                    self._give_away()
                    continue
                try:
                    data = self._port.read(4096)
                except Exception as error:  # noqa: BLE001 - pyserial's handlers raise what their transports do
                    self._lost(error)
                    continue
                if data:
                    self._take_in(data)
        finally:
            self._take_lines(self._scanner.end(self._clock()))
            self._close_port()
            with contextlib.suppress(OSError):  # a full disk is full once more
                if self._file is not None:
                    self._file.close()

    def _take_in(self, data: bytes) -> None:
        self._read_bytes += len(data)
        self._strange_bytes += sum(byte >= 0x80 or byte == 0 for byte in data)
        self._take_lines(self._scanner.feed(data, self._clock()))

    def _take_lines(self, found: tuple[list[str], list[ConsoleEvent]]) -> None:
        lines, events = found
        self._write(lines, self._clock())
        self._add(events)
        figures = [figure for line in lines if (figure := read_figure(line)) is not None]
        with self._lock:
            self._figures += figures[: MAX_FIGURES - len(self._figures)]

    def _add(self, events: list[ConsoleEvent]) -> None:
        with self._lock:
            for event in events:
                (self._fatal if event.fatal else self._warnings).add(event)

    def _lost(self, error: Exception) -> None:
        """Report that the port is gone, and try to open it again."""
        self._take_lines(self._scanner.end(self._clock()))
        now = self._clock()
        self._losses += 1
        note = f"the serial port {self.url} was lost ({error})"
        self._write([f"--- {note}"], now)
        if self._losses == 1:
            self.notes.append(note)
            self._add([ConsoleEvent(now, "lost", False, note)])
        self._close_port()
        self._have_it_back()

    def _give_away(self) -> None:
        """Close the port until it is ours again."""
        self._close_port()
        self._away.set()
        while self._paused.is_set() and not self._ending.is_set():
            self._ending.wait(READ_S)
        self._away.clear()
        self._have_it_back()

    def _have_it_back(self) -> None:
        while not self._ending.wait(TRY_AGAIN_S):
            if self._paused.is_set():
                return
            with contextlib.suppress(UsageError):
                self._port = _open(self.url, self._baud, "")
                self._write([f"--- {self.url} is back"], self._clock())
                return

    def _close_port(self) -> None:
        with contextlib.suppress(Exception):
            self._port.close()

    def _write(self, lines: list[str], now_s: float) -> None:
        if not lines or self._logged > MAX_LOG_BYTES:
            return
        text = "".join(f"{now_s - self._began_s:10.3f}  {line}\n" for line in lines)
        self._logged += len(text)
        try:
            if self._file is None:
                self._file = self.log.open("a", encoding="utf-8")
            self._file.write(text)
            if self._logged > MAX_LOG_BYTES:
                self._file.write("--- the log ends here: it is full\n")
                self.notes.append(f"{self.log.name} was full at {MAX_LOG_BYTES >> 20} MB")
            self._file.flush()
        except OSError as error:
            self._logged = MAX_LOG_BYTES + 1
            self.notes.append(f"{self.log.name} could not be written on ({error.strerror or error})")


def _pyserial(source: str) -> ModuleType:
    try:
        import serial  # noqa: PLC0415 - an extra
    except ImportError:
        raise UsageError(
            f"{source}: a serial console needs pyserial: pip install 'pytest-espperf[serial]'"
        ) from None
    return serial


def _open(url: str, baud: int, source: str) -> Any:
    """Open a port without resetting what is behind it.

    Raises:
        UsageError: pyserial is missing, or it cannot be opened.
    """
    serial = _pyserial(source)
    # The tty driver of a POSIX system raises both lines by itself as it opens; to lower DTR first would, for
    # a moment, hold the board in reset. So they stay up, and RTS goes first, as in ESP-IDF's own monitor.
    raised = "://" not in url and sys.platform != "win32"
    try:
        port = serial.serial_for_url(url, do_not_open=True, baudrate=baud, timeout=READ_S)
        port.dtr = port.rts = raised
        port.open()
        if raised:
            with contextlib.suppress(OSError):  # a pty has no such lines
                port.rts = False
                port.dtr = False
    except Exception as error:  # noqa: BLE001 - pyserial's handlers raise whatever they meet (KeyError, re.error)
        raise UsageError(f"{source}: {url} cannot be opened ({error})") from None
    return port
