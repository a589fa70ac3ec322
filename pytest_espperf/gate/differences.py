"""The facts in which earlier sessions differ, in words. Pure.

``burst lasted 1 s in the 3 earlier sessions, 2 s now``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from pytest_espperf.model.artifact import Finding, Json

MOST = 3
"""Differences that one sentence names."""

NOTHING = "not recorded"


@dataclass(frozen=True)
class _Fact:
    """One fact that differs: ``burst lasted``, ``1 s``, ``2 s``."""

    subject: str
    then: str
    now: str


def differing(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the fields whose values differ or that only one side has, sorted."""
    missing = object()
    return tuple(sorted(k for k in {*mine, *theirs} if mine.get(k, missing) != theirs.get(k, missing)))


def sentence(mine: Json, theirs: Json, those: str) -> str:
    """Say in what a session differs from earlier ones, without a full stop.

    Args:
        mine: the comparability fields of the session, or of one of its profiles.
        theirs: the same of the earlier sessions.
        those: the earlier sessions in words: ``the 3 earlier sessions``.
    """
    found = [one for name in differing(mine, theirs) for one in _differences(name, mine, theirs)]
    if len(found) == 1:
        (only,) = found
        return f"{only.subject} {only.then} in {those}, {only.now} now"
    more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
    listed = ", ".join(f"{one.subject} {one.then} (now {one.now})" for one in found[:MOST])
    return f"in {those} {listed}{more}"


def finding_about(named: Sequence[str], profiles: Sequence[str], finding: Finding) -> Finding:
    """Attribute a finding to profiles: to the session where it is about all of several."""
    if len(named) == 1:
        return structs.replace(finding, where=named[0])
    if set(named) == set(profiles):
        return finding
    return structs.replace(finding, message=f"{', '.join(named)}: {finding.message}")


def _differences(name: str, mine: Json, theirs: Json) -> Iterator[_Fact]:
    now, then = mine.get(name), theirs.get(name)
    if name == "phases" and isinstance(now, dict) and isinstance(then, dict):
        for phase in dict.fromkeys([*now, *then]):
            yield from _phase(phase, now.get(phase), then.get(phase))
    elif name == "requests":
        yield from _requests(now or {}, then or {})
    elif name in _LISTS and isinstance(now, list) and isinstance(then, list):
        yield from _list(_LISTS[name], now, then)
    elif name in mine and name in theirs and name in _FIELDS:
        subject, unit = _FIELDS[name]
        yield _Fact(subject, f"{_plain(then)}{unit}", f"{_plain(now)}{unit}")
    else:
        yield _Fact(
            f"{name} was",
            _plain(then) if name in theirs else NOTHING,
            _plain(now) if name in mine else NOTHING,
        )


_FIELDS: Mapping[str, tuple[str, str]] = {
    "board": ("the board was", ""),
    "scheme": ("the scheme was", ""),
    "engine": ("the load engine was", ""),
    "runs": ("the number of runs was", ""),
    "warmup_s": ("the warm-up lasted", " s"),
    "schedule_version": ("the version of the schedule was", ""),
}
"""Fields that have one value: what to say before it, and its unit."""

_LISTS: Mapping[str, str] = {"paths": "the path", "headers": "the header"}

_PHASE: Mapping[str, tuple[str, str]] = {
    "duration_s": ("lasted", " s"),
    "clients": ("had", " clients"),
    "rate_rps": ("was sent at", " requests/s"),
    "think_time_s": ("paused for", " s"),
    "kind": ("was of the kind", ""),
    "size": ("had messages of", " bytes"),
    "path": ("used the path", ""),
}

_SWITCHES: Mapping[str, tuple[str, str, str]] = {
    "reuse": ("used each connection", "again", "once"),
    "tls_resumption": ("had TLS handshakes that were", "resumed where the board could", "full"),
}
"""Facts that are recorded where they are switched off: what to say before it, for on and for off."""

_USUAL: Mapping[str, Any] = {"think_time_s": 0, "kind": "requests"}
"""Default values: the facts of a session do not record them."""


def _phase(phase: str, now: Any, then: Any) -> Iterator[_Fact]:
    if not isinstance(now, dict) or not isinstance(then, dict):
        words = ("measured" if one is not None else "not measured" for one in (then, now))
        yield _Fact(f"{phase} was", *words)
        return
    for key in differing(now, then):
        if key in _SWITCHES:
            verb, on, off = _SWITCHES[key]
            switched = (on if one.get(key, True) else off for one in (then, now))
            yield _Fact(f"{phase} {verb}", *switched)
            continue
        if key == "message":
            yield _Fact(f"{phase} sent", *_messages(now.get(key), then.get(key)))
            continue
        verb, unit = _PHASE.get(key, (f"had {key}", ""))
        values = (
            "no fixed rate"
            if key == "rate_rps" and one.get(key) is None
            else f"{_plain(one.get(key, _USUAL.get(key)))}{unit}"
            for one in (then, now)
        )
        yield _Fact(f"{phase} {verb}", *values)


def _messages(now: Any, then: Any) -> Iterator[str]:
    """Describe the messages of a WebSocket, then and now; of a text only digest and length are known."""
    for one, other in ((then, "another message"), (now, "this message")):
        size = one.get("bytes") if isinstance(one, dict) else None
        yield f"{other} ({_plain(size)} bytes)" if size is not None else other if one else "its own numbers"


def _requests(now: Mapping[str, Any], then: Mapping[str, Any]) -> Iterator[_Fact]:
    """Name what a request has beside its method and path; one without an entry has nothing."""
    for label in dict.fromkeys([*now, *then]):
        ours, theirs = now.get(label, {}), then.get(label, {})
        for key in differing(ours, theirs):
            yield _Fact(f"{key} of {label} was", _plain(theirs.get(key)), _plain(ours.get(key)))


def _list(what: str, now: Sequence[Any], then: Sequence[Any]) -> Iterator[_Fact]:
    gone = [one for one in then if one not in now]
    new = [one for one in now if one not in then]
    for one in gone:
        yield _Fact(f"{what} {_plain(one)} was", "requested", "not requested")
    for one in new:
        yield _Fact(f"{what} {_plain(one)} was", "not requested", "requested")
    if not gone and not new:
        yield _Fact(f"{what}s were requested in the order", _plain(then), _plain(now))


def _plain(value: Any) -> str:
    """Any value in words: no brackets, braces or quotation marks."""
    if isinstance(value, dict):
        return _joined(f"{key} {_plain(one)}" for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return _joined(map(_plain, value))
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None or value == "" else str(value)


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(parts) or "none"
