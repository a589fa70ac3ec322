"""Streams of the reference device: a WebSocket that echoes, and server-sent events at a fixed rate.

Each message and each event is a job of the Python worker, as a request is: it takes its time, it waits behind
others, and where the queue is full it is dropped, as boards do.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Protocol

from pytest_espperf.sim.catalog import COSTS, EVENTS_PATH, WEBSOCKET_PATH, RouteCost
from pytest_espperf.sim.config import FaultKind
from pytest_espperf.sim.messages import SERVER, Request, Response, error_response
from pytest_espperf.sim.model import ScaledClock, TimingModel

DEFAULT_RATE = 10.0
MOST_RATE = 1000.0
MAX_MESSAGE_BYTES = 65_536
MAX_UNSENT_BYTES = 65_536
"""What a client may leave unread; beyond it events are dropped."""

SPOILING: frozenset[FaultKind] = frozenset({"reset", "close", "truncate", "malformed"})
"""Faults that a stream shows."""

_NEEDED = "a WebSocket needs the package websockets: pip install 'pytest-espperf[websocket]'"
_NO_FRAME = b"\xff" * 16
_TEXT, _BINARY, _CONTINUED = 1, 2, 0


class StreamConnection(Protocol):
    """What a stream needs of its connection."""

    @property
    def alive(self) -> bool:
        """Whether anything can still be sent."""

    def become(self, take: Callable[[bytes], None]) -> None:
        """Give all further bytes of the client to ``take``."""

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""

    def unsent(self) -> int:
        """Bytes written that wait in this process."""

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something after so many device seconds, unless the connection is gone by then."""

    def close(self) -> None:
        """End the connection in order."""

    def reset(self) -> None:
        """End the connection with a TCP reset."""


class StreamDevice(Protocol):
    """What a stream needs of its server."""

    clock: ScaledClock

    @property
    def model(self) -> TimingModel:
        """The worker that requests and streams share."""

    def count(self, name: str) -> None:
        """Raise a counter of the device."""

    def fault(self, kinds: Collection[FaultKind]) -> FaultKind | None:
        """Find the fault of these kinds that is active now."""

    def hold(self, action: Callable[[], None]) -> bool:
        """Whether the device hangs: then it does this once that is over."""


def open_stream(device: StreamDevice, connection: StreamConnection, request: Request) -> Response | None:
    """Answer a request for a stream: None where one begins, else the refusal."""
    if request.method != "GET":
        return error_response(405, "Method Not Allowed", headers=(("Allow", "GET"),))
    if request.path == EVENTS_PATH:
        return _open_events(device, connection, request)
    return _open_websocket(device, connection, request)


class _Stream:
    """One stream: what is due is sent in its order, whatever the link adds to each."""

    def __init__(self, device: StreamDevice, connection: StreamConnection, path: str) -> None:
        self._device = device
        self._connection = connection
        self._cost: RouteCost = COSTS[path]
        self._due: deque[bytes] = deque()

    def _work(self, data: bytes) -> None:
        """Send something when the worker has made it; drop it where the queue is full."""
        device = self._device
        now_s = device.clock.now()
        ticket = device.model.python_job(self._cost, now_s)
        if ticket.fate != "served" or device.model.fails(self._cost):
            device.count("ipc_pending_dropped")
            return
        self._due.append(data)
        self._connection.later(ticket.due_s - now_s, self._send)

    def _send(self) -> None:
        if self._device.hold(self._send):
            return
        connection = self._connection
        if not connection.alive:  # it was held
            return
        data = self._due.popleft()
        kind = self._device.fault(SPOILING)
        if kind == "malformed":
            data = _NO_FRAME
        elif kind == "truncate":
            data = data[: len(data) // 2]
        elif kind == "reset":
            connection.reset()
            return
        if kind != "close":
            connection.write(data)
        if kind in {"close", "truncate"}:
            connection.close()


class _EchoStream(_Stream):
    """One WebSocket."""

    def __init__(self, device: StreamDevice, connection: StreamConnection, protocol: Any) -> None:
        super().__init__(device, connection, WEBSOCKET_PATH)
        self._protocol = protocol
        self._parts = b""
        self._is_text = False

    def take(self, data: bytes) -> None:
        """Take bytes of the client."""
        protocol = self._protocol
        protocol.receive_data(data)
        for frame in protocol.events_received():
            if frame.opcode not in {_TEXT, _BINARY, _CONTINUED}:
                continue
            if frame.opcode != _CONTINUED:
                self._is_text = frame.opcode == _TEXT
            self._parts += bytes(frame.data)
            if frame.fin:
                message, self._parts = self._parts, b""
                self._echo(message)
        self.flush()
        if protocol.close_expected():
            self._connection.close()

    def _echo(self, message: bytes) -> None:
        protocol = self._protocol
        self.flush()
        if protocol.state.name == "OPEN":  # else a close frame came behind the message
            (protocol.send_text if self._is_text else protocol.send_binary)(message)
            self._work(b"".join(protocol.data_to_send()))

    def flush(self) -> None:
        """Send what the protocol has to say at once."""
        if data := b"".join(self._protocol.data_to_send()):
            self._connection.write(data)


def _open_websocket(device: StreamDevice, connection: StreamConnection, request: Request) -> Response | None:
    try:
        from websockets.datastructures import Headers  # noqa: PLC0415 - an extra
        from websockets.http11 import Request as Upgrade  # noqa: PLC0415
        from websockets.server import ServerProtocol  # noqa: PLC0415
    except ImportError:
        return error_response(501, _NEEDED)
    protocol = ServerProtocol(max_size=MAX_MESSAGE_BYTES)
    upgrade = Upgrade(request.path, Headers(request.headers))
    protocol.receive_data(upgrade.serialize())  # it keeps count of what has been said
    protocol.events_received()
    answer = protocol.accept(upgrade)
    if answer.status_code != 101:
        why = bytes(answer.body or b"").decode(errors="replace").strip()
        return error_response(answer.status_code, why or "no upgrade", closes=True)
    protocol.send_response(answer)
    stream = _EchoStream(device, connection, protocol)
    connection.become(stream.take)
    connection.later(device.model.link_delay_s(device.clock.now()), stream.flush)
    return None


class _EventStream(_Stream):
    """One listener."""

    def __init__(self, device: StreamDevice, connection: StreamConnection, rate: float, number: int) -> None:
        super().__init__(device, connection, EVENTS_PATH)
        self._rate = rate
        self._number = number
        self._ticks = 0
        self._began_s = device.clock.now()

    def begin(self) -> None:
        """Send the head, and come back for the first event."""
        lines = (
            "HTTP/1.1 200 OK",
            f"Server: {SERVER}",
            "Content-Type: text/event-stream",
            "Cache-Control: no-cache",
            "Connection: close",
        )
        self._connection.write("\r\n".join((*lines, "", "retry: 1000\n\n")).encode())
        self._come_back()

    def _come_back(self) -> None:
        self._ticks += 1
        due_s = self._began_s + self._ticks / self._rate
        self._connection.later(max(0.0, due_s - self._device.clock.now()), self._tick)

    def _tick(self) -> None:
        if self._device.hold(self._tick):
            return
        self._number += 1
        number, uptime_ms = self._number, round(self._device.clock.now() * 1e3)
        if self._connection.unsent() > MAX_UNSENT_BYTES:
            self._device.count("event_conn_dropped")
        else:
            data = json.dumps({"uptime_ms": uptime_ms}, separators=(",", ":"))
            self._work(f"id: {number}\ndata: {data}\n\n".encode())
        self._come_back()


def _open_events(device: StreamDevice, connection: StreamConnection, request: Request) -> Response | None:
    try:
        rate = float(request.query.get("rate", DEFAULT_RATE))
    except ValueError:
        rate = math.nan
    if not 0 < rate <= MOST_RATE:
        return error_response(422, f"rate must be a number above 0, at most {MOST_RATE:g}")
    last_id = request.headers.get("last-event-id", "")
    number = int(last_id) if last_id.isdigit() and len(last_id) < 10 else 0
    stream = _EventStream(device, connection, rate, number)
    connection.become(_ignore)
    connection.later(device.model.link_delay_s(device.clock.now()), stream.begin)
    return None


def _ignore(data: bytes) -> None:
    """Take what a listener sends, which means nothing."""
