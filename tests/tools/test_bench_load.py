"""The load benches: the device of known service time, the control beside it, and what h2load reports."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import socket
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from support.paths import TOOLS

websockets = pytest.importorskip("websockets.asyncio.client")

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the device needs epoll"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="the device is a C program"),
    pytest.mark.timeout(60),
]
SERVICE_S = 0.004


@pytest.fixture(autouse=True)
def _tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))


@pytest.fixture
def place() -> Iterator[tuple[str, int]]:
    import bench_load_rig

    with bench_load_rig.device("parallel", SERVICE_S * 1e3) as url:
        parts = urlsplit(url)
        yield str(parts.hostname), int(parts.port or 0)


def test_the_device_echoes_what_a_client_not_ours_sends(place: tuple[str, int]) -> None:
    texts = ["a", "x" * 125, "\u00e9" * 40, *(f"message {number}" for number in range(40))]

    async def talk() -> list[str | bytes]:
        async with websockets.connect(f"ws://{place[0]}:{place[1]}/ws", compression=None) as websocket:
            for text in texts:  # the last of them wait for their echoes together
                await websocket.send(text)
            await websocket.send(b"\x00\xff")
            return [await websocket.recv() for _ in range(len(texts) + 1)]

    assert asyncio.run(talk()) == [*texts, b"\x00\xff"]


def test_the_device_answers_requests_besides(place: tuple[str, int]) -> None:
    for method, body in (("GET", None), ("POST", b"y" * 1024)):
        connection = http.client.HTTPConnection(*place, timeout=10)
        connection.request(method, "/f1k", body=body)
        answer = connection.getresponse()
        assert (answer.status, len(answer.read())) == (200, 64)
        connection.close()


@pytest.mark.parametrize("kind", ["kept", "reconnect", "websocket"])
def test_the_control_is_never_faster_than_the_device(place: tuple[str, int], kind: str) -> None:
    import bench_load_rig
    import bench_streams

    options = ["--reconnect"] if kind == "reconnect" else []
    control = (
        bench_streams.client("blocking", 64)
        if kind == "websocket"
        else bench_load_rig.python("blocking", *options)
    )
    result = control(f"http://{place[0]}:{place[1]}/f1k", 2, 0.5)
    assert result["requests"] > 0
    assert SERVICE_S * 1e3 <= result["p50"] < 10 * SERVICE_S * 1e3


def test_a_control_without_a_device_fails() -> None:
    import bench_load_rig

    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"http://127.0.0.1:{server.getsockname()[1]}/"
    with pytest.raises(SystemExit, match="a blocking client ended with"):
        bench_load_rig.python("blocking")(nobody, 1, 0.1)


@pytest.mark.skipif(not (shutil.which("h2load") and shutil.which("nginx")), reason="needs h2load and nginx")
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("reconnect", [False, True])
def test_h2load_is_read_as_it_reports(*, tls: bool, reconnect: bool) -> None:
    import bench_load_rig

    with bench_load_rig.nginx(tls=tls) as (url, _):
        result = bench_load_rig.h2load(url, 2, 0.3, reconnect=reconnect)
    assert result["rps"] > 0
    assert result["cpu_s_per_1000"] >= 0
