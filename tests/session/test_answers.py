"""Every path asked once before the load: what is kept, what fails a session, and what does not."""

from __future__ import annotations

import gzip

import httpx
import pytest
from support.load_servers import (
    CHUNKED,
    HANG_S,
    PATIENT_S,
    Handler,
    Peer,
    always,
    answer,
    kinds,
    once,
    phase,
    serving,
)

from pytest_espperf.load import Asked, TransportFactory, run_phase
from pytest_espperf.model import metrics
from pytest_espperf.model.artifact import ErrorReason, PathAnswer
from pytest_espperf.model.computer import LOCAL
from pytest_espperf.model.text import MOST_TEXT, one_line
from pytest_espperf.model.workload import Profile, RequestSpec
from pytest_espperf.session.answers import TRIES, Asker

PAGE = b"<h1>Welcome</h1>"
ZIPPED = gzip.compress(PAGE)
SOURCE = "/home/me/firmware/pyproject.toml: [tool.espperf.profiles.shop]"


def asked(
    handler: Handler,
    *requests: RequestSpec,
    timeout_s: float = PATIENT_S,
    budget_s: float = HANG_S,
    transport: TransportFactory | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Asker:
    profile = Profile("shop", requests or (RequestSpec("/a"),), (), headers, source=SOURCE)
    with serving(handler) as server:
        asker = Asker(server.target, timeout_s, transport, sleep=lambda _: None)
        asker.ask([profile], budget_s)
    return asker


def in_turn(*answers: bytes) -> Handler:
    """A handler that answers with one after the other, over all connections; the last one stays."""
    left = list(answers)

    def handle(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(left.pop(0) if len(left) > 1 else left[0])

    return handle


def by_path(answers: dict[bytes, bytes]) -> Handler:
    def handle(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            peer.send(answers[head.split()[1]])

    return handle


def silent(peer: Peer) -> None:
    peer.until_gone()


@pytest.mark.parametrize("transport", [None, httpx.AsyncHTTPTransport])
def test_what_each_path_answers_is_kept(transport: TransportFactory | None) -> None:
    page = answer(PAGE, b"200 OK", b"Content-Type: Text/HTML; charset=utf-8")
    packed = answer(ZIPPED, b"200 OK", b"Content-Type: text/html", b"Content-Encoding: gzip")
    asker = asked(
        by_path({b"/a": page, b"/b": packed, b"/c": answer(b"", b"302 Found", b"Location: /login")}),
        RequestSpec("/a", contains=b"Welcome", weight=3),
        RequestSpec("/b"),
        RequestSpec("/c"),
        transport=transport,
    )
    assert asker.reason == ""
    assert asker.answers["shop"] == {
        "/a": PathAnswer(status=200, body_bytes=len(PAGE), content_type="text/html"),
        "/b": PathAnswer(status=200, body_bytes=len(ZIPPED), content_type="text/html", encoding="gzip"),
        "/c": PathAnswer(status=302, body_bytes=0),
    }


@pytest.mark.parametrize("transport", [None, httpx.AsyncHTTPTransport])
def test_a_path_that_is_not_there_is_named_with_its_profile(transport: TransportFactory | None) -> None:
    missing = answer(b"no such page", b"404 Not Found")
    asker = asked(
        by_path({b"/a": answer(), b"/nosuch": missing}),
        RequestSpec("/a"),
        RequestSpec("/nosuch"),
        transport=transport,
    )
    assert asker.reason == "/nosuch answers 404 (profile shop, pyproject.toml)"
    assert asker.answers["shop"]["/nosuch"].body_bytes == 12
    assert asker.answers["shop"]["/a"].trouble == ""
    assert asked(always(missing), RequestSpec("/a", statuses=frozenset({404}))).reason == ""


def test_of_many_wrong_paths_the_first_are_named() -> None:
    asker = asked(always(answer(b"", b"404 Not Found")), *(RequestSpec(f"/{number}") for number in range(5)))
    assert asker.reason.count("answers 404") == 3
    assert asker.reason.endswith("; and 2 more")


WRONG_BODIES = {
    "size": (RequestSpec("/a", size_bytes=9), "the body has 16 bytes, not 9 (body_size)"),
    "digest": (RequestSpec("/a", sha256="0" * 64), "the body's SHA-256 is "),
    "text": (RequestSpec("/a", contains=b"Hello"), "'Hello' is not in the body of 16 bytes (body_contains)"),
}


@pytest.mark.parametrize(("spec", "reason"), WRONG_BODIES.values(), ids=WRONG_BODIES)
def test_a_wrong_body_is_told_in_words(spec: RequestSpec, reason: str) -> None:
    assert asked(always(answer(PAGE)), spec).reason.startswith(f"/a answers 200, but {reason}")


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"deflate"])
def test_a_body_that_came_encoded_says_so(coding: bytes) -> None:
    handler = always(answer(ZIPPED, b"200 OK", b"Content-Encoding: " + coding))
    spec = RequestSpec("/a", contains=b"Welcome")
    came = f"the body came as {coding.decode()}"
    assert f"{came} though identity was asked for: 'Welcome' is not in" in asked(handler, spec).reason
    # A profile that asks for it gets what it asked for.
    assert f"{came}: 'Welcome'" in asked(handler, spec, headers=(("Accept-Encoding", "gzip"),)).reason


PASSES_AT_LAST = {
    "busy once": in_turn(answer(b"", b"503 Server Busy"), answer()),
    "an error once": in_turn(answer(b"", b"500 Oops"), answer()),
    "an error twice": in_turn(answer(b"", b"500 Oops"), answer(b"", b"500 Oops"), answer()),
    "missing once": in_turn(answer(b"", b"404 Not Found"), answer()),
    "garbage once": in_turn(b"nonsense\r\n\r\n", answer()),
    "busy for ever": always(answer(b"", b"503 Server Busy")),
    "a queue that is full": always(answer(b"", b"504 Gateway Timeout")),
    "a rate limiter": always(answer(b"", b"429 Too Many Requests", b"Retry-After: 1")),
    "busy, then an error, then busy": in_turn(
        answer(b"", b"503 Busy"), answer(b"", b"500 Oops"), answer(b"", b"503 Busy")
    ),
}


@pytest.mark.parametrize("handler", PASSES_AT_LAST.values(), ids=PASSES_AT_LAST)
def test_what_may_be_over_in_a_moment_ends_no_session(handler: Handler) -> None:
    asker = asked(handler)
    assert asker.reason == ""
    assert asker.answers["shop"]["/a"]


def slow_once(peer: Peer) -> None:
    """Answers only connections behind the first one."""
    if peer.number == 0:
        peer.until_gone()
    else:
        always(answer())(peer)


def test_one_time_out_ends_no_session() -> None:
    asker = asked(slow_once, timeout_s=0.6)
    assert asker.reason == ""
    assert asker.answers["shop"]["/a"].status == 200


def chunk_without_end(peer: Peer) -> None:
    if peer.request() is not None:
        peer.send(CHUNKED + b"5\r\nhello\r\n")
        peer.until_gone()


def body_without_length(peer: Peer) -> None:
    if peer.request() is not None:
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        peer.until_gone()


def half_a_body(peer: Peer) -> None:
    if peer.request() is not None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        peer.until_gone()


def half_a_head(peer: Peer) -> None:
    if peer.request() is not None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-")
        peer.until_gone()


UNREADABLE: dict[str, tuple[Handler, str]] = {
    "Content-Length twice": (
        always(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"),
        "Duplicate Content-Length",
    ),
    "lines that end in LF": (once(b"HTTP/1.1 200 OK\nConnection: close\n\nok"), "lines end in LF alone"),
    "a head line that ends in LF": (
        once(b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok"),
        "lines end in LF alone",
    ),
    "more than Content-Length": (
        always(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nh\xc3\xa4ll\xc3\xb6"),
        "2 bytes came beyond Content-Length, which says 5",
    ),
    "no last chunk, left open": (chunk_without_end, "5 bytes of a chunked body came, and no last chunk"),
    "no last chunk, closed": (
        once(CHUNKED + b"5\r\nhello\r\n"),
        "connection closed, 5 bytes of a chunked body came, and no last chunk",
    ),
    "no length, left open": (
        body_without_length,
        "without Content-Length, and the connection was not",
    ),
    "half a body": (half_a_body, "5 bytes of the body came, and Content-Length says 10"),
    "half a head": (half_a_head, "25 bytes came of a head without an end"),
    "no HTTP": (once(b"hello"), "not an HTTP/1 response: b'hello'"),
    "nothing": (silent, "ReadTimeout: no complete response in time"),
}


@pytest.mark.parametrize(("handler", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_answer_that_cannot_be_read_ends_the_session_with_what_came(handler: Handler, reason: str) -> None:
    found = asked(handler, timeout_s=0.6).reason
    assert found.startswith("/a gives no answer that can be read: ") or "beyond" in reason
    assert reason in found
    assert found.endswith("(profile shop, pyproject.toml)")


@pytest.mark.parametrize(("handler", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_load_keeps_the_first_reason_of_each_error(handler: Handler, reason: str) -> None:
    with serving(handler) as server:
        samples = run_phase(server.target, (RequestSpec("/a"),), phase(), request_timeout_s=0.6)
    report = metrics.summarise(samples)
    assert reason in str(report.error_reasons[0])
    assert report.error_reasons[0].count == kinds(samples)[report.error_reasons[0].kind] > 0
    assert str(report.error_reasons[0]).endswith(
        f"(/a, {report.error_reasons[0].count:,} of {len(samples):,})"
    )


def test_reasons_of_a_load_name_path_and_share() -> None:
    packed = answer(ZIPPED, b"200 OK", b"Content-Encoding: gzip")
    answers = {b"/a": answer(), b"/nosuch": answer(b"", b"404 Not Found"), b"/z": packed}
    requests = (RequestSpec("/a"), RequestSpec("/nosuch"), RequestSpec("/z", contains=b"Welcome"))
    with serving(by_path(answers)) as server:
        samples = run_phase(server.target, requests, phase(0.4), request_timeout_s=PATIENT_S)
    report = metrics.summarise(samples)
    found = {one.kind: one for one in report.error_reasons}
    asked_for = report.path_metrics["/nosuch"].requests_total
    assert str(found["http_404"]) == f"/nosuch: 404 ({asked_for:,} of {asked_for:,})"
    assert "body_contains: the body came as gzip though identity was asked for" in str(found["body_contains"])
    sizes = report.path_metrics["/a"].body_bytes
    assert sizes is not None
    assert (sizes.least, sizes.median, sizes.most) == (2, 2, 2)
    assert report.path_metrics["/nosuch"].body_bytes is None, "sizes are those of right answers"


def test_sizes_of_a_load_are_counted() -> None:
    handler = in_turn(*(answer(b"x" * size) for size in (10, 20, 20, 30, 400)))
    with serving(handler) as server:
        samples = run_phase(server.target, (RequestSpec("/a"),), phase(0.5, 1), request_timeout_s=PATIENT_S)
    assert sum(samples.seen[0].sizes.values()) == len(samples)
    assert sorted(samples.seen[0].sizes) == [10, 20, 30, 400]


def test_a_hung_board_holds_a_session_up_no_longer_than_it_may() -> None:
    """With less time than two requests may take nothing is known, and the session goes on."""
    asker = asked(silent, RequestSpec("/a"), RequestSpec("/b"), timeout_s=60.0, budget_s=0.8)
    assert asker.reason == ""
    assert asker.answers == {"shop": {}}


def test_a_path_that_hangs_is_asked_again_before_others() -> None:
    """Two of many are enough to end a session; to wait for all of them would take minutes."""
    asker = asked(silent, *(RequestSpec(f"/{number}") for number in range(9)), timeout_s=0.5, budget_s=2.6)
    assert asker.reason.startswith("/0 gives no answer that can be read: ReadTimeout")


def test_paths_for_which_the_first_try_left_no_time_are_asked_later() -> None:
    handler = by_path({b"/a": answer(), b"/b": answer(PAGE)})

    def slow(peer: Peer) -> None:
        peer.stopping.wait(0.7)
        handler(peer)

    asker = asked(slow, RequestSpec("/a"), RequestSpec("/b"), timeout_s=2.0, budget_s=1.2)
    assert asker.reason == ""
    assert asker.answers["shop"].keys() <= {"/a", "/b"}


def test_no_path_is_asked_without_time() -> None:
    asker = asked(always(answer()), budget_s=0.1)
    assert asker.answers == {}


@pytest.mark.parametrize("status", [b"404 Not Found", b"500 Oops"])
def test_a_path_is_asked_a_few_times_at_most(status: bytes) -> None:
    requests: list[bytes] = []

    def handle(peer: Peer) -> None:
        while (head := peer.request()) is not None:
            requests.append(head)
            peer.send(answer(b"", status))

    assert asked(handle).reason
    assert len(requests) == (2 if status.startswith(b"4") else TRIES)


def test_what_a_board_sends_moves_no_cursor() -> None:
    handler = always(answer(b"", b"200 OK", b"Content-Type: a\x1b[2J" + b"x" * 4000))
    asker = asked(handler)
    kept = asker.answers["shop"]["/a"]
    assert (kept.content_type + kept.trouble).isprintable()
    assert len(kept.content_type) <= MOST_TEXT
    assert len(asker.reason) < 2 * MOST_TEXT


@pytest.mark.parametrize(
    ("text", "line"), [("a\r\n\tb\x1b[0m", "a b [0m"), ("x" * 300, "x" * (MOST_TEXT - 1) + "…"), ("", "")]
)
def test_text_of_a_board_becomes_one_line(text: str, line: str) -> None:
    assert one_line(text) == line


def test_a_reason_is_read_by_people() -> None:
    assert str(ErrorReason(kind="http_503", path="/a", count=1, requests=1200)) == "/a: 503 (1 of 1,200)"
    assert str(ErrorReason(kind="other", path="/a", count=2, requests=2)) == "other (/a, 2 of 2)"


def test_what_this_computer_lacks_is_no_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object, **__: object) -> list[Asked | None]:
        return [Asked(error=f"{LOCAL}EMFILE", reason="no file descriptor left")]

    monkeypatch.setattr("pytest_espperf.load.ask_each", lacking)
    asker = asked(always(answer()))
    assert not asker.wrong
    assert asker.answers["shop"]["/a"].trouble
