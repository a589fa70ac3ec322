"""What this machine's copy of a shared history has, and the others do not, goes to them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pytest_espperf.errors import ArtifactError, NewerSchemaError
from pytest_espperf.history.load import MAX_BYTES, encode_session, read_bounded, read_session
from pytest_espperf.history.shared import objects
from pytest_espperf.history.shared.exchange import Exchange, Listing, batches, count, summary_name
from pytest_espperf.history.shared.objects import MARKS, SESSIONS


class Pushed(NamedTuple):
    """What a push sent.

    Attributes:
        sessions: how many of them.
        decisions: how many of them.
        there: how many sessions are there now.
    """

    sessions: int
    decisions: int
    there: int


class _Own(NamedTuple):
    """Something that is here.

    Attributes:
        size: of its object, in bytes.
        data: the object; None where it is the file of a session as it is.
        path: of the session.
    """

    size: int
    data: bytes | None = None
    path: Path | None = None

    def load(self) -> bytes:
        """The object.

        Raises:
            ArtifactError: the session's file cannot be read any more.
        """
        if self.data is not None:
            return self.data
        assert self.path is not None
        return read_session(self.path)[1]

    def load_summary(self) -> bytes | None:
        """The summary of a session, where there is one."""
        with contextlib.suppress(ArtifactError):
            return read_bounded(self.path.with_suffix(".md")) if self.path is not None else None
        return None


def is_unsent(exchange: Exchange, listed: Listing, listed_marks: Listing) -> bool:
    """Whether something is here that is not there, or is not whole there.

    Raises:
        HistoryError: the copy cannot be read.
    """
    return bool(
        _doubtful(exchange, SESSIONS, _sessions(exchange), listed)
        or _doubtful(exchange, MARKS, _events(exchange), listed_marks)
    )


def push(exchange: Exchange, listed: Listing, listed_marks: Listing) -> Pushed:
    """Send it.

    Raises:
        RemoteError: the shared history does not answer (any more).
        HistoryError: the copy cannot be read.
    """
    sessions, events = _sessions(exchange), _events(exchange)
    lacking = _lacking(exchange, SESSIONS, sessions, listed, objects.check_session)
    _send(exchange, SESSIONS, sessions, lacking)
    exchange.state.sessions = count({*listed, *lacking})
    decided = _lacking(exchange, MARKS, events, listed_marks, objects.decode_event)
    _send(exchange, MARKS, events, decided)
    return Pushed(len(lacking), len(decided), exchange.state.sessions)


def _sessions(exchange: Exchange) -> dict[str, _Own]:
    """Every readable session that is here, once, under the name that it has there."""
    found: dict[str, _Own] = {}
    for row in exchange.store.select():
        name = f"{objects.session_name(row.session_id)}.json"
        path = exchange.cache.folder / row.name
        if not row.session_id or name in found:
            continue
        with contextlib.suppress(OSError, ArtifactError):  # it went away meanwhile
            if row.schema_version == 0:
                # A file of the original has no id, and its tag in its name only: it would lose both.
                data = encode_session(read_session(path)[0])
                found[name] = _Own(len(data), data, path)
            else:
                found[name] = _Own(path.stat().st_size, path=path)
    return found


def _events(exchange: Exchange) -> dict[str, _Own]:
    return {name: _Own(len(data), data) for name, data in exchange.decisions.encoded().items()}


def _doubtful(exchange: Exchange, folder: str, own: Mapping[str, _Own], listed: Listing) -> list[str]:
    """What is not there, or has another size there and was not found to be good."""
    return [
        name
        for name, one in own.items()
        if name not in listed
        or (listed[name].size != one.size and exchange.examined(folder, name, listed[name]) != "")
    ]


def _lacking(
    exchange: Exchange,
    folder: str,
    own: Mapping[str, _Own],
    listed: Listing,
    check: Callable[[str, bytes], object],
) -> list[str]:
    """What is to be sent: what is not there, and what is not good there."""
    doubtful = _doubtful(exchange, folder, own, listed)
    lacking = [name for name in doubtful if name not in listed or listed[name].size > MAX_BYTES]
    to_read = [name for name in doubtful if name not in lacking]
    for batch in batches(to_read, lambda name: listed[name].size):
        found = exchange.remote.read(folder, batch)
        for name in batch:
            data = found.get(name)
            if not isinstance(data, bytes):
                continue  # perhaps the next time
            try:
                check(name, data)
            except NewerSchemaError:
                continue  # another one's, and whole for all that can be told
            except ArtifactError:
                lacking.append(name)
            else:
                exchange.note(folder, name, listed[name], "")
    return lacking


def _send(exchange: Exchange, folder: str, own: Mapping[str, _Own], lacking: Iterable[str]) -> None:
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
                exchange.remote.write(folder, objects_)
