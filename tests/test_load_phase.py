"""A phase as a whole: its shape in time, other transports, interruptions, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import trustme
from load_servers import HELLO, Peer, always, answer, phase, serving, wait_until

from pytest_espperf.errors import UsageError
from pytest_espperf.load import ENGINE_VERSION, Progress, run_phase
from pytest_espperf.load.guard import SelfWatch, engine_label, fastest_loop, quiet_gc
from pytest_espperf.samples import Outcome, PhaseSamples
from pytest_espperf.workload import PhaseSpec, RequestSpec, Target

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

NOWHERE = Target("http", "127.0.0.1", 9, "x")


@pytest.fixture(params=["asyncio", "fastest"])
def loop_factory(request: pytest.FixtureRequest) -> LoopFactory:
    return asyncio.new_event_loop if request.param == "asyncio" else fastest_loop()


def delayed(delay_s: float) -> Callable[[Peer], None]:
    def handle(peer: Peer) -> None:
        while peer.request() is not None:
            if peer.stopping.wait(delay_s):
                return
            peer.send(answer())

    return handle


# Shape in time --------------------------------------------------------------------------------------------


def test_requests_in_flight_at_the_end_are_awaited_and_counted(loop_factory: LoopFactory) -> None:
    with serving(delayed(0.3)) as server:
        samples = run_phase(server.target, HELLO, phase(0.1, 3), deadline_s=20, loop_factory=loop_factory)
    assert len(samples) == 3
    assert samples.outcomes == [Outcome(200, None)]
    assert min(samples.service_s) >= 0.299
    assert samples.elapsed_s >= 0.3
    assert not samples.cut_short


def test_weights_are_kept() -> None:
    requests = (RequestSpec("/a", weight=3), RequestSpec("/b"))
    with serving(delayed(0.001)) as server:
        samples = run_phase(server.target, requests, phase(0.2, 1), deadline_s=20)
    assert list(samples.path[:8]) == [0, 0, 1, 0, 0, 0, 1, 0]


def test_warmup_is_discarded_and_its_connections_are_kept(loop_factory: LoopFactory) -> None:
    with serving(delayed(0.005)) as server:
        begun = time.monotonic()
        samples = run_phase(
            server.target, HELLO, phase(0.15, 2), warmup_s=0.3, deadline_s=20, loop_factory=loop_factory
        )
        assert time.monotonic() - begun >= 0.44
        assert server.accepted == 2
    assert len(samples.connect_s) == 0
    assert 0 < len(samples) <= 2 * 31
    assert samples.elapsed_s < 0.3 + 5


def test_the_inner_deadline_ends_a_phase_cleanly(loop_factory: LoopFactory) -> None:
    with serving(lambda peer: peer.until_gone()) as server:
        begun = time.monotonic()
        samples = run_phase(
            server.target, HELLO, phase(30, 3), request_timeout_s=60, deadline_s=0.2, loop_factory=loop_factory
        )
        assert time.monotonic() - begun < 15
        assert wait_until(lambda: server.accepted == 3)
    assert samples.cut_short == "inner deadline reached with 3 requests unanswered"
    assert len(samples) == 0
    assert samples.elapsed_s >= 0.15


def test_a_deadline_inside_the_warmup() -> None:
    with serving(delayed(0.01)) as server:
        samples = run_phase(server.target, HELLO, phase(5), warmup_s=30, deadline_s=0.1)
    assert samples.cut_short
    assert len(samples) == 0
    assert samples.elapsed_s == 0


def test_heartbeats_tell_how_a_phase_stands() -> None:
    beats: list[Progress] = []
    with serving(delayed(0.005)) as server:
        samples = run_phase(
            server.target, HELLO, phase(0.4, 2), heartbeat_s=0.1, on_heartbeat=beats.append, deadline_s=20
        )
    assert beats
    assert [beat.completed for beat in beats] == sorted(beat.completed for beat in beats)
    last = beats[-1]
    assert (last.clients, last.duration_s, last.errors) == (2, 0.4, 0)
    assert last.completed <= len(samples)
    assert last.rps == pytest.approx(last.completed / last.elapsed_s)
    assert last.p95_ms is not None
    assert last.p95_ms >= 5


def test_heartbeats_count_errors() -> None:
    beats: list[Progress] = []
    with serving(always(answer(b"", b"503 Busy"))) as server:
        run_phase(server.target, HELLO, phase(0.3, 1), heartbeat_s=0.05, on_heartbeat=beats.append, deadline_s=20)
    assert beats[-1].errors == beats[-1].completed > 0


# Open loop ------------------------------------------------------------------------------------------------


def test_open_loop_starts_at_fixed_times(loop_factory: LoopFactory) -> None:
    with serving(delayed(0.001)) as server:
        samples = run_phase(
            server.target, HELLO, phase(0.5, 4, rate_rps=100), deadline_s=20, loop_factory=loop_factory
        )
    assert len(samples) == 50
    assert samples.dropped_starts == 0
    intended = sorted(start - lag for start, lag in zip(samples.start_s, samples.lag_s, strict=True))
    assert intended == pytest.approx([k / 100 for k in range(50)], abs=1e-5)
    assert min(samples.lag_s) >= 0


def test_open_loop_waiting_is_not_omitted() -> None:
    """One connection, 20 ms service, a start every 10 ms: the k-th start waits 10 ms longer than the one before."""
    with serving(delayed(0.02)) as server:
        samples = run_phase(server.target, HELLO, phase(0.3, 1, rate_rps=100), deadline_s=20)
    assert len(samples) == 30
    assert samples.dropped_starts == 0
    assert samples.elapsed_s >= 30 * 0.02
    for k, lag in enumerate(samples.lag_s):
        assert lag >= k * 0.01 - 1e-4


def test_open_loop_starts_that_cannot_be_made_are_dropped_and_counted(loop_factory: LoopFactory) -> None:
    with serving(lambda peer: peer.until_gone()) as server:
        samples = run_phase(
            server.target,
            HELLO,
            phase(0.2, 1, rate_rps=100),
            request_timeout_s=0.25,
            deadline_s=20,
            loop_factory=loop_factory,
        )
    assert len(samples) + samples.dropped_starts == 20
    assert samples.dropped_starts >= 17
    assert {outcome.error for outcome in samples.outcomes} == {"ReadTimeout"}


def test_open_loop_cut_short_drops_what_is_left() -> None:
    with serving(delayed(0.001)) as server:
        samples = run_phase(server.target, HELLO, phase(30, 2, rate_rps=50), deadline_s=0.3)
    assert samples.cut_short
    assert 1500 - 2 <= len(samples) + samples.dropped_starts <= 1500


def test_open_loop_warmup_runs_at_the_same_rate() -> None:
    with serving(delayed(0.001)) as server:
        samples = run_phase(server.target, HELLO, phase(0.2, 2, rate_rps=50), warmup_s=0.2, deadline_s=20)
    assert len(samples) == 10
    assert samples.dropped_starts == 0


def test_an_idle_close_is_no_error() -> None:
    """The server closes after 50 ms of silence; starts come every 150 ms."""

    def handle(peer: Peer) -> None:
        peer.sock.settimeout(0.05)
        while peer.request() is not None:
            peer.send(answer())

    with serving(handle) as server:
        samples = run_phase(server.target, HELLO, phase(0.5, 1, rate_rps=1 / 0.15), deadline_s=20)
        assert server.accepted >= 4
    assert samples.outcomes == [Outcome(200, None)]
    assert len(samples) == 4
    assert samples.stale_retries == 0


@pytest.mark.parametrize(("farewell", "errors"), [(b"HTTP/1.1 408 Request Timeout\r\n\r\n", 0), (b"garbage", 3)])
def test_words_on_an_idle_connection(farewell: bytes, errors: int) -> None:
    def handle(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(answer())
            time.sleep(0.04)
            peer.send(farewell)

    with serving(handle) as server:
        samples = run_phase(server.target, HELLO, phase(0.55, 1, rate_rps=5), deadline_s=20)
    kinds = [samples.outcomes[index].error for index in samples.outcome]
    assert kinds.count(None) == 3
    # The last connection's garbage may come after the phase.
    assert errors - 1 <= kinds.count("RemoteProtocolError") <= errors


# TLS ------------------------------------------------------------------------------------------------------


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
        samples = run_phase(secure(server.port), HELLO, phase(0.1, 1), deadline_s=20, loop_factory=loop_factory)
    assert samples.outcomes == [Outcome(None, "ConnectError")]


def test_https_asked_of_an_http_server_and_of_a_silent_one(loop_factory: LoopFactory) -> None:
    def speak_plainly(peer: Peer) -> None:
        peer.sock.recv(1000)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    for handler, kind in ((speak_plainly, "ConnectError"), (lambda peer: peer.until_gone(), "ConnectTimeout")):
        with serving(handler) as server:
            samples = run_phase(
                secure(server.port, insecure=True),
                HELLO,
                phase(0.1, 1),
                request_timeout_s=0.3,
                deadline_s=20,
                loop_factory=loop_factory,
            )
        assert samples.outcomes == [Outcome(None, kind)]


def test_an_unusable_ca_file_is_a_usage_error(tmp_path: Path) -> None:
    for content in (None, "no certificate"):
        ca_file = tmp_path / "ca.pem"
        if content is not None:
            ca_file.write_text(content)
        with pytest.raises(UsageError, match=r"ca\.pem"):
            run_phase(secure(1, ca_file=str(ca_file)), HELLO, phase(0.1))


# Transports that are not ours -----------------------------------------------------------------------------


def test_a_users_transport_takes_the_place_of_ours() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200 if request.url.path == "/a" else 500, content=b"hello")

    requests = (RequestSpec("/a", contains=b"ell"), RequestSpec("/b"))
    samples = run_phase(
        NOWHERE, requests, phase(0.1, 2), headers=(("X", "y"),), transport=lambda: httpx.MockTransport(handle)
    )
    assert set(samples.outcomes) == {Outcome(200, None), Outcome(500, "http_500")}
    assert len(samples) == len(seen)
    assert seen[0].headers["accept-encoding"] == "identity"
    assert seen[0].headers["x"] == "y"
    assert seen[0].extensions["timeout"]["read"] == 6.0
    assert {request.url.path for request in seen[:2]} == {"/a", "/b"}
    assert all(0 <= first <= service for first, service in zip(samples.ttfb_s, samples.service_s, strict=True))


def test_an_asgi_app() -> None:
    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    requests = (RequestSpec("/", size_bytes=2),)
    samples = run_phase(NOWHERE, requests, phase(0.1, 2), transport=lambda: httpx.ASGITransport(app))
    assert samples.outcomes == [Outcome(200, None)]


@pytest.mark.parametrize(
    ("exc", "kind"),
    [(httpx.ProxyError("x"), "ProxyError"), (httpx.ReadError("x"), "ReadError"), (KeyError("x"), "KeyError")],
)
def test_what_a_transport_raises_is_counted(exc: Exception, kind: str) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise exc

    samples = run_phase(NOWHERE, HELLO, phase(0.05, 1), transport=lambda: httpx.MockTransport(handle))
    assert samples.outcomes == [Outcome(None, kind)]


def test_httpx_own_transport_against_real_sockets() -> None:
    with serving(always(answer())) as server:
        samples = run_phase(
            server.target, HELLO, phase(0.2, 2), transport=httpx.AsyncHTTPTransport, deadline_s=20
        )
    assert samples.outcomes == [Outcome(200, None)]
    assert samples.generator is not None
    assert samples.generator.engine == "AsyncHTTPTransport"


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
    samples = run_phase(
        NOWHERE, HELLO, phase(0.1, 1), request_timeout_s=0.2, deadline_s=10, transport=Deaf
    )
    assert samples.outcomes == [Outcome(None, "ReadTimeout")]


def test_open_loop_over_a_users_transport() -> None:
    async def handle(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.02)
        return httpx.Response(200)

    samples = run_phase(
        NOWHERE, HELLO, phase(0.3, 1, rate_rps=100), transport=lambda: httpx.MockTransport(handle), deadline_s=20
    )
    assert len(samples) == 30
    assert max(samples.lag_s) >= 0.2


def test_a_users_transport_and_the_deadline() -> None:
    async def handle(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(30)
        return httpx.Response(200)

    samples = run_phase(
        NOWHERE, HELLO, phase(5, 2), transport=lambda: httpx.MockTransport(handle), deadline_s=0.2
    )
    assert samples.cut_short == "inner deadline reached with 2 requests unanswered"


# Interruptions and what is left behind --------------------------------------------------------------------


class Stop(BaseException):
    """Like what pytest-timeout's signal handler raises."""


@pytest.fixture
def stopping_signal() -> Iterator[None]:
    def handle(number: int, frame: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGINT, handle)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("busy", [False, True])
def test_a_signal_handlers_exception_ends_a_phase(
    stopping_signal: None, loop_factory: LoopFactory, busy: bool, custom: bool
) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    def remember() -> asyncio.AbstractEventLoop:
        loops.append(loop_factory())
        return loops[0]

    timer = threading.Timer(0.15, signal.raise_signal, (signal.SIGINT,))
    with serving(delayed(0.0005 if busy else 30)) as server:
        timer.start()
        begun = time.monotonic()
        with pytest.raises(Stop):
            run_phase(
                server.target,
                HELLO,
                phase(30, 2),
                deadline_s=60,
                loop_factory=remember,
                transport=httpx.AsyncHTTPTransport if custom else None,
            )
        assert time.monotonic() - begun < 15
        timer.join()
    assert loops[0].is_closed()
    assert gc.isenabled()


def test_keyboard_interrupt(loop_factory: LoopFactory) -> None:
    timer = threading.Timer(0.15, signal.raise_signal, (signal.SIGINT,))
    with serving(delayed(0.0005)) as server:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            run_phase(server.target, HELLO, phase(30, 2), deadline_s=60, loop_factory=loop_factory)
        timer.join()
    assert gc.isenabled()


@pytest.mark.parametrize("exc", [ValueError("x"), OSError("x"), Stop()])
def test_what_a_heartbeat_raises_is_raised(exc: BaseException, loop_factory: LoopFactory) -> None:
    def beat(progress: Progress) -> None:
        raise exc

    with serving(delayed(0.001)) as server, pytest.raises(type(exc)):
        run_phase(
            server.target,
            HELLO,
            phase(30, 2),
            heartbeat_s=0.05,
            on_heartbeat=beat,
            deadline_s=60,
            loop_factory=loop_factory,
        )


def open_descriptors() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        if os.path.isdir(folder):  # noqa: PTH112 - no path object is worth making here
            return len(os.listdir(folder))  # noqa: PTH208
    return 0  # Windows: the servers' end of each connection is still checked


def test_a_phase_leaves_nothing_behind(loop_factory: LoopFactory) -> None:
    def mixed(peer: Peer) -> None:
        for _ in range(3):
            if peer.request() is None:
                return
            if peer.number % 5 == 4:
                peer.reset()
                return
            if peer.number % 5 == 3:
                peer.until_gone()
                return
            peer.send(answer())

    def drive() -> PhaseSamples:
        return run_phase(
            server.target,
            HELLO,
            phase(0.2, 8),
            request_timeout_s=0.2,
            deadline_s=10,
            loop_factory=remember,
        )

    loops: list[asyncio.AbstractEventLoop] = []

    def remember() -> asyncio.AbstractEventLoop:
        loops.append(loop_factory())
        return loops[-1]

    with serving(mixed) as server:
        drive()
        gc.collect()
        assert wait_until(lambda: threading.active_count() <= 2)
        before = open_descriptors()
        for _ in range(3):
            assert len(drive().connect_s) > 8
        gc.collect()  # an unclosed socket or transport would warn now, and warnings are errors
        assert wait_until(lambda: threading.active_count() <= 2), "a connection was left open"
        assert open_descriptors() <= before
    assert all(loop.is_closed() and not asyncio.all_tasks(loop) for loop in loops)


def test_collections_are_held_off_and_restored() -> None:
    seen: list[bool] = []
    frozen = gc.get_freeze_count()
    with serving(delayed(0.001)) as server:
        run_phase(
            server.target,
            HELLO,
            phase(0.2, 1),
            heartbeat_s=0.05,
            on_heartbeat=lambda _: seen.append(gc.isenabled()),
            deadline_s=20,
        )
    assert seen
    assert not any(seen)
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
    gc.disable()
    try:
        with quiet_gc():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_phase_needs_neither_uvloop_nor_winloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    monkeypatch.setitem(sys.modules, "winloop", None)
    assert fastest_loop() is asyncio.new_event_loop
    loop = asyncio.new_event_loop()
    assert engine_label(loop, ENGINE_VERSION) == f"asyncio+httptools/{ENGINE_VERSION}"
    loop.close()


def test_the_generator_watches_itself() -> None:
    with serving(delayed(0.01)) as server:
        samples = run_phase(server.target, HELLO, phase(0.3, 1), deadline_s=20)
    health = samples.generator
    assert health is not None
    assert health.cpu_share >= 0
    assert health.lag_p99_ms is not None
    assert health.engine.endswith(f"+httptools/{ENGINE_VERSION}")


def test_a_late_generator_is_bound() -> None:
    watch = SelfWatch(open_loop=True)
    for _ in range(100):
        watch.late(1_000_000)
    assert not watch.health("x").bound
    for _ in range(5):
        watch.late(50_000_000)
    assert watch.health("x").bound


def test_a_blocked_generator_is_bound() -> None:
    with serving(delayed(0.001)) as server:
        samples = run_phase(
            server.target,
            HELLO,
            phase(0.4, 1),
            heartbeat_s=0.001,
            on_heartbeat=lambda _: time.sleep(0.05),
            deadline_s=20,
        )
    assert samples.generator is not None
    assert samples.generator.bound


@pytest.mark.parametrize(
    ("requests", "spec", "timeout_s", "headers"),
    [
        ((), phase(), 6, ()),
        (HELLO, phase(clients=0), 6, ()),
        (HELLO, phase(), 0, ()),
        (HELLO, phase(rate_rps=0), 6, ()),
        ((RequestSpec("/", weight=0),), phase(), 6, ()),
        (tuple(RequestSpec(f"/{n}") for n in range(256)), phase(), 6, ()),
        (HELLO, phase(), 6, (("X", "a\r\nb"),)),
        (HELLO, phase(), 6, (("X", "\u2603"),)),
    ],
)
def test_what_cannot_be_driven_is_a_usage_error(
    requests: tuple[RequestSpec, ...], spec: PhaseSpec, timeout_s: float, headers: tuple[tuple[str, str], ...]
) -> None:
    with pytest.raises(UsageError):
        run_phase(NOWHERE, requests, spec, request_timeout_s=timeout_s, headers=headers)
