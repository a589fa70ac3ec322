"""Other plugins that change which tests are run, and how often: what they do to the phases of a session.

A session is judged as a whole: phases that another plugin repeats, drops or cuts off from the network are no
session. Each is dealt with or refused, in a sentence that names the plugin.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_espperf.errors import UsageError

SELECTING = ("keyword", "deselect", "lf", "stepwise")
"""Options of pytest by which a user selects tests: a selection is measured, and never a baseline."""


def has_plugin(config: pytest.Config, name: str) -> bool:
    """Whether a plugin is loaded: by its entry point, or by ``-p`` with its module."""
    return any(map(config.pluginmanager.hasplugin, (name, f"pytest_{name}")))


def refuse_repeats(config: pytest.Config) -> None:
    """Refuse to measure each phase several times, as pytest-repeat would.

    Raises:
        UsageError: ``--count`` is in force.
    """
    count = config.getoption("count", 1)
    if has_plugin(config, "repeat") and isinstance(count, int) and count > 1:
        raise UsageError(
            f"--count={count} (pytest-repeat) would measure each phase {count} times: leave it out for perf "
            "tests; --perf-runs says how often a profile is measured"
        )


def refuse_closed_sockets(config: pytest.Config, phases: Sequence[pytest.Item]) -> None:
    """Refuse to measure without a network, as pytest-socket would have it.

    Raises:
        UsageError: ``--disable-socket`` or ``--allow-hosts`` is in force for a phase.
    """
    closed = [
        flag
        for flag, dest in (("--disable-socket", "disable_socket"), ("--allow-hosts", "allow_hosts"))
        if config.getoption(dest, None)
    ]
    open_ones = ("enable_socket", "allow_hosts")
    if closed and any(not any(map(item.get_closest_marker, open_ones)) for item in phases):
        raise UsageError(
            f"{closed[0]} (pytest-socket) keeps perf tests from the board: mark them with "
            "@pytest.mark.enable_socket, or leave the option out"
        )


def keep_first_try(item: pytest.Item) -> None:
    """Let pytest-rerunfailures run a phase once: measured again, it is another measurement."""
    if has_plugin(item.config, "rerunfailures") and item.get_closest_marker("flaky") is None:
        item.add_marker(pytest.mark.flaky(reruns=0))


def keep_together(session: pytest.Session, parts: Sequence[pytest.Item]) -> None:
    """Undo what a plugin such as pytest-split did to the items of a session: all of them are run, or none.

    All are run where the first of them was left, so that of several groups of tests one measures the board.

    Args:
        session: with the items that are to be run.
        parts: every phase and verdict that was collected.
    """
    config = session.config
    named = any("::" in str(word) for word in config.invocation_params.args)
    if not parts or named or any(config.getoption(name, None) for name in SELECTING):
        return
    left, own = set(session.items), set(parts)
    if left >= own:
        return
    kept: list[pytest.Item] = []
    for item in session.items:
        if item not in own:
            kept.append(item)
        elif item is parts[0]:
            kept += parts
    session.items[:] = kept
