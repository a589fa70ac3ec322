"""The reference device's routes that take a body, and those behind the login; Python's own client asks."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterable, Iterator

import pytest

from pytest_espperf.sim import SimConfig, SimProcess

PATIENCE_S = 60.0
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def sim() -> Iterator[SimProcess]:
    with SimProcess.start(SimConfig().merged({"noise": "none"})) as running:
        yield running


def ask(
    sim: SimProcess,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(sim.host, sim.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        chunked = body is not None and not isinstance(body, bytes)
        connection.request(method, path, body, headers or {}, encode_chunked=chunked)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def log_in(sim: SimProcess) -> tuple[str, str]:
    """The token and the cookie of one more client."""
    status, headers, body = ask(sim, "POST", "/login", b'{"user": "bench"}', JSON)
    assert status == 200
    return json.loads(body)["token"], headers["Set-Cookie"].partition(";")[0]


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("size", [0, 1, 65_536])
def test_echo(sim: SimProcess, method: str, size: int) -> None:
    status, headers, body = ask(sim, method, "/echo", b"x" * size, {"Content-Type": "a/b"})
    assert (status, body, headers["Content-Type"]) == (200, b"x" * size, "a/b")


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_upload_is_counted(sim: SimProcess, method: str) -> None:
    status, _, body = ask(sim, method, "/upload", bytes(2_000_000))
    assert (status, json.loads(body)) == (200, {"bytes": 2_000_000})


def test_chunks_are_put_together(sim: SimProcess) -> None:
    assert ask(sim, "POST", "/echo", iter([b"ab", b"c" * 5000, b"d"]))[2] == b"ab" + b"c" * 5000 + b"d"
    assert json.loads(ask(sim, "PUT", "/upload", iter([bytes(70_000)] * 3))[2]) == {"bytes": 210_000}


def test_an_item_and_a_form(sim: SimProcess) -> None:
    status, _, body = ask(sim, "POST", "/item", b'{"id": 1}', JSON)
    assert (status, json.loads(body)) == (201, {"created": True, "item": {"id": 1}})
    status, _, body = ask(sim, "POST", "/form", b"name=Ana+B&x=%C3%A9", FORM)
    assert (status, json.loads(body)) == (200, {"fields": {"name": "Ana B", "x": "é"}})


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/item", b"{", 422),
        ("/item", b"[1]", 422),
        ("/item", b"[" * 60_000, 422),
        ("/form", b"a=b", 422),
        ("/login", b"{}", 401),
        ("/login", b'{"user": 5}', 401),
        ("/login", b"no", 401),
    ],
)
def test_what_is_wrong_in_a_body_is_said(sim: SimProcess, path: str, body: bytes, status: int) -> None:
    assert ask(sim, "POST", path, body, JSON)[0] == status


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/upload", "POST, PUT"),
        ("GET", "/login", "POST"),
        ("PUT", "/item", "POST"),
        ("POST", "/cart", "GET"),
    ],
)
def test_a_wrong_method_is_405(sim: SimProcess, method: str, path: str, allow: str) -> None:
    status, headers, _ = ask(sim, method, path, b"" if method != "GET" else None)
    assert (status, headers["Allow"]) == (405, allow)


def test_each_login_has_a_token_of_its_own(sim: SimProcess) -> None:
    (token, cookie), (other, _) = log_in(sim), log_in(sim)
    assert token != other
    assert cookie == f"sid={token}"
    for path, headers, status in (
        ("/cart", {}, 401),
        ("/cart", {"Authorization": f"Bearer {token}"}, 200),
        ("/cart", {"Cookie": f"x=1; {cookie}"}, 200),
        ("/cart", {"Cookie": "sid=no"}, 401),
        ("/state", {}, 401),
        ("/state", {"Authorization": f"bearer {other}"}, 200),
        ("/state", {"Authorization": f"Basic {token}"}, 401),
        ("/state", {"Cookie": cookie}, 401),
    ):
        found, answer, _ = ask(sim, "GET", path, None, headers)
        assert found == status, (path, headers)
        assert ("WWW-Authenticate" in answer) is (status == 401)


def test_the_oldest_token_is_forgotten(sim: SimProcess) -> None:
    first = log_in(sim)[0]
    connection = http.client.HTTPConnection(sim.host, sim.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        for _ in range(256):
            connection.request("POST", "/login", b'{"user": "x"}')
            assert connection.getresponse().read()
    assert ask(sim, "GET", "/state", None, {"Authorization": f"Bearer {first}"})[0] == 401


# Refusals by the head


def raw(sim: SimProcess, sent: bytes, then: bytes = b"", wait_for: bytes = b"") -> bytes:
    """What comes back for some bytes; ``then`` is sent once ``wait_for`` came."""
    with socket.create_connection((sim.host, sim.port), timeout=PATIENCE_S) as sock:
        sock.sendall(sent)
        data = b""
        while wait_for and wait_for not in data:
            part = sock.recv(65_536)
            assert part, data
            data += part
        sock.sendall(then)
        while part := sock.recv(65_536):
            data += part
        return data


def head(*lines: str, path: str = "/upload") -> bytes:
    return "\r\n".join([f"PUT {path} HTTP/1.1", "Host: board", "Connection: close", *lines, "", ""]).encode()


def status_of(data: bytes) -> int:
    return int(data.split()[1])


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head(), 411),
        (head("Content-Length: 5000000"), 413),
        (head("Content-Length: 65537", path="/echo"), 413),
        (head("Content-Length: 5", "Expect: miracles"), 417),
        (head("Content-Length: 5000000", "Expect: 100-continue"), 413),
    ],
    ids=range(5),
)
def test_a_body_is_refused_before_it_comes(sim: SimProcess, sent: bytes, status: int) -> None:
    assert status_of(raw(sim, sent)) == status


def test_a_body_that_goes_on_is_refused_in_chunks(sim: SimProcess) -> None:
    chunk = b"10000\r\n" + bytes(65_536) + b"\r\n"
    assert status_of(raw(sim, head("Transfer-Encoding: chunked", path="/echo"), chunk + chunk)) == 413


def test_the_answer_survives_what_is_still_sent(sim: SimProcess) -> None:
    """A close with something unread is a reset: the device reads on for a moment."""
    assert status_of(raw(sim, head("Content-Length: 5000000"), bytes(300_000), b"413")) == 413


def test_continue_comes_before_the_body(sim: SimProcess) -> None:
    sent = head("Content-Length: 3", "Expect: 100-Continue", path="/echo")
    interim, _, final = raw(sim, sent, b"abc", b"\r\n\r\n").partition(b"\r\n\r\n")
    assert interim == b"HTTP/1.1 100 Continue"
    assert status_of(final) == 200
    assert final.endswith(b"\r\n\r\nabc")


def test_an_upload_takes_its_time_on_the_link() -> None:
    """10 MB/s, as a static file: the sum of the bodies cannot come sooner."""
    with SimProcess.start(SimConfig().merged({"noise": "none", "slowdown": {"uploads": 5}})) as sim:
        connection = http.client.HTTPConnection(sim.host, sim.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            begun = time.monotonic()
            connection.request("PUT", "/upload", bytes(1_000_000))
            assert json.loads(connection.getresponse().read()) == {"bytes": 1_000_000}
            assert time.monotonic() - begun >= 0.5
