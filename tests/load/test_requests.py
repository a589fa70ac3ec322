"""What every request of ours looks like on the wire, beside what curl sends."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import pytest
from support.load_servers import Peer, answer, phase, serving

from pytest_espperf.config.parsers import url_path
from pytest_espperf.device import resolve_target
from pytest_espperf.device.http import get
from pytest_espperf.device.probe import Redirect, probe, read_redirect
from pytest_espperf.doctor.findings import Check
from pytest_espperf.doctor.judge_reach import answer as judge_answer
from pytest_espperf.load import run_phase
from pytest_espperf.load.talk import Caller, TimedAnswer, first_answer
from pytest_espperf.model.address import split_host
from pytest_espperf.model.workload import RequestSpec, Target

PATHS = (
    "/",
    "/hello?name=Ana&items=a,b,c",
    "//double",
    "/a%20b%2Fc",
    "/caf\u00e9?q=\u00e9",
    "/page#part",
    "/a/../b/./c",
    "/a;b=1?x=[1]|{2}",
)


def heads_of(*paths: str, target: Target) -> dict[str, list[list[bytes]]]:
    """The lines of each request head that a server gets, by what sent it; it listens where none other may."""
    heads: list[list[bytes]] = []

    def handle(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            heads.append(head.split(b"\r\n"))
            peer.send(answer())

    def taken() -> list[list[bytes]]:
        found = list(heads)
        heads.clear()
        return found

    sent: dict[str, list[list[bytes]]] = {}
    with serving(handle) as server:
        there = replace(target, port=server.port)
        for path in paths:
            get(there, path, timeout_s=5)
        sent["probe"] = taken()
        for path in paths:
            run_phase(there, (RequestSpec(path),), phase(), deadline_s=60, each_once=True)
            sent.setdefault("load", []).append(taken()[0])
        for path in paths:
            assert not isinstance(first_answer(Caller(there, path, timeout_s=5)), str)
        sent["doctor"] = taken()
        if shutil.which("curl"):
            for path in paths:
                url = f"http://{target.host_header}{path}"
                host = target.host_header.partition(":")[0]
                words = ["--connect-to", f"{host}::127.0.0.1:{server.port}", "--globoff", url]
                subprocess.run(["curl", "-sS", "-o", "-", *words], check=True, stdout=subprocess.DEVNULL)
            sent["curl"] = taken()
    return sent


def header(head: list[bytes], name: bytes) -> list[bytes]:
    pairs = (line.partition(b": ") for line in head[1:])
    return [value for key, _, value in pairs if key.lower() == name]


def escaped(line: bytes) -> bytes:
    """With what some versions of curl leave as it is, or write in lower case: ``%c3`` is ``%C3``."""
    line = b"".join(bytes([byte]) if byte < 128 else b"%%%02X" % byte for byte in line)
    head, *rest = line.split(b"%")
    return b"%".join([head, *(part[:2].upper() + part[2:] for part in rest)])


@pytest.mark.parametrize("port", [80, 8080])
def test_requests_are_those_of_curl(port: int) -> None:
    target = Target("http", "127.0.0.1", port, resolve_target("127.0.0.1", port).host_header)
    sent = heads_of(*PATHS, target=target)
    for who, heads in sent.items():
        assert len(heads) == len(PATHS), who
        for path, head, ours in zip(PATHS, heads, sent["load"], strict=True):
            case = (who, path)
            assert escaped(head[0]) == ours[0], case
            assert head[1] == b"Host: 127.0.0.1" + (b"" if port == 80 else b":8080"), case
            assert header(head, b"host") == header(ours, b"host"), case
            assert header(head, b"accept") == [b"*/*"], case
            assert len(header(head, b"user-agent")) == 1, case
            if who != "curl":
                assert header(head, b"user-agent") == [b"pytest-espperf"], case
                assert header(head, b"accept-encoding") == [b"identity"], case
                expected = [b"close"] if who == "probe" else [b"keep-alive"]
                assert header(head, b"connection") == expected, case


def test_a_users_header_takes_the_place_of_ours() -> None:
    target = Target("http", "127.0.0.1", 80, "127.0.0.1", headers=(("host", "portal"), ("User-Agent", "x")))
    for who, heads in heads_of("/", target=target).items():
        if who != "curl":
            assert header(heads[0], b"host") == [b"portal"], who
            assert header(heads[0], b"user-agent") == [b"x"], who


@pytest.mark.parametrize("text", ["http://user:s3cr3t@board/", "user:s3cr3t@board", "user@board:80"])
def test_credentials_are_no_part_of_a_host(text: str) -> None:
    with pytest.raises(ValueError, match=r"--device-(header|scheme)") as caught:
        split_host(text)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "hello", "/a b", "http://board/"])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="begins with '/'"):
        url_path(text)


# --- redirects

BOARD = Target("http", "192.0.2.7", 80, "board.example")


@pytest.mark.parametrize(
    ("location", "url", "measure"),
    [
        ("/new?a=1", "http://board.example/new?a=1", "that with --perf-probe-path '/new?a=1'"),
        ("new", "http://board.example/new", "that with --perf-probe-path '/new'"),
        ("https://board.example/x", "", "that with --device-scheme https --device-port 443"),
        ("https://192.0.2.7:8443/x", "", "that with --device-scheme https --device-port 8443"),
        ("http://board.example:8080/x", "", "that with --device-port 8080"),
        ("http://portal.example/login", "", "a path that the board answers itself, with --perf-probe-path"),
        ("http://[", "http://[", "another path with --perf-probe-path"),
    ],
)
def test_where_a_redirect_leads(location: str, url: str, measure: str) -> None:
    found = read_redirect(BOARD, "/hello", location)
    assert found == Redirect(url or location, measure)


def test_the_probe_and_the_doctor_say_where_a_redirect_leads() -> None:
    def handle(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(b"HTTP/1.1 301 Moved\r\nLocation: /hello/\r\nContent-Length: 0\r\n\r\n")

    with serving(handle) as server:
        found = probe(server.target, "/hello", tries=1, timeout_s=5)
    url = f"http://127.0.0.1:{server.port}/hello/"
    assert found.redirect == Redirect(url, "that with --perf-probe-path '/hello/'")
    said: Check = judge_answer(
        "/hello", TimedAnswer(301, "1.1", "", 1.0, keeps=True), tries=1, redirect=found.redirect
    )
    assert said.status == "warn"
    assert url in said.figure
    assert said.advice == "measure that with --perf-probe-path '/hello/'."
