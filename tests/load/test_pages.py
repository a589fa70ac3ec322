"""Pages: the document, then its assets over a few connections; each page is one sample."""

from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from support.load_servers import (
    HANG_S,
    NOWHERE,
    PATIENT_S,
    TIMEOUT_S,
    Handler,
    LoopFactory,
    Peer,
    answer,
    check_sound,
    kinds,
    once,
    phase,
    serving,
    target,
)
from support.nginx_server import needs_nginx, nginx
from support.processes import free_port

from pytest_espperf.errors import UsageError
from pytest_espperf.load import run_phase
from pytest_espperf.model.artifact import PhaseReport
from pytest_espperf.model.metrics import summarise
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import LoginSpec, PageSpec, PhaseSpec, RequestSpec, Target

ASSETS = ("/a.css", "/b.js", "/c.png", "/d.svg")
PAGE = PageSpec("/", ASSETS, connections=3)
VISITS = PhaseSpec("visit", 1, 0.4, kind="page", page=PAGE)


def site(**answers: bytes | Callable[[Peer], None]) -> Handler:
    """A page and its assets; what is given by its name without dot is answered that way instead."""

    def handle(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            path = head.split(b" ")[1].decode()
            how = answers.get(path.strip("/").replace(".", "_") or "page", answer(path.encode()))
            if callable(how):
                how(peer)
            else:
                peer.send(how)

    return handle


def visit(
    board: Target,
    spec: PhaseSpec = VISITS,
    loop_factory: LoopFactory | None = None,
    timeout_s: float = PATIENT_S,
) -> PhaseSamples:
    assert spec.page is not None
    requests = [RequestSpec(path) for path in spec.own_paths]
    begun = time.monotonic()
    samples = run_phase(
        board,
        requests,
        spec,
        request_timeout_s=timeout_s,
        deadline_s=HANG_S,
        loop_factory=loop_factory,
    )
    assert time.monotonic() - begun < HANG_S
    if not spec.think_time_s and spec.rate_rps is None:  # those have an end of their own
        check_sound(samples, timeout_s)
    assert samples.parts is not None
    assert samples.paths == (spec.page.path,)
    assert samples.parts.paths == spec.page.assets
    return samples


def load(
    handler: Handler, loop_factory: LoopFactory, spec: PhaseSpec = VISITS, **more: float
) -> PhaseSamples:
    with serving(handler) as server:
        return visit(server.target, spec, loop_factory, **more)


def only_reason(samples: PhaseSamples) -> str:
    """The one reason of a phase whose pages were all wrong."""
    report = summarise(samples)
    assert report.ok == 0
    (reason,) = report.error_reasons
    return str(reason)


def test_a_page_is_one_sample_and_its_assets_have_figures_of_their_own(loop_factory: LoopFactory) -> None:
    samples = load(site(), loop_factory)
    report = summarise(samples)
    pages = len(samples)
    assert kinds(samples) == {None: pages}
    assert report.requests_total == report.ok == pages
    assert list(report.path_metrics) == ["/", *ASSETS]
    for path, part in report.path_metrics.items():
        assert part.requests_total == part.ok == pages
        assert part.body_bytes is not None
        assert part.body_bytes.median == len(path)
        # A page lasts at least as long as each of its parts.
        assert (part.p50_ms or 0) <= (report.p50_ms or 0)
    assert len(samples.connect_s) == 3  # no more than it may, and kept from visit to visit
    assert report.figures == {}


def test_paths_of_a_page_have_the_values_of_their_client() -> None:
    paths: list[str] = []
    logins: list[int] = []

    def handle(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            path = head.split(b" ")[1].decode()
            if path == "/login":
                logins.append(peer.number)
                peer.send(answer(b'{"token": "a/%d"}' % len(logins)))
            else:
                paths.append(path)
                peer.send(answer())

    page = PageSpec("/p/{token}", ("/a?t={token}", "/b"), connections=2)
    spec = PhaseSpec("visit", 2, 0.3, kind="page", page=page)
    with serving(handle) as server:
        samples = run_phase(
            server.target,
            [RequestSpec(path) for path in spec.own_paths],
            spec,
            request_timeout_s=PATIENT_S,
            deadline_s=HANG_S,
            login=LoginSpec(RequestSpec("/login"), {"token": "json:token"}),
        )
    assert kinds(samples) == {None: len(samples)}
    assert samples.paths == ("/p/{token}",)
    assert set(paths) == {"/p/a%2F1", "/p/a%2F2", "/a?t=a%2F1", "/a?t=a%2F2", "/b"}


def test_the_document_comes_first_and_then_so_many_assets_at_once(loop_factory: LoopFactory) -> None:
    lock = threading.Lock()
    at_once: Counter[str] = Counter()
    most: Counter[str] = Counter()
    early: list[str] = []

    def handle(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            path = head.split(b" ")[1].decode()
            kind = "page" if path == "/" else "asset"
            with lock:
                at_once[kind] += 1
                most[kind] = max(most[kind], at_once[kind])
                if kind == "asset" and at_once["page"]:
                    early.append(path)
            time.sleep(0.05)
            with lock:
                at_once[kind] -= 1
            peer.send(answer())

    samples = load(handle, loop_factory, replace(VISITS, duration_s=1.0))
    assert kinds(samples) == {None: len(samples)}
    assert most == {"page": 1, "asset": 3}
    assert not early


def test_no_more_connections_than_there_is_work_for(loop_factory: LoopFactory) -> None:
    page = PageSpec("/", ASSETS[:2], connections=6)
    samples = load(site(), loop_factory, replace(VISITS, page=page))
    assert len(samples.connect_s) <= 2
    assert replace(VISITS, clients=3, page=page).most_connections == 6
    assert replace(VISITS, page=replace(page, assets=ASSETS * 2)).most_connections == 6


def test_over_one_connection(loop_factory: LoopFactory) -> None:
    samples = load(site(), loop_factory, replace(VISITS, clients=2, page=replace(PAGE, connections=1)))
    assert kinds(samples) == {None: len(samples)}
    assert len(samples.connect_s) == 2


def test_each_request_on_a_connection_of_its_own(loop_factory: LoopFactory) -> None:
    samples = load(site(), loop_factory, replace(VISITS, reuse=False))
    assert kinds(samples) == {None: len(samples)}
    assert len(samples.connect_s) >= len(samples) * 5  # one that came too late is closed unused
    figures = summarise(samples).figures
    assert figures["connect_ms"] > 0
    assert figures["wait_p50_ms"] > (summarise(samples).p50_ms or 0)


@pytest.mark.parametrize("reuse", [True, False])
def test_pages_over_tls(reuse: bool, tmp_path: Path, loop_factory: LoopFactory) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with serving(site(), context=context) as server:
        board = replace(server.target, ca_file=str(tmp_path / "ca.pem"))
        samples = visit(board, replace(VISITS, duration_s=0.8, reuse=reuse), loop_factory)
    assert kinds(samples) == {None: len(samples)}
    assert len(samples.handshake_s) == len(samples.connect_s)
    # A browser shakes hands in full once, for its first document, and takes that session up from then on.
    assert samples.resumed == (0 if reuse else len(samples.connect_s) - 1)


def test_an_open_loop_of_pages(loop_factory: LoopFactory) -> None:
    samples = load(site(), loop_factory, replace(VISITS, clients=4, rate_rps=20, duration_s=0.5))
    assert len(samples) == len(samples.lag_s) == 10
    assert kinds(samples) == {None: 10}
    assert samples.parts is not None
    assert len(samples.parts) == 40
    assert not samples.parts.lag_s


def test_pauses_between_pages(loop_factory: LoopFactory) -> None:
    samples = load(site(), loop_factory, replace(VISITS, think_time_s=0.2, duration_s=0.5))
    assert 1 <= len(samples) <= 3
    assert samples.elapsed_s == pytest.approx(0.5)


def stall(peer: Peer) -> None:
    peer.send(answer(b"x" * 10)[:-5])
    peer.until_gone()


def then_close(data: bytes) -> Callable[[Peer], None]:
    def send(peer: Peer) -> None:
        peer.send(data)
        peer.sock.close()

    return send


def hang_up(peer: Peer) -> None:
    peer.sock.close()


BAD: dict[str, tuple[bytes | Callable[[Peer], None], str, str]] = {
    "not found": (answer(status=b"404 Not Found"), "http_404", "/: 404, asset /c.png ("),
    "stalled": (stall, "ReadTimeout", "asset /c.png: no complete response in time: 5 bytes of the body came"),
    "silent": (lambda peer: peer.until_gone(), "ReadTimeout", "asset /c.png: no complete response in time"),
    "truncated": (
        then_close(answer(b"x" * 10)[:-5]),
        "RemoteProtocolError",
        "asset /c.png: connection closed, 5 bytes of the body came",
    ),
    "garbage": (b"no HTTP\r\n\r\n", "RemoteProtocolError", "asset /c.png: not an HTTP/1 response"),
    "bytes behind": (answer() + b"more", "RemoteProtocolError", "asset /c.png: 4 bytes came beyond"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_asset_is_the_pages_error(name: str, loop_factory: LoopFactory) -> None:
    how, kind, reason = BAD[name]
    timeout_s = TIMEOUT_S if kind == "ReadTimeout" else PATIENT_S
    samples = load(site(c_png=how), loop_factory, timeout_s=timeout_s)
    assert kinds(samples) == {kind: len(samples)}
    assert reason in only_reason(samples)
    part = summarise(samples).path_metrics["/c.png"]
    assert part.error_kinds.keys() == {kind}
    assert summarise(samples).path_metrics["/a.css"].ok > 0


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        (answer(status=b"500 Oops"), "http_500"),
        (stall, "ReadTimeout"),
        (hang_up, "RemoteProtocolError"),
        (b"no HTTP\r\n\r\n", "RemoteProtocolError"),
    ],
    ids=["fails", "stalls", "hangs up", "garbage"],
)
def test_assets_of_a_wrong_page_are_not_asked_for(
    how: bytes | Callable[[Peer], None], kind: str, loop_factory: LoopFactory
) -> None:
    samples = load(site(page=how), loop_factory, timeout_s=TIMEOUT_S if kind == "ReadTimeout" else PATIENT_S)
    assert kinds(samples) == {kind: len(samples)}
    assert samples.parts is not None
    assert len(samples.parts) == 0
    assert "asset" not in only_reason(samples)


@pytest.mark.parametrize("says_so", [True, False])
def test_a_board_that_closes_behind_each_answer(says_so: bool, loop_factory: LoopFactory) -> None:
    def handle(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(answer(b"ok", b"200 OK", *([b"Connection: close"] if says_so else [])))

    samples = load(handle, loop_factory)
    assert kinds(samples) == {None: len(samples)}
    # Unless it says so, a request may still be written before the end is seen, and is sent again.
    assert len(samples.connect_s) + samples.stale_retries >= 5 * len(samples)


def test_a_connection_that_hangs_up_once_is_replaced(loop_factory: LoopFactory) -> None:
    """Kept connections die unanswered now and then: that is no error."""

    def handle(peer: Peer) -> None:
        for _ in range(4):
            if peer.request() is None:
                return
            peer.send(answer())
        peer.request()

    samples = load(handle, loop_factory)
    assert kinds(samples) == {None: len(samples)}
    assert samples.stale_retries > 0


def test_a_board_with_fewer_sockets_than_a_browser_wants(loop_factory: LoopFactory) -> None:
    """What is served is served; a page that a refused connection was for is an error that says so."""
    lock = threading.Lock()
    held: set[int] = set()

    def handle(peer: Peer) -> None:
        with lock:
            if len(held) >= 2:
                peer.reset()
                return
            held.add(peer.number)
        try:
            while peer.request() is not None:
                time.sleep(0.02)
                peer.send(answer())
        finally:
            with lock:
                held.discard(peer.number)

    samples = load(handle, loop_factory, replace(VISITS, duration_s=0.8))
    assert kinds(samples).keys() <= {None, "ReadError", "RemoteProtocolError", "ConnectError"}
    assert samples.parts is not None
    assert kinds(samples.parts)[None] > 0
    for (kind, _), reason in samples.reasons.items():
        assert kind != "http_404"
        assert reason.startswith("asset /")


def test_nobody_there(loop_factory: LoopFactory) -> None:
    samples = visit(target(free_port()), replace(VISITS, clients=2), loop_factory)
    assert kinds(samples) == {"ConnectError": len(samples)}
    assert len(samples) < 60  # it backs off


def test_a_board_that_takes_no_second_connection(loop_factory: LoopFactory) -> None:
    """A full backlog: the kernel answers no further connect, and those of the assets time out."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        listener.settimeout(20)
        more = [socket.socket() for _ in range(3)]

        def serve() -> None:
            peer, _ = listener.accept()
            for one in more:  # who take the places in the backlog
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            with peer:
                peer.recv(1000)
                peer.sendall(answer())
                peer.settimeout(20)
                while peer.recv(1000):  # the first of the assets, which has no answer
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        samples = visit(target(port), replace(VISITS, duration_s=0.1), loop_factory, timeout_s=1.0)
        thread.join()
        for one in more:
            one.close()
    assert kinds(samples) == {"ReadTimeout": 1}
    assert samples.parts is not None
    assert kinds(samples.parts) == {"ReadTimeout": 1}  # what waited for a connection was not asked for


@pytest.mark.parametrize("reuse", [True, False])
def test_connects_of_assets_that_hang(reuse: bool, loop_factory: LoopFactory) -> None:
    """Over TLS it is seen at which connection the board stopped: behind that of the document."""

    def handle(peer: Peer) -> None:
        if peer.number == 0:
            with context.wrap_socket(peer.sock, server_side=True) as sock:
                once(answer(b"ok", b"200 OK", b"Connection: close"))(Peer(sock, 0, peer.stopping))
        else:
            peer.until_gone()

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    with serving(handle) as server:
        board = replace(server.target, scheme="https", insecure=True)
        samples = visit(board, replace(VISITS, duration_s=0.1, reuse=reuse), loop_factory, timeout_s=1.0)
    assert kinds(samples) == {"ConnectTimeout": 1}
    assert "asset /a.css: no TLS handshake in time" in only_reason(samples)


def test_a_board_that_goes_away_behind_the_document(loop_factory: LoopFactory) -> None:
    """Each asset is asked for by a connection of its own then, and none of them can be opened."""
    with serving(site(page=answer(b"ok", b"200 OK", b"Connection: close"))) as server:
        board = server.target

        def leave() -> None:
            while not server.accepted:
                time.sleep(0.005)
            time.sleep(0.2)
            server._stopping.set()
            server._accepting.join()
            server._listener.close()

        thread = threading.Thread(target=leave)
        thread.start()
        samples = visit(board, replace(VISITS, duration_s=1.0, reuse=False), loop_factory)
        thread.join()
    assert kinds(samples)["ConnectError"] > 0
    assert kinds(samples).keys() <= {None, "ConnectError", "ReadError", "RemoteProtocolError"}


def moody(seed: int) -> Handler:
    """A board that does a right or a wrong thing with each connection and each request, by chance."""
    chance = random.Random(seed)
    lock = threading.Lock()
    things: list[Callable[[Peer], object]] = [
        *[lambda peer: peer.send(answer(b"body", b"200 OK", b'ETag: "1"'))] * 12,
        lambda peer: peer.send(answer(b"ok", b"200 OK", b"Connection: close")),
        then_close(answer()),
        lambda peer: peer.send(answer(status=b"404 Not Found")),
        lambda peer: peer.send(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        lambda peer: peer.send(answer() + b"more"),
        then_close(b"HTTP/1.1 200 OK\r\n\r\nuntil the end"),
        lambda peer: peer.send(b"what is this\r\n\r\n"),
        then_close(answer(b"x" * 10)[:-5]),
        stall,
        hang_up,
        lambda peer: peer.reset(),
        lambda peer: peer.until_gone(),
    ]

    def handle(peer: Peer) -> None:
        with lock:
            refused = chance.random() < 0.1
        if refused:
            peer.reset()
            return
        while peer.request() is not None:
            with lock:
                thing = chance.choice(things)
            thing(peer)

    return handle


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"reuse": False},
        {"think_time_s": 0.05},
        {"rate_rps": 40.0},
        {"page": replace(PAGE, revalidate=True, connections=6)},
    ],
    ids=lambda how: "-".join(how) or "closed loop",
)
def test_whatever_a_board_does_is_counted(seed: int, how: dict[str, Any], loop_factory: LoopFactory) -> None:
    spec = replace(VISITS, clients=3, duration_s=1.0, **how)
    samples = load(moody(seed), loop_factory, spec, timeout_s=TIMEOUT_S)
    report = summarise(samples)
    assert report.requests_total == len(samples) > 0
    errors = set(report.error_kinds)
    for part in report.path_metrics.values():
        errors |= part.error_kinds.keys()
    assert errors <= {
        "http_404",
        "ConnectError",
        "ConnectTimeout",
        "ReadError",
        "ReadTimeout",
        "RemoteProtocolError",
    }
    # An asset is asked for at most once by each page, and only where the document has come.
    for path in ASSETS:
        assert report.path_metrics[path].requests_total <= 2 * len(samples)


# --- revalidation


class Cached:
    """A site whose answers have an ETag, or a date; counts what it is asked back."""

    def __init__(self, *lines: bytes, changes: bool = False, asked_for: bytes = b"if-none-match: ") -> None:
        self._lines = lines
        self._changes = changes
        self._asked_for = asked_for
        self.answers: Counter[int] = Counter()
        self.asked: Counter[bytes] = Counter()
        self.heads: list[bytes] = []
        self._lock = threading.Lock()

    def __call__(self, peer: Peer) -> None:
        while (head := peer.request()) is not None:
            known = [line for line in head.lower().split(b"\r\n") if line.startswith(self._asked_for)]
            with self._lock:
                self.heads.append(head)
                self.asked.update(known)
                holds = bool(known) and not self._changes
                self.answers[304 if holds else 200] += 1
                lines = [line.replace(b"%", b"%d" % len(self.heads)) for line in self._lines]
            peer.send(b"HTTP/1.1 304 Not Modified\r\n\r\n" if holds else answer(b"body", b"200 OK", *lines))


REVALIDATED = replace(VISITS, page=replace(PAGE, revalidate=True))


@pytest.mark.parametrize(
    ("line", "asked_for"),
    [
        (b'ETag: "v1"', b'if-none-match: "v1"'),
        (b'ETag: W/"v1"', b'if-none-match: w/"v1"'),
        (
            b"Last-Modified: Tue, 01 Dec 2026 00:00:00 GMT",
            b"if-modified-since: tue, 01 dec 2026 00:00:00 gmt",
        ),
    ],
    ids=["tag", "weak tag", "date"],
)
def test_later_visits_ask_whether_what_is_known_still_holds(
    line: bytes, asked_for: bytes, loop_factory: LoopFactory
) -> None:
    board = Cached(line, asked_for=asked_for.partition(b" ")[0])
    samples = load(board, loop_factory, replace(REVALIDATED, clients=2))
    report = summarise(samples)
    assert report.err == 0
    # The first visit of each client fetches all of it.
    assert board.answers == {200: 10, 304: 5 * len(samples) - 10}
    assert board.asked.keys() == {asked_for}
    assert report.figures == {"not_modified_share": 100.0}
    for part in report.path_metrics.values():
        assert part.status_counts == {"200": 2, "304": len(samples) - 2}
        assert part.body_bytes is not None
        assert part.body_bytes.least == 4  # an answer without a body has no size


def test_a_tag_that_changes_is_a_right_answer_as_well(loop_factory: LoopFactory) -> None:
    board = Cached(b'ETag: "%"', changes=True)
    samples = load(board, loop_factory, REVALIDATED)
    assert kinds(samples) == {None: len(samples)}
    assert summarise(samples).figures == {"not_modified_share": 0.0}
    assert len(board.asked) == sum(board.asked.values()) == 5 * len(samples) - 5  # the newest one each time


def test_what_has_neither_tag_nor_date_is_fetched_anew(loop_factory: LoopFactory) -> None:
    board = Cached()
    samples = load(board, loop_factory, REVALIDATED)
    assert board.answers == {200: 5 * len(samples)}
    assert summarise(samples).figures == {}


def test_nothing_is_asked_back_unless_that_is_wanted(loop_factory: LoopFactory) -> None:
    board = Cached(b'ETag: "v1"')
    load(board, loop_factory)
    assert not board.asked


def test_the_checks_of_a_path_hold_for_an_asset_but_not_for_a_304(loop_factory: LoopFactory) -> None:
    board = Cached(b'ETag: "v1"')
    checked = [RequestSpec(path, statuses=frozenset({200}), size_bytes=4) for path in REVALIDATED.own_paths]
    with serving(board) as server:
        right = run_phase(server.target, checked, REVALIDATED, deadline_s=HANG_S, loop_factory=loop_factory)
        checked[2] = replace(checked[2], size_bytes=5)
        wrong = run_phase(server.target, checked, REVALIDATED, deadline_s=HANG_S, loop_factory=loop_factory)
    assert kinds(right) == {None: len(right)}
    assert len(right) > 1
    assert board.answers[304] > 0
    assert kinds(wrong)["body_size"] > 0
    assert wrong.reasons["body_size", 0] == "asset /b.js: the body has 4 bytes, not 5"


@needs_nginx
def test_nginx_revalidates(tmp_path: Path) -> None:
    page = PageSpec("/file", ("/static/large.txt", "/nosuch.css"), revalidate=True)
    good = replace(page, assets=page.assets[:1])
    with nginx(tmp_path / "nginx") as port:
        found = {}
        for name, one in {"good": good, "bad": page}.items():
            found[name] = visit(target(port), PhaseSpec("visit", 2, 0.5, kind="page", page=one))
    report = summarise(found["good"])
    assert report.err == 0
    assert report.figures == {"not_modified_share": 100.0}
    assert report.path_metrics["/static/large.txt"].status_counts == {"200": 2, "304": report.ok - 2}
    assert "/file: 404, asset /nosuch.css (" in only_reason(found["bad"])


# --- what cannot be driven


def test_no_transport_of_ones_own_loads_pages() -> None:
    with pytest.raises(UsageError, match="'visit' is of kind 'page', which needs connections of our own"):
        run_phase(
            NOWHERE,
            [RequestSpec(path) for path in VISITS.own_paths],
            VISITS,
            transport=httpx.AsyncHTTPTransport,
        )


def test_figures_of_a_phase_without_pages_are_what_they_were(loop_factory: LoopFactory) -> None:
    with serving(site()) as server:
        samples = run_phase(
            server.target, [RequestSpec("/")], phase(), deadline_s=HANG_S, loop_factory=loop_factory
        )
    report = summarise(samples)
    assert isinstance(report, PhaseReport)
    assert list(report.path_metrics) == ["/"]
