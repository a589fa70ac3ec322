"""An event stream taken apart, whatever pieces it comes in; and as httpx-sse does where that is right."""

from __future__ import annotations

import httpx
import pytest
from httpx_sse._decoders import SSEDecoder, SSELineDecoder
from hypothesis import given
from hypothesis import strategies as st

from pytest_espperf.load.sse import MAX_EVENT_BYTES, MAX_LINE_BYTES, EventParser


def parse(stream: bytes, cuts: list[int] | None = None) -> tuple[list[bytes | None], EventParser]:
    parser, found, start = EventParser(), [], 0
    for cut in [*sorted(cuts or []), len(stream)]:
        found += parser.feed(stream[start:cut])
        start = cut
    return found, parser


@pytest.mark.parametrize(
    ("stream", "ids"),
    [
        (b"data: x\n\n", [None]),
        (b"data: x\r\n\r\n", [None]),
        (b"data: x\r\r", [None]),
        (b"data\n\n", [None]),
        (b"data:\n\n", [None]),
        (b"data: a\ndata: b\n\n", [None]),
        (b"id: 1\ndata: x\n\nid: 2\ndata: y\n\n", [b"1", b"2"]),
        (b"id: 1\ndata: x\n\ndata: y\n\n", [b"1", None]),
        (b"\xef\xbb\xbfdata: x\n\n", [None]),
        (b": keep-alive\n\n: keep-alive\n\n", []),
        (b"id: 7\n\n", []),  # no data, no event; but the id is kept
        (b"event: x\n\n", []),
        (b"data: x\n", []),
        (b"data: x", []),
        (b"nonsense\n\n", []),
        (b"\n\n\n", []),
        (b"id: a\0b\ndata: x\n\n", [None]),
        (b"", []),
    ],
)
def test_events_and_their_ids(stream: bytes, ids: list[bytes | None]) -> None:
    assert parse(stream)[0] == ids


def test_the_last_id_is_kept_and_the_time_to_wait() -> None:
    _, parser = parse(b"retry: 250\nid: 1\ndata: x\n\ndata: y\n\nid: 2\n\nid: 3\ndata: not complete")
    assert (parser.last_id, parser.retry_ms) == (b"2", 250)


@pytest.mark.parametrize("text", [b"soon", b"-1", b"1.5", b"", b"9" * 5000, "\u0663".encode()])
def test_a_time_to_wait_that_is_none_is_ignored(text: bytes) -> None:
    assert parse(b"retry: " + text + b"\n\n")[1].retry_ms is None


LINES = st.sampled_from(
    [
        b"data: x",
        b"data",
        b"id: 5",
        b"id",
        b": hi",
        b"retry: 3",
        b"event: e",
        "data: \u00e4\u20ac".encode(),
        b"",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS), max_size=20).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


@given(stream=STREAMS, data=st.data())
def test_where_it_is_cut_does_not_matter(stream: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=len(stream)))
    whole, one = parse(stream)
    pieces, other = parse(stream, cuts)
    assert pieces == whole
    assert (other.last_id, other.retry_ms) == (one.last_id, one.retry_ms)
    assert other.lines == one.lines


# Of a data line without a value httpx-sse cannot tell, behind its event, that it was there.
@given(stream=STREAMS.filter(lambda stream: b"data\n" not in stream and b"data\r" not in stream))
def test_it_finds_the_events_that_httpx_sse_finds(stream: bytes) -> None:
    lines, events = SSELineDecoder(), SSEDecoder()
    text = stream.decode()
    theirs = []
    for line in [*(lines.decode(text) if text else []), *lines.flush()]:
        found = events.decode(line)
        if found is not None and found.data:  # it takes a comment for an event once there was an id
            theirs.append(found)
    assert len(parse(stream)[0]) == len(theirs)


def test_a_line_without_an_end_is_bounded() -> None:
    parser = EventParser()
    for _ in range(MAX_LINE_BYTES // 1000):
        parser.feed(b"x" * 1000)
    with pytest.raises(httpx.RemoteProtocolError, match="line above"):
        parser.feed(b"x" * 1000)


def test_a_line_in_one_piece_is_bounded() -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="line above"):
        parse(b"data: " + b"x" * MAX_LINE_BYTES + b"\n\n")


def test_an_event_without_an_end_is_bounded() -> None:
    parser = EventParser()
    line = b"data: " + b"x" * 999 + b"\n"
    for _ in range(MAX_EVENT_BYTES // 1000):
        parser.feed(line)
    with pytest.raises(httpx.RemoteProtocolError, match="event above"):
        parser.feed(line)
