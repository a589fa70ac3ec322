"""What a pytest run that uses no perf test loads: a few modules of ours, and nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LIGHT = {
    "pytest_espperf",
    *(f"pytest_espperf.config.{name}" for name in ("lookup", "option", "parsers", "settings")),
    "pytest_espperf.config",
    "pytest_espperf.errors",
    *("pytest_espperf.model", "pytest_espperf.model.address", "pytest_espperf.model.text"),
    "pytest_espperf.plugin",
    *(
        f"pytest_espperf.plugin.{name}"
        for name in ("fixtures", "items", "neighbours", "state", "terminal", "verdict_items")
    ),
    "pytest_espperf.system",
    *(f"pytest_espperf.system.{name}" for name in ("homes", "redaction", "streams")),
}
"""The modules of ours that every pytest run loads: each run of each project pays for one more."""

HEAVY = {
    *("asyncio", "filelock", "hdrh", "httptools", "httpx", "msgspec", "platformdirs", "sqlite3", "ssl"),
    *("multiprocessing", "urllib.request", "concurrent.futures", "jinja2"),
}

RUN = """
import json, sys, pytest
code = pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]])
print("LOADED", json.dumps([int(code), sorted(sys.modules)]))
"""


def loaded(folder: Path, plugin: str, *words: str) -> set[str]:
    """Run pytest with one plugin in a process of its own, and return the modules that it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, "-p", plugin, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=folder,
        env=dict(os.environ) | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(folder)},
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("LOADED "))
    code, names = json.loads(line.removeprefix("LOADED "))
    assert code == 0, done.stdout + done.stderr
    return set(names)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n")
    (tmp_path / "empty_plugin.py").write_text("")
    return tmp_path


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.partition(".")[0] == "pytest_espperf"}


def test_a_run_without_perf_tests_loads_the_light_modules_alone(folder: Path) -> None:
    names = loaded(folder, "pytest_espperf.plugin")
    assert ours(names) == LIGHT
    added = names - loaded(folder, "empty_plugin") - LIGHT
    assert not added & HEAVY
    assert len(added) <= 2, f"modules of others that only this plugin loads: {added}"


def test_a_named_device_loads_no_more(folder: Path) -> None:
    assert ours(loaded(folder, "pytest_espperf.plugin", "--device-ip", "192.0.2.1")) == LIGHT


def test_a_perf_test_loads_the_rest(folder: Path) -> None:
    (folder / "test_perf.py").write_text("def test_perf(device_ip): pass\n")
    names = loaded(folder, "pytest_espperf.plugin")
    assert "pytest_espperf.plugin.sessions" in names
    assert "pytest_espperf.plugin.measuring" not in names  # no device: it is skipped
