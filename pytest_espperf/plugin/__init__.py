"""The hooks of every pytest run; decisions are made elsewhere.

Each pytest run of a project with the plugin installed imports this module, and with it ``items``,
``fixtures``, ``state`` and ``terminal``, which stay light. Perf tests import the rest: ``sessions`` when
they are collected, ``measuring`` with its hooks when they are to be run (tests/plugin/test_light.py).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pytest_espperf.config.lookup import add_arguments
from pytest_espperf.config.settings import OPTIONS
from pytest_espperf.errors import EspperfError
from pytest_espperf.model.text import inert
from pytest_espperf.plugin import items
from pytest_espperf.plugin.state import state_of
from pytest_espperf.plugin.terminal import drop_unplaced, guard_terminal
from pytest_espperf.system.streams import open_closed_streams

pytest_plugins = ["pytest_espperf.plugin.fixtures"]

GROUPS = {
    "device": "espperf: the board",
    "perf": "espperf: performance sessions",
    "sim": "espperf: the built-in reference device (--device-ip sim)",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options and ini keys, from the one table; before pytest asks whether its output is a terminal."""
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
    try:
        items.refuse_stray_path(config)
        items.refuse_missing_lab(config)
    except EspperfError as error:
        raise pytest.UsageError(str(error)) from None
    distributed = config.getoption("dist", "no") != "no" and config.getoption("tx", None)
    if distributed and not hasattr(config, "workerinput") and state_of(config).asked_for:
        from pytest_espperf.plugin.xdist import Controller  # noqa: PLC0415 - an extra, which is there

        _measure(config)
        config.pluginmanager.register(Controller(config), "espperf-controller")


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """List the profiles for ``--perf-list-profiles``."""
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
    """Guard the output of a run for perf tests from its beginning: its exit code hangs on no reader."""
    if state_of(session.config).may_measure:
        guard_terminal(session.config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one item per phase, in run-major order."""
    items.parametrize(metafunc)
    items.parametrize_boards(metafunc)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Collect an item for each verdict, with the tests that measure its phases."""
    report = yield
    items.add_verdicts(collector, report)
    return report


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark items that request ``perf_phase``: as perf, and with their time budget."""
    items.mark_phase(item)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist, in a worker, tells the controller what there is
def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse or skip perf tests, or prepare their measurement, once it is known what is to be run."""
    try:
        items.select(session)
    except EspperfError as error:
        raise pytest.UsageError(str(error)) from None
    if state_of(session.config).device_needed:
        _measure(session.config)


def _measure(config: pytest.Config) -> None:
    """Import what a measurement takes, and register its hooks, once."""
    if config.pluginmanager.hasplugin("espperf-measuring"):
        return
    from pytest_espperf.plugin import ending, measuring  # noqa: PLC0415 - heavy: httpx, asyncio, msgspec

    config.pluginmanager.register(ending.Interruption(config), "espperf-interruption")
    config.pluginmanager.register(measuring, "espperf-measuring")


@pytest.hookimpl(tryfirst=True)
def pytest_keyboard_interrupt(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Let pytest show where Ctrl-C came, wherever that was."""
    drop_unplaced(excinfo)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Release the boards, however the run ended."""
    state_of(config).close()
