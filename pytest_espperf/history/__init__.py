"""Sessions on disk: reading any version, saving whole or not at all, finding them again.

>>> from pytest_espperf.history import HistoryStore, load_session

Rooms within: ``names`` (file names and their order), ``migrate`` (old schemas), ``load`` (bounded reading),
``files`` (atomic writing), ``marks`` (later decisions), ``store`` (the folder), ``checkpoint`` (progress of
a running session), ``rows`` and ``index`` (fast listing), ``find`` (what a reference means), ``raw``
(samples, where asked for), ``adopt`` (sessions of another history), ``prune`` (what can go), ``sync``
(a history that a team shares, with rooms of its own).
"""

from __future__ import annotations

from pytest_espperf.history.load import MAX_BYTES, decode_session, encode_session, load_session
from pytest_espperf.history.raw import save_samples
from pytest_espperf.history.store import HistoryStore, SavedSession, is_completed

__all__ = [
    "MAX_BYTES",
    "HistoryStore",
    "SavedSession",
    "decode_session",
    "encode_session",
    "is_completed",
    "load_session",
    "save_samples",
]
