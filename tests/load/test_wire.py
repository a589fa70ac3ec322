"""The response path is pure: any bytes in, a counted outcome out, however they were split."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass

import httptools
import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_espperf.load.body_check import BodyCheck
from pytest_espperf.load.chunked import ChunkedReader
from pytest_espperf.load.outcomes import OutcomeTable, classify
from pytest_espperf.load.wire import (
    MAX_HEAD_BYTES,
    BodyTooLargeError,
    HeadCache,
    ResponseReader,
    chunked_bytes,
    request_head,
)
from pytest_espperf.model.samples import Outcome
from pytest_espperf.model.workload import RequestSpec, merge_headers


@dataclass(frozen=True)
class Read:
    """What a reader made of some bytes and the end of the connection behind them."""

    status: int | None
    body: bytes
    error: str
    keep_alive: bool = False
    complete: bool = False


def read(data: bytes, cuts: tuple[int, ...] = (), *, limit: int = 1 << 20, bodyless: bool = False) -> Read:
    """Feed ``data`` cut at ``cuts``, then EOF, unless the response is complete before."""
    reader = ResponseReader()
    body: list[bytes] = []
    reader.begin(body.append, limit, bodyless=bodyless)
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(data)), len(data)]
    done = False
    try:
        for start, stop in itertools.pairwise(edges):
            if start < stop:
                done = reader.feed(data[start:stop]) or done
        if not done:
            reader.eof()
    except httpx.RemoteProtocolError as exc:
        return Read(None, b"", classify(exc))
    assert reader.head is not None
    assert reader.body_bytes == sum(map(len, body))
    return Read(reader.head.status, b"".join(body), "", reader.keep_alive, done)


OK = Read(200, b"ok", "", keep_alive=True, complete=True)
BAD = Read(None, b"", "RemoteProtocolError")

RESPONSES: dict[str, tuple[bytes, Read]] = {
    "content-length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", OK),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", OK),
    "chunk extensions and trailers": (
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'02;a=b;c="d"\r\nok\r\n0;z\r\nDigest: x\r\nEmpty:\r\n\r\n'
        ),
        OK,
    ),
    "continue first": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", OK),
    "early hints first": (
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 C\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        ),
        OK,
    ),
    "until close": (b"HTTP/1.1 200 OK\r\n\r\nok", Read(200, b"ok", "")),
    "until close, empty": (b"HTTP/1.1 200 OK\r\n\r\n", Read(200, b"", "")),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Read(200, b"ok", "", complete=True)),
    "1.0 kept alive": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", OK),
    "close": (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        Read(200, b"ok", "", complete=True),
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", Read(204, b"", "", keep_alive=True, complete=True)),
    "not modified": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
        Read(304, b"", "", keep_alive=True, complete=True),
    ),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", OK),
    "garbage behind": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokX",
        Read(200, b"ok", "", complete=True),
    ),
    "line end behind": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n\r\n",
        Read(200, b"ok", "", complete=True),
    ),
    "nothing": (b"", BAD),
    "truncated head": (b"HTTP/1.1 200 OK\r\nContent-Le", BAD),
    "truncated body": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", BAD),
    "truncated chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", BAD),
    "truncated after continue": (b"HTTP/1.1 100 Continue\r\n\r\n", BAD),
    "malformed status line": (b"HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok", BAD),
    "not http": (b"SSH-2.0-OpenSSH_9.2\r\n", BAD),
    "http/2": (b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", BAD),
    "leading line end": (b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", BAD),
    "malformed header": (b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", BAD),
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", BAD),
    "malformed chunk size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxy\r\n", BAD),
    "empty chunk size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", BAD),
    "negative chunk size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", BAD),
    "chunk longer than said": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokk\r\n0\r\n\r\n",
        BAD,
    ),
    "malformed trailer": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n",
        BAD,
    ),
    "trailer without colon": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx\r\n\r\n", BAD),
    "conflicting lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", BAD),
    "length and chunked": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        BAD,
    ),
    "negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n", BAD),
    "garbage length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2 or so\r\n\r\nok", BAD),
    "huge length": (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", BAD),
    "beyond the limit": (b"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n", BAD),
    "switching protocols": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", BAD),
    "status 000": (b"HTTP/1.1 000 Zero\r\nContent-Length: 2\r\n\r\nok", BAD),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_response(name: str) -> None:
    data, expected = RESPONSES[name]
    assert read(data) == expected
    # All at once, byte by byte, or in any two pieces: garbage aside, nothing changes.
    assert read(data, tuple(range(len(data)))) == expected
    for cut in range(1, len(data)):
        assert read(data, (cut,)) == expected


def test_a_wrong_byte_is_told_at_once() -> None:
    for wrong in (b"SSH-", b"HTTP/1.1 abc", b"HTTP/1.1 200 OK\nA", b"HTTP/1.1 200 OK\r\nno colon\r"):
        reader = ResponseReader()
        with pytest.raises(httpx.RemoteProtocolError):
            reader.feed(wrong)
    for wrong in (b"x", b"5 5", b"1\r\nab"):
        reader = ResponseReader()
        reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(httpx.RemoteProtocolError):
            reader.feed(wrong)


def test_head_requests_have_no_body() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
    assert read(data, bodyless=True) == Read(200, b"", "", keep_alive=True, complete=True)


@pytest.mark.parametrize("pieces", [1, 7])
def test_head_limit(pieces: int) -> None:
    start, end = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: ", b"\r\n\r\n"
    fits = start + b"a" * (MAX_HEAD_BYTES - len(start) - len(end)) + end
    cuts = tuple(range(0, len(fits), len(fits) // pieces)) if pieces > 1 else ()
    assert read(fits, cuts).status == 200
    assert read(fits.replace(b"X: ", b"X: a"), cuts) == BAD
    assert read(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200_000, cuts) == BAD


def test_informational_heads_count_towards_the_head_limit() -> None:
    informational = b"HTTP/1.1 100 Continue\r\nX: " + b"a" * 1000 + b"\r\n\r\n"
    assert read(informational * 70 + RESPONSES["content-length"][0]) == BAD


def test_body_limits() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"8\r\n12345678\r\n" * 9
    for data in (
        chunked,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 65,
        b"HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n",
    ):
        reader = ResponseReader()
        reader.begin(None, 64)
        with pytest.raises(BodyTooLargeError):
            reader.feed(data)


def test_trailer_and_chunk_line_limits() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert read(head + b"1;" + b"e" * 5000 + b"\r\nx\r\n0\r\n\r\n") == BAD
    assert read(head + b"0\r\n" + b"A: b\r\n" * 20_000 + b"\r\n") == BAD


def test_one_reader_reads_many_responses() -> None:
    reader = ResponseReader()
    for data, expected in RESPONSES.values():
        reader.begin()
        try:
            complete = reader.feed(data) if data else False
        except httpx.RemoteProtocolError:
            assert expected.error
        else:
            assert complete == expected.complete


def test_identical_heads_are_parsed_once_and_memory_is_bounded() -> None:
    heads = HeadCache()
    for number in range(5000):
        reader = ResponseReader(heads)
        assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Id: %d\r\n\r\n" % (number // 2))
        assert len(heads) <= 1024
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: " + b"a" * 10_000 + b"\r\n\r\n"
    heads.clear()
    assert ResponseReader(heads).feed(big)
    assert not heads


FRAGMENTS = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 x\r\n", b"HTTP/1.1 100 c\r\n", b"\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n", b"5\r\n", b"hello", b"0\r\n", b"\n", b"\r", b": ", b"HTTP/1.1",
    b";ext\r\n", b"Trailer: x\r\n", b"\0",
]  # fmt: skip
messages = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=4)), max_size=14).map(b"".join),
    st.tuples(st.sampled_from([data for data, _ in RESPONSES.values()]), st.binary(max_size=6)).map(b"".join),
)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(messages, st.lists(st.integers(0, 300), max_size=8))
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", [20, 21, 40])
def test_any_bytes_end_in_one_outcome_however_split(data: bytes, cuts: list[int]) -> None:
    whole = read(data)
    assert whole.error in {"", "RemoteProtocolError"}
    assert (whole.status is None) == bool(whole.error)
    split = read(data, tuple(cuts))
    assert split == whole
    assert read(data, tuple(range(len(data)))) == whole


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from([b"", b";x", b";a=b", b' ;q="1"'])),
        max_size=6,
    ),
    st.booleans(),
    st.lists(st.integers(0, 400), max_size=6),
)  # fmt: skip
def test_chunked_bodies_agree_with_httptools(
    chunks: list[tuple[bytes, bytes]], trailer: bool, cuts: list[int]
) -> None:
    wire = b"".join(b"%x%s\r\n%s\r\n" % (len(data), extension.strip(), data) for data, extension in chunks)
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + wire + b"0\r\n"
    data += (b"T: v\r\n" if trailer else b"") + b"\r\n"
    body: list[bytes] = []

    class Events:
        def on_body(self, piece: bytes) -> None:
            body.append(piece)

    httptools.HttpResponseParser(Events()).feed_data(data)
    assert read(data, tuple(cuts)) == Read(200, b"".join(body), "", keep_alive=True, complete=True)


# Requests -------------------------------------------------------------------------------------------------


def test_headers_of_later_groups_replace_in_any_case() -> None:
    merged = merge_headers(
        (("Host", "ours"), ("Accept-Encoding", "identity")),
        (("host", "user"), ("Cookie", "a"), ("Cookie", "b")),
        (("ACCEPT-ENCODING", "gzip"),),
    )
    assert merged == [("host", "user"), ("Cookie", "a"), ("Cookie", "b"), ("ACCEPT-ENCODING", "gzip")]


def test_request_head() -> None:
    request = httpx.Request("GET", "http://h:1/a%20b?q=\u00e9&x=1,2", headers=[("Host", "h"), ("X", "y")])
    assert request_head(request) == b"GET /a%20b?q=%C3%A9&x=1,2 HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n"


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4096, 8192, 100_001])
def test_chunks_are_several_and_read_back(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    framed = chunked_bytes(body[:size])
    pieces: list[bytes] = []
    reader = ChunkedReader(pieces.append)
    assert reader.feed(framed, 0) == len(framed)
    assert b"".join(pieces) == body[:size]
    assert len(pieces) >= min(2, size)
    assert not pieces or max(map(len, pieces)) <= 4096


@pytest.mark.parametrize("value", ["a\r\nInjected: b", "a\nb", "a\0b"])
def test_headers_cannot_inject(value: str) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        request_head(httpx.Request("GET", "http://h/", headers={"X": value}))


# Outcomes -------------------------------------------------------------------------------------------------


def subclasses(cls: type[BaseException]) -> set[type[BaseException]]:
    return {cls}.union(*(subclasses(sub) for sub in cls.__subclasses__()))


def test_every_exception_of_httpx_counts_under_its_own_name() -> None:
    known = {cls for cls in subclasses(httpx.RequestError) if cls.__module__.partition(".")[0] == "httpx"}
    assert {httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.ProxyError} <= known
    assert len(known) >= 18
    for cls in known:
        assert classify(cls("x")) == cls.__name__
        derived = type("Derived", (cls,), {})
        assert classify(derived("x")) == cls.__name__
    assert classify(httpx.InvalidURL("x")) == "InvalidURL"
    assert classify(BodyTooLargeError("x")) == "RemoteProtocolError"


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (ConnectionRefusedError(), "ConnectError"),
        (ConnectionResetError(), "ReadError"),
        (TimeoutError(), "ReadTimeout"),
        (EOFError(), "RemoteProtocolError"),
        (ZeroDivisionError(), "ZeroDivisionError"),
    ],
)
def test_other_exceptions_count_as_what_they_mean(exc: Exception, kind: str) -> None:
    assert classify(exc) == kind


def test_outcomes_beyond_a_byte_are_gathered() -> None:
    outcomes: list[Outcome] = []
    table = OutcomeTable(outcomes)
    indices = [table.index(None, f"kind {number}") for number in range(1000)]
    assert indices[:254] == list(range(254))
    assert set(indices[254:]) == {254}
    assert len(outcomes) == len(table.wrong) == 255
    assert outcomes[254] == Outcome(None, "other")
    assert table.index(None, "kind 3") == 3


@given(st.binary(max_size=60), st.binary(min_size=1, max_size=4), st.lists(st.integers(0, 60), max_size=5))
def test_body_checks_do_not_depend_on_pieces(body: bytes, wanted: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    check = BodyCheck(RequestSpec("/", contains=wanted, sha256=hashlib.sha256(body).hexdigest().upper()))
    for start, stop in itertools.pairwise(edges):
        check.feed(body[start:stop])
    assert check.error(len(body)) == (None if wanted in body else "body_contains")
    assert BodyCheck(RequestSpec("/", size_bytes=3)).error(len(body)) == (
        None if len(body) == 3 else "body_size"
    )
    wrong = BodyCheck(RequestSpec("/", sha256="0" * 64))
    wrong.feed(body)
    assert wrong.error(len(body)) == "body_sha256"
