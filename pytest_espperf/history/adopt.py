"""Import of sessions from another history: their files as they are, and the decisions about them."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_espperf.errors import ArtifactError
from pytest_espperf.history import files, marks, names
from pytest_espperf.history.load import read_bounded, read_session
from pytest_espperf.history.store import HistoryStore


@dataclass(frozen=True)
class Adopted:
    """Result of importing one file.

    Attributes:
        session_id: of the session in the file.
        name: the session's file in this history.
        is_new: False where it was here already.
        decisions: kinds of the decisions that were (or would be) imported: ``accept``, ``pin``.
        refused: decisions beside the file that were not imported, and why.
    """

    session_id: str
    name: str
    is_new: bool
    decisions: tuple[str, ...] = ()
    refused: tuple[ArtifactError, ...] = ()


def session_files(folder: Path) -> list[Path]:
    """List the session files of another history in its order, readable or not; those of unknown time first.

    Raises:
        HistoryError: the folder cannot be read.
    """
    found = (name for name in files.list_names(folder) if names.is_session_name(name))
    return [folder / name for name in sorted(sorted(found), key=names.sort_key)]


class Adoption:
    """Import of sessions into a history, each once.

    Args:
        store: the history; its folder exists, unless ``dry_run``.
        dry_run: report what would be done, and write nothing.

    Raises:
        HistoryError: the folder cannot be read.
    """

    def __init__(self, store: HistoryStore, *, dry_run: bool = False) -> None:
        self._store = store
        self._dry_run = dry_run
        self._here = {row.session_id: row.name for row in store.select()}
        self._of_second: dict[str, list[str]] = defaultdict(list)
        for name in store.file_names():
            self._of_second[names.sort_key(name).stamp].append(name)

    def adopt(self, path: Path, *, named: bool = False) -> Adopted:
        """Import the session in the file ``path`` under its own time and tag, but not as the latest one.

        Args:
            path: the file.
            named: the user named this very file, so it may be a link.

        Raises:
            ArtifactError: the file cannot be read, or its session has no id.
            HistoryError: this folder cannot be written.
        """
        artifact, data = read_session(path, follow=named)
        if not artifact.session_id:
            raise ArtifactError("has no session_id: it could be imported twice", path=path)
        if artifact.session_id in self._here:
            return Adopted(artifact.session_id, self._here[artifact.session_id], is_new=False)
        refused: list[ArtifactError] = []
        found = {kind: marks.beside(kind, artifact, path, refused) for kind in marks.KINDS}
        decisions = {kind: mark for kind, mark in found.items() if mark is not None}
        stamp = names.stamp_at(artifact.timestamp_utc)
        assert stamp, "checked on reading"
        number = names.next_number(self._of_second[stamp], stamp)
        if self._dry_run:
            name = f"{names.session_stem(stamp, artifact.tag, number)}.json"
        else:
            summary = _summary_beside(path)
            name = self._write(data, summary, decisions, stamp=stamp, tag=artifact.tag, number=number)
        self._of_second[stamp].append(name)
        self._here[artifact.session_id] = name
        return Adopted(
            artifact.session_id, name, is_new=True, decisions=tuple(decisions), refused=tuple(refused)
        )

    def _write(
        self,
        data: bytes,
        summary: bytes | None,
        decisions: Mapping[str, marks.Mark],
        *,
        stamp: str,
        tag: str,
        number: int,
    ) -> str:
        """Write everything before the first name appears; returns the name of the session's file."""
        folder = self._store.folder
        with contextlib.ExitStack() as stack:
            own = stack.enter_context(files.Staged(folder, data))
            text = stack.enter_context(files.Staged(folder, summary)) if summary is not None else None
            staged = {
                kind: stack.enter_context(files.Staged(folder, marks.encode_mark(mark)))
                for kind, mark in decisions.items()
            }
            path, _ = self._store.publish(own, text, stamp, tag, number)
            for kind, mark in staged.items():
                mark.publish_as(names.mark_name(kind, path.stem))
        return path.name


def _summary_beside(path: Path) -> bytes | None:
    try:
        return read_bounded(path.with_suffix(".md"))
    except ArtifactError:
        return None
