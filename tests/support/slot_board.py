"""A board with firmware slots: Python's own HTTP server, which goes away for a moment with each switch."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass
class Slot:
    """What a firmware does: answer after so many seconds, with a status and a body, or never boot."""

    delay_s: float = 0.002
    status: int = 200
    body: bytes = b'{"message":"ok"}'
    boots: bool = True
    dies_after: int = 10**9


@dataclass
class SlotBoard:
    """The board.

    Attributes:
        slots: by name.
        running: name of the slot that runs.
        booted: names of the slots in the order in which they were booted.
        asked: ``(slot, path)`` of each request.
        boot_s: seconds for which it is away.
        rolls_back: a slot that does not boot gives way to the one before.
    """

    slots: dict[str, Slot]
    running: str = "a"
    booted: list[str] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    boot_s: float = 0.1
    rolls_back: bool = False
    port: int = 0
    _server: ThreadingHTTPServer | None = None
    connections: set[socket.socket] = field(default_factory=set)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def switch(self, slot: str) -> None:
        """Reboot into a slot."""
        before = self.running
        self._stop()
        time.sleep(self.boot_s)
        if not self.slots[slot].boots and self.rolls_back:
            slot = before
        self.running = slot
        self.booted.append(slot)
        if self.slots[slot].boots:
            self.start()

    def start(self) -> None:
        """Serve; with the port of before, if there is one."""
        self._server = _Server(("127.0.0.1", self.port), _handler_of(self))
        self.port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def await_boot(self, times: int = 1) -> str:
        """Wait until it has booted so often; return the slot that runs."""
        for _ in range(1000):
            if len(self.booted) >= times:
                break
            time.sleep(0.01)
        return self.booted[-1]

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.connections.clear()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Say nothing: connections die with each switch."""


def _handler_of(board: SlotBoard) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def setup(self) -> None:
            super().setup()
            board.connections.add(self.connection)

        def do_GET(self) -> None:
            slot = board.slots[board.running]
            board.asked.append((board.running, self.path))
            if len(board.asked) > slot.dies_after:
                self.close_connection = True
            elif self.path.startswith("/debug/"):
                self._answer(404, b"")
            elif self.path == "/slot":
                self._answer(200, board.running.encode())
            else:
                time.sleep(slot.delay_s)
                self._answer(200 if self.path == "/hello" else slot.status, slot.body)

        def do_POST(self) -> None:
            url = urlsplit(self.path)
            slot = parse_qs(url.query).get("slot", [""])[0]
            if url.path != "/switch" or slot not in board.slots:
                self._answer(400, b"no such slot")
                return
            self._answer(200, b"")
            self.wfile.flush()
            threading.Thread(target=board.switch, args=(slot,), daemon=True).start()

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def slot_board(**slots: Slot) -> Iterator[SlotBoard]:
    """Serve a board whose slot ``a`` runs."""
    board = SlotBoard(slots or {"a": Slot(), "b": Slot()})
    board.start()
    try:
        yield board
    finally:
        board._stop()
