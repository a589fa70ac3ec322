"""TLS of the reference device: sessions that are resumed or not, and handshakes that take a board's time."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_espperf.load import run_phase
from pytest_espperf.model.metrics import summarise
from pytest_espperf.model.workload import PhaseSpec, RequestSpec, Target
from pytest_espperf.sim import SimConfig, SimProcess
from pytest_espperf.sim.model import RESUMED_PART, TimingModel

PATIENCE_S = 60.0
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ca") / "ca.pem"


@pytest.fixture(scope="module")
def device(ca_file: Path) -> Iterator[SimProcess]:
    pytest.importorskip("trustme")
    with SimProcess.start(SimConfig(noise="none", time_scale=0.1), ca_file=ca_file) as sim:
        yield sim
        assert sim.stderr_tail == ""


def asked(
    sim: SimProcess, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bool, ssl.SSLSession | None]:
    """Ask for a page on a connection of its own: whether the session was taken up, and the new one."""
    with (
        socket.create_connection((sim.host, sim.port), timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost", session=session) as client,
    ):
        client.sendall(b"GET /hello HTTP/1.1\r\nConnection: close\r\n\r\n")
        answer = b""
        while part := client.recv(65_536):  # up to the device's farewell
            answer += part
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b'{"message":"ok"}')
        return bool(client.session_reused), client.session


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("tickets", [True, False], ids=["tickets", "session ids"])
def test_a_session_is_resumed_unless_that_is_switched_off(
    version: ssl.TLSVersion, full: bool, tickets: bool, device: SimProcess, ca_file: Path
) -> None:
    device.configure(full_handshakes=full, handshake_s=0.0)
    context = ssl.create_default_context(cafile=str(ca_file))
    context.minimum_version = context.maximum_version = version
    if not tickets:
        context.options |= ssl.OP_NO_TICKET
    first, session = asked(device, context, None)
    again, _ = asked(device, context, session)
    assert not first
    assert again is not full


def test_a_full_handshake_takes_its_time_and_a_resumed_one_far_less(
    device: SimProcess, ca_file: Path
) -> None:
    device.configure(full_handshakes=False, handshake_s=8.0)  # 0.8 s of ours
    board = Target("https", device.host, device.port, "localhost", ca_file=str(ca_file))
    spec = PhaseSpec("reconnect", 1, 2.0, reuse=False)
    samples = run_phase(board, [RequestSpec("/hello")], spec, deadline_s=PATIENCE_S)
    full = run_phase(
        board, [RequestSpec("/hello")], replace(spec, tls_resumption=False), deadline_s=PATIENCE_S
    )
    device.configure(handshake_s=0.0)
    assert summarise(samples).err == summarise(full).err == 0
    assert samples.resumed == len(samples) - 1
    assert full.resumed == 0
    assert samples.handshake_s[0] >= 0.8
    assert min(full.handshake_s) >= 0.8
    assert min(samples.handshake_s[1:]) < 0.4


def test_handshakes_are_done_one_after_the_other() -> None:
    model = TimingModel(SimConfig(handshake_s=2.0))
    assert model.handshake(10.0, resumed=False) == 12.0
    assert model.handshake(10.5, resumed=False) == 14.0
    assert model.handshake(11.0, resumed=True) == pytest.approx(14.0 + 2.0 * RESUMED_PART)
    model.restart(11.0)
    assert model.handshake(11.0, resumed=False) == 13.0


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /hello HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 600,
        b"\x16\x03\x01\x40\x00",
    ],
    ids=["nothing", "plain HTTP", "a broken hello", "half a record"],
)
def test_a_client_that_speaks_no_tls_harms_nobody(said: bytes, device: SimProcess, ca_file: Path) -> None:
    with socket.create_connection((device.host, device.port), timeout=PATIENCE_S) as client:
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        while client.recv(1000):  # an alert at most, and the end
            pass
    context = ssl.create_default_context(cafile=str(ca_file))
    assert asked(device, context, None)[0] is False


def test_a_client_that_goes_away_during_its_handshake(device: SimProcess, ca_file: Path) -> None:
    device.configure(handshake_s=2.0)
    context = ssl.create_default_context(cafile=str(ca_file))
    for _ in range(3):
        with socket.create_connection((device.host, device.port), timeout=PATIENCE_S) as plain:
            plain.settimeout(0.02)
            with pytest.raises(TimeoutError):
                context.wrap_socket(plain, server_hostname="localhost")
    device.configure(handshake_s=0.0)
    time.sleep(0.3)  # the answers of those handshakes are due by now
    assert asked(device, context, None)[0] is False


def test_settings_on_the_command_line() -> None:
    config = SimConfig(handshake_s=1.5, full_handshakes=True)
    assert config.to_args() == ["--sim-handshake-s=1.5", "--sim-full-handshakes"]
    for bad in (-1, 61, "1", True):
        with pytest.raises(ValueError, match="handshake_s"):
            SimConfig().merged({"handshake_s": bad})
    with pytest.raises(ValueError, match="full_handshakes must be true or false"):
        SimConfig().merged({"full_handshakes": 1})
