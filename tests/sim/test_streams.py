"""The reference device's WebSocket and events, with clients that we did not write."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import sys
import time
from collections.abc import Iterator, Mapping

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from pytest_espperf.model.figures import number_at
from pytest_espperf.sim import SimConfig, SimProcess
from pytest_espperf.sim.messages import Request
from pytest_espperf.sim.streams import open_stream
from pytest_espperf.sim.values import parse_slowdown

QUIET = {"noise": "none", "time_scale": 0.1}
DEFAULTS = {**SimConfig().to_json(), **QUIET}
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def process() -> Iterator[SimProcess]:
    with SimProcess.start(SimConfig().merged(QUIET)) as running:
        yield running


@pytest.fixture
def sim(process: SimProcess) -> SimProcess:
    process.configure(**DEFAULTS)
    return process


def talk(sim: SimProcess) -> ClientConnection:
    return connect(f"ws://{sim.host}:{sim.port}/ws", open_timeout=PATIENCE_S)


def exchange(websocket: ClientConnection, count: int) -> None:
    for _ in range(count):
        websocket.send("x" * 100)
        websocket.recv(PATIENCE_S)


def events(
    sim: SimProcess, query: str = "", count: int = 3, headers: Mapping[str, str] | None = None
) -> list[ServerSentEvent]:
    with (
        httpx.Client(timeout=PATIENCE_S) as client,
        connect_sse(
            client, "GET", f"http://{sim.host}:{sim.port}/events{query}", headers=dict(headers or {})
        ) as source,
    ):
        found = []
        for event in source.iter_sse():
            if event.data:
                found.append(event)
            if len(found) == count:
                break
        return found


def dropped(sim: SimProcess) -> float:
    connection = http.client.HTTPConnection(sim.host, sim.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("GET", "/debug/server-stats")
        found = number_at(json.loads(connection.getresponse().read()), "ipc_pending_dropped")
    assert found is not None
    return found


@pytest.mark.parametrize("message", ["hello", "", "\u00e4\u20ac", b"\x00\xff" * 100, "x" * 40_000])
def test_a_message_comes_back_as_it_is(sim: SimProcess, message: str | bytes) -> None:
    with talk(sim) as websocket:
        for _ in range(3):
            websocket.send(message)
            assert websocket.recv(PATIENCE_S) == message


def test_echoes_come_in_order(sim: SimProcess) -> None:
    with talk(sim) as websocket:
        for number in range(10):
            websocket.send(str(number))
        assert [websocket.recv(PATIENCE_S) for _ in range(10)] == [str(number) for number in range(10)]


def test_parts_are_one_message_and_pings_are_answered(sim: SimProcess) -> None:
    with talk(sim) as websocket:
        websocket.send(["a", "b", "c"])
        assert websocket.recv(PATIENCE_S) == "abc"
        assert websocket.ping().wait(PATIENCE_S)


def test_a_message_takes_its_time_on_the_worker(sim: SimProcess) -> None:
    sim.configure(time_scale=1.0, slowdown={"/ws": 50})
    with talk(sim) as websocket:
        begun = time.monotonic()
        websocket.send("x")
        websocket.recv(PATIENCE_S)
        assert time.monotonic() - begun >= 0.095


def test_messages_beyond_the_queue_are_dropped(sim: SimProcess) -> None:
    sim.configure(time_scale=1.0, slowdown={"streams": 50}, queue_limit=2)
    before = dropped(sim)
    with talk(sim) as websocket:
        for number in range(5):
            websocket.send(str(number))
        assert [websocket.recv(PATIENCE_S) for _ in range(2)] == ["0", "1"]
        with pytest.raises(TimeoutError):
            websocket.recv(0.3)
    assert dropped(sim) == before + 3


def test_a_request_that_is_no_upgrade_is_refused(sim: SimProcess) -> None:
    url = f"http://{sim.host}:{sim.port}/ws"
    assert httpx.get(url).status_code == 426
    assert httpx.post(url).status_code == 405
    assert httpx.get(url, headers={"Upgrade": "h2c", "Connection": "Upgrade"}).status_code == 426
    with pytest.raises(InvalidStatus), connect(f"ws://{sim.host}:{sim.port}/hello", open_timeout=PATIENCE_S):
        pass


def test_an_upgrade_leaves_the_other_routes_alone(sim: SimProcess) -> None:
    with talk(sim) as websocket:
        assert httpx.get(f"http://{sim.host}:{sim.port}/hello").json() == {"message": "ok"}
        websocket.send("x")
        assert websocket.recv(PATIENCE_S) == "x"


def test_a_frame_that_is_not_masked_ends_the_connection(sim: SimProcess) -> None:
    key = base64.b64encode(b"0" * 16).decode()
    lines = [
        "GET /ws HTTP/1.1",
        "Host: b",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
    ]
    with socket.create_connection((sim.host, sim.port), timeout=PATIENCE_S) as raw:
        raw.sendall("\r\n".join([*lines, f"Sec-WebSocket-Key: {key}", "", ""]).encode())
        assert raw.recv(65536).startswith(b"HTTP/1.1 101 ")
        raw.sendall(b"\x81\x01x")
        rest = b""
        while data := raw.recv(65536):
            rest += data
    assert rest[0] == 0x88


def test_events_have_ids_that_rise(sim: SimProcess) -> None:
    found = events(sim, "?rate=50")
    assert [event.id for event in found] == ["1", "2", "3"]
    assert all("uptime_ms" in event.json() for event in found)


def test_events_go_on_behind_the_last_one(sim: SimProcess) -> None:
    assert [event.id for event in events(sim, "?rate=50", headers={"Last-Event-ID": "41"})] == [
        "42",
        "43",
        "44",
    ]


def test_events_come_at_the_rate_that_was_asked_for(sim: SimProcess) -> None:
    begun = time.monotonic()
    events(sim, "?rate=2", count=4)
    assert time.monotonic() - begun >= 4 / 2 * 0.1 * 0.95  # of device seconds, of which ten pass in one


@pytest.mark.parametrize(
    "query", ["?rate=0", "?rate=-1", "?rate=x", "?rate=nan", "?rate=inf", "?rate=1e9", "?rate="]
)
def test_a_rate_that_is_none_is_refused(sim: SimProcess, query: str) -> None:
    assert httpx.get(f"http://{sim.host}:{sim.port}/events{query}").status_code == 422


def test_a_share_of_events_may_be_left_out(sim: SimProcess) -> None:
    sim.configure(error_rate={"/events": 0.5})
    numbers = [int(event.id) for event in events(sim, "?rate=100", count=20)]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] > 20


@pytest.mark.parametrize("fault", ["reset@0", "close@0", "truncate@0", "reboot@0", "refuse@0:1"])
def test_faults_end_a_websocket(sim: SimProcess, fault: str) -> None:
    with talk(sim) as websocket:
        sim.configure(fault=fault)
        with pytest.raises(ConnectionClosed):
            exchange(websocket, 1000)


def test_a_hang_holds_messages_back(sim: SimProcess) -> None:
    sim.configure(time_scale=1.0)
    with talk(sim) as websocket:
        websocket.send("a")
        websocket.recv(PATIENCE_S)
        sim.configure(fault="hang@0:0.5")
        time.sleep(0.1)
        begun = time.monotonic()
        websocket.send("b")
        assert websocket.recv(PATIENCE_S) == "b"
        assert time.monotonic() - begun >= 0.2


def test_streams_have_a_name_for_slowdowns() -> None:
    assert parse_slowdown("streams=2") == ("streams", 2.0)
    assert parse_slowdown("ws=2") == ("/ws", 2.0)


def test_without_the_package_a_websocket_is_not_implemented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.server", None)
    refused = open_stream(None, None, Request("GET", "/ws", {}, {}, b"", True))  # type: ignore[arg-type]
    assert refused is not None
    assert refused.status == 501
    assert b"pip install 'pytest-espperf[websocket]'" in refused.payload()
