"""Requests made ready before a phase: their bytes, and how their answers are judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

import httpx

from pytest_espperf.errors import UsageError
from pytest_espperf.load.body_check import BodyCheck
from pytest_espperf.load.outcomes import OutcomeTable, classify
from pytest_espperf.load.wire import MAX_BODY_BYTES, BodyTooLargeError, chunked_bytes, request_head
from pytest_espperf.model.samples import FirstAnswer, Outcome, PathSeen
from pytest_espperf.model.text import MOST_TEXT, one_line
from pytest_espperf.model.workload import PLACEHOLDER, Header, RequestSpec, Target, merge_headers

MOST_PATHS = 255
"""Paths of a profile: the samples index them by a byte."""

MAX_SIZES = 1000
"""Lengths of bodies that are counted separately for one path."""

NOT_TAKEN = "body_not_taken"
"""Error kind of a 2xx that came before the request's body was sent."""

_KEPT: tuple[Header, ...] = (("Connection", "keep-alive"),)

_USED_ONCE: tuple[Header, ...] = (("Connection", "close"),)
"""A board may free the connection with its answer then, and need not wait for a request that never comes."""

_IN_ONE_WRITE_BYTES = 16 * 1024
"""Longest body that is sent with its head: it is copied for it, and a packet less is sent."""

RawHeaders = Iterable[tuple[bytes, bytes]]


class PreparedRequest:
    """One path of the phase, made ready: the request, and how its answers are judged.

    Attributes:
        index: the path's index in the samples.
        spec: what it was made of.
        request: the same request for a transport that is not ours, without its body.
        wire: the request's bytes: the head, and the body where it is short and not held back.
        body: what is sent behind ``wire``, as it is framed; the same for all clients.
        bodyless: whether its answers have no body: it is a HEAD.
        looks_at_body: whether a :class:`BodyCheck` is needed.
        limit: longest body read, in bytes.
        seen: what the answers looked like.
    """

    __slots__ = (
        "_framed_bytes",
        "_inline",
        "_known",
        "_sizes",
        "_table",
        "body",
        "bodyless",
        "index",
        "limit",
        "looks_at_body",
        "request",
        "seen",
        "spec",
        "wire",
    )

    def __init__(self, index: int, spec: RequestSpec, request: httpx.Request, table: OutcomeTable) -> None:
        self.index = index
        self.spec = spec
        self.request = request
        body = framed_body(spec)
        self._framed_bytes = len(body)
        self._inline = b"" if spec.expect_continue or len(body) > _IN_ONE_WRITE_BYTES else body
        self.body = b"" if self._inline else body
        self.wire = self.wire_of(request)
        self.bodyless = spec.method == "HEAD"
        self.seen = PathSeen()
        self._sizes = self.seen.sizes
        self._known: dict[int, int] = {}
        wanted = (spec.size_bytes, spec.sha256, spec.contains, spec.json_contains)
        self.looks_at_body = any(one is not None for one in wanted)
        self.limit = max(MAX_BODY_BYTES, spec.size_bytes or 0)
        self._table = table

    def wire_of(self, request: httpx.Request) -> bytes:
        """Encode the same request with other headers or another path: that of one client.

        Raises:
            httpx.LocalProtocolError: they would break the message apart.
        """
        return request_head(request) + self._inline

    def new_check(self) -> BodyCheck:
        """Make the check of one response's body."""
        return BodyCheck(self.spec)

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

    def judge_taken(self, outcome: int, status: int, unsent_bytes: int) -> int:
        """Judge an answer that was right, and came while some of the request's body was not sent yet.

        Only a success is wrong then: a refusal, or a redirect, need not await the body.

        Args:
            outcome: index of the answer's outcome by itself.
            status: of the answer.
            unsent_bytes: of the body, as it is framed.
        """
        if self._table.wrong[outcome] or not 200 <= status < 300:
            return outcome
        return self._table.error(status, NOT_TAKEN, self.index, lambda: self.untaken(unsent_bytes))

    def untaken(self, unsent_bytes: int) -> str:
        """Say that an answer came before the request's body was taken."""
        return (
            f"it answered before it had taken the body: {unsent_bytes:,} of {self._framed_bytes:,} bytes were"
            " left"
        )

    def not_modified(self) -> int:
        """Judge the answer that what was known still holds; return the index of its outcome."""
        return self._table.index(304, None)

    def part_failed(self, outcome: Outcome, reason: str) -> int:
        """Judge a page of which an asset was wrong; return the index of its outcome."""
        return self._table.error(outcome.status, outcome.error or "", self.index, lambda: reason)

    def failed(self, exc: BaseException, during: str = "") -> int:
        """Judge a request without a complete answer; return the index of its outcome.

        Args:
            exc: what went wrong.
            during: what was done then, for the reason; "" for the request itself.
        """
        wrong_size = isinstance(exc, BodyTooLargeError) and self.spec.size_bytes is not None
        kind = "body_size" if wrong_size and not during else classify(exc)
        return self._table.error(None, kind, self.index, lambda: f"{during}{exc}")

    def _meet(self, status: int, body_bytes: int, headers: RawHeaders) -> int:
        """Keep the first answer of a status; return the outcome of all of them, whatever their bodies are."""
        content_type = header_value(headers, b"content-type").partition(";")[0].strip().lower()
        encoding = header_value(headers, b"content-encoding").lower()
        self.seen.first[status] = FirstAnswer(body_bytes, content_type, encoding)
        wanted = self.spec.statuses
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


def header_value(headers: RawHeaders, name: bytes, most: int = MOST_TEXT) -> str:
    """Get the value of a header; "" without one.

    Several of the same name are joined by commas; of a longer text ``most`` characters are left.
    """
    values = [value for key, value in headers if key.lower() == name]
    return one_line(b", ".join(values).decode("latin-1"), most)


class RequestMaker:
    """Makes the requests of a profile to one board.

    Args:
        target: the board.
        headers: the profile's headers; they override ``target.headers``, which override ours.
        own_connection: False where a transport of the user's frames the requests: it may speak HTTP/2,
            which has no ``Connection`` header.
        reuse: whether another request follows on a connection.
    """

    def __init__(
        self, target: Target, headers: Sequence[Header], *, own_connection: bool, reuse: bool = True
    ) -> None:
        of_connection = _KEPT if reuse else _USED_ONCE
        ours = (*target.own_headers(), *(of_connection if own_connection else ()))
        self._common = merge_headers(ours, target.headers, tuple(headers))
        self._origin = replace(
            target, address=target.address.partition("%")[0]
        ).origin  # no IPv6 zone in URLs

    def make(
        self, spec: RequestSpec, values: Mapping[str, str] | None = None, cookies: str = ""
    ) -> httpx.Request:
        """Make a request, without its body.

        Args:
            spec: what to ask for.
            values: of a client's placeholders; None where there is no login.
            cookies: of a client, behind those of a header.

        Raises:
            UsageError: it cannot be made.
        """
        headers = merge_headers(self._common, spec.headers, _framing(spec))
        path = spec.path
        if values is not None:
            headers = [(name, filled(text, values)) for name, text in headers]
            path = filled(path, {name: quote(value, safe="") for name, value in values.items()})
        if cookies:
            own = [text for name, text in headers if name.lower() == "cookie"]
            headers = merge_headers(headers, (("Cookie", "; ".join([*own, cookies])),))
        try:
            request = httpx.Request(spec.method, f"{self._origin}{path}", headers=headers)
            request_head(request)
        except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeEncodeError) as exc:
            raise UsageError(f"the request for {spec.path!r} cannot be made: {exc}") from None
        return request

    def make_login(self, spec: RequestSpec) -> httpx.Request:
        """Make the request that comes first: without the headers for which it brings the values.

        Raises:
            UsageError: it cannot be made.
        """
        kept = [pair for pair in self._common if not PLACEHOLDER.search(pair[1])]
        everything, self._common = self._common, kept
        try:
            return self.make(spec)
        finally:
            self._common = everything


def filled(text: str, values: Mapping[str, str]) -> str:
    """Replace the placeholders of a text; one without a value stays."""
    return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


def framed_body(spec: RequestSpec) -> bytes:
    """Return what is sent behind the head of a request."""
    body = spec.body or b""
    return chunked_bytes(body) if spec.chunked else body


def _framing(spec: RequestSpec) -> tuple[Header, ...]:
    """Return the headers that tell where the body ends; none without a body."""
    if spec.body is None:
        return ()
    length = ("Transfer-Encoding", "chunked") if spec.chunked else ("Content-Length", str(len(spec.body)))
    return (length, *((("Expect", "100-continue"),) if spec.expect_continue else ()))


def prepare_requests(
    maker: RequestMaker, requests: Sequence[RequestSpec], table: OutcomeTable
) -> list[PreparedRequest]:
    """Prepare every request of a phase; ``table`` is where its outcomes are entered.

    Raises:
        UsageError: too few or too many requests, or one that cannot be made.
    """
    if not requests or len(requests) > MOST_PATHS:
        raise UsageError(f"a profile has 1 to {MOST_PATHS} requests, not {len(requests)}")
    return [PreparedRequest(index, spec, maker.make(spec), table) for index, spec in enumerate(requests)]
