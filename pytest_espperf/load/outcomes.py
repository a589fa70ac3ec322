"""How a request ended, as one of few counted outcomes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import httpx

from pytest_espperf.errors import UsageError
from pytest_espperf.load.faults import LocalError
from pytest_espperf.load.wire import MAX_BODY_BYTES, BodyTooLargeError, request_bytes
from pytest_espperf.model.computer import LOCAL, lack_of
from pytest_espperf.model.samples import FirstAnswer, Outcome, PathSeen
from pytest_espperf.model.text import one_line
from pytest_espperf.model.workload import Header, RequestSpec, Target, merge_headers

MAX_OUTCOMES = 255
"""Outcomes are indexed by a byte; the last index gathers all that found no place of their own."""

MAX_SIZES = 1000
"""Lengths of bodies that are counted apart for one path."""

_OTHER = Outcome(None, "other")
_SHOWN = 40
"""Bytes of a wanted text, and digits of a digest, that a reason quotes."""

Headers = Iterable[tuple[bytes, bytes]]


def classify(exc: BaseException) -> str:
    """The error kind that ``exc`` counts as.

    httpx's exceptions, and subclasses that transports derive from them, count under their httpx name. What
    a transport lets through from below counts as what httpx would have made of it; any other exception
    (an ASGI app's own, say) under its class name. What this computer lacks comes before all of them.
    """
    lack = exc.lack if isinstance(exc, LocalError) else lack_of(exc)
    if lack:
        return f"{LOCAL}{lack}"
    for cls in type(exc).__mro__:
        if cls.__module__.partition(".")[0] == "httpx" and hasattr(httpx, cls.__name__):
            return cls.__name__
    if isinstance(exc, ConnectionRefusedError):
        return "ConnectError"
    if isinstance(exc, TimeoutError):
        return "ReadTimeout"
    if isinstance(exc, EOFError):
        return "RemoteProtocolError"
    if isinstance(exc, OSError):
        return "ReadError"
    return type(exc).__name__


class OutcomeTable:
    """Distinct outcomes in the order they were met.

    Attributes:
        outcomes: what the samples' bytes index.
        wrong: beside it, whether that outcome is an error.
        reasons: see :class:`~pytest_espperf.model.samples.PhaseSamples`.
    """

    def __init__(self, outcomes: list[Outcome], reasons: dict[tuple[str, int], str] | None = None) -> None:
        self.outcomes = outcomes
        self.reasons = {} if reasons is None else reasons
        self.wrong: list[bool] = []
        self._indices: dict[tuple[int | None, str | None], int] = {}

    def index(self, status: int | None, error: str | None) -> int:
        """The index of this outcome, entered on first sight."""
        key = (status, error)
        known = self._indices.get(key)
        if known is None:
            known = len(self.outcomes)
            if known >= MAX_OUTCOMES - 1:
                known = MAX_OUTCOMES - 1
                if len(self.outcomes) < MAX_OUTCOMES:
                    self.outcomes.append(_OTHER)
                    self.wrong.append(True)
            else:
                self.outcomes.append(Outcome(status, error))
                self.wrong.append(error is not None)
            self._indices[key] = known
        return known

    def error(self, status: int | None, kind: str, path: int, reason: Callable[[], str]) -> int:
        """The index of an error; its reason is made, and kept, where it is the path's first of its kind."""
        if (kind, path) not in self.reasons:
            self.reasons[kind, path] = one_line(reason())
        return self.index(status, kind)


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
        """The error kind of the whole body, None if it is right."""
        spec = self._spec
        if spec.size_bytes is not None and body_bytes != spec.size_bytes:
            return "body_size"
        if self._digest is not None and self._digest.hexdigest() != str(spec.sha256).lower():
            return "body_sha256"
        return None if self._found else "body_contains"

    def reason(self, body_bytes: int) -> str:
        """What is wrong with the whole body, in words."""
        spec, kind = self._spec, self.error(body_bytes)
        if kind == "body_size":
            return f"the body has {body_bytes:,} bytes, not {spec.size_bytes:,}"
        if kind == "body_sha256" and self._digest is not None:
            return f"the body's SHA-256 is {self._digest.hexdigest()[:_SHOWN]}..., not {spec.sha256}"
        wanted = (spec.contains or b"").decode(errors="replace")
        return f"{wanted[:_SHOWN]!r} is not in the body of {body_bytes:,} bytes"


class Plan:
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
        """A fresh check for one response."""
        return BodyCheck(self._spec)

    def judge(self, status: int, body_bytes: int, check: BodyCheck | None, headers: Headers) -> int:
        """Outcome index of a complete answer."""
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

    def failed(self, exc: BaseException) -> int:
        """Outcome index of a request that got no complete answer."""
        wrong_size = isinstance(exc, BodyTooLargeError) and self._spec.size_bytes is not None
        return self._table.error(None, "body_size" if wrong_size else classify(exc), self.index, exc.__str__)

    def _meet(self, status: int, body_bytes: int, headers: Headers) -> int:
        """Keep the first answer of a status; the outcome of all of them, whatever their bodies are."""
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

    def _reason(self, check: BodyCheck, body_bytes: int, headers: Headers) -> str:
        """Why a body is wrong; a coding comes first, since checks are made of the bytes that came."""
        reason = check.reason(body_bytes)
        coding = header_value(headers, b"content-encoding")
        if coding.lower() in {"", "identity"}:
            return reason
        asked = self.request.headers.get("accept-encoding", "")
        though = " though identity was asked for" if asked == "identity" else ""
        return f"the body came as {coding}{though}: {reason}"


def header_value(headers: Headers, name: bytes) -> str:
    """The value of a header, of several that repeat it joined by commas; "" without it."""
    values = [value for key, value in headers if key.lower() == name]
    return one_line(b", ".join(values).decode("latin-1"))


MOST_PATHS = 255
"""Paths are indexed by a byte in the samples."""


_OF_OUR_CONNECTION: tuple[Header, ...] = (("Connection", "keep-alive"),)


def make_plans(
    target: Target,
    requests: Sequence[RequestSpec],
    headers: Sequence[Header],
    table: OutcomeTable,
    *,
    own_connection: bool,
) -> list[Plan]:
    """A plan per path.

    Args:
        target: the board.
        requests: the paths.
        headers: the profile's headers; they override ``target.headers``, which override ours.
        table: where the outcomes of the phase are entered.
        own_connection: False where a transport of the user's frames the requests: it may speak HTTP/2,
            which has no ``Connection`` header.

    Raises:
        UsageError: too few or too many paths, or a request that cannot be made.
    """
    if not requests or len(requests) > MOST_PATHS:
        raise UsageError(f"a profile has 1 to {MOST_PATHS} requests, not {len(requests)}")
    ours = (*target.own_headers(), *(_OF_OUR_CONNECTION if own_connection else ()))
    merged = merge_headers(ours, target.headers, tuple(headers))
    origin = replace(target, address=target.address.partition("%")[0]).origin  # a URL has no IPv6 zone
    plans: list[Plan] = []
    for index, spec in enumerate(requests):
        try:
            request = httpx.Request("GET", f"{origin}{spec.path}", headers=merged)
            wire = request_bytes(request)
        except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeEncodeError) as exc:
            raise UsageError(f"the request for {spec.path!r} cannot be made: {exc}") from None
        plans.append(Plan(index, spec, request, wire, table))
    return plans
