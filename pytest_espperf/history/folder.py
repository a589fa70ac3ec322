"""The plain folder of a history: sessions are saved into it atomically, and read one file at a time.

Reading never makes the folder, writes nothing and never stops at a bad file: what cannot be read is kept
where it is and named in :attr:`HistoryFolder.skipped`, once. Everything that reads works in a read-only
folder.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from pytest_espperf.errors import ArtifactError, HistoryError
from pytest_espperf.history import files, marks, names
from pytest_espperf.history.load import encode_session, load_listed
from pytest_espperf.history.rows import SessionRow
from pytest_espperf.model.artifact import SCHEMA_VERSION, SessionArtifact
from pytest_espperf.system import regular

Progress = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    """Ignore how far reading has come."""


@dataclass(frozen=True)
class SavedSession:
    """Session of the history with its files.

    Attributes:
        json_path: the session's own file, ``perf_....json``.
        markdown_path: the summary beside it, None where there is none.
        artifact: as it stands in the file, with later decisions filled in.
        clock_behind: from :meth:`HistoryFolder.save` only: a session with a later file name than this one's
            that was there before this one began: a clock was wrong, and the order of the history is not that
            of measuring.
    """

    json_path: Path
    markdown_path: Path | None
    artifact: SessionArtifact
    clock_behind: str | None = None


class HistoryFolder:
    """Session files of one folder.

    Attributes:
        folder: where they are.
        until: only sessions before this place are seen; None: all of them.
        skipped: every file that was met and could not be used, named once, in the order of meeting.
        progress: is called with how many of how many files were read, while the index is updated.
        keeps_index: whether reading may write the index, the only file that it writes.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.keeps_index = True
        self.until: names.OrderKey | None = None
        self.skipped: list[ArtifactError] = []
        self.progress: Progress = _silent
        self._named: set[Path | None] = set()

    # -- reading -----------------------------------------------------------------------------------

    def file_names(self, *, newest_first: bool = False) -> list[str]:
        """List the names of all session files in the order of the history, readable or not.

        Raises:
            HistoryError: the folder cannot be read. A folder that is not there has no sessions.
        """
        return self._ordered(files.list_names(self.folder), newest_first=newest_first)

    def every_file(self, *, newest_first: bool = False) -> Iterator[SavedSession]:
        """Iterate over every readable session with its files, lazily, oldest first by default.

        Copies of a session are among them; each has the decisions that lie beside it.

        Raises:
            HistoryError: the folder cannot be read.
        """
        listing = files.list_names(self.folder)
        present = frozenset(listing)
        for name in self._ordered(listing, newest_first=newest_first):
            entry = self._read(name, present)
            if entry is not None:
                yield entry

    def entry(self, name: str) -> SavedSession | None:
        """Read the session in the file ``name``; None where it is gone or unreadable (skipped)."""
        return self._read(name, None)

    def load_rows(self, rows: Sequence[SessionRow]) -> list[SessionArtifact]:
        """Read the sessions of ``rows``, in their order; those gone or unreadable are left out."""
        found = (self.entry_of(row) for row in rows)
        return [entry.artifact for entry in found if entry is not None]

    def entry_of(self, row: SessionRow) -> SavedSession | None:
        """Read the session of a row, with its decisions; None where it is gone or unreadable (skipped)."""
        entry = self.entry(row.name)
        return as_decided(entry, row) if entry is not None and row.copies else entry

    def copy_of_latest(self) -> SessionArtifact | None:
        """Read the session in ``latest.json``, with its decisions; None without a readable file."""
        path = self.folder / names.LATEST
        if self.until is None and regular.exists(path):
            try:
                return self._with_marks(load_listed(path))
            except ArtifactError as error:
                self.skip(error)
        return None

    def skip(self, error: ArtifactError) -> None:
        """Add a file that cannot be used to :attr:`skipped`, once."""
        if error.path not in self._named:
            self._named.add(error.path)
            self.skipped.append(error)

    # -- writing -----------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Create the folder, check that it can be written, remove what dead writers left.

        Raises:
            HistoryError: it cannot be written; one sentence with the path and the reason.
        """
        files.make_writable(self.folder)
        if regular.is_folder(self.folder / names.LATEST):
            raise HistoryError(f"{self.folder / names.LATEST} is a folder, and has to be a file: remove it")
        files.sweep(self.folder)

    def save(
        self,
        artifact: SessionArtifact,
        markdown: str | None = None,
        *,
        latest: bool,
        known: Collection[str] | None = None,
    ) -> SavedSession:
        """Add a session; nothing that exists is overwritten, except ``latest.json`` where ``latest`` is set.

        All files are written and synced under temporary names before the first one appears, so that a full
        disk leaves the folder as it was. An artifact without an id gets one.

        Args:
            artifact: the session.
            markdown: its summary.
            latest: whether ``latest.json`` becomes a copy of it.
            known: names of the files that were there before it began: those of sessions that ran meanwhile
                may be later, and that is no wrong clock; None for all that are there.

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
        before = earlier if known is None else [name for name in earlier if name in known]
        later = (name for name in (*before[:1], *before[-1:]) if names.sort_key(name).stamp > stamp)
        behind = next(later, None)
        return SavedSession(path, summary, artifact, behind)

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
        """Add the decisions of ``latest.json``, a copy: they lie beside the originals of its second."""
        stamp = names.stamp_at(artifact.timestamp_utc)
        for name in self.file_names(newest_first=True):
            if names.sort_key(name).stamp == stamp:
                entry = self._read(name, None)
                if entry is not None and entry.artifact.session_id == artifact.session_id:
                    found = entry.artifact
                    accepted, pinned = artifact.accepted or found.accepted, artifact.pinned or found.pinned
                    artifact = msgspec.structs.replace(found, accepted=accepted, pinned=pinned)
        return artifact


def as_decided(entry: SavedSession, row: SessionRow) -> SavedSession:
    """Give a session the decisions of its row, which may lie beside a copy."""
    artifact = msgspec.structs.replace(entry.artifact, accepted=row.accepted, pinned=row.pinned)
    return replace(entry, artifact=artifact)
