"""This checkout's own pytest configuration: the plugin's tests need pytester."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Keep the main job (`pytest -m perf`) to the suite: tests/ has no perf test, and needs the dev extra."""
    # pytest asks about what lies in a path of testpaths, never about that path itself.
    tests = config.rootpath / "tests"
    return True if config.getoption("markexpr") == "perf" and tests in collection_path.parents else None
