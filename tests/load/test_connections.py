"""A connection for each request, TLS sessions that are taken up, and clients that pause."""

from __future__ import annotations

import asyncio
import datetime as dt
import errno
import shutil
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trustme
from support.load_servers import (
    HANG_S,
    HELLO,
    NOWHERE,
    PATIENT_S,
    TIMEOUT_S,
    Handler,
    LoopFactory,
    Peer,
    always,
    answer,
    check_sound,
    drive,
    kinds,
    once,
    phase,
    serving,
    target,
)
from support.nginx_server import needs_nginx, nginx
from support.processes import free_port, listens, running

from pytest_espperf.errors import UsageError
from pytest_espperf.load import connector, run_phase
from pytest_espperf.model.metrics import summarise
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import PhaseSpec, Target

OPENSSL = shutil.which("openssl")
ONCE_EACH = replace(phase(), reuse=False)
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def settings(authority: trustme.CA, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def secure(port: int, ca_file: str) -> Target:
    return Target("https", "127.0.0.1", port, "127.0.0.1", ca_file=ca_file)


def load(
    board: Target, spec: PhaseSpec, loop_factory: LoopFactory | None = None, **more: float
) -> PhaseSamples:
    limits: dict[str, float] = {"request_timeout_s": PATIENT_S, "deadline_s": HANG_S, **more}
    return run_phase(board, HELLO, spec, loop_factory=loop_factory, **limits)  # type: ignore[arg-type]


# --- a connection for each request


def test_each_request_has_a_connection_of_its_own_and_says_so(loop_factory: LoopFactory) -> None:
    heads: list[bytes] = []

    def handle(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            heads.append(head)
            peer.send(answer())  # and keeps the connection: the client closes it

    samples = drive(handle, loop_factory, ONCE_EACH)
    assert kinds(samples) == {None: len(samples)}
    assert len(samples.connect_s) == len(samples.opening_s) == len(samples) == len(heads)
    assert all(b"\r\nConnection: close" in head for head in heads)
    assert not samples.handshake_s
    figures = summarise(samples).figures
    assert 0 < figures["connect_ms"] <= figures["connect_p95_ms"] <= figures["connect_p99_ms"]
    assert figures["wait_p50_ms"] > (summarise(samples).p50_ms or 0)
    assert not {"handshake_ms", "resumed_share"} & figures.keys()


def test_a_connection_that_is_kept_has_no_such_figures(loop_factory: LoopFactory) -> None:
    samples = drive(always(answer()), loop_factory)
    assert len(samples.connect_s) == 2
    assert not samples.opening_s
    assert summarise(samples).figures == {}


def test_in_an_open_loop_the_wait_is_the_response_time(loop_factory: LoopFactory) -> None:
    samples = drive(always(answer()), loop_factory, replace(phase(rate_rps=50), reuse=False))
    report = summarise(samples)
    assert len(samples.connect_s) == len(samples) == 15
    assert report.figures["wait_p50_ms"] == report.p50_ms


GONE = {"ConnectError", "RemoteProtocolError", "ReadError"}
"""What a connection ends as that is closed at once: its end may come before it is seen that it is up."""


def half(good: Handler, bad: Handler) -> Handler:
    def handle(peer: Peer) -> None:
        (bad if peer.number % 2 else good)(peer)

    return handle


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (lambda peer: peer.sock.close(), GONE),
        (lambda peer: peer.reset(), GONE),
        (once(answer(b"x" * 10)[:-5]), {"RemoteProtocolError"}),
        (once(answer(status=b"500 Oops")), {"http_500"}),
        (lambda peer: peer.until_gone(), {"ReadTimeout"}),
    ],
    ids=["closes at once", "resets at once", "truncates", "fails", "is silent"],
)
def test_every_second_connection_is_bad(bad: Handler, kind: set[str], loop_factory: LoopFactory) -> None:
    timeout_s = TIMEOUT_S if "ReadTimeout" in kind else PATIENT_S
    samples = drive(
        half(once(answer()), bad), loop_factory, replace(ONCE_EACH, duration_s=1.0), timeout_s=timeout_s
    )
    met = kinds(samples)
    assert met.keys() <= {None, *kind}
    assert len(met) > 1
    assert samples.stale_retries == 0  # no connection was used before
    assert len(samples.opening_s) == len(samples)


def test_a_board_that_refuses_while_it_serves(loop_factory: LoopFactory) -> None:
    port = free_port()
    stop = threading.Event()

    def serve_one_at_a_time() -> None:
        while not stop.is_set():
            with socket.create_server(("127.0.0.1", port), backlog=1) as listener:
                listener.settimeout(0.05)
                try:
                    peer, _ = listener.accept()
                except TimeoutError:
                    continue
            with peer:  # nobody listens meanwhile
                peer.settimeout(5)
                peer.recv(1000)
                peer.sendall(answer())
            time.sleep(0.05)  # long enough for the clients to ask again

    thread = threading.Thread(target=serve_one_at_a_time)
    thread.start()
    try:
        samples = load(target(port), replace(ONCE_EACH, duration_s=1.5), loop_factory)
    finally:
        stop.set()
        thread.join()
    met = kinds(samples)
    assert met[None] > 0
    assert met["ConnectError"] > 0
    assert met.keys() <= {None, "ConnectError", "ReadError", "RemoteProtocolError"}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_local_port_left_is_this_computers_fault(
    scheme: str, monkeypatch: pytest.MonkeyPatch, loop_factory: LoopFactory
) -> None:
    def exhausted(*_: object) -> None:
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    monkeypatch.setattr(connector, "begin_connect", exhausted)
    samples = load(replace(NOWHERE, scheme=scheme), ONCE_EACH, loop_factory)
    assert kinds(samples) == {"local_EADDRNOTAVAIL": len(samples)}
    assert summarise(samples).generator is not None


# --- TLS


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_a_session_is_taken_up_unless_that_is_switched_off(
    version: ssl.TLSVersion, authority: trustme.CA, ca_file: str, loop_factory: LoopFactory
) -> None:
    spec = replace(ONCE_EACH, duration_s=0.5)
    with serving(once(answer()), context=settings(authority, version)) as server:
        resumed = load(secure(server.port, ca_file), spec, loop_factory)
        full = load(secure(server.port, ca_file), replace(spec, tls_resumption=False), loop_factory)
    for samples in (resumed, full):
        check_sound(samples)
        assert kinds(samples) == {None: len(samples)}
        assert len(samples.handshake_s) == len(samples.connect_s) == len(samples)
        pairs = zip(samples.handshake_s, samples.connect_s, strict=True)
        assert all(0 < handshake < whole for handshake, whole in pairs)
        # The first requests were sent once their connections were ready.
        assert min(samples.start_s) >= min(samples.connect_s) - 1e-6
    assert resumed.resumed == len(resumed) - 2  # all but the first one of each client
    assert full.resumed == 0
    assert summarise(resumed).figures["resumed_share"] == 100.0 * resumed.resumed / len(resumed)
    assert summarise(full).figures["resumed_share"] == 0
    figures = summarise(full).figures
    assert figures["handshake_ms"] <= figures["handshake_p95_ms"] <= figures["handshake_p99_ms"]


def test_connections_that_are_kept_take_no_session_up(
    authority: trustme.CA, ca_file: str, loop_factory: LoopFactory
) -> None:
    with serving(once(answer()), context=settings(authority)) as server:
        samples = load(secure(server.port, ca_file), phase(), loop_factory)
    assert samples.resumed == 0
    assert len(samples.handshake_s) == len(samples.connect_s) > 2


def test_a_handshake_without_an_end_is_a_counted_time_out(loop_factory: LoopFactory) -> None:
    with serving(lambda peer: peer.until_gone()) as server:
        board = replace(server.target, scheme="https", insecure=True)
        samples = load(board, ONCE_EACH, loop_factory, request_timeout_s=TIMEOUT_S)
    assert kinds(samples) == {"ConnectTimeout": len(samples)}
    assert "no TLS handshake in time" in samples.reasons["ConnectTimeout", 0]


def test_a_certificate_that_expires_in_the_middle_of_a_phase(
    authority: trustme.CA, ca_file: str, loop_factory: LoopFactory
) -> None:
    expired = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    yesterday = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=1)
    authority.issue_cert("127.0.0.1", not_after=yesterday).configure_cert(expired)
    with serving(once(answer()), context=settings(authority)) as server:

        def expire() -> None:
            while server.accepted < 5:
                time.sleep(0.01)
            server._context = expired

        thread = threading.Thread(target=expire)
        thread.start()
        spec = replace(ONCE_EACH, duration_s=2.0, tls_resumption=False)
        samples = load(secure(server.port, ca_file), spec, loop_factory)
        thread.join()
    assert kinds(samples).keys() == {None, "ConnectError"}
    assert "certificate has expired" in samples.reasons["ConnectError", 0]


@needs_nginx
@pytest.mark.parametrize(
    "lines",
    [
        "ssl_session_tickets on; ssl_session_cache off;",
        "ssl_session_tickets off; ssl_session_cache shared:s:1m;",
        "ssl_session_tickets off; ssl_session_cache none;",
    ],
    ids=["tickets", "cache", "neither"],
)
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_nginx_resumes_as_it_is_told(
    lines: str, version: str, authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    resumes = "none" not in lines
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    own = f"ssl_certificate {tmp_path}/both.pem; ssl_certificate_key {tmp_path}/both.pem; "
    server = f"{own} ssl_protocols {version}; {lines} location = /hello {{ return 200 ok; }}"
    spec = replace(ONCE_EACH, duration_s=0.5)
    with nginx(tmp_path / "nginx", "ssl", server) as port:
        samples = load(secure(port, ca_file), spec)
        full = load(secure(port, ca_file), replace(spec, tls_resumption=False))
    for one in (samples, full):
        assert kinds(one) == {None: len(one)}
        assert len(one.handshake_s) == len(one)
    assert samples.resumed == (len(samples) - 2 if resumes else 0)
    assert full.resumed == 0


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("tickets", [True, False])
def test_openssls_own_server(
    version: str, tickets: bool, authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    """It answers with a page about the connection, which says itself whether a session was taken up."""
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    port = free_port()
    command = [str(OPENSSL), "s_server", "-accept", f"127.0.0.1:{port}", "-www", "-quiet", version]
    command += ["-cert", str(tmp_path / "both.pem"), "-key", str(tmp_path / "both.pem")]
    command += [] if tickets else ["-no_ticket", "-no_cache"]
    with running(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert listens(process, port)
        board = secure(port, ca_file)
        spec = PhaseSpec("one", 1, 0.5, reuse=False)
        said = [replace(HELLO[0], path="/", contains=text) for text in (b"\nReused, ", b"\nNew, ")]
        samples = run_phase(board, [said[0] if tickets else said[1]], spec, deadline_s=HANG_S)
        full = run_phase(board, [said[1]], replace(spec, tls_resumption=False), deadline_s=HANG_S)
    assert kinds(full) == {None: len(full)}
    assert full.resumed == 0
    # The first of all is new.
    assert kinds(samples).keys() <= {None, "body_contains"}
    assert kinds(samples)["body_contains"] == (1 if tickets else 0)
    assert samples.resumed == (len(samples) - 1 if tickets else 0)


# --- clients that pause


def test_a_client_pauses_between_an_answer_and_its_next_request(loop_factory: LoopFactory) -> None:
    samples = drive_calm(always(answer()), PhaseSpec("calm", 1, 1.0, think_time_s=0.2), loop_factory)
    assert 2 <= len(samples) <= 5
    ends = [start + took for start, took in zip(samples.start_s, samples.service_s, strict=True)]
    gaps = [start - end for end, start in zip(ends, samples.start_s[1:], strict=False)]
    assert min(gaps) >= 0.19
    assert samples.elapsed_s == pytest.approx(1.0)  # its last pause belongs to it
    report = summarise(samples)
    assert report.paced
    assert report.rps_ok == pytest.approx(len(samples))
    assert report.generator is not None
    assert not report.generator.bound


def drive_calm(handler: Handler, spec: PhaseSpec, loop_factory: LoopFactory) -> PhaseSamples:
    with serving(handler) as server:
        return load(server.target, spec, loop_factory)


def test_clients_that_pause_begin_one_after_the_other(loop_factory: LoopFactory) -> None:
    samples = drive_calm(always(answer()), PhaseSpec("calm", 4, 1.6, think_time_s=0.8), loop_factory)
    first = sorted(samples.start_s)[:4]
    assert first[3] - first[0] > 0.2  # 0.6 s, where nothing delays the first one


def test_a_phase_does_not_outlast_its_pauses(loop_factory: LoopFactory) -> None:
    begun = time.monotonic()
    samples = drive_calm(always(answer()), PhaseSpec("calm", 3, 0.5, think_time_s=300), loop_factory)
    assert time.monotonic() - begun < HANG_S
    assert len(samples) == 3
    assert samples.elapsed_s == pytest.approx(0.5)
    assert samples.never_answered == 0


def test_a_connection_that_is_closed_during_a_pause_is_opened_again_without_an_error(
    loop_factory: LoopFactory,
) -> None:
    def idles_out(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(answer())
            peer.stopping.wait(0.05)
            peer.send(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")

    samples = drive_calm(idles_out, PhaseSpec("calm", 1, 1.2, think_time_s=0.4), loop_factory)
    assert kinds(samples) == {None: len(samples)}
    assert len(samples.connect_s) == len(samples) >= 2
    assert samples.stale_retries == 0


@pytest.mark.parametrize("bad", [once(b""), once(answer(status=b"500 Oops")), lambda peer: peer.until_gone()])
def test_an_error_is_followed_by_a_pause_as_well(bad: Handler, loop_factory: LoopFactory) -> None:
    spec = PhaseSpec("calm", 1, 0.9, think_time_s=0.4)
    with serving(bad) as server:
        samples = load(server.target, spec, loop_factory, request_timeout_s=TIMEOUT_S)
    assert 1 <= len(samples) <= 3
    assert None not in kinds(samples)


def test_nobody_there_is_asked_at_the_pace_of_the_pauses(loop_factory: LoopFactory) -> None:
    samples = load(target(free_port()), PhaseSpec("calm", 1, 0.9, think_time_s=0.4), loop_factory)
    assert 1 <= len(samples) <= 3
    assert kinds(samples) == {"ConnectError": len(samples)}


def test_pauses_are_no_stalls() -> None:
    with serving(always(answer())) as server:
        samples = load(server.target, PhaseSpec("calm", 1, 3.5, think_time_s=1.1))
    assert len(samples) >= 2
    assert summarise(samples).stalled_s == 0
    assert summarise(replace(samples, think_time_s=0.0)).stalled_s > 1  # without them they would be


# --- a user's own transport


class Counted(httpx.AsyncBaseTransport):
    made: list[float]

    def __init__(self) -> None:
        Counted.made.append(time.monotonic())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return httpx.Response(200, content=b"ok")


def test_a_transport_of_ones_own_is_made_for_each_request() -> None:
    Counted.made = []
    spec = PhaseSpec("burst", 2, 0.3, reuse=False, think_time_s=0.05)
    samples = run_phase(NOWHERE, HELLO, spec, transport=Counted, deadline_s=HANG_S)
    assert kinds(samples) == {None: len(samples)}
    assert 2 <= len(samples) <= 14
    assert len(Counted.made) >= len(samples)
    assert len(samples.opening_s) == len(samples)


def test_a_rate_and_a_pause_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="'both' has a rate and a pause"):
        run_phase(NOWHERE, HELLO, PhaseSpec("both", 1, 1.0, rate_rps=2.0, think_time_s=1.0))


def test_https_over_ipv6(authority: trustme.CA, ca_file: str, loop_factory: LoopFactory) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("::1").configure_cert(context)
    try:
        serving_there = serving(once(answer()), host="::1", context=context)
        with serving_there as server:
            samples = load(replace(server.target, ca_file=ca_file), ONCE_EACH, loop_factory)
    except OSError:
        pytest.skip("there is no IPv6 here")
    assert kinds(samples) == {None: len(samples)}
    assert samples.resumed == len(samples) - 2
