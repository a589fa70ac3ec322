"""Fixtures that tests of several rooms share."""

from __future__ import annotations

import pytest
from load_servers import LOOPS, LoopFactory

from pytest_espperf.load import connection


@pytest.fixture(params=[*LOOPS, "unstamped"])
def loop_factory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> LoopFactory:
    """Each kind of event loop, and asyncio's without the kernel's time stamps (macOS, Windows, TLS)."""
    if request.param != "unstamped":
        return LOOPS[str(request.param)]
    monkeypatch.setattr(connection, "kernel_stamps", lambda: False)
    return LOOPS["asyncio"]
