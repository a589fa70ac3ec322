"""The beginning of a run that measures boards: their sessions are opened before the first test."""

from __future__ import annotations

import pytest

from pytest_espperf.errors import EspperfError
from pytest_espperf.plugin import outputs
from pytest_espperf.plugin.items import selected_phases
from pytest_espperf.plugin.state import HANDED, state_of
from pytest_espperf.session.boards import refuse_one_twice


def begin(session: pytest.Session) -> None:
    """Open the sessions where boards are needed.

    Raises:
        pytest.UsageError: it cannot be opened, in one sentence.
    """
    config = session.config
    state = state_of(config)
    if hasattr(config, "workerinput"):
        if state.device_needed:
            state.make_workers(config.workerinput.get(HANDED, {}))
        return
    if not state.device_needed or state.only_looks:
        return
    if session.testsfailed and not config.getoption("continue_on_collection_errors"):
        return  # pytest is about to stop, too
    open_sessions(config)
    for board, driver in state.driving().items():
        if driver.board is not None:
            state.announce(board, selected_phases(config, board))


def open_sessions(config: pytest.Config, *, reach: bool = True) -> None:
    """Open the session of each board; ``reach`` as of :meth:`PerfSession.open`.

    Raises:
        pytest.UsageError: one cannot be opened, in one sentence.
    """
    state = state_of(config)
    quiet = config.get_verbosity() < 0
    try:
        sessions = state.make_sessions()
        outputs.plan(config, state.settings, list(sessions))
        refuse_one_twice(perf.settings for perf in sessions.values())
        for perf in sessions.values():
            perf.open(alone=len(sessions) == 1, reach=reach, quiet=quiet, others=state.at_hand())
    except EspperfError as error:
        state.close()
        raise pytest.UsageError(str(error)) from None
