"""pytest's hooks, and nothing else. What they decide is decided elsewhere.

Imported by every pytest run of a project that has the plugin installed: what is heavy is imported in
:meth:`pytest_espperf.plugin.state.PerfState.make_session`, once a perf test is to be run.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pytest_espperf.config.lookup import add_arguments
from pytest_espperf.config.settings import OPTIONS
from pytest_espperf.errors import EspperfError
from pytest_espperf.model.text import inert
from pytest_espperf.plugin import confirming, embedded, ending, items, outputs
from pytest_espperf.plugin.state import state_of
from pytest_espperf.system.streams import open_closed_streams

pytest_plugins = ["pytest_espperf.plugin.fixtures"]

GROUPS = {
    "device": "espperf: the board",
    "perf": "espperf: performance sessions",
    "sim": "espperf: the built-in reference device (--device-ip sim)",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options and ini keys, from the one table; before pytest asks whether its output goes to a terminal."""
    open_closed_streams()
    for name, title in GROUPS.items():
        options = [option for option in OPTIONS if option.group == name]
        add_arguments(
            parser.getgroup(f"espperf-{name}", title).addoption, options, lambda option: option.flag
        )
        for option in options:
            kind: Any = "linelist" if option.kind == "list" else "string"
            parser.addini(option.dest, option.help.replace("%%", "%"), type=kind, default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; where tests are distributed, keep each board to one worker."""
    config.addinivalue_line(
        "markers",
        "perf(profiles=None): a performance test of the board at --device-ip; "
        "profiles: the profiles that perf_phase takes for this test, all by default",
    )
    config.pluginmanager.register(ending.Interruption(config), "espperf-interruption")
    try:
        items.refuse_stray_path(config)
        items.refuse_missing_lab(config)
    except EspperfError as error:
        raise pytest.UsageError(str(error)) from None
    distributed = config.getoption("dist", "no") != "no" and config.getoption("tx", None)
    if distributed and not hasattr(config, "workerinput") and state_of(config).asked_for:
        from pytest_espperf.plugin.xdist import Controller  # noqa: PLC0415 - pytest-xdist is there

        config.pluginmanager.register(Controller(config), "espperf-controller")


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """``--perf-list-profiles``."""
    if not config.getoption("perf_list_profiles"):
        return None
    from pytest_espperf.session.plan import describe_profiles  # noqa: PLC0415 - only here

    try:
        print(inert(describe_profiles(state_of(config).settings, config.rootpath)))  # noqa: T201 - it is the answer
    except EspperfError as error:
        raise pytest.UsageError(str(error)) from None
    return 0


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Before anything is printed of a run for perf tests: its exit code does not hang on who reads it."""
    if state_of(session.config).may_measure:
        outputs.guard_terminal(session.config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One item per phase, in run-major order."""
    items.parametrize(metafunc)
    items.parametrize_boards(metafunc)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what requests ``perf_phase``: as perf, and with its time budget."""
    items.mark_phase(item)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Once it is known what is left to be run: refuse, skip, or take note."""
    try:
        items.select(session)
    except EspperfError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Reach for the board before the first test; measure again, after the last, what would fail."""
    ending.begin(session)
    result = yield
    with embedded.kept(session.config):
        confirming.run(session)
    return result


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
    """Judge, write, report each failing gate as a test of its own, escalate the exit status."""
    try:
        ending.finish(session, exitstatus)
    finally:
        embedded.write(session.config)
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The verdict and where it comes from."""
    ending.show(terminalreporter, state_of(config))
    embedded.show(terminalreporter, config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give everything back, however the run ended."""
    state_of(config).close()
