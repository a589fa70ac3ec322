"""Requests made ready before a phase: their bytes, and how their answers are judged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

import httpx

from pytest_espperf.errors import UsageError
from pytest_espperf.load.outcomes import OutcomeTable, classify
from pytest_espperf.load.wire import MAX_BODY_BYTES, BodyTooLargeError, request_bytes
from pytest_espperf.model.samples import FirstAnswer, Outcome, PathSeen
from pytest_espperf.model.text import one_line
from pytest_espperf.model.workload import Header, RequestSpec, Target, merge_headers

MOST_PATHS = 255
"""Paths of a profile: the samples index them by a byte."""

MAX_SIZES = 1000
"""Lengths of bodies that are counted separately for one path."""

_SHOWN = 40
"""Bytes of an expected text, and digits of a digest, that a reason quotes."""

_KEPT: tuple[Header, ...] = (("Connection", "keep-alive"),)

_USED_ONCE: tuple[Header, ...] = (("Connection", "close"),)
"""A board may free the connection with its answer then, and need not wait for a request that never comes."""

RawHeaders = Iterable[tuple[bytes, bytes]]


class BodyCheck:
    """Looks at one body while it passes: its digest, and whether the wanted bytes stand in it."""

    __slots__ = ("_contains", "_digest", "_found", "_spec", "_tail")

    def __init__(self, spec: RequestSpec) -> None:
        self._spec = spec
        self._digest = None if spec.sha256 is None else hashlib.sha256()
        self._contains = spec.contains
        self._found = not spec.contains
        self._tail = b""

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the body."""
        if self._digest is not None:
            self._digest.update(piece)
        if not self._found and self._contains is not None:
            window = self._tail + piece
            self._found = self._contains in window
            keep = len(self._contains) - 1
            self._tail = window[-keep:] if keep else b""

    def error(self, body_bytes: int) -> str | None:
        """Find the error kind of the whole body, None if it is right."""
        spec = self._spec
        if spec.size_bytes is not None and body_bytes != spec.size_bytes:
            return "body_size"
        if self._digest is not None and self._digest.hexdigest() != str(spec.sha256).lower():
            return "body_sha256"
        return None if self._found else "body_contains"

    def reason(self, body_bytes: int) -> str:
        """Describe in words what is wrong with the whole body."""
        spec, kind = self._spec, self.error(body_bytes)
        if kind == "body_size":
            return f"the body has {body_bytes:,} bytes, not {spec.size_bytes:,}"
        if kind == "body_sha256" and self._digest is not None:
            return f"the body's SHA-256 is {self._digest.hexdigest()[:_SHOWN]}..., not {spec.sha256}"
        wanted = (spec.contains or b"").decode(errors="replace")
        return f"{wanted[:_SHOWN]!r} is not in the body of {body_bytes:,} bytes"


class PreparedRequest:
    """One path of the phase, made ready: the request, and how its answers are judged.

    Attributes:
        index: the path's index in the samples.
        wire: the request's bytes.
        request: the same request for a transport that is not ours.
        looks_at_body: whether a :class:`BodyCheck` is needed.
        limit: longest body read, in bytes.
        seen: what the answers looked like.
    """

    __slots__ = (
        "_known",
        "_sizes",
        "_spec",
        "_table",
        "index",
        "limit",
        "looks_at_body",
        "request",
        "seen",
        "wire",
    )

    def __init__(
        self, index: int, spec: RequestSpec, request: httpx.Request, wire: bytes, table: OutcomeTable
    ) -> None:
        self.index = index
        self.request = request
        self.wire = wire
        self.seen = PathSeen()
        self._sizes = self.seen.sizes
        self._known: dict[int, int] = {}
        self.looks_at_body = (spec.size_bytes, spec.sha256, spec.contains) != (None, None, None)
        self.limit = max(MAX_BODY_BYTES, spec.size_bytes or 0)
        self._spec = spec
        self._table = table

    def new_check(self) -> BodyCheck:
        """Make the check of one response's body."""
        return BodyCheck(self._spec)

    def judge(self, status: int, body_bytes: int, check: BodyCheck | None, headers: RawHeaders) -> int:
        """Judge a complete answer; return the index of its outcome."""
        outcome = self._known.get(status)
        if outcome is None:
            outcome = self._meet(status, body_bytes, headers)
        if self._table.wrong[outcome]:
            return outcome
        if check is not None and (error := check.error(body_bytes)) is not None:
            return self._table.error(
                status, error, self.index, lambda: self._reason(check, body_bytes, headers)
            )
        count = self._sizes.get(body_bytes, 0)
        if count or len(self._sizes) < MAX_SIZES:
            self._sizes[body_bytes] = count + 1
        return outcome

    def not_modified(self) -> int:
        """Judge the answer that what was known still holds; return the index of its outcome."""
        return self._table.index(304, None)

    def part_failed(self, outcome: Outcome, reason: str) -> int:
        """Judge a page of which an asset was wrong; return the index of its outcome."""
        return self._table.error(outcome.status, outcome.error or "", self.index, lambda: reason)

    def failed(self, exc: BaseException) -> int:
        """Judge a request without a complete answer; return the index of its outcome."""
        wrong_size = isinstance(exc, BodyTooLargeError) and self._spec.size_bytes is not None
        return self._table.error(None, "body_size" if wrong_size else classify(exc), self.index, exc.__str__)

    def _meet(self, status: int, body_bytes: int, headers: RawHeaders) -> int:
        """Keep the first answer of a status; return the outcome of all of them, whatever their bodies are."""
        content_type = header_value(headers, b"content-type").partition(";")[0].strip().lower()
        encoding = header_value(headers, b"content-encoding").lower()
        self.seen.first[status] = FirstAnswer(body_bytes, content_type, encoding)
        wanted = self._spec.statuses
        right = status in wanted if wanted is not None else 200 <= status < 400
        if right:
            self._known[status] = self._table.index(status, None)
        else:
            self._known[status] = self._table.error(status, f"http_{status}", self.index, str)
        return self._known[status]

    def _reason(self, check: BodyCheck, body_bytes: int, headers: RawHeaders) -> str:
        """Explain why a body is wrong; a coding comes first, since the bytes are checked as they came."""
        reason = check.reason(body_bytes)
        coding = header_value(headers, b"content-encoding")
        if coding.lower() in {"", "identity"}:
            return reason
        asked = self.request.headers.get("accept-encoding", "")
        though = " though identity was asked for" if asked == "identity" else ""
        return f"the body came as {coding}{though}: {reason}"


def header_value(headers: RawHeaders, name: bytes) -> str:
    """Get the value of a header; several of the same name are joined by commas; "" without one."""
    values = [value for key, value in headers if key.lower() == name]
    return one_line(b", ".join(values).decode("latin-1"))


def prepare_requests(
    target: Target,
    requests: Sequence[RequestSpec],
    headers: Sequence[Header],
    table: OutcomeTable,
    *,
    own_connection: bool,
    reuse: bool = True,
) -> list[PreparedRequest]:
    """Prepare the request of every path.

    Args:
        target: the board.
        requests: the paths.
        headers: the profile's headers; they override ``target.headers``, which override ours.
        table: where the outcomes of the phase are entered.
        own_connection: False where a transport of the user's frames the requests: it may speak HTTP/2,
            which has no ``Connection`` header.
        reuse: whether another request follows on a connection.

    Raises:
        UsageError: too few or too many paths, or a request that cannot be made.
    """
    if not requests or len(requests) > MOST_PATHS:
        raise UsageError(f"a profile has 1 to {MOST_PATHS} requests, not {len(requests)}")
    of_connection = _KEPT if reuse else _USED_ONCE
    ours = (*target.own_headers(), *(of_connection if own_connection else ()))
    merged = merge_headers(ours, target.headers, tuple(headers))
    origin = replace(target, address=target.address.partition("%")[0]).origin  # a URL has no IPv6 zone
    prepared: list[PreparedRequest] = []
    for index, spec in enumerate(requests):
        try:
            request = httpx.Request("GET", f"{origin}{spec.path}", headers=merged)
            wire = request_bytes(request)
        except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeEncodeError) as exc:
            raise UsageError(f"the request for {spec.path!r} cannot be made: {exc}") from None
        prepared.append(PreparedRequest(index, spec, request, wire, table))
    return prepared
