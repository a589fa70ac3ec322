"""TLS, and a user's own httpx transports in place of ours."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

import httpx
import pytest
import trustme
from support.load_servers import (
    HELLO,
    NOWHERE,
    PATIENT_S,
    LoopFactory,
    Peer,
    always,
    answer,
    phase,
    serving,
)
from support.nginx_server import needs_nginx, nginx

from pytest_espperf.device import resolve_target
from pytest_espperf.device.http import get
from pytest_espperf.errors import DeviceError, UsageError
from pytest_espperf.load import run_phase
from pytest_espperf.model.samples import Outcome
from pytest_espperf.model.workload import RequestSpec, Target


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def secure(port: int, *, ca_file: str | None = None, insecure: bool = False) -> Target:
    return Target("https", "127.0.0.1", port, "127.0.0.1", ca_file=ca_file, insecure=insecure)


def test_https(
    authority: trustme.CA, server_context: ssl.SSLContext, tmp_path: Path, loop_factory: LoopFactory
) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with serving(always(answer()), context=server_context) as server:
        for target in (secure(server.port, ca_file=str(ca_file)), secure(server.port, insecure=True)):
            samples = run_phase(target, HELLO, phase(0.2, 2), deadline_s=20, loop_factory=loop_factory)
            assert samples.outcomes == [Outcome(200, None)]
            assert len(samples.connect_s) == 2
        samples = run_phase(
            secure(server.port), HELLO, phase(0.3, 1), deadline_s=20, loop_factory=loop_factory
        )
    assert samples.outcomes == [Outcome(None, "ConnectError")]


def test_a_certificate_is_for_the_name_that_was_asked_for(
    authority: trustme.CA, tmp_path: Path, loop_factory: LoopFactory
) -> None:
    """The name is looked up once and its address connected to; the certificate knows the name alone."""
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with serving(always(answer()), context=context) as server:
        target = resolve_target("localhost", server.port, scheme="https", ca_file=str(ca_file))
        assert target.address == "127.0.0.1"
        assert get(target, "/", timeout_s=5).status == 200
        samples = run_phase(target, HELLO, phase(0.3, 1), deadline_s=20, loop_factory=loop_factory)
        assert samples.outcomes == [Outcome(200, None)]
        with pytest.raises(DeviceError):
            get(secure(server.port, ca_file=str(ca_file)), "/", timeout_s=5)


def test_https_asked_of_an_http_server_and_of_a_silent_one(loop_factory: LoopFactory) -> None:
    def speak_plainly(peer: Peer) -> None:
        peer.sock.recv(1000)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    for handler, kind in (
        (speak_plainly, "ConnectError"),
        (lambda peer: peer.until_gone(), "ConnectTimeout"),
    ):
        with serving(handler) as server:
            samples = run_phase(
                secure(server.port, insecure=True),
                HELLO,
                phase(0.3, 1),
                request_timeout_s=0.3 if kind == "ConnectTimeout" else PATIENT_S,
                deadline_s=60,
                loop_factory=loop_factory,
            )
        assert samples.outcomes == [Outcome(None, kind)]


def test_an_unusable_ca_file_is_a_usage_error(tmp_path: Path) -> None:
    for content in (None, "no certificate"):
        ca_file = tmp_path / "ca.pem"
        if content is not None:
            ca_file.write_text(content)
        with pytest.raises(UsageError, match=r"ca\.pem"):
            run_phase(secure(1, ca_file=str(ca_file)), HELLO, phase(0.3))


def test_a_users_transport_takes_the_place_of_ours() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200 if request.url.path == "/a" else 500, content=b"hello")

    requests = (RequestSpec("/a", contains=b"ell"), RequestSpec("/b"))
    samples = run_phase(
        NOWHERE, requests, phase(0.4, 2), headers=(("X", "y"),), transport=lambda: httpx.MockTransport(handle)
    )
    assert set(samples.outcomes) == {Outcome(200, None), Outcome(500, "http_500")}
    assert len(samples) == len(seen)
    assert seen[0].headers["accept-encoding"] == "identity"
    assert seen[0].headers["x"] == "y"
    assert seen[0].extensions["timeout"]["read"] == 6.0
    assert {request.url.path for request in seen[:2]} == {"/a", "/b"}
    assert all(
        0 <= first <= service for first, service in zip(samples.ttfb_s, samples.service_s, strict=True)
    )


def test_an_asgi_app() -> None:
    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    requests = (RequestSpec("/", size_bytes=2),)
    samples = run_phase(NOWHERE, requests, phase(0.3, 2), transport=lambda: httpx.ASGITransport(app))
    assert samples.outcomes == [Outcome(200, None)]


@pytest.mark.parametrize(
    ("exc", "kind"),
    [(httpx.ProxyError("x"), "ProxyError"), (httpx.ReadError("x"), "ReadError"), (KeyError("x"), "KeyError")],
)
def test_what_a_transport_raises_is_counted(exc: Exception, kind: str) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise exc

    samples = run_phase(NOWHERE, HELLO, phase(0.3, 1), transport=lambda: httpx.MockTransport(handle))
    assert samples.outcomes == [Outcome(None, kind)]


def test_httpx_own_transport_against_real_sockets() -> None:
    with serving(always(answer())) as server:
        samples = run_phase(
            server.target, HELLO, phase(1.0, 2), transport=httpx.AsyncHTTPTransport, deadline_s=20
        )
    assert samples.outcomes == [Outcome(200, None)]
    assert samples.generator is not None
    assert samples.generator.engine == "AsyncHTTPTransport"


@needs_nginx
def test_http2_over_httpx_own_transport(authority: trustme.CA, tmp_path: Path) -> None:
    """Marked as an engine of its own: its figures are never compared with HTTP/1.1's."""
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    # httpcore counts the request that meets a GOAWAY as failed: what a transport does there is its own.
    pem = tmp_path / "server.pem"
    tls = f"ssl_certificate {pem}; ssl_certificate_key {pem}; keepalive_requests 100000;"
    requests = (RequestSpec("/file", size_bytes=410_000), RequestSpec("/none", statuses=frozenset({404})))
    with nginx(tmp_path, "ssl http2", tls) as port:
        for http2, engine in ((True, "AsyncHTTPTransport+HTTP/2"), (False, "AsyncHTTPTransport")):
            samples = run_phase(
                secure(port),
                requests,
                phase(0.5, 2),
                transport=lambda http2=http2: httpx.AsyncHTTPTransport(http2=http2, verify=False),  # type: ignore[misc]
                deadline_s=20,
            )
            assert set(samples.outcomes) == {Outcome(200, None), Outcome(404, None)}
            assert samples.generator is not None
            assert samples.generator.engine == engine


def test_a_transport_deaf_to_cancellation_cannot_hang_a_phase() -> None:
    class Deaf(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            while True:
                try:
                    await asyncio.sleep(0.5)
                except asyncio.CancelledError:
                    if time.monotonic() > end:
                        raise

    end = time.monotonic() + 0.6
    samples = run_phase(NOWHERE, HELLO, phase(0.1, 1), request_timeout_s=0.2, deadline_s=10, transport=Deaf)
    assert samples.outcomes == [Outcome(None, "ReadTimeout")]


def test_open_loop_over_a_users_transport() -> None:
    async def handle(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.02)
        return httpx.Response(200)

    samples = run_phase(
        NOWHERE,
        HELLO,
        phase(0.3, 1, rate_rps=100),
        transport=lambda: httpx.MockTransport(handle),
        deadline_s=20,
    )
    assert len(samples) == 30
    assert max(samples.lag_s) >= 0.2


def test_a_users_transport_and_the_deadline() -> None:
    async def handle(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(30)
        return httpx.Response(200)

    samples = run_phase(
        NOWHERE, HELLO, phase(5, 2), transport=lambda: httpx.MockTransport(handle), deadline_s=2
    )
    assert samples.cut_short == "inner deadline reached with 2 requests unanswered"
