"""A plugin of pytest's: the load that a session makes does not watch itself.

What it measures is a baseline, and is compared, even where a busy machine set the pace. Processes that the
tests start find it by ``PYTHONPATH``; a pytest within another one leaves everything as it was.
"""

from __future__ import annotations

import pytest

_BOUNDS = ("BOUND_CPU_SHARE", "BOUND_TURNAROUND_SHARE", "BOUND_LAG_MS")
_patches = pytest.StashKey[pytest.MonkeyPatch]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Lift the bounds where there is something to run: to import the engine takes time."""
    if not session.items:
        return
    from pytest_espperf.load import guard

    session.config.stash[_patches] = patch = pytest.MonkeyPatch()
    for name in _BOUNDS:
        patch.setattr(guard, name, float("inf"))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Put the bounds back."""
    patch = config.stash.get(_patches, None)
    if patch is not None:
        patch.undo()
