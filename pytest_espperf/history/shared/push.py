"""Push: what only this machine's copy has is sent to the shared history."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pytest_espperf.errors import ArtifactError, NewerSchemaError
from pytest_espperf.history.load import MAX_BYTES, encode_session, read_bounded, read_session
from pytest_espperf.history.shared import objects
from pytest_espperf.history.shared.objects import MARKS, SESSIONS
from pytest_espperf.history.shared.transfer import Listing, Transfer, batches, count, summary_name


class Pushed(NamedTuple):
    """Result of a push.

    Attributes:
        sessions: how many were sent.
        decisions: how many were sent.
        there: how many sessions the shared history has now.
    """

    sessions: int
    decisions: int
    there: int


class _Own(NamedTuple):
    """Object that is here.

    Attributes:
        size: in bytes.
        data: its content; None where that is the file of a session as it is.
        path: of the session.
    """

    size: int
    data: bytes | None = None
    path: Path | None = None

    def load(self) -> bytes:
        """Read the content.

        Raises:
            ArtifactError: the session's file cannot be read any more.
        """
        if self.data is not None:
            return self.data
        assert self.path is not None
        return read_session(self.path)[1]

    def load_summary(self) -> bytes | None:
        """Read the summary of a session; None where there is none."""
        with contextlib.suppress(ArtifactError):
            return read_bounded(self.path.with_suffix(".md")) if self.path is not None else None
        return None


def is_unsent(transfer: Transfer, listed: Listing, listed_marks: Listing) -> bool:
    """Whether something here is missing, or damaged, in the shared history.

    Raises:
        HistoryError: the copy cannot be read.
    """
    return bool(
        _doubtful(transfer, SESSIONS, _sessions(transfer), listed)
        or _doubtful(transfer, MARKS, _events(transfer), listed_marks)
    )


def push(transfer: Transfer, listed: Listing, listed_marks: Listing) -> Pushed:
    """Send what is missing, or damaged, in the shared history.

    Raises:
        RemoteError: the shared history does not answer (any more).
        HistoryError: the copy cannot be read.
    """
    sessions, events = _sessions(transfer), _events(transfer)
    lacking = _lacking(transfer, SESSIONS, sessions, listed, objects.check_session)
    _send(transfer, SESSIONS, sessions, lacking)
    transfer.state.sessions = count({*listed, *lacking})
    decided = _lacking(transfer, MARKS, events, listed_marks, objects.decode_event)
    _send(transfer, MARKS, events, decided)
    return Pushed(len(lacking), len(decided), transfer.state.sessions)


def _sessions(transfer: Transfer) -> dict[str, _Own]:
    """Collect every readable session that is here, once, by the name of its object."""
    found: dict[str, _Own] = {}
    for row in transfer.store.select():
        name = f"{objects.session_name(row.session_id)}.json"
        path = transfer.cache.folder / row.name
        if not row.session_id or name in found:
            continue
        with contextlib.suppress(OSError, ArtifactError):  # it disappeared meanwhile
            if row.schema_version == 0:
                # A file of the original has no id, and its tag in its name only: it would lose both.
                data = encode_session(read_session(path)[0])
                found[name] = _Own(len(data), data, path)
            else:
                found[name] = _Own(path.stat().st_size, path=path)
    return found


def _events(transfer: Transfer) -> dict[str, _Own]:
    return {name: _Own(len(data), data) for name, data in transfer.decisions.encoded().items()}


def _doubtful(transfer: Transfer, folder: str, own: Mapping[str, _Own], listed: Listing) -> list[str]:
    """List what is missing there, or has another size there and was not found to be good."""
    return [
        name
        for name, one in own.items()
        if name not in listed
        or (listed[name].size != one.size and transfer.examined(folder, name, listed[name]) != "")
    ]


def _lacking(
    transfer: Transfer,
    folder: str,
    own: Mapping[str, _Own],
    listed: Listing,
    check: Callable[[str, bytes], object],
) -> list[str]:
    """List what has to be sent: what is missing, or damaged, there."""
    doubtful = _doubtful(transfer, folder, own, listed)
    lacking = [name for name in doubtful if name not in listed or listed[name].size > MAX_BYTES]
    to_read = [name for name in doubtful if name not in lacking]
    for batch in batches(to_read, lambda name: listed[name].size):
        found = transfer.remote.read(folder, batch)
        for name in batch:
            data = found.get(name)
            if not isinstance(data, bytes):
                continue  # perhaps readable the next time
            try:
                check(name, data)
            except NewerSchemaError:
                continue  # of a later version of this package: it cannot be judged here
            except ArtifactError:
                lacking.append(name)
            else:
                transfer.note(folder, name, listed[name], "")
    return lacking


def _send(transfer: Transfer, folder: str, own: Mapping[str, _Own], lacking: Iterable[str]) -> None:
    for batch in batches(lacking, lambda name: own[name].size):
        contents: dict[str, bytes] = {}
        summaries: dict[str, bytes] = {}
        for name in batch:
            with contextlib.suppress(ArtifactError):
                contents[name] = own[name].load()
                summary = own[name].load_summary()
                if summary is not None:
                    summaries[summary_name(name)] = summary
        # The summaries first: whoever sees a session finds its summary beside it.
        for objects_ in (summaries, contents):
            if objects_:
                transfer.remote.write(folder, objects_)
