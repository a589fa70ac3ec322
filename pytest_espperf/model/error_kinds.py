"""The errors of a phase by what went wrong: the way to an answer, its status or its body. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_espperf.model.artifact import PathReport

TRANSPORT, STATUS, BODY = "transport", "status", "body"
"""No complete answer came; an answer with a wrong status; a right status with a wrong body, or before the
request's own body was taken."""

LOGIN = "login"
"""Error kind of a request that was not sent: its client's login was answered wrongly."""

_WRONG_ECHO = frozenset({"ws_payload", "ws_reordered"})
"""A WebSocket message came back, with other bytes or behind a later one."""

SHOWN = 3
"""Error kinds that are named of each."""

ErrorsByKind = Mapping[str, Mapping[str, int]]
"""``transport``, ``status`` or ``body`` -> error kind of the artifact -> how many; only what there was."""


def kind_of(error: str) -> str:
    """Describe in words an error kind such as ``ReadTimeout``, ``http_503`` or ``body_size``."""
    if error.startswith("http_") or error == LOGIN:
        return STATUS
    return BODY if error.startswith("body_") or error in _WRONG_ECHO else TRANSPORT


def errors_by_kind(report: PathReport) -> dict[str, dict[str, int]]:
    """Group the errors of a phase or a path."""
    found: dict[str, dict[str, int]] = {}
    for kind in (TRANSPORT, STATUS, BODY):
        errors = {error: n for error, n in report.error_kinds.items() if n and kind_of(error) == kind}
        if errors:
            found[kind] = errors
    return found


def describe_errors(errors: ErrorsByKind) -> str:
    """Describe the errors, the most frequent first: ``transport: 12 x ReadTimeout; status: 3 x http_503``."""
    return "; ".join(f"{kind}: {_most_frequent(counts)}" for kind, counts in errors.items())


def _most_frequent(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{count} x {error}" for error, count in ordered[:SHOWN])
    return named + (f" and {len(ordered) - SHOWN} kinds more" if len(ordered) > SHOWN else "")
