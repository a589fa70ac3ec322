"""The static file: its bytes, and the answers to conditional, ranged and gzip requests. Pure."""

from __future__ import annotations

import gzip
import hashlib
import re
from functools import cache

from pytest_espperf.sim.catalog import STATIC_BYTES
from pytest_espperf.sim.messages import Request, Response
from pytest_espperf.sim.noise import stream

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_TYPE = "text/plain"


@cache
def content() -> bytes:
    """Make the file: 410,000 bytes of text that gzip compresses to about a sixteenth."""
    words = ("sensor", "packet", "socket", "buffer", "kernel", "timer", "queue", "stack")
    source = stream(0, "static")
    lines, length, number = list[str](), 0, 0
    while length < STATIC_BYTES:
        number += 1
        line = (
            f"{number:06d} the quick brown fox jumps over the lazy dog, {source.choice(words)}"
            f" {source.choice(words)} {source.choice(words)} {source.randrange(5)}, the board says 200 OK\n"
        )
        lines.append(line)
        length += len(line)
    return "".join(lines).encode()[:STATIC_BYTES]


@cache
def zipped() -> bytes:
    """Compress the file; the bytes are the same each time."""
    return gzip.compress(content(), mtime=0)


@cache
def etag() -> str:
    """Make the entity tag of the plain file, with its quotes."""
    return f'"{hashlib.sha256(content()).hexdigest()[:16]}"'


def answer(request: Request) -> Response:
    """Answer a GET or HEAD of the file: 200, 206, 304 or 416."""
    head_only = request.method == "HEAD"
    tag = etag()
    common = (("ETag", tag), ("Accept-Ranges", "bytes"), ("Vary", "Accept-Encoding"))
    if _matches(request.headers.get("if-none-match"), tag):
        return Response(304, None, headers=common)
    span = None
    if request.headers.get("if-range", tag) == tag:
        span = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if span is not None and (span[1] or span[2]):
        return _ranged(span[1], span[2], common, head_only=head_only)
    if accepts_gzip(request.headers.get("accept-encoding", "")):
        headers = (*common, ("Content-Encoding", "gzip"))
        return Response(200, zipped(), _TYPE, headers, head_only=head_only)
    return Response(200, content(), _TYPE, common, head_only=head_only)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip by name (``*`` does not count)."""
    for part in accept_encoding.lower().split(","):
        name, _, parameters = part.partition(";")
        if name.strip() == "gzip":
            quality = parameters.strip().removeprefix("q=").strip()
            return re.fullmatch(r"0(\.0*)?", quality) is None
    return False


def _matches(if_none_match: str | None, tag: str) -> bool:
    if if_none_match is None:
        return False
    tags = [candidate.strip().removeprefix("W/") for candidate in if_none_match.split(",")]
    return "*" in tags or tag in tags


def _ranged(first: str, last: str, common: tuple[tuple[str, str], ...], *, head_only: bool) -> Response:
    body = content()
    size = len(body)
    if not first:
        begin, end = max(0, size - int(last[:9])), size
    else:
        begin, end = int(first[:9]), size if not last else min(size, int(last[:9]) + 1)
    if begin >= end:
        return Response(416, b"", _TYPE, (*common, ("Content-Range", f"bytes */{size}")))
    headers = (*common, ("Content-Range", f"bytes {begin}-{end - 1}/{size}"))
    return Response(206, body[begin:end], _TYPE, headers, head_only=head_only)
