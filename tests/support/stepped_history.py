"""A history in which one profile becomes slower at a session: judged, stored, with commits."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
from support.report_sessions import full_session

from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import SessionArtifact

SEED = 20261129
SESSIONS, STEP = 20, 12
SLOWER = 1.25


def commit_of(number: int) -> str:
    """The commit of a session."""
    return f"{number + 1:02x}" * 20


def stepped_sessions(
    count: int = SESSIONS, step: int = STEP, slower: float = SLOWER
) -> list[SessionArtifact]:
    """Sessions, oldest first, whose profile ``heavy`` is slower from the session ``step`` on.

    They are stored as they come: what is slower fails, and is accepted by nobody.
    """
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    made: list[SessionArtifact] = []
    for number in range(count):
        factor = slower if number >= step else 1.0
        session = full_session(rng, number, slower=factor, runs=3, history=made[:step])
        environment = {**session.environment, "git_commit": commit_of(number), "git_dirty": False}
        device = {"firmware": "1.0" if number < step else "1.1"}
        made.append(msgspec.structs.replace(session, environment=environment, device=device))
    return made


def stepped_history(folder: Path, sessions: list[SessionArtifact]) -> HistoryStore:
    """Store sessions in a folder."""
    store = HistoryStore(folder)
    store.prepare()
    for session in sessions:
        store.save(session, latest=True)
    return store
