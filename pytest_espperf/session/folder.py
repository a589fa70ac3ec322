"""Where a session of these options keeps its artifacts."""

from __future__ import annotations

from pathlib import Path

from pytest_espperf.config.settings import Settings
from pytest_espperf.history import HistoryStore
from pytest_espperf.history.shared.sharing import Sharing, sharing_at


def history_folder(settings: Settings, root: Path) -> Path:
    """Return the folder of the artifacts; of a shared history, this machine's copy.

    Raises:
        UsageError: a URL that cannot be one of a history.
    """
    return sharing_of(settings, root).folder


def sharing_of(settings: Settings, root: Path) -> Sharing:
    """Return the history that a session's options name; nothing is touched yet.

    Raises:
        UsageError: a URL that cannot be one of a history.
    """
    if not settings.perf_history:
        return Sharing(HistoryStore(root / "tools" / "perf_history"))
    return sharing_at(settings.perf_history, root, settings.where("perf_history"))
