"""This checkout's own pytest configuration: the plugin's tests need pytester."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Keep the main job (`pytest -m perf`) to the suite: tests/ has no perf test, and needs the dev extra."""
    if config.getoption("markexpr") == "perf" and collection_path == config.rootpath / "tests":
        return True
    return None
