"""Sessions on disk: reading any version, saving whole or not at all, finding them again.

>>> from pytest_espperf.history import HistoryStore, load_session

Modules: ``names`` (file names and their order), ``migrate`` (old schemas), ``load`` (bounded reading),
``files`` (atomic writing), ``marks`` (later decisions), ``folder`` (reading and saving sessions), ``rows``
and ``index`` (fast listing), ``find`` (references to sessions), ``store`` (all of these for one history),
``checkpoint`` (progress of a running session), ``raw`` (samples, where asked for), ``adopt`` (sessions of
another history), ``prune`` (sessions that can be removed), ``shared`` (a history that several benches share).
"""

from __future__ import annotations

from pytest_espperf.history.folder import SavedSession
from pytest_espperf.history.load import MAX_BYTES, decode_session, encode_session, load_session
from pytest_espperf.history.raw import save_samples
from pytest_espperf.history.store import HistoryStore, is_completed

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
