"""The reference device's serial console, on a TCP port or a pty: what a board prints as it boots and dies.

Lines that are typed into it are orders to the device, as those of a console component are on a board.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable
from typing import Literal, Protocol

from pytest_espperf.sim.images import PARTITIONS, SlotName

ConsoleKind = Literal["socket", "pty"]
KINDS: tuple[ConsoleKind, ...] = ("socket", "pty")

RESETS = {
    "power-on": "rst:0x1 (POWERON),boot:0x8 (SPI_FAST_FLASH_BOOT)",
    "software": "rst:0xc (RTC_SW_CPU_RST),boot:0x8 (SPI_FAST_FLASH_BOOT)",
}
PANIC = (
    "Guru Meditation Error: Core  1 panic'ed (LoadProhibited). Exception was unhandled.",
    "Core  1 register dump:",
    "PC      : 0x42012f1a  PS      : 0x00060830  A0      : 0x8200f2c5  A1      : 0x3fcebd10",
    "Backtrace: 0x42012f17:0x3fcebd10 0x4200f2c2:0x3fcebd40 0x40379a5d:0x3fcebd70",
    "ELF file SHA256: 3f1c2b7a9",
    "Rebooting...",
)
WATCHDOG = (
    "E (41290) task_wdt: Task watchdog got triggered. These tasks did not reset the watchdog in time:",
    "E (41290) task_wdt:  - IDLE1 (CPU 1)",
)


FALLING_BACK = "W (93) boot: app partition is not valid, falling back to the other one"
OFFSETS: dict[SlotName, str] = {"a": "0x10000", "b": "0x110000"}
LONGEST_LINE = 256

_BROWSER = re.compile(rb"[A-Z]{3,7} ")
"""How every HTTP request begins: a web page can have one sent to any port of this computer."""


class SerialLine(Protocol):
    """A serial line: where it is to be found, and a way to put bytes on it.

    Attributes:
        url: where.
        take: takes what is typed into it.
    """

    url: str
    take: Callable[[bytes], None]

    def send(self, data: bytes) -> None:
        """Put bytes on the line; they are lost if nobody reads."""

    def close(self) -> None:
        """Take the line away."""


class Console:
    """Prints lines as a board does."""

    def __init__(self, line: SerialLine) -> None:
        self._line = line
        self._typed = b""
        self.on_line: Callable[[str], None] = _ignore
        line.take = self._take

    @property
    def url(self) -> str:
        """What pyserial opens: ``socket://127.0.0.1:40123`` or a pty's path."""
        return self._line.url

    def say(self, *lines: str) -> None:
        """Print lines."""
        self._line.send("".join(f"{line}\r\n" for line in lines).encode())

    def load(self, reason: str, slot: SlotName, version: str) -> None:
        """Print what the ROM and the loader print at a boot, and an application about itself."""
        self.say(
            "ESP-ROM:esp32s3-20210327",
            RESETS.get(reason, RESETS["power-on"]),
            f"I (87) boot: Loaded app from partition {PARTITIONS[slot]} at offset {OFFSETS[slot]}",
            *([f"I (196) app_init: App version:      {version}"] if version else []),
        )

    def up(self) -> None:
        """Print what an application prints that serves."""
        self.say("I (312) main: http server on port 8080")

    def _take(self, data: bytes) -> None:
        """Gather what is typed into lines; a line too long is cut."""
        *lines, rest = re.split(rb"[\r\n]", self._typed + data)
        self._typed = rest[:LONGEST_LINE]
        for line in lines:
            if text := line[:LONGEST_LINE].decode("utf-8", "replace").strip():
                self.on_line(text)

    def close(self) -> None:
        """End it."""
        self._line.close()


def _ignore(_typed: object) -> None:
    """Take what nobody wants."""


class SocketLine:
    """A TCP port; all that are connected get what is printed from then on."""

    def __init__(self) -> None:
        self.url = ""
        self.take: Callable[[bytes], None] = _ignore
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @classmethod
    async def open(cls) -> SocketLine:
        """Listen on a free port of this machine.

        Raises:
            OSError: there is none.
        """
        line = cls()
        line._server = await asyncio.start_server(line._serve, "127.0.0.1", 0)
        line.url = f"socket://127.0.0.1:{line._server.sockets[0].getsockname()[1]}"
        return line

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            typed = await reader.read(1024)
            while typed and not _BROWSER.match(typed):
                self.take(typed)
                typed = await reader.read(1024)
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def send(self, data: bytes) -> None:
        """Send to all that are connected."""
        for writer in self._writers:
            writer.write(data)

    def close(self) -> None:
        """Close the port, and every connection."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()


class PtyLine:
    """A pseudo-terminal, where the platform has them."""

    def __init__(self) -> None:
        import pty  # noqa: PLC0415 - there is none on Windows
        import tty  # noqa: PLC0415 - the same

        self._master, self._slave = pty.openpty()  # the slave stays open: readers may come and go
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.url = os.ttyname(self._slave)
        self.take: Callable[[bytes], None] = _ignore
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self.take(os.read(self._master, 1024))

    def send(self, data: bytes) -> None:
        """Send to whoever has it open."""
        with contextlib.suppress(BlockingIOError):  # nobody reads: a real line loses it, too
            os.write(self._master, data)

    def close(self) -> None:
        """Close both ends."""
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)


async def open_console(kind: ConsoleKind) -> Console:
    """Open a console.

    Raises:
        OSError: it cannot be had.
    """
    if kind == "socket":
        return Console(await SocketLine.open())
    return Console(PtyLine())
