"""Bodies, beside servers that we did not write: nginx and Python's own."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from support.load_servers import LoopFactory, kinds, phase, target
from support.nginx_server import needs_nginx, nginx

from pytest_espperf.load import run_phase
from pytest_espperf.model.metrics import summarise
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import LoginSpec, RequestSpec

MB = bytes(range(256)) * 4096
PUT = RequestSpec("/put/a.bin", method="PUT", body=MB)

NGINX = """
    client_max_body_size 2m;
    location /put/ { dav_methods PUT DELETE; }
    location /up { client_max_body_size 100k; proxy_pass http://127.0.0.1:$server_port/sink; }
    location /sink { client_max_body_size 0; return 200 "taken"; }
    location /who { if ($http_authorization != "Bearer abc") { return 401; } return 200 '{"ok": true}'; }
    location /login { add_header Set-Cookie "sid=1; Path=/"; add_header X-Token abc; return 200 '{}'; }
    location /cookie { if ($cookie_sid != "1") { return 403; } return 204; }
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    with nginx(folder, server=NGINX) as found:
        (folder / "www" / "put").mkdir()
        yield found


def drive(port: int, *specs: RequestSpec, loop_factory: LoopFactory | None = None) -> PhaseSamples:
    return run_phase(target(port), specs, phase(), deadline_s=60, loop_factory=loop_factory)


@needs_nginx
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("expect", [False, True])
def test_nginx_takes_a_file(port: int, chunked: bool, expect: bool, loop_factory: LoopFactory) -> None:
    spec = replace(PUT, chunked=chunked, expect_continue=expect)
    samples = drive(port, spec, loop_factory=loop_factory)
    assert set(kinds(samples)) == {None}, samples.reasons
    assert {samples.outcomes[one].status for one in samples.outcome} <= {201, 204}
    assert summarise(samples).figures["upload_mb_s"] > 0
    back = drive(port, RequestSpec(spec.path, size_bytes=len(MB), contains=MB[-4000:]))
    assert set(kinds(back)) == {None}, "what was sent can be fetched"


@needs_nginx
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("expect", [False, True])
@pytest.mark.parametrize("size", [3 * len(MB), 20 * len(MB)])
def test_nginx_refuses_what_is_too_large(
    port: int, chunked: bool, expect: bool, size: int, loop_factory: LoopFactory
) -> None:
    body = MB * (size // len(MB))
    samples = drive(
        port, replace(PUT, body=body, chunked=chunked, expect_continue=expect), loop_factory=loop_factory
    )
    assert set(kinds(samples)) == {"http_413"}, samples.reasons


@needs_nginx
def test_nginx_knows_methods(port: int, loop_factory: LoopFactory) -> None:
    specs = (
        RequestSpec("/file", method="POST", body=b"x", statuses=frozenset({405})),
        RequestSpec("/file", method="HEAD"),
        RequestSpec("/file", size_bytes=410_000),
        RequestSpec("/put/none", method="DELETE", statuses=frozenset({404})),
        RequestSpec("/file", method="PURGE", statuses=frozenset({405})),
    )
    samples = drive(port, *specs, loop_factory=loop_factory)
    assert set(kinds(samples)) == {None}, samples.reasons
    assert samples.paths == ("POST /file", "HEAD /file", "/file", "DELETE /put/none", "PURGE /file")


@needs_nginx
@pytest.mark.parametrize("transport", [False, True])
def test_a_login_at_nginx(port: int, transport: bool) -> None:
    samples = run_phase(
        target(port),
        (RequestSpec("/who", json_contains='{"ok":true}'), RequestSpec("/cookie")),
        phase(),
        headers=(("Authorization", "Bearer {token}"),),
        login=LoginSpec(RequestSpec("/login"), {"token": "header:x-token"}),
        transport=httpx.AsyncHTTPTransport if transport else None,
        deadline_s=60,
    )
    assert set(kinds(samples)) == {None}, samples.reasons


class Poster(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        found = json.dumps({"length": len(body), "type": self.headers["Content-Type"]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        self.wfile.write(found)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("expect", [False, True])
@pytest.mark.parametrize("size", [10, 2_000_000])
def test_pythons_own_server(expect: bool, size: int, loop_factory: LoopFactory) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Poster)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        spec = RequestSpec(
            "/",
            method="POST",
            body=b"x" * size,
            expect_continue=expect,
            headers=(("Content-Type", "a/b"),),
            json_contains=json.dumps({"length": size, "type": "a/b"}),
        )
        samples = drive(server.server_port, spec, loop_factory=loop_factory)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert set(kinds(samples)) == {None}, samples.reasons
