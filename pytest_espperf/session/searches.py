"""A search for a commit as it is kept on the disk: what was asked for, and what was measured so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from pytest_espperf.errors import HistoryError, UsageError
from pytest_espperf.gate.bisection import BisectionReading, reading_of
from pytest_espperf.history.files import write_atomic
from pytest_espperf.session.levels import Levels
from pytest_espperf.system.homes import state_folder


class MeasuredCommit(msgspec.Struct, frozen=True, kw_only=True):
    """One round of a commit.

    Attributes:
        commit: its number in the line, from 1; 0 is the good end.
        levels: of its round.
        before: of the good end's round before.
        after: of the one behind; empty where there was none.
    """

    commit: int
    levels: Levels
    before: Levels
    after: Levels = {}


def reading_at(row: MeasuredCommit, gate: str) -> BisectionReading | None:
    """Make the reading of one gate; None where a round has no figure of it."""
    if gate not in row.levels or gate not in row.before:
        return None
    return reading_of(row.commit, row.levels[gate], row.before[gate], row.after.get(gate))


class SearchState(msgspec.Struct, kw_only=True):
    """A search, as it is kept on the disk.

    Attributes:
        options: of the command, by name.
        folder: in which it was given.
        good: id of the good end.
        line: ids of the commits behind it, oldest first.
        measured: what was measured, in order.
        skipped: why a commit cannot be measured, by its number.
        metric: of the gate; "" until it is chosen.
        board: as it was named; "" where it was looked for.
        device_id: of it, where the user gave one.
        finished: whether the answer is certain.
        saved: file of the session with that answer, "" for none.
        sessions: ids of the sessions in which it was measured so far: a search that goes on joins them.
    """

    options: dict[str, Any]
    folder: str
    good: str
    line: list[str]
    measured: list[MeasuredCommit] = []
    skipped: dict[int, str] = {}
    metric: str = ""
    board: str = ""
    device_id: str = ""
    finished: bool = False
    saved: str = ""
    sessions: list[str] = []

    @property
    def span(self) -> str:
        """Its ends as the user named them: ``v1.0..main``."""
        return f"{self.options.get('good') or self.good[:7]}..{self.options.get('bad') or self.line[-1][:7]}"

    @property
    def many(self) -> str:
        """``3 measurements``."""
        return counted(len(self.measured), "measurement")


class SearchFile:
    """The file of the search in one repository.

    Args:
        key: of the repository.
        folder: where the files are; by default the user's own.
    """

    def __init__(self, key: str, folder: Path | None = None) -> None:
        self.folder = folder or state_folder() / "bisect"
        self.path = self.folder / f"{key}.json"

    def kept(self) -> SearchState | None:
        """Read it; None where there is none that can be read."""
        try:
            return self.load()
        except UsageError:
            return None

    def load(self) -> SearchState:
        """Read it.

        Raises:
            UsageError: there is none, or it cannot be read.
        """
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=SearchState)
        except FileNotFoundError:
            raise UsageError(
                "--resume: no search was begun in this repository: espperf bisect GOOD BAD HOST begins one"
            ) from None
        except (OSError, msgspec.MsgspecError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"--resume: {self.path}: {reason}; begin again with --new") from None

    def save(self, state: SearchState) -> None:
        """Write it, in the place of an earlier one.

        Raises:
            HistoryError: it cannot be written.
        """
        self.prepare()
        write_atomic(self.folder, self.path.name, msgspec.json.encode(state))

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            HistoryError: it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise HistoryError(f"the state of the search: {self.folder}: {error.strerror or error}") from None


def counted(count: int, noun: str) -> str:
    """Say how many there are: ``1 commit``, ``3 commits``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
