"""WebSocket clients on servers that we did not write, and on servers that do what none should."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
from support.load_servers import (
    HANG_S,
    LOOPS,
    NOWHERE,
    PATIENT_S,
    Handler,
    LoopFactory,
    Peer,
    answer,
    check_sound,
    kinds,
    once,
    serving,
    target,
    wait_until,
)
from support.stream_servers import (
    BINARY,
    CLOSE,
    CONTINUED,
    PING,
    PONG,
    WebSocketPeer,
    accept_key,
    aiohttp_server,
    echo,
    frame,
    switching,
    websockets_server,
)

from pytest_espperf.errors import UsageError
from pytest_espperf.load import run_phase
from pytest_espperf.model.metrics import summarise
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import PhaseSpec, StreamSpec, Target

NUMBERED = StreamSpec("/ws", size=32)
LITERAL = StreamSpec("/ws", message="hello")
SHORT_S = 0.4
"""Of a round trip, where time-outs are the subject."""


def phase(
    stream: StreamSpec = NUMBERED, duration_s: float = 0.3, clients: int = 2, rate: float | None = None
) -> PhaseSpec:
    return PhaseSpec("talk", clients, duration_s, rate, kind="websocket", stream=stream)


def drive(where: Target, spec: PhaseSpec, timeout_s: float = PATIENT_S, **more: Any) -> PhaseSamples:
    begun = time.monotonic()
    samples = run_phase(where, (), spec, request_timeout_s=timeout_s, deadline_s=HANG_S, **more)
    assert time.monotonic() - begun < HANG_S
    check_sound(samples, timeout_s)
    return samples


def drive_bad(
    handler: Handler, spec: PhaseSpec | None = None, timeout_s: float = SHORT_S, **more: Any
) -> PhaseSamples:
    with serving(handler) as server:
        return drive(server.target, spec or phase(), timeout_s, **more)


def by_hand(work: Callable[[WebSocketPeer], None]) -> Handler:
    """A handler that upgrades each connection."""

    def handle(peer: Peer) -> None:
        upgraded = WebSocketPeer(peer)
        if upgraded.head:
            work(upgraded)

    return handle


def for_each(work: Callable[[WebSocketPeer, bytes], None]) -> Handler:
    """A handler that does something for each message, in place of an echo."""

    def handle(peer: WebSocketPeer) -> None:
        while (message := peer.message()) is not None:
            work(peer, message)

    return by_hand(handle)


def silent(peer: Peer) -> None:
    peer.request()
    peer.until_gone()


# --- servers that we did not write


@pytest.fixture(scope="module")
def board() -> Iterator[Target]:
    with websockets_server(echo, compression=None, max_size=None) as port:
        yield target(port)


STREAMS = {
    "numbered": NUMBERED,
    "short": StreamSpec("/ws", size=1),
    "literal": LITERAL,
    "json": StreamSpec("/ws", message='{"id": {n}, "text": "\u00e4"}'),
    "binary": StreamSpec("/ws", size=300, binary=True),
    "long": StreamSpec("/ws", size=100_000),
    "long binary": StreamSpec("/ws", size=200_000, binary=True),
}


@pytest.mark.parametrize("loop_factory", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_round_trips_in_a_closed_loop(board: Target, stream: StreamSpec, loop_factory: LoopFactory) -> None:
    samples = drive(board, phase(stream, 1.5), loop_factory=loop_factory)
    report = summarise(samples)
    assert report.error_kinds == {}
    assert report.status_counts == {"101": report.ok}
    assert (report.kind, report.connects, report.never_answered) == ("websocket", 2, 0)
    assert report.figures["upgrade_ms"] > 0
    assert "ws_unsolicited" not in report.figures
    assert list(report.path_metrics) == ["/ws"]
    assert samples.generator is not None
    assert samples.generator.turnaround_ms is not None


@pytest.mark.parametrize("loop_factory", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_round_trips_in_an_open_loop(board: Target, stream: StreamSpec, loop_factory: LoopFactory) -> None:
    samples = drive(board, phase(stream, rate=50.0, duration_s=0.4), loop_factory=loop_factory)
    assert kinds(samples) == {None: 20}
    assert len(samples.lag_s) == 20
    assert samples.dropped_starts == 0


def test_messages_of_an_open_loop_overtake_no_slow_echo() -> None:
    """Several are in flight on one connection: a server that takes 0.2 s for each of them keeps up."""

    async def slow(websocket: Any) -> None:
        async def later(message: str) -> None:
            await asyncio.sleep(0.2)
            await websocket.send(message)

        tasks = [asyncio.create_task(later(message)) async for message in websocket]
        await asyncio.gather(*tasks, return_exceptions=True)

    with websockets_server(slow) as port:
        samples = drive(target(port), phase(clients=1, rate=40.0, duration_s=0.5))
    assert len(samples) == 20
    assert kinds(samples)[None] >= 15  # timers of one time may end in any order
    assert set(kinds(samples)) <= {None, "ws_reordered"}
    assert len(samples.connect_s) <= 1


def test_what_is_in_flight_at_the_end_of_the_phase_is_awaited() -> None:
    async def slow(websocket: Any) -> None:
        async for message in websocket:
            await asyncio.sleep(0.3)
            await websocket.send(message)

    with websockets_server(slow) as port:
        samples = drive(target(port), phase(clients=1, duration_s=0.1))
    assert kinds(samples) == {None: 1}
    assert samples.service_s[0] >= 0.29


def test_a_warm_up_is_not_counted(board: Target) -> None:
    samples = drive(board, phase(rate=50.0, duration_s=0.2), warmup_s=0.2)
    assert kinds(samples) == {None: 10}
    assert len(samples.connect_s) == 0


def test_connections_are_closed_as_the_protocol_wants_it() -> None:
    codes: list[int | None] = []

    async def note(websocket: Any) -> None:
        await echo(websocket)
        codes.append(websocket.protocol.close_rcvd and websocket.protocol.close_rcvd.code)

    with websockets_server(note) as port:
        drive(target(port), phase(clients=3))
        assert wait_until(lambda: len(codes) == 3)
    assert codes == [1000, 1000, 1000]


def test_headers_and_the_subprotocol_go_into_the_upgrade() -> None:
    seen: list[Any] = []

    async def note(websocket: Any) -> None:
        seen.append((websocket.request.path, websocket.request.headers, websocket.subprotocol))
        await echo(websocket)

    with websockets_server(note, subprotocols=["v2", "v1"]) as port:
        where = Target("http", "127.0.0.1", port, "board.local", headers=(("X-Board", "7"),))
        headers = (
            ("Authorization", "Bearer abc"),
            ("Sec-WebSocket-Protocol", "v1, v3"),
            ("Connection", "no"),
        )
        samples = drive(where, phase(StreamSpec("/ws?a=b", size=16), clients=1), headers=headers)
    assert set(kinds(samples)) == {None}
    ((path, got, subprotocol),) = seen
    assert (path, subprotocol) == ("/ws?a=b", "v1")
    assert (got["Host"], got["X-Board"], got["Authorization"]) == ("board.local", "7", "Bearer abc")
    assert got["Connection"] == "Upgrade"
    assert "Sec-WebSocket-Extensions" not in got


def test_each_connection_has_a_key_of_its_own() -> None:
    keys: list[str] = []

    async def note(websocket: Any) -> None:
        keys.append(websocket.request.headers["Sec-WebSocket-Key"])
        await echo(websocket)

    with websockets_server(note) as port:
        drive(target(port), phase(clients=4))
    assert len(set(keys)) == 4


@pytest.mark.parametrize("loop_factory", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("rate", [None, 40.0])
def test_tls(loop_factory: LoopFactory, rate: float | None) -> None:
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    with ca.cert_pem.tempfile() as ca_file, websockets_server(echo, ssl=context) as port:
        where = Target("https", "127.0.0.1", port, "x", ca_file=ca_file)
        samples = drive(where, phase(StreamSpec("/ws", size=20_000), rate=rate), loop_factory=loop_factory)
    assert set(kinds(samples)) == {None}


@pytest.mark.parametrize("rate", [None, 40.0])
def test_another_server_that_we_did_not_write(rate: float | None) -> None:
    async def talk(request: Any) -> Any:
        from aiohttp import WSMsgType, web

        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            if message.type == WSMsgType.TEXT:
                await websocket.send_str(message.data)
        return websocket

    with aiohttp_server(ws=talk) as port:
        samples = drive(target(port), phase(rate=rate))
    assert set(kinds(samples)) == {None}


def test_the_keepalive_of_a_server_is_answered() -> None:
    """The server closes a WebSocket whose pongs do not come."""

    async def slow(websocket: Any) -> None:
        async for message in websocket:
            await asyncio.sleep(0.15)
            await websocket.send(message)

    with websockets_server(slow, ping_interval=0.02, ping_timeout=5) as port:
        samples = drive(target(port), phase(clients=1, duration_s=0.5))
    assert set(kinds(samples)) == {None}


def test_a_broadcast_to_all_clients_answers_only_whose_message_it_is() -> None:
    """Firmware that sends each message to everybody is common; the numbers tell whose it was."""
    everybody: set[Any] = set()

    async def shout(websocket: Any) -> None:
        everybody.add(websocket)
        try:
            async for message in websocket:
                for other in tuple(everybody):
                    await other.send(message)
        finally:
            everybody.discard(websocket)

    with websockets_server(shout) as port:
        samples = drive(target(port), phase(clients=3))
    assert set(kinds(samples)) <= {None, "RemoteProtocolError"}
    assert kinds(samples)[None] > 0
    assert samples.figures["ws_unsolicited"] > 0


# --- the upgrade


REFUSALS = {
    b"200 OK": "http_200",
    b"302 Found": "http_302",
    b"400 Bad Request": "http_400",
    b"404 Not Found": "http_404",
    b"426 Upgrade Required": "http_426",
    b"503 Service Unavailable": "http_503",
}


@pytest.mark.parametrize(("status", "kind"), REFUSALS.items())
def test_a_refused_upgrade_counts_by_its_status(status: bytes, kind: str) -> None:
    samples = drive_bad(once(answer(b"no", status)))
    assert set(kinds(samples)) == {kind}
    assert samples.never_answered == 2
    assert len(samples) < 100  # it is not asked again at once


def test_a_refusal_without_an_end_is_not_awaited() -> None:
    head = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"

    def handle(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(head)
            peer.until_gone()

    samples = drive_bad(handle, timeout_s=PATIENT_S)
    assert set(kinds(samples)) == {"http_404"}


def test_provisional_answers_may_come_first() -> None:
    def handle(peer: Peer) -> None:
        head = peer.request()
        if head is None:
            return
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        peer.send(switching(accept_key(head)))
        peer.until_gone()

    assert set(kinds(drive_bad(handle))) == {"ws_lost"}


def _wrong_key(peer: Peer) -> None:
    if peer.request() is not None:
        peer.send(switching(b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="))
        peer.until_gone()


def _no_key(peer: Peer) -> None:
    if peer.request() is not None:
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        peer.until_gone()


def _other_protocol(peer: Peer) -> None:
    head = peer.request()
    if head is not None:
        peer.send(switching(accept_key(head)).replace(b"websocket", b"h2c"))
        peer.until_gone()


def _unasked_extension(peer: Peer) -> None:
    head = peer.request()
    if head is not None:
        peer.send(switching(accept_key(head), b"Sec-WebSocket-Extensions: permessage-deflate"))
        peer.until_gone()


def _unasked_subprotocol(peer: Peer) -> None:
    head = peer.request()
    if head is not None:
        peer.send(switching(accept_key(head), b"Sec-WebSocket-Protocol: chat"))
        peer.until_gone()


def _endless_head(peer: Peer) -> None:
    if peer.request() is not None:
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\n")
        while not peer.stopping.is_set():
            peer.send(b"X: " + b"y" * 5000 + b"\r\n")


def _endless_hints(peer: Peer) -> None:
    if peer.request() is not None:
        while not peer.stopping.is_set():
            peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)


def _many_lines(peer: Peer) -> None:
    head = peer.request()
    if head is not None:
        peer.send(switching(accept_key(head), *[b"X-%d: y" % number for number in range(1000)]))
        peer.until_gone()


WRONG_UPGRADES = {
    "wrong key": _wrong_key,
    "no key": _no_key,
    "other protocol": _other_protocol,
    "unasked extension": _unasked_extension,
    "unasked subprotocol": _unasked_subprotocol,
    "endless head": _endless_head,
    "endless hints": _endless_hints,
    "many lines": _many_lines,
    "no HTTP": once(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "HTTP/2": once(b"HTTP/2 101 Switching Protocols\r\n\r\n"),
    "malformed": once(b"HTTP/1.1 4x4 Nothing\r\n\r\n"),
    "half a head": once(b"HTTP/1.1 101 Switch"),
    "nothing": once(b""),
}


@pytest.mark.parametrize("handler", WRONG_UPGRADES.values(), ids=WRONG_UPGRADES)
@pytest.mark.parametrize("rate", [None, 20.0])
def test_a_wrong_upgrade_is_a_protocol_error(handler: Handler, rate: float | None) -> None:
    samples = drive_bad(handler, phase(rate=rate), timeout_s=PATIENT_S)
    assert set(kinds(samples)) <= {"RemoteProtocolError", "ReadError"}  # a reset may come first
    assert "RemoteProtocolError" in kinds(samples)
    assert samples.reasons["RemoteProtocolError", 0]


def test_a_wrong_key_is_named() -> None:
    reason = drive_bad(_wrong_key).reasons["RemoteProtocolError", 0]
    assert "Sec-WebSocket-Accept" in reason


def test_an_upgrade_without_an_answer_times_out() -> None:
    samples = drive_bad(silent)
    assert set(kinds(samples)) == {"ReadTimeout"}
    assert samples.never_answered == 2


@pytest.mark.parametrize("rate", [None, 20.0])
def test_nobody_listens(rate: float | None) -> None:
    samples = run_phase(NOWHERE, (), phase(rate=rate), request_timeout_s=SHORT_S, deadline_s=HANG_S)
    assert set(kinds(samples)) == {"ConnectError"}
    assert len(samples) < 200


# --- frames


def byte_by_byte(peer: WebSocketPeer, message: bytes) -> None:
    peer.peer.drip(frame(message), 0.0005)


def in_parts(peer: WebSocketPeer, message: bytes) -> None:
    peer.send(message[:3], fin=False)
    peer.send(b"between", PING)
    for place in range(3, len(message)):
        peer.send(message[place : place + 1], CONTINUED, fin=False)
    peer.send(b"", CONTINUED)


def with_noise(peer: WebSocketPeer, message: bytes) -> None:
    peer.send(b"still here", PONG)
    peer.send(b'{"temperature": 20.5}')
    peer.send(b"\x00\xff", BINARY)
    peer.send(b"", PING)
    peer.send(message)


@pytest.mark.parametrize("work", [byte_by_byte, in_parts, with_noise])
@pytest.mark.parametrize("rate", [None, 20.0])
def test_frames_that_are_odd_and_right(
    work: Callable[[WebSocketPeer, bytes], None], rate: float | None
) -> None:
    samples = drive_bad(for_each(work), phase(rate=rate), timeout_s=PATIENT_S)
    assert set(kinds(samples)) == {None}
    assert ("ws_unsolicited" in samples.figures) == (work is with_noise)


def raw(data: bytes) -> Handler:
    """A handler that answers the first message with these bytes, and stays."""

    def handle(peer: WebSocketPeer) -> None:
        if peer.message() is not None:
            peer.peer.send(data)
            peer.peer.until_gone()

    return by_hand(handle)


BAD_FRAMES = {
    "masked": frame(b"x" * 32, mask=True),
    "reserved bit": frame(b"x", rsv=4),
    "reserved opcode": frame(b"x", 3),
    "reserved control opcode": frame(b"x", 11),
    "continuation of nothing": frame(b"x", CONTINUED),
    "part in part": frame(b"x", fin=False) + frame(b"y"),
    "split ping": frame(b"x", PING, fin=False),
    "long ping": frame(b"x" * 126, PING),
    "length of 2^62": bytes([0x81, 127]) + struct.pack("!Q", 1 << 62),
    "length of 2^63": bytes([0x81, 127]) + struct.pack("!Q", 1 << 63),
    "long message": bytes([0x81, 127]) + struct.pack("!Q", (1 << 20) + 1),
    "no UTF-8": frame(b"\xff\xfe\xfd"),
    "no UTF-8, as long as an echo": frame(b"\xff" * 32),
    "close with half a code": frame(b"\x03", CLOSE),
    "close with a code that is none": frame(struct.pack("!H", 999), CLOSE),
    "close with a reason that is no text": frame(struct.pack("!H", 1000) + b"\xff", CLOSE),
    "close": frame(struct.pack("!H", 1001) + b"going away", CLOSE),
    "close without a code": frame(b"", CLOSE),
    "not a frame": b"HTTP/1.1 500 Internal Server Error\r\n\r\n",
}


@pytest.mark.parametrize("data", BAD_FRAMES.values(), ids=BAD_FRAMES)
@pytest.mark.parametrize("rate", [None, 20.0])
def test_a_bad_frame_is_a_protocol_error_and_the_end_of_its_connection(
    data: bytes, rate: float | None
) -> None:
    samples = drive_bad(raw(data), phase(rate=rate), timeout_s=PATIENT_S)
    assert set(kinds(samples)) == {"RemoteProtocolError"}
    assert samples.reasons["RemoteProtocolError", 0]
    assert max(samples.service_s) > 0  # of a message, whose time it took
    assert len(samples.connect_s) > 1  # and another one is opened


def test_a_close_frame_is_named_with_its_code() -> None:
    reason = drive_bad(raw(BAD_FRAMES["close"])).reasons["RemoteProtocolError", 0]
    assert "1001" in reason
    assert "going away" in reason


def test_a_message_that_never_ends_is_bounded() -> None:
    def work(peer: WebSocketPeer, _message: bytes) -> None:
        peer.send(b"", fin=False)
        while not peer.peer.stopping.is_set():
            peer.send(b"x" * 50_000, CONTINUED, fin=False)

    samples = drive_bad(for_each(work), timeout_s=PATIENT_S)
    assert set(kinds(samples)) <= {"RemoteProtocolError", "ReadError"}


FLOODS = {
    "pings": frame(b"", PING) * 1000,
    "long pings": frame(b"x" * 125, PING) * 100,
    "pongs": frame(b"", PONG) * 1000,
    "messages": frame(b"") * 1000,
    "empty parts": frame(b"", CONTINUED, fin=False) * 1000,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
@pytest.mark.parametrize("reads", [True, False])
def test_a_flood_neither_starves_the_phase_nor_fills_the_memory(flood: bytes, reads: bool) -> None:
    def work(peer: WebSocketPeer) -> None:
        peer.peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if flood == FLOODS["empty parts"]:
            peer.send(b"", fin=False)
        while not peer.peer.stopping.is_set():
            peer.peer.send(flood)
            if reads:
                peer.peer.sock.setblocking(False)
                try:
                    peer.peer.sock.recv(1 << 20)
                except BlockingIOError:
                    pass
                finally:
                    peer.peer.sock.setblocking(True)

    beats: list[float] = []
    tracemalloc.start()
    try:
        samples = drive_bad(
            by_hand(work),
            phase(clients=1, duration_s=0.5),
            timeout_s=1.0,
            heartbeat_s=0.05,
            on_heartbeat=lambda progress: beats.append(progress.elapsed_s),
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.collect()
    assert None not in kinds(samples)
    assert beats
    assert peak < 64e6


# --- echoes


def test_an_echo_that_comes_twice_is_counted_once() -> None:
    def twice(peer: WebSocketPeer, message: bytes) -> None:
        peer.peer.send(frame(message) * 2)

    samples = drive_bad(for_each(twice), timeout_s=PATIENT_S)
    assert set(kinds(samples)) == {None}
    answered = len(samples)
    assert answered - 2 <= samples.figures["ws_unsolicited"] <= answered


@pytest.mark.parametrize("stream", [NUMBERED, LITERAL], ids=["numbered", "literal"])
@pytest.mark.parametrize("rate", [None, 20.0])
def test_messages_without_an_echo_are_lost(stream: StreamSpec, rate: float | None) -> None:
    samples = drive_bad(for_each(lambda _peer, _message: None), phase(stream, rate=rate))
    assert set(kinds(samples)) == {"ws_lost"}
    assert samples.never_answered == (2 if rate is None else 0)
    waited = (
        samples.service_s if rate is None else [max(samples.service_s)]
    )  # later ones share a dead connection
    assert min(waited) >= SHORT_S * 0.9


def test_a_lost_message_does_not_cost_the_others_their_connection() -> None:
    seen: list[bytes] = []

    def but_one(peer: WebSocketPeer, message: bytes) -> None:
        seen.append(message)
        if len(seen) != 5:
            peer.send(message)

    samples = drive_bad(for_each(but_one), phase(clients=1, rate=40.0, duration_s=0.6))
    assert kinds(samples) == {None: 23, "ws_lost": 1}
    assert len(samples.connect_s) <= 1


def test_what_came_in_place_of_an_echo_is_told() -> None:
    samples = drive_bad(for_each(lambda peer, message: peer.send(b"you said: " + message)))
    assert set(kinds(samples)) == {"ws_lost"}
    assert "you said" in samples.reasons["ws_lost", 0]


@pytest.mark.parametrize("stream", [NUMBERED, LITERAL], ids=["numbered", "literal"])
@pytest.mark.parametrize("rate", [None, 20.0])
def test_an_echo_with_other_bytes_is_wrong(stream: StreamSpec, rate: float | None) -> None:
    samples = drive_bad(
        for_each(lambda peer, message: peer.send(message[:-1] + b"?")), phase(stream, rate=rate), PATIENT_S
    )
    assert set(kinds(samples)) == {"ws_payload"}
    assert "differ from byte" in samples.reasons["ws_payload", 0]
    assert samples.never_answered == 0


def test_an_echo_of_the_wrong_type_is_wrong() -> None:
    samples = drive_bad(for_each(lambda peer, message: peer.send(message, BINARY)), timeout_s=PATIENT_S)
    assert set(kinds(samples)) == {"ws_payload"}


def test_echoes_in_reverse_order_are_told() -> None:
    def handle(peer: WebSocketPeer) -> None:
        held: list[bytes] = []
        while (message := peer.message()) is not None:
            held.append(message)
            if len(held) == 4:
                for one in reversed(held):
                    peer.send(one)
                held.clear()

    samples = drive_bad(by_hand(handle), phase(clients=1, rate=40.0, duration_s=0.5), PATIENT_S)
    assert kinds(samples) == {None: 5, "ws_reordered": 15}


def test_late_echoes_of_a_literal_message_are_not_taken_for_the_next_ones() -> None:
    """They are alike, so the connection on which one may still come is given up."""
    late: list[float] = []

    def handle(peer: WebSocketPeer) -> None:
        while (message := peer.message()) is not None:
            if not late:
                late.append(time.monotonic())
                peer.peer.stopping.wait(SHORT_S * 1.5)
            peer.send(message)

    samples = drive_bad(by_hand(handle), phase(LITERAL, clients=1, duration_s=1.0))
    assert kinds(samples)["ws_lost"] == 1
    assert kinds(samples)[None] > 0
    assert len(samples.connect_s) == 2


# --- ends of connections


def after(count: int, end: Callable[[WebSocketPeer], None]) -> Handler:
    """A handler that echoes so many messages and ends the connection with the next."""

    def handle(peer: WebSocketPeer) -> None:
        for _ in range(count):
            message = peer.message()
            if message is None:
                return
            peer.send(message)
        if peer.message() is not None:
            end(peer)

    return by_hand(handle)


ENDS: dict[str, Callable[[WebSocketPeer], None]] = {
    "without a close frame": lambda _peer: None,
    "with a close frame": lambda peer: peer.send(struct.pack("!H", 1000), CLOSE),
    "in a frame": lambda peer: peer.peer.send(frame(b"x" * 32)[:-3]),
    "in a header": lambda peer: peer.peer.send(b"\x81"),
    "with a reset": lambda peer: peer.peer.reset(),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("rate", [None, 40.0])
def test_a_connection_that_ends_is_opened_again(
    end: Callable[[WebSocketPeer], None], rate: float | None
) -> None:
    samples = drive_bad(after(3, end), phase(rate=rate, duration_s=0.6), timeout_s=PATIENT_S)
    found = kinds(samples)
    assert set(found) <= {None, "RemoteProtocolError", "ReadError", "WriteError"}
    assert found[None] > 0
    assert sum(count for kind, count in found.items() if kind) > 0
    assert len(samples.connect_s) > 2


def test_a_board_that_closes_behind_each_echo_is_told() -> None:
    def handle(peer: WebSocketPeer) -> None:
        message = peer.message()
        if message is not None:
            peer.send(message)
            peer.send(struct.pack("!H", 1000), CLOSE)

    samples = drive_bad(by_hand(handle), timeout_s=PATIENT_S)
    assert set(kinds(samples)) == {None, "RemoteProtocolError"}


def test_a_board_with_one_place_serves_one_client() -> None:
    """The others do not look like clients of a slow board, and not awaited for the whole of their time."""
    served: list[int] = []

    def handle(peer: Peer) -> None:
        if served and peer.number not in served:
            peer.until_gone()
            return
        served.append(peer.number)
        upgraded = WebSocketPeer(peer)
        while (message := upgraded.message()) is not None:
            upgraded.send(message)

    begun = time.monotonic()
    samples = drive_bad(handle, phase(clients=3, duration_s=0.5), timeout_s=30.0)
    assert time.monotonic() - begun < 25
    assert kinds(samples)[None] > 0
    assert samples.never_answered == 2


def test_a_board_that_does_not_read_fills_no_memory() -> None:
    def deaf(peer: WebSocketPeer) -> None:
        peer.peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        while not peer.peer.stopping.wait(0.01):
            peer.send(b"", PING)

    stream = StreamSpec("/ws", size=100_000)
    samples = drive_bad(by_hand(deaf), phase(stream, clients=1, rate=2000.0, duration_s=0.5), timeout_s=1.0)
    assert None not in kinds(samples)
    assert len(samples) <= 256 * 20


# --- the phase


def test_the_deadline_ends_the_phase() -> None:
    with serving(for_each(lambda _peer, _message: None)) as server:
        samples = run_phase(server.target, (), phase(duration_s=30.0), request_timeout_s=60.0, deadline_s=0.5)
    assert "2 requests unanswered" in samples.cut_short
    assert len(samples) == 0


def test_an_open_loop_gives_up_starts_that_no_connection_can_take() -> None:
    with serving(once(b"")) as server:
        samples = run_phase(
            server.target, (), phase(rate=200.0, clients=1), request_timeout_s=0.3, deadline_s=HANG_S
        )
    assert len(samples) + samples.dropped_starts >= 60
    assert samples.never_answered == 0


def test_a_transport_of_the_projects_own_cannot_carry_it() -> None:
    with pytest.raises(UsageError, match="'talk' is of kind 'websocket'"):
        run_phase(NOWHERE, (), phase(), transport=lambda: pytest.fail("not used"))


def test_without_the_package_it_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'pytest-espperf\[websocket\]'"):
        run_phase(NOWHERE, (), phase())
