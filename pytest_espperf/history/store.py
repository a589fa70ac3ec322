"""A history: its folder, its rows, baselines and references, and the decisions that users record in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pytest_espperf.errors import HistoryError
from pytest_espperf.history import files, find, index, marks, names
from pytest_espperf.history.folder import HistoryFolder, SavedSession, as_decided
from pytest_espperf.history.rows import Query, SessionRow
from pytest_espperf.model.artifact import Comparability, SessionArtifact, has_answers
from pytest_espperf.model.standing import Standing


class HistoryStore(HistoryFolder):
    """The sessions of one folder, each of them once, however many copies of it lie there.

    Reading writes nothing into the folder except the index.
    """

    def before(self, key: names.OrderKey) -> HistoryStore:
        """Open this folder for reading as it was before the session with the place ``key`` was saved.

        Decisions about the sessions that are seen are those of today.
        """
        earlier = HistoryStore(self.folder)
        earlier.until = key
        earlier.progress = self.progress
        earlier.keeps_index = self.keeps_index
        return earlier

    def entries(self, *, newest_first: bool = False) -> Iterator[SavedSession]:
        """Iterate over every readable session with its files, lazily, oldest first by default.

        A session with copies (see :func:`pytest_espperf.history.rows.original`) is given once.

        Raises:
            HistoryError: the folder cannot be read.
        """
        originals = {row.name: row for row in index.copied(self)}
        copies = {name for row in originals.values() for name in row.copies}
        for entry in self.every_file(newest_first=newest_first):
            name = entry.json_path.name
            if name not in copies:
                yield as_decided(entry, originals[name]) if name in originals else entry

    def sessions(self, *, newest_first: bool = False) -> Iterator[SessionArtifact]:
        """Iterate over every readable session, lazily, oldest first by default.

        Raises:
            HistoryError: the folder cannot be read.
        """
        return (entry.artifact for entry in self.entries(newest_first=newest_first))

    def newest(
        self, predicate: Callable[[SessionArtifact], bool] | None = None, limit: int = 1
    ) -> list[SessionArtifact]:
        """Load the newest ``limit`` sessions that satisfy ``predicate``, oldest of them first.

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
        """Load the latest completed session: ``latest.json``, or the newest completed one where that is bad.

        Raises:
            HistoryError: the folder cannot be read.
        """
        return find.latest(self)

    def select(self, query: Query | None = None) -> list[SessionRow]:
        """Choose the rows of the sessions that ``query`` describes; see :mod:`pytest_espperf.history.rows`.

        Raises:
            HistoryError: the folder cannot be read.
        """
        return index.select(self, query)

    def baseline(self, comparability: Comparability, *, per_profile: int = 20) -> list[SessionArtifact]:
        """Load the sessions to judge against, oldest first: the newest ``per_profile`` of each profile.

        Sessions after all of these that were held back come last, since their number counts.
        They lack what judging does not need, see :func:`pytest_espperf.history.load.for_judging`.

        Raises:
            HistoryError: the folder cannot be read.
        """
        return index.baseline(self, comparability, per_profile=per_profile)

    def find(self, ref: str, *, board: str = "", one_board: bool = False) -> SavedSession:
        """Find the one session that ``ref`` refers to; see :mod:`pytest_espperf.history.find`.

        Args:
            ref: the reference.
            board: consider only sessions of this board.
            one_board: refuse a tag that several boards have.

        Raises:
            HistoryError: no session matches, or more than one; the message lists candidates.
            ArtifactError: the file cannot be read.
        """
        return find.find(self, ref, board=board, one_board=one_board)

    def copies_of(self, name: str) -> tuple[str, ...]:
        """List the names of the other files with the session in the file ``name``.

        Raises:
            HistoryError: the folder cannot be read.
        """
        return next((row.copies for row in index.copied(self) if row.name == name), ())

    def accept(self, session: SavedSession | str, reason: str, by: str = "") -> SavedSession:
        """Record that a session joins the history whatever its verdict.

        Raises:
            HistoryError: unknown session, one that was not completed, measured nothing or compares firmwares,
                or an unwritable folder.
            ArtifactError: the session's file cannot be read.
        """
        entry = self.find(session) if isinstance(session, str) else session
        if entry.artifact.contest is not None:
            raise HistoryError(f"{entry.json_path.name} compares firmwares: it can never be a baseline")
        if not is_completed(entry.artifact):
            raise HistoryError(f"{entry.json_path.name} is incomplete: it can never be a baseline")
        _refuse_unmeasured(entry, "a baseline")
        return self._mark("accept", entry, reason, by)

    def unaccept(self, session: SavedSession | str) -> SavedSession:
        """Withdraw an acceptance.

        Raises:
            HistoryError: unknown session, or an unwritable folder.
            ArtifactError: the session's file cannot be read.
        """
        return self._unmark("accept", session)

    def pin(self, session: SavedSession | str, reason: str = "", by: str = "") -> SavedSession:
        """Keep a session as a fixed anchor.

        Raises:
            HistoryError: unknown session, one that measured nothing or compares firmwares, or an unwritable
                folder.
            ArtifactError: the session's file cannot be read.
        """
        entry = self.find(session) if isinstance(session, str) else session
        if entry.artifact.contest is not None:
            raise HistoryError(f"{entry.json_path.name} compares firmwares: it can never be an anchor")
        _refuse_unmeasured(entry, "an anchor")
        return self._mark("pin", entry, reason, by)

    def unpin(self, session: SavedSession | str) -> SavedSession:
        """Unpin a session.

        Raises:
            HistoryError: unknown session, or an unwritable folder.
            ArtifactError: the session's file cannot be read.
        """
        return self._unmark("pin", session)

    def _mark(self, kind: str, entry: SavedSession, reason: str, by: str) -> SavedSession:
        stem, session_id = entry.json_path.stem, entry.artifact.session_id
        marks.write_mark(self.folder, kind, stem, session_id, reason=reason, by=by)
        return self._again(entry)

    def _unmark(self, kind: str, session: SavedSession | str) -> SavedSession:
        entry = self.find(session) if isinstance(session, str) else session
        for name in (entry.json_path.name, *self.copies_of(entry.json_path.name)):
            files.remove(self.folder / names.mark_name(kind, name.removesuffix(".json")))
        return self._again(entry)

    def _again(self, entry: SavedSession) -> SavedSession:
        again = self.entry(entry.json_path.name)
        if again is None:
            raise HistoryError(f"{entry.json_path} is gone or can no longer be read")
        return again


def _refuse_unmeasured(entry: SavedSession, what: str) -> None:
    """Refuse a session that failed without an answer of the board: its epoch would have no figure.

    Raises:
        HistoryError: it is one.
    """
    gate = entry.artifact.gate
    if gate is not None and gate.kind == "failed" and not has_answers(entry.artifact):
        raise HistoryError(f"{entry.json_path.name} has no right answer of the board: it can never be {what}")


def is_completed(artifact: SessionArtifact) -> bool:
    """Whether a session ran to its end; one that did not is never a baseline."""
    return Standing.of(artifact).complete
