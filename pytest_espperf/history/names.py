"""File names of the history folder: how they are made, read and ordered. Pure.

``perf_<UTC %Y%m%dT%H%M%SZ>[_<tag>].json`` is the first session of a second, whatever its tag;
``perf_<UTC>n002[_<tag>].json``, ``n003`` ... are the next ones of that second, in the order of saving.

**The file name is the order of the history**: first the second, then the number, then the name. Nothing has
to be opened to sort ten thousand sessions, and a copied folder (whose modification times are new) keeps its
order. A plain sort of the names by their bytes gives the same order, because ``.``, ``_`` and ``n`` follow
each other there. Sessions that several processes save at the same moment may get the same number; then the
rest of the name decides. The price: a session recorded while the wall clock is set back sorts among the
sessions of that hour. It is neither lost nor renamed, saving reports it (``SavedSession.clock_behind``), and
once the clock has passed that hour new sessions sort last again.

A session that is dated more than a day in the future counts as older than all others, until that time has
come: a clock that was wrong once must not make a session the newest one for ever. See :func:`horizon`.

Older files have their number at the end (``perf_<UTC>_<tag>-2.json``) and keep their names. Where the tag of
a first session ends in such a number, the next one of that second gets a greater one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

LATEST = "latest.json"
PARTIAL = "latest.partial.json"
INDEX = "index.msgpack"
OLD_INDEX = "index.sqlite"
"""The index of earlier versions, a database; it is removed once the new one is written."""
TEMP_PREFIX = ".espperf-"
TEMP_SUFFIX = ".tmp"
UNREADABLE_PREFIX = "unreadable_partial_"

MAX_TAG = 64
"""Characters of a tag that reach a file name: with everything around it, well below 255 bytes."""

NAMELESS = "has no time in its name: perf_<UTC time>_<tag>.json is expected"
"""Why a session file with a foreign name is left out: its place in the history is unknown."""

_SESSION = re.compile(
    r"perf_(?P<stamp>[0-9]{8}T[0-9]{6}Z)(?:n+(?P<number>[0-9]{3,9}))?(?:_(?P<tag>.*?))??"
    r"(?(number)|(?:-(?P<old_number>[2-9]|[1-9][0-9]{1,2}))?)\.json",
    re.DOTALL,
)
_PARTIAL = re.compile(r"latest\.partial-(.+)\.json", re.DOTALL)
_MARK = re.compile(r"(accept|pin)_(perf_.+)\.json", re.DOTALL)
_STAMP = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
_ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.[0-9]+)?)?"
    r"(?P<offset>Z|[+-][0-9]{2}:?[0-9]{2})?"
)
"""Written out, because what ``datetime.fromisoformat`` reads depends on the version of Python."""

_SKEW = timedelta(days=1)
_EARLIEST_NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)

_UNWANTED = re.compile(r"[^A-Za-z0-9._-]+")


class OrderKey(NamedTuple):
    """Sorts session files oldest first; the number counts the sessions of one second from 1."""

    stamp: str
    number: int
    name: str


def parse_stamp(text: str) -> datetime | None:
    """Parse an artifact's ``timestamp_utc``; None where it is no time.

    Both the compact form of file names and ISO 8601 are read, to the second; a time without an offset is UTC.
    """
    match = _STAMP.fullmatch(text) or _ISO.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    offset = match.groupdict().get("offset") or "Z"
    try:
        away = timedelta(hours=int(offset[1:3]), minutes=int(offset[-2:])) if offset != "Z" else timedelta()
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
        return moment + away if offset.startswith("-") else moment - away
    except (ValueError, OverflowError):
        return None


def format_stamp(moment: datetime) -> str:
    """``20260131T235959Z``; the year always has four digits, which strftime does not promise."""
    at = moment.astimezone(timezone.utc)
    return f"{at.year:04d}{at.month:02d}{at.day:02d}T{at.hour:02d}{at.minute:02d}{at.second:02d}Z"


def horizon(now: datetime | None = None) -> str:
    """Compute the latest stamp that is believed: a day ahead of the clock, since benches' clocks differ.

    A clock that is set back to its beginning, as that of a computer without a battery, is taken for the
    earliest at which this package can have run.
    """
    at = datetime.now(timezone.utc) if now is None else now
    return format_stamp(max(at, _EARLIEST_NOW) + _SKEW)


def place_of(key: OrderKey, horizon: str) -> tuple[bool, OrderKey]:
    """Sorts session files oldest first; those dated after ``horizon`` come before all others."""
    return key.stamp <= horizon, key


def stamp_at(text: str) -> str:
    """Convert an artifact's ``timestamp_utc`` to the stamp of file names; "" where it is no time."""
    moment = parse_stamp(text)
    return format_stamp(moment) if moment is not None else ""


def clean_tag(tag: str) -> str:
    """``tag`` as it may stand in a file name: ``[A-Za-z0-9._-]`` only, bounded, "" where nothing is left.

    The result cannot leave a folder, and behind ``perf_<stamp>_`` it is no reserved name on Windows either.
    """
    return _UNWANTED.sub("_", tag)[:MAX_TAG].strip("._-")


def session_stem(stamp: str, tag: str, number: int = 1) -> str:
    """Make a session's file name without its suffix; ``number`` counts the sessions of its second from 1."""
    cleaned = clean_tag(tag)
    return f"perf_{numbered(stamp, number)}" + (f"_{cleaned}" if cleaned else "")


def numbered(stamp: str, number: int) -> str:
    """``stamp`` with the number behind it from 2 on, so that names sort by it: n002, ... n999, nn1000."""
    digits = f"{number:03d}"
    return stamp if number == 1 else f"{stamp}{'n' * (len(digits) - 2)}{digits}"


def next_number(taken: Iterable[str], stamp: str) -> int:
    """Compute the number of the next session of a second, beside the file names that are ``taken``."""
    keys = (order_key(name) for name in taken if name.startswith(f"perf_{stamp}"))
    return max((key.number for key in keys if key is not None), default=0) + 1


def is_session_name(name: str) -> bool:
    """Whether ``name`` claims to be a session of the history (readable or not)."""
    return name.startswith("perf_") and name.endswith(".json")


def order_key(name: str) -> OrderKey | None:
    """Where the session file ``name`` stands in the history; None without a time in its name."""
    match = _SESSION.fullmatch(name)
    return OrderKey(match["stamp"], int(match["number"] or match["old_number"] or 1), name) if match else None


def sort_key(name: str) -> OrderKey:
    """:func:`order_key` for sorting any names: those without a time come first, all equal."""
    return order_key(name) or OrderKey("", 0, "")


def tag_of(name: str) -> str:
    """Extract the (cleaned) tag from a session's file name; for old files that did not keep it inside."""
    match = _SESSION.fullmatch(name)
    return (match["tag"] or "") if match else ""


def partial_name(session_id: str) -> str:
    """Make the file name of the checkpoint of a session that does not own :data:`PARTIAL`."""
    return f"latest.partial-{clean_tag(session_id) or 'unnamed'}.json"


def is_partial_name(name: str) -> bool:
    """Whether ``name`` is a checkpoint."""
    return name == PARTIAL or _PARTIAL.fullmatch(name) is not None


def lock_name(partial: str) -> str:
    """Make the file name of a checkpoint's lock, which is held for as long as its session runs."""
    return f".{partial.removesuffix('.json')}.lock"


def mark_name(kind: str, stem: str) -> str:
    """Make the name of the file beside session ``stem`` that records a decision: ``accept`` or ``pin``."""
    return f"{kind}_{stem}.json"


def parse_mark(name: str) -> tuple[str, str] | None:
    """``(kind, file name of the session)`` of a decision's file, None for any other name."""
    match = _MARK.fullmatch(name)
    return (match[1], f"{match[2]}.json") if match else None


def is_temp_name(name: str) -> bool:
    """Whether ``name`` is a file that some writer has not finished."""
    return name.startswith(TEMP_PREFIX) and name.endswith(TEMP_SUFFIX)
