"""The reference device over real sockets: routes, connections, backpressure, faults, configuration."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_espperf.errors import SimError
from pytest_espperf.sim import SimConfig, SimProcess
from pytest_espperf.sim.catalog import COSTS
from pytest_espperf.sim.config import FaultKind
from pytest_espperf.sim.noise import LINK_S

PATIENCE_S = 60.0
QUIET = {"noise": "none", "time_scale": 0.1}
DEFAULTS = {**SimConfig().to_json(), **QUIET}


@pytest.fixture(scope="module")
def process() -> Iterator[SimProcess]:
    with SimProcess.start(SimConfig().merged(QUIET)) as running:
        yield running


@pytest.fixture
def sim(process: SimProcess) -> SimProcess:
    process.configure(**DEFAULTS)
    get(process, "/debug/server-stats?reset=1")
    return process


class Raw:
    """A client that shows every byte."""

    def __init__(self, sim: SimProcess) -> None:
        self.socket = socket.create_connection((sim.host, sim.port), timeout=PATIENCE_S)

    def __enter__(self) -> Raw:  # noqa: PYI034 - typing.Self needs Python 3.11
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close()

    def send(self, path: str = "/hello", *more: str) -> None:
        lines = [f"GET {path} HTTP/1.1", "Host: board", *more, "", ""]
        self.socket.sendall("\r\n".join(lines).encode())

    def rest(self, limit: int = 1 << 20) -> bytes:
        """All that comes until the device ends the connection, or until ``limit`` bytes."""
        data = b""
        while len(data) < limit and (part := self.socket.recv(65_536)):
            data += part
        return data

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        response = http.client.HTTPResponse(self.socket)
        response.begin()
        body = response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, body


def ask(
    sim: SimProcess, path: str, method: str = "GET", body: str | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(sim.host, sim.port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, body, {n.replace("_", "-"): v for n, v in headers.items()})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def get(sim: SimProcess, path: str) -> Any:
    status, _headers, body = ask(sim, path)
    assert status == 200
    return json.loads(body)


def server_stats(sim: SimProcess) -> dict[str, int]:
    stats = get(sim, "/debug/server-stats")["server"]
    assert isinstance(stats, dict)
    return stats


def eventually_listens(sim: SimProcess) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), Raw(sim) as raw:
            raw.send()
            if raw.answer()[0] == 200:
                return
        time.sleep(0.01)
    pytest.fail("the device did not come back")


def eventually_refuses(sim: SimProcess) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection((sim.host, sim.port), timeout=PATIENCE_S).close()
        except ConnectionError:
            return
        time.sleep(0.005)
    pytest.fail("the device still listens")


# Routes


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/hello", {"message": "ok"}),
        ("/api/ping", {"pong": True}),
        ("/deps", {"value": 42}),
        (
            "/query-typed?q=abc&page=2&ratio=1.5&active=true",
            {"q": "abc", "page": 2, "ratio": 1.5, "active": True},
        ),
    ],
)
def test_light_routes_answer_json(sim: SimProcess, path: str, expected: object) -> None:
    status, headers, body = ask(sim, path)
    assert (status, headers["Content-Type"], json.loads(body)) == (200, "application/json", expected)


@pytest.mark.parametrize(
    "query", ["", "?q=abc&page=2", "?ratio=x", "?ratio=nan", "?ratio=1&page=two", "?ratio=1&active=maybe"]
)
def test_query_typed_refuses_what_is_missing_or_mistyped(sim: SimProcess, query: str) -> None:
    status, _headers, body = ask(sim, f"/query-typed{query}")
    assert status == 422
    assert json.loads(body)["detail"][0]["loc"][0] == "query"


def test_templates_answer_pages_of_the_usual_size(sim: SimProcess) -> None:
    path = "/template-compat?name=Ana&count=2&role=user&roles=user,viewer&items=a,b,c"
    for target, size in (("/template", 480), (path, 620)):
        status, headers, body = ask(sim, target)
        assert status == 200
        assert headers["Content-Type"].startswith("text/html")
        assert len(body) == pytest.approx(size, rel=0.05)
    assert b"Hello Ana" in body
    assert b"<script>" not in ask(sim, "/template-compat?name=%3Cscript%3E")[2]


@pytest.mark.parametrize("path", ["/file", "/static/large.txt"])
def test_static_file_whole_conditional_ranged_and_zipped(sim: SimProcess, path: str) -> None:
    status, headers, whole = ask(sim, path)
    assert (status, len(whole), headers["Content-Type"]) == (200, 410_000, "text/plain")
    tag = headers["ETag"]
    assert ask(sim, path, If_None_Match=tag)[0::2] == (304, b"")
    assert ask(sim, path, If_None_Match='"other"')[0] == 200
    status, headers, part = ask(sim, path, Range="bytes=100-199")
    assert (status, part, headers["Content-Range"]) == (206, whole[100:200], "bytes 100-199/410000")
    assert ask(sim, path, Range="bytes=-5")[2] == whole[-5:]
    assert ask(sim, path, Range="bytes=409990-")[2] == whole[-10:]
    assert ask(sim, path, Range="bytes=0-1,5-6")[0::2] == (200, whole)
    assert ask(sim, path, Range="bytes=0-1", If_Range='"other"')[0] == 200
    status, headers, _ = ask(sim, path, Range="bytes=410000-")
    assert (status, headers["Content-Range"]) == (416, "bytes */410000")
    status, headers, zipped = ask(sim, path, Accept_Encoding="br, gzip;q=0.5")
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    assert len(zipped) == pytest.approx(25_600, rel=0.03)
    assert gzip.decompress(zipped) == whole
    assert ask(sim, path, Accept_Encoding="gzip;q=0")[2] == whole
    assert ask(sim, path, Accept_Encoding="identity")[2] == whole
    status, headers, nothing = ask(sim, path, "HEAD")
    assert (status, headers["Content-Length"], nothing) == (200, "410000", b"")


def test_what_does_not_exist_is_404_and_a_wrong_method_405(sim: SimProcess) -> None:
    assert ask(sim, "/nope")[0] == 404
    assert ask(sim, "/hello", "POST", "{}")[0] == 405
    assert ask(sim, "/debug/reboot")[0] == 405


def test_server_stats_are_live_and_can_be_reset(sim: SimProcess) -> None:
    for path in ("/hello", "/nope", "/file"):
        ask(sim, path)
    stats = get(sim, "/debug/server-stats")
    server = stats["server"]
    assert len(server) == 56
    assert all(type(value) is int for value in server.values())
    assert (server["requests_started"], server["requests_handled"]) == (
        4,
        4,
    )  # the reset was answered after it
    assert (server["request_errors"], server["static_requests"]) == (1, 1)
    assert server["ipc_pending_peak"] == server["event_conn_peak"] == 1
    assert {"dropped_requests", "dropped_responses", "ring_full", "ring_size", "ring_psram"} == set(
        stats["ipc"]
    )
    assert get(sim, "/debug/server-stats?reset=1")["server"]["requests_started"] == 0


def test_memory_stats_have_the_boards_shape(sim: SimProcess) -> None:
    stats = get(sim, "/debug/memory-stats")
    assert set(stats) == {"gc_mem_free", "gc_mem_alloc", "heap"}
    heap = stats["heap"]
    assert heap.pop("psram_available") is True
    ends = {
        f"{kind}_{what}"
        for kind in ("internal", "psram")
        for what in ("total", "free", "largest", "min_free")
    }
    assert set(heap) == ends
    assert all(type(value) is int and value > 0 for value in heap.values())


def test_every_request_leaks_what_it_is_told_to(sim: SimProcess) -> None:
    sim.configure(leak_bytes=40)
    before = get(sim, "/debug/memory-stats")["heap"]["internal_largest"]
    for _ in range(5):
        ask(sim, "/hello")
    after = get(sim, "/debug/memory-stats")["heap"]["internal_largest"]
    assert before - after == 6 * 40


# Connections


def test_a_connection_is_closed_after_sixteen_requests(sim: SimProcess) -> None:
    with Raw(sim) as raw:
        ends = []
        for _ in range(16):
            raw.send()
            status, headers, _body = raw.answer()
            assert status == 200
            ends.append(headers["connection"])
        assert ends == ["keep-alive"] * 15 + ["close"]
        assert raw.rest() == b""
    assert server_stats(sim)["keepalive_limit_closes"] == 1


def test_a_close_asked_for_is_a_close(sim: SimProcess) -> None:
    with Raw(sim) as raw:
        raw.send("/hello", "Connection: close")
        assert b"Connection: close" in raw.rest()
    with Raw(sim) as raw:
        raw.socket.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
        assert b"Connection: close" in raw.rest()


def test_idle_connections_are_closed_earlier_before_their_first_request(sim: SimProcess) -> None:
    sim.configure(time_scale=0.02)
    with Raw(sim) as fresh, Raw(sim) as used:
        used.send()
        assert used.answer()[0] == 200
        assert fresh.rest() == b""
        used.socket.setblocking(False)
        with pytest.raises(BlockingIOError):  # 5 s are over, 10 s are not
            used.socket.recv(1)
        used.socket.settimeout(PATIENCE_S)
        assert used.rest() == b""
    assert server_stats(sim)["keepalive_idle_closes"] == 2


def test_pipelined_requests_are_answered_in_order(sim: SimProcess) -> None:
    with Raw(sim) as raw:
        for path in ("/template", "/hello", "/nope", "/deps"):
            raw.send(path)
        raw.send("/api/ping", "Connection: close")
        data = raw.rest()
    places = [data.index(text) for text in (b"<html>", b'"message"', b"Not Found", b'"value"', b'"pong"')]
    assert places == sorted(places)


def test_requests_may_come_in_pieces_and_ask_for_an_upgrade(sim: SimProcess) -> None:
    with Raw(sim) as raw:
        for byte in b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n":
            raw.socket.sendall(bytes([byte]))
        assert raw.answer()[0] == 200
    with Raw(sim) as raw:
        raw.send("/hello", "Connection: Upgrade", "Upgrade: h2c")
        assert raw.answer()[0] == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01nonsense\r\n\r\n", b"400"),
        (b"GET /hello HTTP/1.1\r\nX: " + b"a" * 9_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"a" * 9_000, b"431"),
        (b"POST /hello HTTP/1.1\r\nContent-Length: 70000\r\n\r\n" + b"a" * 70_000, b"413"),
    ],
)
def test_what_cannot_be_read_is_refused_and_ends_the_connection(
    sim: SimProcess, sent: bytes, status: bytes
) -> None:
    with Raw(sim) as raw:
        raw.socket.sendall(sent)
        data = b""
        with contextlib.suppress(ConnectionError):  # what was not read yet may turn the end into a reset
            data = raw.rest()
        assert data == b"" or data.split()[1] == status
    assert server_stats(sim)["request_parse_errors"] + server_stats(sim)["request_too_large"] == 1


def test_connections_beyond_the_limit_are_closed_at_once(sim: SimProcess) -> None:
    sim.configure(max_connections=2)
    with Raw(sim) as first, Raw(sim) as second:
        for raw in (first, second):
            raw.send()
            assert raw.answer()[0] == 200
        with Raw(sim) as third:
            assert third.rest() == b""
        second.send("/debug/server-stats")
        assert json.loads(second.answer()[2])["server"]["accepts_rejected"] == 1


def test_a_closed_socket_cools_down_before_it_is_free(sim: SimProcess) -> None:
    sim.configure(max_connections=1, cooldown_s=50.0, time_scale=0.02)  # 1 s
    try:
        with Raw(sim) as raw:
            raw.send("/hello", "Connection: close")
            assert raw.rest()
        with Raw(sim) as refused:
            assert refused.rest() == b""
        eventually_listens(sim)
    finally:
        sim.configure(cooldown_s=0.0)


# Backpressure


def test_a_full_queue_is_503_and_closes_without_retry_after(sim: SimProcess) -> None:
    sim.configure(queue_limit=1, time_scale=0.3, slowdown={"/hello": 1000})  # 1 s
    with Raw(sim) as first, Raw(sim) as second:
        first.send()
        wait_for_pending(sim)
        second.send()
        status, headers, body = second.answer()
        assert (status, headers["connection"], b"Queue Full" in body) == (503, "close", True)
        assert "retry-after" not in headers
        assert second.rest() == b""
    stats = server_stats(sim)
    assert stats["backpressure_503_sent"] == stats["ipc_pending_dropped"] == 1
    sim.configure(slowdown={})
    eventually_listens(sim)


def test_five_seconds_in_the_queue_are_504(sim: SimProcess) -> None:
    sim.configure(slowdown={"/template": 1000})  # 11 s, in a tenth of the time, as are the five
    with Raw(sim) as first, Raw(sim) as second:
        first.send("/template")
        wait_for_pending(sim)
        second.send()
        status, headers, _body = second.answer()
        assert (status, headers["connection"]) == (504, "close")
        assert "retry-after" not in headers
    assert server_stats(sim)["ipc_wait_timeouts"] == 1
    sim.configure(slowdown={})
    eventually_listens(sim)


def wait_for_pending(sim: SimProcess) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while server_stats(sim)["ipc_pending_current"] == 0:
        assert time.monotonic() < deadline


def test_the_rate_limiter_answers_429_when_it_is_on(sim: SimProcess) -> None:
    sim.configure(rate_limit=True, time_scale=10.0)  # 400 tokens, refilled at 20/s of real time
    statuses: list[int] = []
    while 429 not in statuses and len(statuses) < 4000:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Raw(sim)) for _ in range(12)]
            for _ in range(15):
                for raw in clients:
                    raw.send("/nope")
                for raw in clients:
                    status, headers, _body = raw.answer()
                    statuses.append(status)
                    assert ("retry-after" in headers) == (status == 429)
    assert statuses[:180] == [404] * 180
    assert statuses.count(404) >= 400
    assert 429 in statuses


def test_configured_errors_are_500_on_their_route_only(sim: SimProcess) -> None:
    sim.configure(error_rate={"/hello": 1.0})
    assert ask(sim, "/hello")[0] == 500
    assert ask(sim, "/deps")[0] == 200


def test_answers_never_come_before_the_model_says(sim: SimProcess) -> None:
    sim.configure(time_scale=1.0)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Raw(sim)) for _ in range(10)]
        begun = time.perf_counter()
        for raw in clients:
            raw.send("/template")
        for place, raw in enumerate(clients, 1):
            assert raw.answer()[0] == 200
            due_s = place * COSTS["/template"].service_s + LINK_S
            assert time.perf_counter() - begun > due_s - 0.02  # a timer's grain


# Faults, each as a raw client sees it


def with_fault(sim: SimProcess, kind: FaultKind, duration: str = "") -> None:
    assert sim.configure(fault=f"{kind}@0{duration}")["fault"] == [f"{kind}@0{duration}"]


def test_hang_accepts_and_never_answers(sim: SimProcess) -> None:
    with_fault(sim, "hang")
    with Raw(sim) as raw:
        raw.send()
        raw.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            raw.socket.recv(1)
        sim.configure(fault=[])
        raw.socket.settimeout(PATIENCE_S)
        assert raw.answer()[0] == 200  # it goes on where it stood


def test_a_hang_with_a_duration_ends_by_itself(sim: SimProcess) -> None:
    with Raw(sim) as before, Raw(sim) as during:
        sim.configure(slowdown={"/template": 500})  # 5.5 s: due while the device hangs
        before.send("/template")
        wait_for_pending(sim)
        begun = time.monotonic()
        with_fault(sim, "hang", ":10")
        during.send("/api/ping")
        assert before.answer()[0] == during.answer()[0] == 200
        assert time.monotonic() - begun > 0.95  # a tenth of the time


def test_close_ends_without_an_answer(sim: SimProcess) -> None:
    with_fault(sim, "close")
    with Raw(sim) as raw:
        raw.send()
        assert raw.rest() == b""


def test_reset_comes_in_mid_response(sim: SimProcess) -> None:
    with_fault(sim, "reset")
    with Raw(sim) as raw:
        raw.send()
        with pytest.raises(ConnectionError):
            raw.rest()


def test_truncate_sends_less_than_announced(sim: SimProcess) -> None:
    with_fault(sim, "truncate")
    with Raw(sim) as raw:
        raw.send("/file")
        head, _, body = raw.rest().partition(b"\r\n\r\n")
    assert b"Content-Length: 410000" in head
    assert len(body) == 205_000


def test_malformed_is_no_http(sim: SimProcess) -> None:
    with_fault(sim, "malformed")
    with Raw(sim) as raw:
        raw.send()
        with pytest.raises(http.client.BadStatusLine):
            raw.answer()


def test_garbage_length_is_unparsable_and_contradictory_by_turns(sim: SimProcess) -> None:
    with_fault(sim, "garbage-length")
    heads = []
    for _ in range(2):
        with Raw(sim) as raw:
            raw.send()
            heads.append(raw.rest().partition(b"\r\n\r\n")[0])
    assert sorted(head.count(b"Content-Length") for head in heads) == [1, 2]
    assert any(b"Content-Length: 16banana" in head for head in heads)


def test_slowloris_drips_until_it_is_over(sim: SimProcess) -> None:
    sim.configure(time_scale=3)  # a byte each 0.3 s: none that waits for another one
    with_fault(sim, "slowloris")
    with Raw(sim) as raw:
        raw.send()
        assert [len(raw.socket.recv(100)) for _ in range(3)] == [1, 1, 1]
        sim.configure(fault=[])
        assert raw.rest().endswith(b'{"message":"ok"}')


def test_huge_body_goes_far_beyond_what_was_asked(sim: SimProcess) -> None:
    with_fault(sim, "huge-body")
    with Raw(sim) as raw:
        raw.send()
        assert len(raw.rest(limit=8 << 20)) >= 8 << 20


def test_refuse_takes_connections_and_the_listener_away(sim: SimProcess) -> None:
    with Raw(sim) as raw:
        raw.send()
        assert raw.answer()[0] == 200
        with_fault(sim, "refuse", ":20")
        with pytest.raises(ConnectionError):
            raw.rest()
    eventually_refuses(sim)
    eventually_listens(sim)


def test_a_planned_reboot_forgets_counters_and_leak(sim: SimProcess) -> None:
    sim.configure(leak_bytes=5_000, boot_info=True, time_scale=0.5)  # it boots for a second
    for _ in range(5):
        ask(sim, "/hello")
    worn = get(sim, "/debug/memory-stats")["heap"]
    boot = get(sim, "/debug/server-stats")["boot_id"]
    sim.configure(fault="reboot@0", leak_bytes=0)
    eventually_refuses(sim)
    eventually_listens(sim)
    stats = get(sim, "/debug/server-stats")
    assert stats["server"]["requests_started"] <= 3
    assert (stats["boot_id"], stats["reset_reason"]) == (boot + 1, "software")
    assert get(sim, "/debug/memory-stats")["heap"]["internal_min_free"] > worn["internal_min_free"]


def test_the_reboot_route_reboots(sim: SimProcess) -> None:
    with Raw(sim) as idle:
        idle.send()
        assert idle.answer()[0] == 200
        assert ask(sim, "/debug/reboot", "POST")[0::2] == (200, b'{"rebooting":true}')
        with pytest.raises(ConnectionError):
            idle.rest()
    eventually_listens(sim)


def test_a_fault_with_a_duration_passes(sim: SimProcess) -> None:
    with_fault(sim, "malformed", ":1")
    eventually_listens_after_bad_answers(sim)


def eventually_listens_after_bad_answers(sim: SimProcess) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(http.client.BadStatusLine):
            if ask(sim, "/hello")[0] == 200:
                return
    pytest.fail("the fault did not pass")


# Configuration


def test_the_configuration_can_be_seen_and_changed(sim: SimProcess) -> None:
    assert get(sim, "/sim/config") == DEFAULTS
    changes = {"slowdown": {"python_heavy": 1.3}, "fault": ["reset@1000:2"], "noise": "high", "seed": 4}
    status, _headers, body = ask(sim, "/sim/config", "POST", json.dumps(changes))
    assert status == 200
    assert json.loads(body) == {**DEFAULTS, **changes} == get(sim, "/sim/config")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "the body is no JSON"),
        ("{", "the body is no JSON: Expecting"),
        ("[" * 40_000, "nested too deeply"),
        ("[1]", "must be a JSON object, not list"),
        ('{"speed": 1}', "'speed' is no setting: use one of seed"),
        ('{"time_scale": NaN}', "time_scale must be within"),
        ('{"seed": 1, "fault": "explode@1"}', "'explode' is no fault kind"),
    ],
)
def test_a_bad_change_is_400_with_the_sentence_and_changes_nothing(
    sim: SimProcess, body: str, said: str
) -> None:
    status, _headers, answer = ask(sim, "/sim/config", "POST", body)
    assert status == 400
    assert said in json.loads(answer)["error"]
    assert get(sim, "/sim/config") == DEFAULTS
    assert ask(sim, "/sim/config", "PUT", "{}")[0] == 405


def test_configure_says_what_the_device_refused(sim: SimProcess) -> None:
    with pytest.raises(SimError, match="refused the change: 'loud' is no noise"):
        sim.configure(noise="loud")


FOREIGN = [
    {"Host": "rebind.evil.example"},
    {
        "Host": "rebind.evil.example:80",
        "Origin": "http://rebind.evil.example:80",
        "Sec-Fetch-Site": "same-origin",
    },
    {"Host": "localhost.evil.example"},
    {"Host": "127.0.0.1.nip.io"},
    {"Host": ""},
    {"Host": "user@localhost"},
    {"Host": "10.0.0.7:8080"},
    {"Host": "[::1"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/sim/config"), ("GET", "/sim/config"), ("POST", "/debug/reboot")]
)
def test_no_web_page_changes_the_device(
    sim: SimProcess, method: str, path: str, headers: dict[str, str]
) -> None:
    link = http.client.HTTPConnection(sim.host, sim.port, timeout=PATIENCE_S)
    body = '{"slowdown":{"all":50}}' if method == "POST" else None
    link.request(method, path, body, {"Content-Type": "text/plain", **headers})
    answer = link.getresponse()
    said = json.loads(answer.read())
    link.close()
    assert answer.status in {400, 403}
    assert list(said) == ["error"]
    assert sim.configuration()["slowdown"] == {}
    assert ask(sim, "/hello")[0] == 200


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{}", "localhost:{}", "LOCALHOST.:{}", "127.0.0.2:{}", "[::1]:{}", "localhost:9000"]
)
def test_its_own_page_and_its_users_change_it(sim: SimProcess, host: str) -> None:
    own = host.format(sim.port)
    for more in (
        {},
        {"Origin": f"http://{own}", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ):
        link = http.client.HTTPConnection(sim.host, sim.port, timeout=PATIENCE_S)
        link.request("POST", "/sim/config", '{"leak_bytes":1}', {"Host": own, **more})
        assert link.getresponse().status == 200
        link.close()


def test_telemetry_is_reset_under_any_name(sim: SimProcess) -> None:
    """It is what a board's load asks for, under the name that the board has there."""
    link = http.client.HTTPConnection(sim.host, sim.port, timeout=PATIENCE_S)
    link.request("GET", "/debug/server-stats?reset=1", headers={"Host": "board.local"})
    assert link.getresponse().status == 200
    link.close()
