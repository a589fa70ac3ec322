"""Decisions about a saved session, each in a small file beside it: accepted, pinned.

``accept_<stem>.json`` records who accepted an intended slowdown and why; ``pin_<stem>.json`` keeps a session
as a fixed anchor. The artifact itself is never rewritten. A decision names the session's id: moved beside
another session, or unreadable, it counts for nothing and is named.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import msgspec

from pytest_espperf.errors import ArtifactError
from pytest_espperf.history import files, names
from pytest_espperf.history.load import read_bounded
from pytest_espperf.model.artifact import Json, SessionArtifact
from pytest_espperf.model.encoding import as_utf8, encodable
from pytest_espperf.system import regular

KINDS = ("accept", "pin")

MAX_BYTES = 64 * 1024
"""Largest file of a decision that is read."""


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Decision about a session: which one, why, by whom and when (UTC)."""

    session_id: str
    reason: str = ""
    by: str = ""
    at: str = ""

    def as_accepted(self) -> Json:
        """Convert to the form of :attr:`SessionArtifact.accepted`."""
        return {"reason": self.reason, "by": self.by, "at": self.at}


_decode = msgspec.json.Decoder(Mark).decode


def read_mark(path: Path) -> Mark:
    """Read the decision in ``path``.

    Raises:
        ArtifactError: it cannot be read.
    """
    try:
        return _decode(as_utf8(read_bounded(path, MAX_BYTES)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"is not a recorded decision: {error}", path=path) from None


def write_mark(
    folder: Path, kind: str, stem: str, session_id: str, *, reason: str = "", by: str = ""
) -> Mark:
    """Record a decision of ``kind`` about the session ``stem``, replacing an earlier one.

    Raises:
        HistoryError: the folder cannot be written.
    """
    at = names.format_stamp(datetime.now(timezone.utc))
    mark = Mark(session_id=session_id, reason=encodable(reason), by=encodable(by), at=at)
    files.write_atomic(folder, names.mark_name(kind, stem), encode_mark(mark))
    return mark


def encode_mark(mark: Mark) -> bytes:
    """Encode a decision as the bytes of its file."""
    return msgspec.json.encode(mark) + b"\n"


def apply_marks(
    artifact: SessionArtifact, path: Path, present: frozenset[str] | None = None
) -> tuple[SessionArtifact, list[ArtifactError]]:
    """Fill the later decisions in ``artifact`` of the file ``path``; returns also those that do not count.

    ``present``: the names in the folder, where the caller has them; saves two looks at the disk.
    """
    refused: list[ArtifactError] = []
    accepted = beside("accept", artifact, path, refused, present)
    pinned = beside("pin", artifact, path, refused, present)
    if accepted is None and pinned is None and artifact.accepted is None and not artifact.pinned:
        return artifact, refused
    kept = accepted.as_accepted() if accepted else None
    return msgspec.structs.replace(artifact, accepted=kept, pinned=pinned is not None), refused


def beside(
    kind: str,
    artifact: SessionArtifact,
    path: Path,
    refused: list[ArtifactError],
    present: frozenset[str] | None = None,
) -> Mark | None:
    """Read the decision of ``kind`` beside the file ``path``; None where there is none that counts.

    ``refused`` grows by one that does not count; for ``present`` see :func:`apply_marks`.
    """
    own = path.with_name(names.mark_name(kind, path.stem))
    if (own.name not in present) if present is not None else not regular.exists(own):
        return None
    try:
        mark = read_mark(own)
    except ArtifactError as error:
        if regular.exists(own):
            refused.append(error)
        return None
    if mark.session_id != artifact.session_id:
        refused.append(ArtifactError(MISPLACED, path=own, field="$.session_id"))
        return None
    return mark


MISPLACED = "belongs to another session than the file beside it"
"""Why a decision with a foreign session id counts for nothing."""
