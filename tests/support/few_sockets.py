"""A board with few sockets: beyond so many connections it accepts no more until one is closed."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Board:
    """One loop, as esp_http_server has it.

    Attributes:
        sockets: connections at once; may be changed while it runs.
        port: where it listens, on 127.0.0.1.
        accepted: connections so far.
        requests: answered so far.
        most: connections that were open at once at the most.
        answer_s: what an answer takes.
        beyond: what a connection beyond the sockets meets: "waits" in the backlog, is "closed" at once, or is
            answered 503 ("busy").
        idle_s: after so many seconds without a request a connection is closed.
    """

    sockets: int
    answer_s: float = 0.0
    beyond: str = "waits"
    idle_s: float = float("inf")
    port: int = 0
    accepted: int = 0
    requests: int = 0
    most: int = 0

    def serve(self, listener: socket.socket, stopping: threading.Event) -> None:
        """Serve until told to stop."""
        heard: dict[socket.socket, float] = {}
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            accepting = True
            while not stopping.is_set():
                for key, _ in selector.select(0.02):
                    sock = key.fileobj
                    assert isinstance(sock, socket.socket)
                    if sock is listener:
                        self._accept(listener, selector, heard)
                    else:
                        self._answer(sock, selector, heard)
                now = time.monotonic()
                for sock in [sock for sock, at_s in heard.items() if now - at_s > self.idle_s]:
                    self._close(sock, selector, heard)
                wanted = len(heard) < self.sockets or self.beyond != "waits"
                if wanted != accepting:
                    accepting = wanted
                    if wanted:
                        selector.register(listener, selectors.EVENT_READ)
                    else:
                        selector.unregister(listener)
            for sock in heard:
                sock.close()

    def _accept(
        self, listener: socket.socket, selector: selectors.BaseSelector, heard: dict[socket.socket, float]
    ) -> None:
        sock, _ = listener.accept()
        if len(heard) >= self.sockets:
            if self.beyond == "busy":
                with suppress(OSError):
                    sock.settimeout(1.0)
                    sock.recv(4096)
                    sock.sendall(BUSY)
            sock.close()
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accepted += 1
        heard[sock] = time.monotonic()
        self.most = max(self.most, len(heard))
        selector.register(sock, selectors.EVENT_READ)

    def _answer(
        self, sock: socket.socket, selector: selectors.BaseSelector, heard: dict[socket.socket, float]
    ) -> None:
        data = b""
        with suppress(OSError):
            data = sock.recv(4096)
        if not data:
            self._close(sock, selector, heard)
            return
        time.sleep(self.answer_s)
        heard[sock] = time.monotonic()
        self.requests += 1
        with suppress(OSError):
            sock.sendall(ANSWER)

    @staticmethod
    def _close(
        sock: socket.socket, selector: selectors.BaseSelector, heard: dict[socket.socket, float]
    ) -> None:
        selector.unregister(sock)
        del heard[sock]
        sock.close()


@contextmanager
def few_sockets(sockets: int = 7, **how: float | str) -> Iterator[Board]:
    """Such a board for the time of a block."""
    board = Board(sockets, **how)  # type: ignore[arg-type] # by their names
    stopping = threading.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        board.port = listener.getsockname()[1]
        thread = threading.Thread(target=board.serve, args=(listener, stopping))
        thread.start()
        try:
            yield board
        finally:
            stopping.set()
            thread.join(10)
