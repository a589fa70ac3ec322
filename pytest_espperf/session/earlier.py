"""Earlier sessions of a board: those it is compared with, the previous one, and what it served then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_espperf.config.settings import SIM, Settings
from pytest_espperf.errors import ArtifactError, HistoryError, UsageError
from pytest_espperf.history import HistoryStore, load_session
from pytest_espperf.history.rows import Query
from pytest_espperf.model.artifact import FIRMWARE_TOLD, Capacity, SessionArtifact, has_answers
from pytest_espperf.model.standing import Standing
from pytest_espperf.session.identity import asked_for, board_name, identity_of
from pytest_espperf.system import regular
from pytest_espperf.system.homes import expand_reference

HISTORY, PREVIOUS = "history", "previous"

MAX_SESSIONS = 200
"""Sessions that the gate is given: the baseline takes the newest 20, the drift guard looks further back."""

MAX_OTHERS = 20
"""Sessions that differ from a session and are counted, where none is comparable."""


class BaselineLookup:
    """Finds the sessions that a session is compared with: the same at each of its judgements.

    Args:
        settings: options in force.

    Attributes:
        fixed: the session that ``--perf-baseline`` names, once it is known which: a tag, and ``latest``, mean
            another one for each board.
        missing: why there is no such session for the board, "" where there is one.
    """

    def __init__(self, settings: Settings) -> None:
        self.fixed: SessionArtifact | None = None
        self.missing = ""
        self._settings = settings
        self._found: dict[str, list[SessionArtifact]] = {}

    @property
    def is_named(self) -> bool:
        """Whether the options name one session in place of the history's."""
        return self._settings.perf_baseline not in {HISTORY, PREVIOUS}

    def find_named(self, store: HistoryStore, root: Path, *, board: str = "", alone: bool = False) -> None:
        """Load the session that ``--perf-baseline`` names, before anything is measured, where it is known.

        Args:
            store: the history.
            root: what the path of a file is relative to.
            board: whose session will be judged; "" for the one that the options name, where they do.
            alone: what this board lacks may stop the run. Else the verdict says it, and fails.

        Raises:
            UsageError: there is no such file or tag, or it cannot be read; where ``alone``, it can be no
                baseline of this board.
        """
        if not self.is_named:
            return
        name = self._settings.perf_baseline
        path = root / expand_reference(name, self._settings.where("perf_baseline"))
        board = board or _named_board(self._settings)
        try:
            if regular.is_file(path):
                self.fixed = load_session(path)
            elif alone and board:
                self.fixed = store.find(name, board=board).artifact
            else:
                store.find(name)
                if board:
                    self._find_of(board, store)
            if alone and self.fixed is not None:
                _check_fixed(self.fixed, board)
        except (ArtifactError, HistoryError) as error:
            raise UsageError(f"{self._settings.where('perf_baseline')}: {error}") from None

    def _find_of(self, board: str, store: HistoryStore) -> None:
        """Find the session that the name means for a board; for any, where it has no identity ("")."""
        try:
            self.fixed = store.find(self._settings.perf_baseline, board=board).artifact
        except (ArtifactError, HistoryError) as error:
            self.missing = f"{self._settings.where('perf_baseline')}: {error}"

    def sessions(self, candidate: SessionArtifact, store: HistoryStore) -> list[SessionArtifact]:
        """Return what a session is judged against, oldest first; whatever others save meanwhile."""
        if self.is_named:
            if self.fixed is None and not self.missing:
                self._find_of(identity_of(candidate), store)
            return [self.fixed] if self.fixed is not None else []
        key = candidate.comparability.key if candidate.comparability is not None else ""
        if key not in self._found:
            self._found = {key: comparable_sessions(candidate, store)}
        return self._found[key]

    def previous(self, candidate: SessionArtifact, store: HistoryStore) -> SessionArtifact | None:
        """Return the session that a session's figures are shown beside; None without one."""
        return self.fixed or _previous(candidate, store)


def _named_board(settings: Settings) -> str:
    """Return the identity of the board that the options name, as far as they tell it; else ""."""
    asked = asked_for(settings)
    if settings.device_id or asked is None or asked[0] == SIM:
        return settings.device_id
    return board_name(*asked, settings)


def _check_fixed(fixed: SessionArtifact, board: str) -> None:
    """Refuse a baseline that nothing can be compared with.

    Raises:
        HistoryError: it was not completed, failed, or is of another board.
    """
    name = fixed.session_id or fixed.timestamp_utc
    if fixed.comparability is None:
        raise HistoryError(f"{name} has no record of what was measured: it can be no baseline")
    if not Standing.of(fixed).may_be_named:
        raise HistoryError(f"{name} failed or was not completed: it can be no baseline")
    theirs = identity_of(fixed)
    if board and theirs != board:
        raise HistoryError(f"{name} is a session of board {theirs!r}, not of {board!r}")


def comparable_sessions(candidate: SessionArtifact, store: HistoryStore) -> list[SessionArtifact]:
    """Load the accepted comparable sessions, oldest first; without any, the board's newest other ones.

    The others serve to say what differs.
    """
    if candidate.comparability is None:
        return []
    baseline = store.baseline(candidate.comparability, per_profile=MAX_SESSIONS)
    if baseline:
        return baseline
    board = identity_of(candidate)
    rows = store.select(Query(board=board, completed_only=True))
    # The original tool's files know no board but its address; a later one without a key reached none.
    own = [row for row in rows if row.board == board and (row.comparability_key or row.schema_version == 0)]
    measured = [row for row in own if row.measured]
    joined = [row for row in measured if row.in_history]
    return store.load_rows((joined or measured)[:MAX_OTHERS][::-1])


def last_engine(candidate: SessionArtifact, store: HistoryStore) -> str:
    """Return the label of the load engine of the board's newest session; "" where there is none."""
    board = identity_of(candidate)
    rows = store.select(Query(board=board, completed_only=True))
    own = [row for row in rows if row.board == board and row.comparability_key and row.measured]
    found = store.load_rows(own[:1])
    fields = found[0].comparability.fields if found and found[0].comparability is not None else {}
    return str(fields.get("engine", ""))


def _previous(candidate: SessionArtifact, store: HistoryStore) -> SessionArtifact | None:
    """Find the previous completed session with the same board and load, whatever its verdict."""
    own = candidate.comparability
    if own is None:
        return None

    def same(session: SessionArtifact) -> bool:
        other = session.comparability
        alike = other is not None and _common(other.fields) == _common(own.fields)
        return alike and not session.partial and has_answers(session)

    return next(iter(store.newest(same)), None)


def _common(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name != "profiles"}


def remembered_capacity(store: HistoryStore, so_far: SessionArtifact) -> Capacity | None:
    """Return the capacity that the board's newest session found, if its firmware was the same; else None.

    Args:
        store: the history.
        so_far: the session that is being measured.
    """
    board, firmware = identity_of(so_far), firmware_of(so_far)
    if not board or not firmware:
        return None
    try:
        rows = store.select(Query(board=board, completed_only=True))
        found = store.load_rows([row for row in rows if row.board == board][:1])
    except (HistoryError, ArtifactError):
        return None
    return next((one.capacity for one in found if firmware_of(one) == firmware), None)


def firmware_of(session: SessionArtifact) -> dict[str, Any]:
    """Return what tells a session's firmware from another one; empty where nothing does.

    The version that the user names, and the commit of the project where nothing in it is changed. A version
    that the board tells does not count: many builds may share it.
    """
    version = "" if session.device.get(FIRMWARE_TOLD) else session.device.get("firmware")
    commit, dirty = session.environment.get("git_commit"), session.environment.get("git_dirty")
    found = {"version": version} if version else {}
    if commit and not dirty:
        found["commit"] = commit
    return found
