"""A small HTTP server on loopback, and a project that measures it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.board_server import served
from support.plugin_project import SLOW_S, USUAL_S, Project, Web
from support.pytest_alone import ENVIRONMENT

import pytest_espperf.session.session  # noqa: F401 - loaded once, not by each run in this process


@pytest.fixture
def web() -> Iterator[Web]:
    """Python's own HTTP server, one thread a connection, on loopback."""
    with served() as facts:
        yield facts


@pytest.fixture
def reference() -> Iterator[Web]:
    """Another one."""
    with served() as facts:
        yield facts


@pytest.fixture
def project(pytester: pytest.Pytester, web: Web, monkeypatch: pytest.MonkeyPatch) -> Project:
    # The user's own locks stay out of it, and so does the job that this suite may be run in.
    monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / "state"))
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return Project(pytester, web)


@pytest.fixture
def slower(project: Project) -> Project:
    """A project whose board has become slower since its first session."""
    project.pytester.makepyfile(test_perf="def test_perf(perf_phase): assert perf_phase.report.ok")
    project.web.delay_s = USUAL_S
    assert project.run("-m", "perf", suite=False).ret == 0
    project.web.delay_s = SLOW_S
    return project
