"""Our connection as an httpx transport, in the hands of an ordinary httpx.AsyncClient."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import httpx
import pytest
from support.load_servers import Peer, always, answer, once, serving

from pytest_espperf.load import EspperfTransport

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, 20))


async def get(url: str, count: int = 1, **options: Any) -> list[httpx.Response]:
    async with httpx.AsyncClient(transport=EspperfTransport(), **options) as client:
        return [await client.get(url) for _ in range(count)]


def test_responses_carry_body_headers_and_times() -> None:
    with serving(always(answer(b"hello", b"200 OK", b"X-A: 1", b"X-A: 2"))) as server:
        responses = run(get(f"{server.target.origin}/hello?q=1", 3))
        assert server.accepted == 1
    for response in responses:
        assert response.status_code == 200
        assert response.text == "hello"
        assert response.headers.get_list("x-a") == ["1", "2"]
        assert response.http_version == "HTTP/1.1"
        times = response.extensions["espperf"]
        assert 0 < times["ttfb_s"] <= times["service_s"]


def test_requests_with_bodies_and_without_answers_bodies() -> None:
    heads: list[bytes] = []

    def handle(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            heads.append(head)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\n")
            if not head.startswith(b"HEAD"):
                peer.send(b"content")
            return

    async def use(origin: str) -> list[httpx.Response]:
        async def pieces() -> Any:
            yield b"a"
            yield b"b"

        async with httpx.AsyncClient(transport=EspperfTransport()) as client:
            return [
                await client.head(origin),
                await client.post(origin, content=b"abc"),
                await client.post(origin, content=pieces()),
            ]

    with serving(handle) as server:
        head, post, chunked = run(use(server.target.origin))
    assert (head.content, post.content, chunked.content) == (b"", b"content", b"content")
    assert b"content-length: 3" in heads[1].lower()
    assert b"transfer-encoding: chunked" in heads[2].lower()


@pytest.mark.parametrize(
    ("response", "exc"),
    [
        (b"", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", httpx.RemoteProtocolError),
        (b"nonsense", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", httpx.RemoteProtocolError),
    ],
)
def test_errors_are_httpx_own(response: bytes, exc: type[Exception]) -> None:
    with serving(once(response)) as server, pytest.raises(exc):
        run(get(server.target.origin))


def test_refused_reset_and_slow() -> None:
    with pytest.raises(httpx.ConnectError):
        run(get("http://127.0.0.1:9"))
    with pytest.raises(httpx.UnsupportedProtocol):
        run(get("ftp://127.0.0.1:9"))

    def reset(peer: Peer) -> None:
        peer.request()
        peer.reset()

    with serving(reset) as server, pytest.raises(httpx.ReadError):
        run(get(server.target.origin))
    with serving(lambda peer: peer.until_gone()) as server, pytest.raises(httpx.ReadTimeout):
        run(get(server.target.origin, timeout=0.1))
    with serving(lambda peer: peer.until_gone()) as server, pytest.raises(httpx.ConnectTimeout):
        run(get(f"https://127.0.0.1:{server.port}", timeout=0.1))


def test_a_stale_connection_is_replaced_once() -> None:
    def handle(peer: Peer) -> None:
        peer.request()
        peer.send(answer())
        peer.request()  # and close, unanswered

    with serving(handle) as server:
        assert [response.status_code for response in run(get(server.target.origin, 3))] == [200, 200, 200]
        assert server.accepted == 3


def test_a_connection_that_closed_behind_its_answer_is_not_pooled() -> None:
    with serving(once(answer())) as server:
        responses = run(get(server.target.origin, 20))
    assert [response.status_code for response in responses] == [200] * 20


def test_what_must_not_be_repeated_is_not() -> None:
    def handle(peer: Peer) -> None:
        peer.request()
        peer.send(answer())
        peer.request()

    async def post_twice(origin: str) -> None:
        async with httpx.AsyncClient(transport=EspperfTransport()) as client:
            await client.post(origin)
            await client.post(origin)

    with serving(handle) as server, pytest.raises(httpx.RemoteProtocolError):
        run(post_twice(server.target.origin))


def test_concurrent_requests_get_connections_of_their_own() -> None:
    async def many(origin: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=EspperfTransport()) as client:
            return list(await asyncio.gather(*(client.get(origin) for _ in range(20))))

    with serving(always(answer())) as server:
        assert {response.status_code for response in run(many(server.target.origin))} == {200}
        assert 1 <= server.accepted <= 20


def test_a_cancelled_request_gives_its_connection_up() -> None:
    gone: list[bool] = []

    def handle(peer: Peer) -> None:
        peer.request()
        peer.until_gone()
        gone.append(not peer.stopping.is_set())

    async def cancel(origin: str) -> None:
        async with httpx.AsyncClient(transport=EspperfTransport()) as client:
            task = asyncio.ensure_future(client.get(origin))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.1)

    with serving(handle) as server:
        run(cancel(server.target.origin))
    assert gone == [True]
