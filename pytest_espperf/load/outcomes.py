"""How a request ended, as one of few counted outcomes."""

from __future__ import annotations

import hashlib

import httpx

from pytest_espperf.computer import LOCAL, lack_of
from pytest_espperf.load.faults import LocalError
from pytest_espperf.load.wire import MAX_BODY_BYTES, BodyTooLargeError
from pytest_espperf.samples import Outcome
from pytest_espperf.workload import RequestSpec

MAX_OUTCOMES = 255
"""Outcomes are indexed by a byte; the last index gathers all that found no place of their own."""

_OTHER = Outcome(None, "other")


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
    """

    def __init__(self, outcomes: list[Outcome]) -> None:
        self.outcomes = outcomes
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


class Plan:
    """One path of the phase, made ready: the request, and how its answers are judged.

    Attributes:
        index: the path's index in the samples.
        wire: the request's bytes.
        request: the same request for a transport that is not ours.
        known: status -> outcome index, for answers whose body is not looked at.
        looks_at_body: whether a :class:`BodyCheck` is needed.
        limit: longest body read, in bytes.
    """

    __slots__ = ("_spec", "_table", "index", "known", "limit", "looks_at_body", "request", "wire")

    def __init__(
        self, index: int, spec: RequestSpec, request: httpx.Request, wire: bytes, table: OutcomeTable
    ) -> None:
        self.index = index
        self.request = request
        self.wire = wire
        self.known: dict[int, int] = {}
        self.looks_at_body = (spec.size_bytes, spec.sha256, spec.contains) != (None, None, None)
        self.limit = max(MAX_BODY_BYTES, spec.size_bytes or 0)
        self._spec = spec
        self._table = table

    def new_check(self) -> BodyCheck:
        """A fresh check for one response."""
        return BodyCheck(self._spec)

    def judge(self, status: int, body_bytes: int, check: BodyCheck | None) -> int:
        """Outcome index of a complete answer."""
        wanted = self._spec.statuses
        right = status in wanted if wanted is not None else 200 <= status < 400
        error = None if right else f"http_{status}"
        if right and check is not None:
            error = check.error(body_bytes)
        outcome = self._table.index(status, error)
        if not self.looks_at_body:
            self.known[status] = outcome
        return outcome

    def failed(self, exc: BaseException) -> int:
        """Outcome index of a request that got no complete answer."""
        if isinstance(exc, BodyTooLargeError) and self._spec.size_bytes is not None:
            return self._table.index(None, "body_size")
        return self._table.index(None, classify(exc))
