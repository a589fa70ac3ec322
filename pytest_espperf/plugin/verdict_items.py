"""Verdicts as test items: one for each profile of a board, behind its phases, and one for its session.

They are collected with the tests that measure the phases, so that their ids can be given to pytest again. An
item says what fails its session; which verdict that is was decided before its setup, see
:mod:`pytest_espperf.plugin.judging`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from pytest_espperf.model.text import inert
from pytest_espperf.plugin.neighbours import keep_first_try
from pytest_espperf.plugin.state import VerdictKey, state_of


class VerdictFailsError(AssertionError):
    """The reason why a verdict fails its session, in lines."""


class VerdictItem(pytest.Item):
    """The verdict of a profile, or of all else of a session, as a test.

    Attributes:
        key: what it is about.
        phases: items of the same module or class that measure it.
    """

    def __init__(self, *, key: VerdictKey, phases: Sequence[pytest.Item], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.key = key
        self.phases = phases
        # Plugins (pytest-embedded) ask any item for what a test function has; a doctest has these, too.
        self.obj = None
        self.funcargs: dict[str, Any] = {}
        self.fixturenames: list[str] = []
        self.add_marker("perf")
        keep_first_try(self)
        if self.config.pluginmanager.hasplugin("timeout"):
            # What is measured again before it has a watchdog for each phase.
            self.add_marker(pytest.mark.timeout(0))

    def runtest(self) -> None:
        """Fail with what fails the session; skip where nothing was judged."""
        state = state_of(self.config)
        state.reported.add(self.key)
        found = state.verdicts.get(self.key)
        if found is None:
            pytest.skip("not judged: no phase of it was measured")
        if found.failure:
            raise VerdictFailsError(found.failure)
        if found.unjudged:
            pytest.skip(found.unjudged)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show what fails the session, without a traceback."""
        if isinstance(excinfo.value, VerdictFailsError):
            return inert(str(excinfo.value))
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Point at the test that measures it."""
        path, line, _ = self.phases[0].reportinfo()
        return path, line, self.name


def keys_of(phases: Iterable[Any]) -> list[VerdictKey]:
    """List what verdicts there are about some planned phases: profiles first, then sessions."""
    phases = list(phases)
    profiles = dict.fromkeys(VerdictKey(phase.board, phase.profile.name) for phase in phases)
    return [*profiles, *dict.fromkeys(VerdictKey(key.board, "") for key in profiles)]
