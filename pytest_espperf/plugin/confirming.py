"""Confirmation runs: a profile without a clear answer is measured again before its verdict.

Each phase is measured by a clone of the item that measured it, with the project's own assertions, fixtures
and the watchdog. Its reports are not logged: what it finds is part of the verdict, whose item stands for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest
from _pytest.runner import runtestprotocol

from pytest_espperf.errors import DeviceError
from pytest_espperf.plugin.items import mark_phase, phase_of
from pytest_espperf.plugin.state import state_of
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.session import PerfSession

RUNNERS = ("runner", "rerunfailures", "pytest_rerunfailures", "flaky", "allure_listener")
"""Plugins that run, repeat or record each test that they are given; to all others a clone is a test."""


def measure_again(session: pytest.Session, perf: PerfSession, nextitem: pytest.Item | None) -> None:
    """Run the confirmation runs that a session asks for, if any.

    Args:
        session: pytest's.
        perf: one board's session, measured completely.
        nextitem: the item that follows, for which fixtures of wider scopes are kept; None where none does.
    """
    state, board = state_of(session.config), perf.context.plan.board
    again = perf.confirmations()
    if not again.phases:
        return
    names = ", ".join(dict.fromkeys(phase.profile.name for phase in again.phases))
    where = f"{board}: " if board else ""
    soon = f" in {again.pause_s:.0f} s" if again.pause_s else ""
    state.say(f"{where}{names}: {again.why}: measuring again{soon} ({len(again.phases)} phases)")
    perf.driver.pause(again.pause_s)
    failed = state.measured_again.setdefault(board, [])
    for phase in again.phases:
        if nextitem is None:
            failure = _measure_here(perf, phase)
        else:
            failure = _run_clone(_clone(state.selected, phase), nextitem)
        if failure:
            failed.append((phase.profile.name, f"{phase.id}: {failure}"))
        if perf.driver.state.hard_stop_reason or session.shouldstop:
            return


def _run_clone(clone: pytest.Item, nextitem: pytest.Item) -> str:
    """Run a test without reporting it; why it failed, in a line, or ""."""
    reports: list[pytest.TestReport] = []

    def protocol(item: pytest.Item, nextitem: pytest.Item) -> bool:
        reports.extend(runtestprotocol(item, log=False, nextitem=nextitem))
        return True

    plugins = clone.config.pluginmanager
    runners = [plugin for name in RUNNERS if (plugin := plugins.get_plugin(name)) is not None]
    run = plugins.subset_hook_caller("pytest_runtest_protocol", runners)
    run.call_extra([protocol], {"item": clone, "nextitem": nextitem})
    return next((_reason(report) for report in reports if report.failed), "")


def _reason(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else report.longreprtext
    return text.strip().partition("\n")[0]


def _measure_here(perf: PerfSession, phase: PlannedPhase) -> str:
    """Measure a phase in the controller, once the workers have given the boards back."""
    try:
        if perf.driver.board is None:
            perf.receiver.take_over()
        result = perf.driver.run_phase(phase, perf.budget(phase))
    except DeviceError as error:
        return str(error)
    return "; ".join(result.fail_reasons) if result is not None else ""


def _clone(items: Iterable[pytest.Item], planned: PlannedPhase) -> pytest.Item:
    """Clone the item that measured this phase, for another run of it."""
    item, measured = next(
        (item, phase)
        for item, phase in ((item, phase_of(item)) for item in items)
        if (phase.board, phase.cell) == (planned.board, planned.cell)
    )
    assert isinstance(item, pytest.Function)
    # pytest has no public way to make one more item of a parametrized test: this is how it makes them itself.
    callspec = dataclasses.replace(
        item.callspec,
        params={**item.callspec.params, "perf_phase": planned},
        _idlist=[part.replace(measured.id, planned.id) for part in item.callspec._idlist],  # noqa: SLF001 - of pytest
    )
    clone = pytest.Function.from_parent(
        item.parent,
        name=f"{item.originalname}[{callspec.id}]",
        callspec=callspec,
        callobj=item.obj,
        fixtureinfo=item._fixtureinfo,  # noqa: SLF001 - of pytest
        originalname=item.originalname,
    )
    mark_phase(clone)
    return clone
