"""The hooks of a run that measures a board.

They are registered once it is known that a perf test needs one: with them what a measurement takes is
imported (httpx, asyncio, msgspec). This is the boundary between the modules that every pytest run loads and
all others.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from pytest_espperf.plugin import embedded, ending, judging, opening
from pytest_espperf.plugin.state import state_of
from pytest_espperf.plugin.verdict_items import VerdictItem


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Reach for the board before the first test; judge, after the last, what no item has judged."""
    opening.begin(session)
    result = yield
    with embedded.kept(session.config):
        judging.after_items(session)
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Judge a board before its first verdict item."""
    if isinstance(item, VerdictItem):
        judging.before_item(item)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember which phases had a failing test: no baseline comes of it. A worker hands over what it has."""
    ending.hand_over(item, call)
    report = yield
    ending.note(item, report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, None, None]:
    """Judge and write what is left, escalate the exit status."""
    try:
        ending.finish(session, exitstatus)
    finally:
        embedded.write(session.config)
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the verdict and where it comes from."""
    ending.show(terminalreporter, state_of(config))
    embedded.show(terminalreporter, config)
