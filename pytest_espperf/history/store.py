"""The history folder: sessions are saved into it whole, and read from it whatever else lies there.

Reading never makes the folder, writes nothing but the index and never stops at a bad file: what cannot be
read is kept where it is and named in :attr:`HistoryStore.skipped`, once. Everything that reads works in a
read-only folder.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pytest_espperf.errors import ArtifactError, HistoryError
from pytest_espperf.history import files, marks, names
from pytest_espperf.history.load import encode_session, load_listed
from pytest_espperf.model.artifact import SCHEMA_VERSION, Comparability, SessionArtifact
from pytest_espperf.model.standing import Standing
from pytest_espperf.system import regular

if TYPE_CHECKING:
    from pytest_espperf.history.checkpoint import Checkpoint
    from pytest_espperf.history.rows import Query, SessionRow


Progress = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    """Tell nobody how far reading has come."""


@dataclass(frozen=True)
class SavedSession:
    """A session with its files.

    Attributes:
        json_path: the session's own file, ``perf_....json``.
        markdown_path: the summary beside it, None where there is none.
        artifact: as it stands in the file, with later decisions filled in.
        clock_behind: from :meth:`HistoryStore.save` only: a session whose file name is later than this one's:
            a clock was wrong, and the order of the history is not that of saving.
    """

    json_path: Path
    markdown_path: Path | None
    artifact: SessionArtifact
    clock_behind: str | None = None


class HistoryStore:
    """The sessions in one folder.

    Attributes:
        folder: where they are.
        until: only sessions before this place are seen; None: all of them. See :meth:`before`.
        skipped: every file that was met and could not be used, named once, in the order of meeting.
        progress: is told how many of how many files were read, while the index learns them.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.until: names.OrderKey | None = None
        self.skipped: list[ArtifactError] = []
        self.progress: Progress = _silent
        self._named: set[Path | None] = set()

    # -- reading -----------------------------------------------------------------------------------

    def before(self, key: names.OrderKey) -> HistoryStore:
        """This folder as it was before the session with the place ``key`` came into it, for reading.

        Decisions about the sessions that are seen are those of today.
        """
        earlier = HistoryStore(self.folder)
        earlier.until = key
        earlier.progress = self.progress
        return earlier

    def file_names(self, *, newest_first: bool = False) -> list[str]:
        """The names of all session files in the order of the history, readable or not.

        Raises:
            HistoryError: the folder cannot be read. A folder that is not there has no sessions.
        """
        return self._ordered(files.list_names(self.folder), newest_first=newest_first)

    def entries(self, *, newest_first: bool = False) -> Iterator[SavedSession]:
        """Every readable session with its files, lazily, oldest first unless told otherwise.

        A session with copies (see :func:`pytest_espperf.history.rows.original`) is there once.

        Raises:
            HistoryError: the folder cannot be read.
        """
        from pytest_espperf.history import index  # noqa: PLC0415 - sqlite3 is loaded by those who ask only

        originals = {row.name: row for row in index.copied(self)}
        copies = {name for row in originals.values() for name in row.copies}
        for entry in self.every_file(newest_first=newest_first):
            name = entry.json_path.name
            if name not in copies:
                yield _as_decided(entry, originals[name]) if name in originals else entry

    def every_file(self, *, newest_first: bool = False) -> Iterator[SavedSession]:
        """The same of every file, copies among them, with the decisions beside each.

        Raises:
            HistoryError: the folder cannot be read.
        """
        listing = files.list_names(self.folder)
        present = frozenset(listing)
        for name in self._ordered(listing, newest_first=newest_first):
            entry = self._read(name, present)
            if entry is not None:
                yield entry

    def sessions(self, *, newest_first: bool = False) -> Iterator[SessionArtifact]:
        """Every readable session, lazily, oldest first unless told otherwise.

        Raises:
            HistoryError: the folder cannot be read.
        """
        return (entry.artifact for entry in self.entries(newest_first=newest_first))

    def newest(
        self, predicate: Callable[[SessionArtifact], bool] | None = None, limit: int = 1
    ) -> list[SessionArtifact]:
        """The newest ``limit`` sessions that satisfy ``predicate``, oldest of them first.

        Raises:
            HistoryError: the folder cannot be read.
        """
        found: list[SessionArtifact] = []
        if limit > 0:
            for artifact in self.sessions(newest_first=True):
                if predicate is None or predicate(artifact):
                    found.append(artifact)
                    if len(found) == limit:
                        break
        return found[::-1]

    def latest(self) -> SessionArtifact | None:
        """The latest completed session: ``latest.json``, or the newest completed one where that is bad.

        Raises:
            HistoryError: the folder cannot be read.
        """
        path = self.folder / names.LATEST
        if self.until is None and regular.exists(path):
            try:
                return self._with_marks(load_listed(path))
            except ArtifactError as error:
                self.skip(error)
        completed = self.newest(is_completed)
        return completed[0] if completed else None

    def entry(self, name: str) -> SavedSession | None:
        """The session in the file ``name`` of this folder, None where it is gone or unreadable (skipped)."""
        return self._read(name, None)

    def skip(self, error: ArtifactError) -> None:
        """Name a file that cannot be used, once."""
        if error.path not in self._named:
            self._named.add(error.path)
            self.skipped.append(error)

    # -- asking the index --------------------------------------------------------------------------

    def select(self, query: Query | None = None) -> list[SessionRow]:
        """Light rows of the sessions that ``query`` describes; see :mod:`pytest_espperf.history.rows`.

        Raises:
            HistoryError: the folder cannot be read.
        """
        from pytest_espperf.history import index  # noqa: PLC0415 - sqlite3 is loaded by those who ask only

        return index.select(self, query)

    def baseline(self, comparability: Comparability, *, per_profile: int = 20) -> list[SessionArtifact]:
        """The sessions to judge against, oldest first: the newest ``per_profile`` of each profile.

        Sessions after all of these that were held back come last: how many they are counts.
        They lack what judging does not need, see :func:`pytest_espperf.history.load.for_judging`.

        Raises:
            HistoryError: the folder cannot be read.
        """
        from pytest_espperf.history import index  # noqa: PLC0415 - sqlite3 is loaded by those who ask only

        return index.baseline(self, comparability, per_profile=per_profile)

    def load_rows(self, rows: Sequence[SessionRow]) -> list[SessionArtifact]:
        """The whole sessions behind ``rows``, in their order; those gone or unreadable are left out."""
        found = (self.entry_of(row) for row in rows)
        return [entry.artifact for entry in found if entry is not None]

    def entry_of(self, row: SessionRow) -> SavedSession | None:
        """The session behind a row, as it is decided there; None where it is gone or unreadable (skipped)."""
        entry = self.entry(row.name)
        return _as_decided(entry, row) if entry is not None and row.copies else entry

    def find(self, ref: str, *, board: str = "", one_board: bool = False) -> SavedSession:
        """The one session that ``ref`` means; see :mod:`pytest_espperf.history.find`.

        Args:
            ref: the reference.
            board: only sessions of this board are meant.
            one_board: refuse a tag that several boards have.

        Raises:
            HistoryError: none is meant, or more than one; the message lists candidates.
            ArtifactError: the file that is meant cannot be read.
        """
        from pytest_espperf.history.find import find  # noqa: PLC0415 - the other way round at the top

        return find(self, ref, board=board, one_board=one_board)

    # -- writing -----------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the folder, prove that it can be written, sweep what dead writers left.

        Raises:
            HistoryError: it cannot be written; one sentence with the path and the reason.
        """
        files.make_writable(self.folder)
        if regular.is_folder(self.folder / names.LATEST):
            raise HistoryError(f"{self.folder / names.LATEST} is a folder, and has to be a file: remove it")
        files.sweep(self.folder)

    def save(self, artifact: SessionArtifact, markdown: str | None = None, *, latest: bool) -> SavedSession:
        """Add a session; nothing that exists is overwritten, except ``latest.json`` where ``latest`` is set.

        All files are written and synced under temporary names before the first one appears, so that a full
        disk leaves the folder as it was. An artifact without an id gets one.

        Raises:
            HistoryError: the folder cannot be written.
            ArtifactError: the artifact could not be read again; the message names the field.
        """
        stamp = names.stamp_at(artifact.timestamp_utc)
        if not stamp:
            raise ArtifactError(f"has no UTC time ({artifact.timestamp_utc!r:.60})", field="$.timestamp_utc")
        artifact = msgspec.structs.replace(
            artifact,
            schema_version=SCHEMA_VERSION,
            session_id=artifact.session_id or secrets.token_hex(8),
            accepted=None,
            pinned=False,
        )
        data = encode_session(artifact)
        with contextlib.ExitStack() as stack:
            own = stack.enter_context(files.Staged(self.folder, data))
            text = copy = None
            if markdown is not None:
                text = stack.enter_context(files.Staged(self.folder, markdown.encode("utf-8", "replace")))
            if latest:
                copy = stack.enter_context(files.Staged(self.folder, data))
            earlier = self.file_names(newest_first=True)
            number = names.next_number(earlier, stamp)
            path, summary = self.publish(own, text, stamp, artifact.tag, number)
            if copy is not None:
                copy.publish_as(names.LATEST)
        # The newest of all, and the oldest: what is dated in the future comes before all others.
        later = (name for name in (*earlier[:1], *earlier[-1:]) if names.sort_key(name).stamp > stamp)
        behind = next(later, None)
        return SavedSession(path, summary, artifact, behind)

    def open_checkpoint(self, session_id: str) -> Checkpoint:
        """Start keeping the progress of a session; archives what crashed sessions left.

        Raises:
            HistoryError: the folder cannot be written or locked.
        """
        from pytest_espperf.history.checkpoint import Checkpoint  # noqa: PLC0415 - filelock for writers only

        return Checkpoint(self, session_id)

    def accept(self, session: SavedSession | str, reason: str, by: str = "") -> SavedSession:
        """Record that a session joins the history whatever its verdict.

        Raises:
            HistoryError: unknown session, one that was not completed, or an unwritable folder.
            ArtifactError: the session's file cannot be read.
        """
        entry = self.find(session) if isinstance(session, str) else session
        if not is_completed(entry.artifact):
            raise HistoryError(f"{entry.json_path.name} is incomplete: it can never be a baseline")
        return self._mark("accept", entry, reason, by)

    def unaccept(self, session: SavedSession | str) -> SavedSession:
        """Take an acceptance back.

        Raises:
            HistoryError: unknown session, or an unwritable folder.
            ArtifactError: the session's file cannot be read.
        """
        return self._unmark("accept", session)

    def pin(self, session: SavedSession | str, reason: str = "", by: str = "") -> SavedSession:
        """Hold a session as a fixed anchor.

        Raises:
            HistoryError: unknown session, or an unwritable folder.
            ArtifactError: the session's file cannot be read.
        """
        entry = self.find(session) if isinstance(session, str) else session
        return self._mark("pin", entry, reason, by)

    def unpin(self, session: SavedSession | str) -> SavedSession:
        """Let a pinned session go.

        Raises:
            HistoryError: unknown session, or an unwritable folder.
            ArtifactError: the session's file cannot be read.
        """
        return self._unmark("pin", session)

    # -- inner -------------------------------------------------------------------------------------

    def _ordered(self, listing: list[str], *, newest_first: bool) -> list[str]:
        keys: list[names.OrderKey] = []
        for name in listing:
            if names.is_session_name(name):
                key = names.order_key(name)
                if key is None:
                    self.skip(ArtifactError(names.NAMELESS, path=self.folder / name))
                else:
                    keys.append(key)
        horizon = names.horizon()
        found = sorted((names.place_of(key, horizon) for key in keys), reverse=newest_first)
        last = names.place_of(self.until, horizon) if self.until is not None else None
        return [place[1].name for place in found if last is None or place < last]

    def _read(self, name: str, present: frozenset[str] | None) -> SavedSession | None:
        path = self.folder / name
        try:
            artifact = load_listed(path)
        except ArtifactError as error:
            if regular.exists(path):  # else another process removed it meanwhile
                self.skip(error)
            return None
        artifact, refused = marks.apply_marks(artifact, path, present)
        for refusal in refused:
            self.skip(refusal)
        summary = path.with_suffix(".md")
        has_summary = summary.name in present if present is not None else regular.exists(summary)
        return SavedSession(path, summary if has_summary else None, artifact)

    def _with_marks(self, artifact: SessionArtifact) -> SessionArtifact:
        """``latest.json`` is a copy: its decisions lie beside the others, which have the same second."""
        stamp = names.stamp_at(artifact.timestamp_utc)
        for name in self.file_names(newest_first=True):
            if names.sort_key(name).stamp == stamp:
                entry = self._read(name, None)
                if entry is not None and entry.artifact.session_id == artifact.session_id:
                    found = entry.artifact
                    accepted, pinned = artifact.accepted or found.accepted, artifact.pinned or found.pinned
                    artifact = msgspec.structs.replace(found, accepted=accepted, pinned=pinned)
        return artifact

    def publish(
        self, own: files.Staged, text: files.Staged | None, stamp: str, tag: str, number: int
    ) -> tuple[Path, Path | None]:
        """Give a staged session and its summary the first names from ``number`` on that are free.

        Raises:
            HistoryError: the folder cannot be written.
        """
        while True:
            stem = names.session_stem(stamp, tag, number)
            number += 1
            beside = (f"{stem}.md", *(names.mark_name(kind, stem) for kind in marks.KINDS))
            if any(regular.exists(self.folder / name) for name in beside):
                continue
            path = own.publish_new(f"{stem}.json")
            if path is not None:
                break
        return path, text.publish_as(f"{stem}.md") if text is not None else None

    def _mark(self, kind: str, entry: SavedSession, reason: str, by: str) -> SavedSession:
        stem, session_id = entry.json_path.stem, entry.artifact.session_id
        marks.write_mark(self.folder, kind, stem, session_id, reason=reason, by=by)
        return self._again(entry)

    def _unmark(self, kind: str, session: SavedSession | str) -> SavedSession:
        entry = self.find(session) if isinstance(session, str) else session
        for name in (entry.json_path.name, *self.copies_of(entry.json_path.name)):
            files.remove(self.folder / names.mark_name(kind, name.removesuffix(".json")))
        return self._again(entry)

    def copies_of(self, name: str) -> tuple[str, ...]:
        """The names of the other files with the session in the file ``name``.

        Raises:
            HistoryError: the folder cannot be read.
        """
        from pytest_espperf.history import index  # noqa: PLC0415 - sqlite3 is loaded by those who ask only

        return next((row.copies for row in index.copied(self) if row.name == name), ())

    def _again(self, entry: SavedSession) -> SavedSession:
        again = self._read(entry.json_path.name, None)
        if again is None:
            raise HistoryError(f"{entry.json_path} is gone or can no longer be read")
        return again


def _as_decided(entry: SavedSession, row: SessionRow) -> SavedSession:
    """A session with the decisions of its row, which may lie beside a copy."""
    artifact = msgspec.structs.replace(entry.artifact, accepted=row.accepted, pinned=row.pinned)
    return replace(entry, artifact=artifact)


def is_completed(artifact: SessionArtifact) -> bool:
    """Whether a session ran to its end; one that did not is never a baseline."""
    return Standing.of(artifact).complete
