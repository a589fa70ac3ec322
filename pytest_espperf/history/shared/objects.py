"""Names and contents of the objects in a shared history. Pure.

::

    sessions/<name of a session>.json, .md           a session as its file, and its summary
    marks/<decision>_<name>_<UTC stamp>_<random>.json   a decision about it: accept, pin, or a withdrawal

Objects are never changed: two benches that write at once write two objects, or the same one. Of several
decisions of one kind about one session the newest is in force.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime, timedelta, timezone

import msgspec

from pytest_espperf.errors import ArtifactError
from pytest_espperf.history import marks, names
from pytest_espperf.history.load import decode_session
from pytest_espperf.model.artifact import SessionArtifact

SESSIONS, MARKS = "sessions", "marks"
"""The two folders."""

UNDO = "un"
"""Prefix of the kind of a decision that withdraws one."""

LAST_YEAR = 8999
"""Decisions of later years are invalid, so that there is always a later date for one that withdraws them."""

_PLAIN = re.compile(r"(?!h-)[0-9a-z][0-9a-z-]{4,99}")
"""Ids that can be file names everywhere, also where ``a`` and ``A`` are equal and ``con`` is reserved."""

_SESSION = re.compile(r"([0-9a-z][0-9a-z-]{4,99})\.json")
_DECISION = re.compile(
    rf"((?:{UNDO})?(?:{'|'.join(marks.KINDS)}))_([0-9a-z][0-9a-z-]{{4,99}})_([0-8][0-9]{{7}}T[0-9]{{6}}Z)"
    r"_([0-9a-f]{8})\.json"
)


def session_name(session_id: str) -> str:
    """Make the name of a session: its id, or a digest where that cannot be a file name."""
    if _PLAIN.fullmatch(session_id):
        return session_id
    return f"h-{hashlib.sha256(session_id.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


def parse_session(object_name: str) -> str | None:
    """Extract the name of the session from the name of its object; None for any other object."""
    match = _SESSION.fullmatch(object_name)
    return match[1] if match else None


def check_session(object_name: str, data: bytes) -> SessionArtifact:
    """Decode the session in an object.

    Raises:
        ArtifactError: it is truncated or no session, or not the one of its name.
    """
    artifact = decode_session(data)
    if session_name(artifact.session_id) != parse_session(object_name):
        raise ArtifactError(f"contains another session than its name has ({artifact.session_id!r:.60})")
    return artifact


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Content of a decision's object: the mark that it makes or withdraws, and its word."""

    decision: str
    session_id: str
    reason: str = ""
    by: str = ""
    at: str = ""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Decision in a shared history.

    Attributes:
        name: of its object.
        kind: ``accept`` or ``pin``.
        undo: whether it withdraws one.
        session: the name of the session it is about.
        stamp: when it was taken, never before the one that it replaces: benches' clocks differ.
        mark: its content, as in the file beside a session.
    """

    name: str
    kind: str
    undo: bool
    session: str
    stamp: str
    mark: marks.Mark

    @property
    def order(self) -> tuple[bool, str, str]:
        """Order of events: the greatest is in force, and is the same on every machine.

        One that is dated in the future is in force only where there is no other.
        """
        return self.stamp <= names.horizon(), self.stamp, self.name.rpartition("_")[2]


_decode = msgspec.json.Decoder(Decision).decode


def is_decision(object_name: str) -> bool:
    """Whether an object claims to be a decision."""
    match = _DECISION.fullmatch(object_name)
    return match is not None and names.parse_stamp(match[3]) is not None


def make_event(kind: str, mark: marks.Mark, *, undo: bool, after: str = "") -> Event:
    """Make a new decision.

    Args:
        kind: ``accept`` or ``pin``.
        mark: about which session, why, by whom, when.
        undo: it withdraws one.
        after: the stamp of the decision that was in force when it was taken; the new one is later, whatever
            the clock.
    """
    at = names.parse_stamp(mark.at)
    if at is None or at.year > LAST_YEAR:
        at = datetime.now(timezone.utc)
    before = names.parse_stamp(after)
    if before is not None and at <= before:
        # Nothing can be later than the last one that can be named; of now, it holds against one of then.
        later = before + timedelta(seconds=1)
        at = later if later.year <= LAST_YEAR else datetime.now(timezone.utc)
    stamp = names.format_stamp(at)
    session = session_name(mark.session_id)
    name = f"{UNDO if undo else ''}{kind}_{session}_{stamp}_{secrets.token_hex(4)}.json"
    return Event(name=name, kind=kind, undo=undo, session=session, stamp=stamp, mark=mark)


def encode_event(event: Event) -> bytes:
    """Encode the content of a decision's object."""
    word = f"{UNDO if event.undo else ''}{event.kind}"
    return msgspec.json.encode(Decision(decision=word, **msgspec.structs.asdict(event.mark))) + b"\n"


def decode_event(object_name: str, data: bytes) -> Event:
    """Decode the decision in an object.

    Raises:
        ArtifactError: it is truncated or no decision, or not the one of its name.
    """
    match = _DECISION.fullmatch(object_name)
    if match is None or not is_decision(object_name):
        raise ArtifactError("does not have the name of a decision")
    try:
        held = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"is not a recorded decision: {error}") from None
    word, session, stamp, _ = match.groups()
    if held.decision != word or session_name(held.session_id) != session:
        raise ArtifactError("contains another decision than its name has")
    mark = marks.Mark(session_id=held.session_id, reason=held.reason, by=held.by, at=held.at)
    undo = word.startswith(UNDO)
    kind = word.removeprefix(UNDO)
    return Event(name=object_name, kind=kind, undo=undo, session=session, stamp=stamp, mark=mark)
