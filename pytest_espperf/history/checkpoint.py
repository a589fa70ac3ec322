"""Checkpoints: the progress of a running session on disk, and recovery of what crashed sessions left.

``latest.partial.json`` belongs to the session that holds the lock beside it; another session that measures
a different board with the same history folder at the same time writes ``latest.partial-<session_id>.json``,
under a lock of its own. The locks are the operating system's: the lock of a killed process is free at once.
A checkpoint whose lock is free is an orphan, and the next session archives it: as ``perf_...json`` with the
verdict ``incomplete``, or, where it cannot be read, under ``unreadable_partial_...``. Nothing is deleted
that is not saved elsewhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import filelock
import msgspec

from pytest_espperf.errors import ArtifactError, HistoryError
from pytest_espperf.history import files, names
from pytest_espperf.history.folder import HistoryFolder, SavedSession
from pytest_espperf.history.load import encode_session, load_listed
from pytest_espperf.model.artifact import Finding, SessionArtifact, Verdict
from pytest_espperf.model.findings import RECOVERED
from pytest_espperf.system import regular


class Checkpoint:
    """Checkpoint of one running session. Use as a context manager, or call :meth:`release`.

    Attributes:
        path: of its file.
        recovered: sessions that were archived from orphans when this was opened.
        unreadable: orphans that could not be read, with the path under which they are kept.

    Raises:
        HistoryError: from the constructor and :meth:`write`: the folder cannot be written or locked.
    """

    def __init__(self, history: HistoryFolder, session_id: str) -> None:
        self._history = history
        self._folder = history.folder
        self.recovered: list[SavedSession] = []
        self.unreadable: list[ArtifactError] = []
        lock = _try_lock(self._folder, names.PARTIAL)
        name = names.PARTIAL
        if lock is None:
            name = names.partial_name(session_id)
            lock = _try_lock(self._folder, name)
            if lock is None:
                raise HistoryError(f"session {session_id!r} is already running in {self._folder}")
        self._lock: filelock.BaseFileLock | None = lock
        self.path = self._folder / name
        try:
            self._adopt_orphans()
        except BaseException:
            self.release()
            raise

    def __enter__(self) -> Checkpoint:  # noqa: PYI034 - typing.Self is younger than 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def write(self, artifact: SessionArtifact) -> None:
        """Replace the checkpoint; an earlier one stays until the new one is whole.

        Raises:
            HistoryError: the folder cannot be written, or this checkpoint was released.
            ArtifactError: the artifact could not be read again.
        """
        if self._lock is None:
            raise HistoryError(f"the checkpoint {self.path} was released")
        partial = msgspec.structs.replace(artifact, partial=True, accepted=None, pinned=False)
        files.write_atomic(self._folder, self.path.name, encode_session(partial))

    def discard(self) -> None:
        """Remove the checkpoint of a session that is saved, and release its lock.

        Raises:
            HistoryError: the file cannot be removed.
        """
        try:
            if self._lock is not None:
                files.remove(self.path)
        finally:
            self.release()

    def release(self) -> None:
        """Release the lock and keep the checkpoint's file: the next session archives it."""
        if self._lock is not None:
            _unlock(self._folder, self.path.name, self._lock)
            self._lock = None

    def _adopt_orphans(self) -> None:
        for name in sorted(files.list_names(self._folder)):
            if not names.is_partial_name(name):
                continue
            if name == self.path.name:
                self._adopt(self.path)
                continue
            lock = _try_lock(self._folder, name)
            if lock is not None:
                try:
                    self._adopt(self._folder / name)
                finally:
                    _unlock(self._folder, name, lock)

    def _adopt(self, path: Path) -> None:
        """Archive the orphan ``path``, whose lock is held."""
        if not regular.exists(path):  # another session archived it meanwhile
            return
        try:
            artifact = load_listed(path)
            if not self._is_saved(artifact):
                self.recovered.append(self._history.save(_as_incomplete(artifact, path.name), latest=False))
        except ArtifactError as error:
            self._keep_aside(path, error)
        else:
            files.remove(path)

    def _is_saved(self, artifact: SessionArtifact) -> bool:
        """Whether the orphan's session has a file of its own: it died after saving, before discarding."""
        stamp = names.stamp_at(artifact.timestamp_utc)
        for name in self._history.file_names():
            if artifact.session_id and names.sort_key(name).stamp == stamp:
                with contextlib.suppress(ArtifactError):
                    if load_listed(self._folder / name).session_id == artifact.session_id:
                        return True
        return False

    def _keep_aside(self, path: Path, error: ArtifactError) -> None:
        for target in _free_names(self._folder):
            if files.move_new(path, target):
                kept = ArtifactError(f"{error.reason} (was {path.name})", path=target, field=error.field)
                self.unreadable.append(kept)
                self._history.skip(kept)
                return


def _free_names(folder: Path) -> Iterator[Path]:
    stamp = names.format_stamp(datetime.now(timezone.utc))
    number = 1
    while True:
        yield folder / f"{names.UNREADABLE_PREFIX}{names.numbered(stamp, number)}.json"
        number += 1


def _as_incomplete(artifact: SessionArtifact, origin: str) -> SessionArtifact:
    finding = Finding(
        severity="warn",
        kind=RECOVERED,
        where=origin,
        message="the session ended without saving its result; this is its last checkpoint",
    )
    before = artifact.gate
    gate = Verdict(
        kind="incomplete",
        baseline=before.baseline if before else {},
        gates=before.gates if before else [],
        findings=[*(before.findings if before else ()), finding],
    )
    return msgspec.structs.replace(artifact, gate=gate, overall_pass=False, partial=True)


def _try_lock(folder: Path, partial: str) -> filelock.BaseFileLock | None:
    """Lock a checkpoint; None where a running session holds the lock."""
    path = folder / names.lock_name(partial)
    files.clear_for_lock(path)
    lock = filelock.FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        return None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise HistoryError(f"the history folder {folder} cannot be locked: {reason}") from error
    return lock


def _unlock(folder: Path, partial: str, lock: filelock.BaseFileLock) -> None:
    """Release a lock. The shared lock file stays; a session's own lock file is removed with its checkpoint.

    That is safe without further care: its name is never used again, and whoever still waits for it looks
    for the checkpoint after locking, and finds none.
    """
    own = partial != names.PARTIAL and not regular.exists(folder / partial)
    if own:
        with contextlib.suppress(OSError):
            (folder / names.lock_name(partial)).unlink()
    lock.release()
    if own:  # where a locked file cannot be removed (Windows)
        with contextlib.suppress(OSError):
            (folder / names.lock_name(partial)).unlink()
