"""Fixtures that tests of several packages share."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpcore  # noqa: F401 - httpx loads it late: within an inner pytest, which would take it out of sys.modules
import pytest
from support.load_servers import LOOPS, LoopFactory
from support.paths import TESTS

from pytest_espperf.load import connector

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would every process that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


if importlib.util.find_spec("hypothesis") is not None:  # the environments beside dev do without it
    from hypothesis import HealthCheck, settings

    # A deadline of each example is one of the machine's.
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")

# What a CI system, a terminal or a user's shell says changes what pytest prints, and what a session does: a
# test that is about one of these sets it.
for name in list(os.environ):
    if name.startswith(("ESPPERF_", "GITHUB_", "GITLAB_")) or name in {
        "BUILD_NUMBER",
        "CI",
        "COLUMNS",
        "FORCE_COLOR",
        "LINES",
        "NO_COLOR",
        "PY_COLORS",
        "PYTEST_ADDOPTS",
    }:
        del os.environ[name]

# The pause before a profile is measured again is there for real disturbances.
os.environ["ESPPERF_PERF_CONFIRM_PAUSE_S"] = "0"


@pytest.fixture(scope="session", autouse=True)
def helpers_are_found() -> Iterator[None]:
    """The programs among the helpers find the others: a process that a test starts has no ``pythonpath``."""
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The processes that tests start share what they compile, where none of it may lie beside the sources."""
    folder = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        folder = folder.parent  # of the whole run
    with pytest.MonkeyPatch.context() as patch:
        if sys.dont_write_bytecode:
            patch.setenv("PYTHONDONTWRITEBYTECODE", "")
            patch.setenv("PYTHONPYCACHEPREFIX", str(folder / "pycache"))
        yield


@pytest.fixture(params=[*LOOPS, "unstamped"])
def loop_factory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> LoopFactory:
    """Each kind of event loop, and asyncio's without the kernel's time stamps (macOS, Windows, TLS)."""
    if request.param != "unstamped":
        return LOOPS[str(request.param)]
    monkeypatch.setattr(connector, "kernel_stamps", lambda: False)
    return LOOPS["asyncio"]


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """A folder that benches share."""
    folder = tmp_path / "share"
    folder.mkdir()
    return folder
