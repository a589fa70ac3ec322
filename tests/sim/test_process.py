"""The reference device as a process: its line, its end, its life tied to its parent's."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.paths import ROOT

from pytest_espperf.errors import SimError
from pytest_espperf.sim import SimConfig, SimProcess
from pytest_espperf.sim import process as process_module

PATIENCE_S = 60.0
READY = "espperf reference device listening on http://"


def device(*args: str) -> list[str]:
    return [sys.executable, "-m", "pytest_espperf.sim", *args]


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        device(*args), capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, check=False
    )


def gone(host: str, port: int) -> bool:
    """Whether nobody listens there any more, within patience."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_it_starts_answers_and_stops() -> None:
    sim = SimProcess.start(SimConfig(seed=9, noise="none", time_scale=0.1))
    try:
        assert sim.alive
        assert sim.host == "127.0.0.1"
        assert sim.configuration()["seed"] == 9
        assert sim.configure(slowdown={"all": 2.0})["slowdown"] == {"all": 2.0}
    finally:
        sim.stop()
    assert not sim.alive
    sim.stop()
    with pytest.raises(SimError, match="has ended with exit code 0"):
        sim.configure(seed=1)
    assert gone(sim.host, sim.port)


def test_two_devices_have_ports_of_their_own() -> None:
    with SimProcess.start() as one, SimProcess.start() as two:
        assert one.port != two.port


def test_one_that_hangs_or_refuses_still_stops() -> None:
    for fault in ("hang@0", "refuse@0"):
        with SimProcess.start(SimConfig().merged({"fault": fault})) as sim:
            pass
        assert not sim.alive


def test_a_device_that_dies_says_so_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = [sys.executable, "-c", "import sys; sys.stderr.write('no luck today'); sys.exit(3)"]
    original = process_module._popen
    monkeypatch.setattr(process_module, "_popen", lambda _command: original(bad))
    with pytest.raises(SimError, match="ended at its start with exit code 3; its last output: no luck today"):
        SimProcess.start()


def test_a_device_that_does_not_get_ready_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    started: list[subprocess.Popen[str]] = []
    original = process_module._popen

    def popen(_command: list[str]) -> subprocess.Popen[str]:
        started.append(original(slow))
        return started[0]

    monkeypatch.setattr(process_module, "_popen", popen)
    with pytest.raises(SimError, match=r"did not start within 0\.2 s"):
        SimProcess.start(timeout_s=0.2)
    assert started[0].poll() is not None


def test_a_device_killed_by_someone_is_an_error_and_no_traceback() -> None:
    with SimProcess.start() as sim:
        sim._process.kill()
        sim._process.wait(PATIENCE_S)
        with pytest.raises(SimError, match="the reference device has ended"):
            sim.configuration()


PARENT = """
import sys
from pytest_espperf.sim import SimConfig, SimProcess
sim = SimProcess.start(SimConfig(seed=3))
print(sim.host, sim.port, flush=True)
sys.stdin.read()
"""


def test_it_dies_with_its_parent_even_a_killed_one() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as parent:
        assert parent.stdout is not None
        host, port = parent.stdout.readline().split()
        socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()
        parent.kill()
        parent.wait(PATIENCE_S)
    assert gone(host, int(port))


def test_alone_it_prints_one_line_and_serves() -> None:
    with subprocess.Popen(
        device("--port", "0", "--exit-with-stdin", "--sim-noise", "none"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    ) as alone:
        assert alone.stdout is not None
        line = alone.stdout.readline()
        assert line.startswith(READY)
        port = int(line.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
            client.sendall(b"GET /hello HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
        out, err = alone.communicate(timeout=PATIENCE_S)
        assert (alone.returncode, out, err) == (0, "", "")


def test_https_has_a_certificate_that_its_ca_verifies(tmp_path: Path) -> None:
    pytest.importorskip("trustme")
    ca_file = tmp_path / "ca.pem"
    with SimProcess.start(SimConfig(noise="none"), ca_file=ca_file) as sim:
        assert sim.configuration()["noise"] == "none"
        context = ssl.create_default_context(cafile=str(ca_file))
        with (
            socket.create_connection((sim.host, sim.port), timeout=PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            client.sendall(b"GET /hello HTTP/1.1\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
            sim.configure(fault="reset@0")
            client.sendall(b"GET /file HTTP/1.1\r\n\r\n")
            received = 0
            with contextlib.suppress(ConnectionError):  # older ssl modules report a reset as the end
                while part := client.recv(65_536):
                    received += len(part)
            assert 0 < received < 410_000
        assert sim.stderr_tail == ""


def test_https_without_its_package_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pytest_espperf.sim.__main__ import main

    monkeypatch.setitem(sys.modules, "trustme", None)
    assert main(["--port", "0", "--https"]) == 1
    assert capsys.readouterr().err == "error: HTTPS needs the package trustme: pip install trustme\n"


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback here")
def test_it_listens_on_ipv6_when_told_to() -> None:
    with subprocess.Popen(
        device("--host", "::1", "--port", "0", "--exit-with-stdin"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    ) as alone:
        assert alone.stdout is not None
        line = alone.stdout.readline()
        assert line.startswith(f"{READY}[::1]:")
        socket.create_connection(("::1", int(line.rpartition(":")[2])), timeout=PATIENCE_S).close()
        alone.communicate(timeout=PATIENCE_S)


@pytest.mark.skipif(os.name == "nt", reason="a signal to one process is POSIX")
def test_ctrl_c_ends_it_quietly() -> None:
    with subprocess.Popen(
        device("--port", "0"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True
    ) as alone:
        assert alone.stdout is not None
        assert alone.stdout.readline().startswith(READY)
        alone.send_signal(signal.SIGINT)
        _out, err = alone.communicate(timeout=PATIENCE_S)
        assert (alone.returncode, err) == (0, "")


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("--port", str(port))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: cannot listen on 127.0.0.1:{port}: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--sim-fault", "explode@1"), "argument --sim-fault: 'explode' is no fault kind: use one of hang"),
        (("--sim-slowdown", "x=1"), "argument --sim-slowdown: 'x' is no profile or route"),
        (("--sim-slowdown", "all=1", "--sim-slowdown", "all=2"), "slowdown of all is given twice"),
        (("--sim-error-rate", "/hello=2"), "error rate of /hello must be within 0 and 1"),
        (("--sim-leak-bytes", "-1"), "leak_bytes must be within"),
        (("--sim-time-scale", "0"), "time scale must be within"),
        (("--sim-noise", "loud"), "argument --sim-noise: invalid choice"),
        (("--port", "99999"), "argument --port: '99999' is no port"),
    ],
)
def test_a_bad_option_exits_2_with_one_sentence(
    args: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from pytest_espperf.sim.__main__ import main

    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert said in last


def test_it_imports_nothing_of_pytest_and_only_what_all_packages_may() -> None:
    code = (
        "import sys, pytest_espperf.sim.__main__ as _\n"
        "ours = {name.split('.')[1] for name in sys.modules if name.startswith('pytest_espperf.')}\n"
        "heavy = {'pytest', 'httpx', 'msgspec'} & set(sys.modules)\n"
        "print(sorted(ours), sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("['errors', 'model', 'sim', 'system'] []", "")


@pytest.mark.parametrize(("host", "warns"), [("0.0.0.0", True), ("127.0.0.1", False), ("localhost", False)])
def test_a_device_that_others_can_reach_says_so(host: str, warns: bool) -> None:
    with subprocess.Popen(
        device("--port", "0", "--host", host, "--exit-with-stdin"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    ) as alone:
        assert alone.stdout is not None
        assert alone.stdout.readline().startswith(READY)
        _out, err = alone.communicate("", timeout=PATIENCE_S)
    assert err.startswith(f"warning: {host} is not loopback: ") if warns else err == ""
