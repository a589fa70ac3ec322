"""WebSocket clients: each sends messages and times their echoes (RFC 6455).

A sample is a round trip: from the write of a message to the last byte of its echo. Frames are made and parsed
by the sans-I/O part of the ``websockets`` library, an extra, over our own connections with their time stamps.
``permessage-deflate`` is not offered: what is measured is the board, not zlib.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import NamedTuple

import httpx
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from pytest_espperf.load.echoes import LOST, InFlight, Messages, SentMessage
from pytest_espperf.load.guard import SelfWatch
from pytest_espperf.load.streams import StreamClient, StreamSetup, StreamTraffic, end_of_head
from pytest_espperf.load.wire import MAX_HEAD_BYTES
from pytest_espperf.model.workload import StreamSpec

SWITCHED = 101
"""The status of an upgrade; a round trip counts as an answer of this status."""

REFUSED = "the upgrade was refused, 101 was wanted"
"""Reason of an error that is the status of another answer."""

MOST_IN_FLIGHT = 256
"""Messages of one client that wait for their echoes; further ones wait to be sent."""

MAX_MESSAGE_BYTES = 1 << 20
"""Longest message that is taken from a board; more where longer ones are sent."""

MOST_OTHER_FRAMES = 5000
"""Frames (pings, parts, other messages) in one second without an echo; more are a flood."""

_MOST_UNSENT_BYTES = 1 << 20
"""With so many bytes that the board has not taken, a client gets no further message."""

_SLICE_BYTES = 4096
"""Parsed in one go: as many frames as there can be in it take no more than some milliseconds."""

_LEAST_WAIT_S = 1.5
_TIMER_SLACK_S = 0.0012
_NS_PER_S = 1_000_000_000
_NO_PLACE = "no answer, while the board answers other clients"
_URI = parse_uri("ws://board/")  # of a request that is not sent: it is made as all of ours are
_SILENT = logging.getLogger("pytest_espperf.websocket")
_SILENT.setLevel(logging.CRITICAL)  # not a line for each frame where a project logs everything


class Waiting(NamedTuple):
    """A message that waits for its connection."""

    begin_ns: int
    intended_ns: int
    deadline_ns: int


class WebSocketClient(StreamClient):
    """One client.

    Attributes:
        asked: whether it got anything to send yet.
        answered: whether it got any echo yet.
    """

    def __init__(self, traffic: WebSocketTraffic, number: int) -> None:
        super().__init__(traffic, number)
        self._traffic = traffic
        self.asked = self.answered = False
        self._protocol: ClientProtocol | None = None
        self._head: bytearray | None = None
        self._asked_ns = self._heard_ns = 0
        self._provisional_bytes = 0
        self._served = 0
        self._flight = InFlight(traffic.messages, binary=traffic.stream.binary)
        self._waiting: deque[Waiting] = deque()
        self._parts: bytearray | None = None
        self._parts_binary = False
        self._others = 0
        self._others_since_ns = 0

    @property
    def is_ready(self) -> bool:
        """Whether its WebSocket is open."""
        return self._protocol is not None and self._head is None

    @property
    def can_take(self) -> bool:
        """Whether it may get a message."""
        pauses = self.channel is None and not self.is_opening and not self.is_idle
        reads = self.channel is None or self.channel.unsent_bytes <= _MOST_UNSENT_BYTES
        return reads and not pauses and self.in_flight < MOST_IN_FLIGHT

    @property
    def in_flight(self) -> int:
        """Number of its messages that were taken and have no outcome."""
        return len(self._flight) + len(self._waiting)

    @property
    def is_starving(self) -> bool:
        """Whether it has something to ask, and never got an answer."""
        return not self.answered and self.in_flight > 0

    def accept(self, intended_ns: int, now_ns: int) -> None:
        """Take a message: send it, now or as soon as there is a WebSocket."""
        self.asked = True
        deadline_ns = now_ns + self._traffic.timeout_ns
        if self.is_ready:
            self._send(intended_ns, deadline_ns)
            return
        self._waiting.append(Waiting(now_ns, intended_ns, deadline_ns))
        if self.is_idle:
            self.open()

    def expire(self, now_ns: int) -> None:
        """Time out what is overdue."""
        if self._waiting and self._waiting[0].deadline_ns <= now_ns:
            self.expire_opening("no connection in time", "no answer to the upgrade in time", now_ns)
            return
        while (lost := self._flight.overdue(now_ns)) is not None:
            silent = self._heard_ns < lost.start_ns
            self._traffic.lost(lost, now_ns, self._flight.what_came())
            if silent or not self._traffic.messages.numbered:
                # Nothing came for all of the time, not even another echo: it is dead. Or a late echo could
                # not be told from that of the next message.
                self._leave(now_ns)
            self._traffic.freed(self)

    def expire_opening(self, unconnected: str, unanswered: str, now_ns: int) -> None:
        """Give up opening a WebSocket, for one reason or the other."""
        if self.expire_login(now_ns):
            return
        late = httpx.ConnectTimeout(unconnected) if self.is_opening else httpx.ReadTimeout(unanswered)
        self.give_up(late, now_ns)

    def farewell(self) -> None:
        """Close the WebSocket as the protocol wants it, without waiting for the board to agree."""
        if self.is_ready and self.channel is not None and self._protocol is not None:
            self._protocol.send_close(1000)
            self.channel.write(b"".join(self._protocol.data_to_send()))
        self.stop()

    # --- StreamClient

    def begin(self) -> None:
        """See :class:`StreamClient`."""
        traffic = self._traffic
        self._protocol = protocol = ClientProtocol(
            _URI, subprotocols=traffic.subprotocols or None, max_size=traffic.max_bytes, logger=_SILENT
        )
        self._head = bytearray()
        assert self.channel is not None
        self._asked_ns = self.channel.write(traffic.handshake(self.number, protocol.key))

    def take(self, data: bytes, arrived_ns: int) -> bool:
        """See :class:`StreamClient`."""
        self._heard_ns = arrived_ns
        if self._head is None:
            return self._take_frames(data, arrived_ns)
        self._head += data
        head = self._switching_head()
        if head is None:
            return self.channel is not None
        self._traffic.upgrade_s.append((arrived_ns - self._asked_ns) * 1e-9)
        self._head = None
        more = self._take_frames(head, arrived_ns)
        while self._waiting and self.is_ready:
            one = self._waiting.popleft()
            self._send(one.intended_ns, one.deadline_ns)
        return more

    def broke(self, exc: httpx.TransportError | None, now_ns: int, during: str = "") -> None:
        """See :class:`StreamClient`."""
        if exc is None:
            exc = httpx.RemoteProtocolError("the board ended the connection without a close frame")
        self._fail(self._traffic.request.failed(exc, during), now_ns)

    def resume(self) -> None:
        """See :class:`StreamClient`."""
        self._traffic.freed(self)

    # --- inside

    def _switching_head(self) -> bytes | None:
        """Return the bytes from the head that switches protocols on; None before it, and where it refuses."""
        head = self._head
        assert head is not None
        while True:
            if not b"HTTP/1.".startswith(head[:7]):
                raise httpx.RemoteProtocolError(f"not an HTTP/1 response: {bytes(head[:40])!r}")
            end = end_of_head(head, MAX_HEAD_BYTES)
            if not end:
                return None
            if head[9:12] == b"101":
                return bytes(head)
            answer = self._traffic.openings.heads.parse(bytes(head[:end]))
            if answer.status >= 200:
                refused = self._traffic.recorder.table.error(
                    answer.status, f"http_{answer.status}", 0, lambda: REFUSED
                )
                self.drop()
                self._fail(refused, perf_counter_ns(), self._heard_ns)
                return None
            self._provisional_bytes += end
            if self._provisional_bytes > MAX_HEAD_BYTES:
                raise httpx.RemoteProtocolError("provisional answers without an end")
            del head[:end]

    def _take_frames(self, data: bytes, arrived_ns: int) -> bool:
        protocol = self._protocol
        assert protocol is not None
        echoes = 0
        for start in range(0, len(data), _SLICE_BYTES):
            protocol.receive_data(data[start : start + _SLICE_BYTES] if len(data) > _SLICE_BYTES else data)
            if protocol.handshake_exc is not None:
                raise httpx.RemoteProtocolError(f"the upgrade is wrong: {_in_words(protocol.handshake_exc)}")
            echoes += sum(self._take_frame(one, arrived_ns) for one in protocol.events_received())
            if writes := protocol.data_to_send():
                assert self.channel is not None
                self.channel.write(b"".join(writes))
            if protocol.parser_exc is not None:
                raise httpx.RemoteProtocolError(_in_words(protocol.parser_exc))
            if protocol.close_rcvd is not None:
                raise httpx.RemoteProtocolError(f"the board closed the WebSocket: {protocol.close_rcvd}")
        for _ in range(echoes):
            self._traffic.freed(self, arrived_ns)
        return not (echoes and self._flight)  # while an echo is awaited, the next read is its arrival

    def _take_frame(self, frame: object, arrived_ns: int) -> bool:
        """Take a frame; return whether it completes an echo."""
        if not isinstance(frame, Frame):  # the answer to the upgrade
            return False
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            if frame.fin:
                return self._take_message(bytes(frame.data), arrived_ns, binary=opcode is Opcode.BINARY)
            self._parts, self._parts_binary = bytearray(frame.data), opcode is Opcode.BINARY
        elif opcode is Opcode.CONT and self._parts is not None:
            self._parts += frame.data
            if frame.fin:
                message, self._parts = bytes(self._parts), None
                return self._take_message(message, arrived_ns, binary=self._parts_binary)
        self._take_other(arrived_ns)
        return False

    def _take_message(self, data: bytes, arrived_ns: int, *, binary: bool) -> bool:
        if not binary:
            try:
                data.decode()
            except UnicodeDecodeError:
                raise httpx.RemoteProtocolError("a text message is no UTF-8") from None
        echo = self._flight.echoed(data, binary=binary)
        if echo is None:
            self._traffic.foreign += 1
            self._take_other(arrived_ns)
            return False
        sent, error = echo
        self.answered = True
        self.failures = 0
        self._served += 1
        self._others = 0
        self._traffic.echoed(sent, error, arrived_ns, data)
        return True

    def _take_other(self, arrived_ns: int) -> None:
        """Count a frame that is no echo.

        Raises:
            httpx.RemoteProtocolError: there are too many of them.
        """
        self._others += 1
        if self._others > MOST_OTHER_FRAMES:
            if arrived_ns - self._others_since_ns < _NS_PER_S:
                raise httpx.RemoteProtocolError(
                    f"a flood of frames: {self._others:,} in a second, and no echo"
                )
            self._others, self._others_since_ns = 1, arrived_ns

    def _send(self, intended_ns: int, deadline_ns: int) -> int:
        traffic, protocol, channel = self._traffic, self._protocol, self.channel
        assert protocol is not None
        assert channel is not None
        number = next(traffic.numbers)
        payload = traffic.messages.make(number)
        (protocol.send_binary if traffic.stream.binary else protocol.send_text)(payload)
        sent_ns = channel.write(b"".join(protocol.data_to_send()))
        self._flight.add(number, SentMessage(payload, sent_ns, intended_ns, deadline_ns))
        traffic.sent(sent_ns)
        return sent_ns

    def _leave(self, now_ns: int) -> None:
        """Close a WebSocket whose messages were lost; those that are still in flight are lost with it."""
        came = self._flight.what_came()
        for lost in self._flight.take_all():
            self._traffic.lost(lost, now_ns, came)
        self.drop()
        self._forget()
        self.back_off()

    def _fail(self, outcome: int, now_ns: int, first_ns: int = 0) -> None:
        """Count an outcome for every message, or for none of them where there is none; and pause."""
        add = self._traffic.recorder.add
        served = self._served
        sent = self._flight.take_all()
        for one in sent:
            add(0, outcome, one.start_ns, first_ns, now_ns, one.intended_ns)
        for waiting in self._waiting:
            add(0, outcome, waiting.begin_ns, first_ns, now_ns, waiting.intended_ns)
        if not sent and not self._waiting and not self._traffic.feed.has_ended(now_ns):
            add(0, outcome, now_ns, now_ns, now_ns, now_ns)
        self._waiting.clear()
        self._forget()
        if served:
            self.failures = 0
        self.back_off()
        self._traffic.freed(self)

    def _forget(self) -> None:
        self._protocol = self._head = self._parts = None
        self._served = self._others = self._provisional_bytes = 0
        self._flight = InFlight(self._traffic.messages, binary=self._traffic.stream.binary)


class WebSocketTraffic(StreamTraffic):
    """All WebSocket clients of a phase.

    Args:
        setup: what it is made of; its request lacks the key of the handshake.
        watch: counts how late messages were sent, and how fast clients turned round.
        stream: what is sent.

    Attributes:
        foreign: messages that came and answer none of ours.
        upgrade_s: seconds that each upgrade took, from its request to its answer.
    """

    def __init__(self, setup: StreamSetup, *, watch: SelfWatch, stream: StreamSpec) -> None:
        super().__init__(setup)
        self.stream = stream
        self.messages = Messages(stream)
        self.numbers = itertools.count()
        self.max_bytes = max(MAX_MESSAGE_BYTES, 2 * len(self.messages.make(0)))
        self.subprotocols = _listed(self.request.request.headers.get("sec-websocket-protocol", ""))
        self.foreign = 0
        self.upgrade_s: list[float] = []
        self._watch = watch
        self._answered = self.recorder.table.index(SWITCHED, None)
        self._clients = [WebSocketClient(self, number) for number in range(setup.clients)]
        self._closed_loop = self.feed.next_due_ns() is None
        self._resting: set[WebSocketClient] = set()
        self._turn = 0
        self._timer: asyncio.Handle | None = None
        self._echo_ns = 0
        self._done: Callable[[], None] | None = None

    def handshake(self, number: int, key: str) -> bytes:
        """Make the request with which a client opens its WebSocket."""
        return self.wire_of(number)[:-2] + b"Sec-WebSocket-Key: %s\r\n\r\n" % key.encode()

    # --- Traffic

    def start(self, loop: asyncio.AbstractEventLoop, done: Callable[[], None]) -> None:
        """Begin; ``done`` is called once, when nothing is left to send or to await."""
        self._done = done
        self.openings.use(loop)
        if self._closed_loop:
            for client in self._clients:
                self._advance(client, 0)
        else:
            for client in self._clients:
                client.open()
            self._pump()

    def sweep(self, now_ns: int) -> None:
        """Time out what is overdue."""
        self.sweep_logins(now_ns)
        for client in self._clients:
            client.expire(now_ns)
        if self._closed_loop and self.feed.has_ended(now_ns) and any(one.is_ready for one in self._clients):
            # The board has no place for these, whose turn comes when others leave: as for requests.
            for client in self._clients:
                waited_s = (now_ns - client.begun_ns) * 1e-9
                if client.is_starving and not client.is_ready and waited_s >= _LEAST_WAIT_S:
                    client.expire_opening(_NO_PLACE, _NO_PLACE, now_ns)

    def wake(self) -> None:
        """Finish if nothing is in flight, since the feed has ended early."""
        self._finish_if_over()

    def in_flight(self) -> int:
        """Count the messages in flight."""
        return sum(client.in_flight for client in self._clients)

    def never_answered(self) -> int:
        """Count the clients of a closed loop that sent and never got an echo."""
        return sum(one.asked and not one.answered for one in self._clients) if self._closed_loop else 0

    async def close(self) -> None:
        """Close everything."""
        self._done = None
        if self._timer is not None:
            self._timer.cancel()
        for client in self._clients:
            client.farewell()
        await self.close_connections()
        figures = self.recorder.samples.figures
        if self.upgrade_s:
            figures["upgrade_ms"] = statistics.median_high(self.upgrade_s) * 1e3
        if self.foreign:
            figures["ws_unsolicited"] = float(self.foreign)

    # --- for the clients

    def echoed(self, sent: SentMessage, error: str | None, arrived_ns: int, data: bytes) -> None:
        """Record a round trip."""
        outcome = self._answered
        if error is not None:
            outcome = self.recorder.table.error(SWITCHED, error, 0, lambda: _difference(sent.payload, data))
        self.recorder.add(0, outcome, sent.start_ns, arrived_ns, arrived_ns, sent.intended_ns)

    def lost(self, sent: SentMessage, now_ns: int, came: str) -> None:
        """Record a message whose echo did not come in time."""
        why = f"no echo in time{f': {came}' if came else ''}"
        outcome = self.recorder.table.error(None, LOST, 0, lambda: why)
        self.recorder.add(0, outcome, sent.start_ns, 0, now_ns, sent.intended_ns)

    def sent(self, sent_ns: int) -> None:
        """Take note that a message was sent: behind an echo, that was a turn of its client."""
        if self._echo_ns:
            self._watch.turned(sent_ns - self._echo_ns)

    def freed(self, client: WebSocketClient, echo_ns: int = 0) -> None:
        """Let a client that has a place for a message go on; behind an echo that arrived at ``echo_ns``."""
        if self._closed_loop:
            self._advance(client, echo_ns)
        elif self.feed.next_due_ns() is None:
            self._finish_if_over()
        elif self._timer is None:
            self._pump()

    def _advance(self, client: WebSocketClient, echo_ns: int) -> None:
        """Let a client of a closed loop send its next message, unless it has one in hand, or pauses."""
        if client.in_flight or not client.can_take:
            return
        now = perf_counter_ns()
        taken = self.feed.take(client.number, now)
        if taken is None:
            self._resting.add(client)
            self._finish_if_over()
            return
        self._echo_ns = echo_ns
        client.accept(taken[1], now)
        self._echo_ns = 0

    def _pump(self) -> None:
        """Send the messages of an open loop that are due, and come back for the next."""
        self._timer = None
        while (due_ns := self.feed.next_due_ns()) is not None:
            ahead_s = (due_ns - perf_counter_ns()) * 1e-9
            if ahead_s > 0:
                if ahead_s > _TIMER_SLACK_S:
                    self._timer = self.openings.loop.call_later(ahead_s - _TIMER_SLACK_S, self._pump)
                else:
                    self._timer = self.openings.loop.call_soon(self._pump)
                return
            client = self._next_client()
            if client is None:  # the next one that has a place comes back
                return
            self._watch.late(round(-ahead_s * 1e9))
            now = perf_counter_ns()
            taken = self.feed.take(client.number, now)
            assert taken is not None
            client.accept(taken[1], now)
        self._finish_if_over()

    def _next_client(self) -> WebSocketClient | None:
        """Choose who sends next, in turn; those with an open WebSocket first."""
        count = len(self._clients)
        able: WebSocketClient | None = None
        for step in range(count):
            client = self._clients[(self._turn + step) % count]
            if client.can_take:
                able = able or client
                if client.is_ready:
                    able = client
                    break
        if able is not None:
            self._turn = (able.number + 1) % count
        return able

    def _finish_if_over(self) -> None:
        if self._closed_loop:
            over = len(self._resting) == len(self._clients)
        else:
            over = self.feed.next_due_ns() is None and not self.in_flight()
        if over:
            done, self._done = self._done, None
            if done is not None:
                done()


def _listed(value: str) -> Sequence[Subprotocol]:
    return [Subprotocol(part.strip()) for part in value.split(",") if part.strip()]


def _in_words(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}".rstrip(": ")


def _difference(wanted: bytes, got: bytes) -> str:
    """Say where an echo differs from what was sent."""
    if bytes(got) == wanted:
        return "the echo is right, and came late or as the wrong type of message"
    shared = next(
        (place for place, (a, b) in enumerate(zip(wanted, got, strict=False)) if a != b),
        min(len(wanted), len(got)),
    )
    return f"{len(got):,} bytes came for {len(wanted):,}, and differ from byte {shared} on"
