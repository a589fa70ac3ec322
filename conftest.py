"""This checkout's own pytest configuration: the plugin's tests need pytester."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Let the whole suite run eight tests at a time: most of them wait. Leave parts of it, and -n, alone."""
    worker = hasattr(config, "workerinput")
    whole = not worker and config.args_source is pytest.Config.ArgsSource.TESTPATHS
    plain = not (config.getoption("collectonly") or config.getoption("usepdb") or _is_main_job(config))
    if whole and plain and config.getoption("numprocesses", 0) is None:  # 0: xdist is not here
        config.option.numprocesses = 8
        config.option.dist = "worksteal"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Keep the main job (`pytest -m perf`) to the suite: tests/ has no perf test, and needs the dev extra."""
    # pytest asks about what lies in a path of testpaths, never about that path itself.
    tests = config.rootpath / "tests"
    return True if _is_main_job(config) and tests in collection_path.parents else None


def _is_main_job(config: pytest.Config) -> bool:
    return bool(config.getoption("markexpr") == "perf")
