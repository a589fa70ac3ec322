"""Outcomes of requests: the end of each, as one of few that are counted."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from pytest_espperf.load.faults import LocalError, LoginError
from pytest_espperf.model.computer import LOCAL, lack_of
from pytest_espperf.model.error_kinds import LOGIN
from pytest_espperf.model.samples import Outcome
from pytest_espperf.model.text import one_line

MAX_OUTCOMES = 255
"""Outcomes are indexed by a byte; the last index gathers all that found no place of their own."""

_OTHER = Outcome(None, "other")


def classify(exc: BaseException) -> str:
    """Find the error kind that ``exc`` counts as.

    httpx's exceptions, and subclasses that transports derive from them, count under their httpx name. What
    a transport lets through from below counts as what httpx would have made of it; any other exception
    (an ASGI app's own, say) under its class name. What this computer lacks comes before all of them.
    """
    lack = exc.lack if isinstance(exc, LocalError) else lack_of(exc)
    if lack:
        return f"{LOCAL}{lack}"
    if isinstance(exc, LoginError):
        return LOGIN
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
        """Find the index of an outcome; the first time, enter it."""
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
        """Find the index of an error; make and keep its reason if it is the path's first of its kind."""
        if (kind, path) not in self.reasons:
            self.reasons[kind, path] = one_line(reason())
        return self.index(status, kind)
