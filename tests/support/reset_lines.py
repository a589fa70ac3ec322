"""A serial port behind RFC 2217 whose RTS line resets something: pyserial's own server, in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from serial.rfc2217 import PortManager
from serial.urlhandler import protocol_loop


class Port(protocol_loop.Serial):
    """A port that nothing comes from; ``fell`` is called when RTS is released."""

    fell: Callable[[], None]
    was_up = False

    def _update_rts_state(self) -> None:
        super()._update_rts_state()  # type: ignore[misc]  # it is no part of the port's public interface
        up = bool(vars(self)["_rts_state"])
        if self.was_up and not up:
            self.fell()
        self.was_up = up


class Bridge:
    """One client of the port."""

    def __init__(self, port: Any, connection: socket.socket) -> None:
        self._connection = connection
        bridge: Any = self
        self._manager: Any = PortManager(port, bridge)

    def write(self, data: bytes) -> None:
        """Send to the client, for the manager."""
        self._connection.sendall(data)

    def serve(self) -> None:
        """Take what the client says until it goes."""
        with contextlib.suppress(OSError):
            while data := self._connection.recv(1024):
                for _ in self._manager.filter(data):
                    pass


@contextlib.contextmanager
def reset_lines(fell: Callable[[], None]) -> Iterator[str]:
    """Serve a port; yields its URL."""
    port = Port("loop://")
    port.was_up, port.fell = False, fell
    with socket.create_server(("127.0.0.1", 0)) as server:
        threads: list[threading.Thread] = []
        connections: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = server.accept()[0]
                    connections.append(connection)
                    threads.append(threading.Thread(target=Bridge(port, connection).serve, daemon=True))
                    threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"rfc2217://127.0.0.1:{server.getsockname()[1]}"
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join(10)
            for connection in connections:
                connection.close()
