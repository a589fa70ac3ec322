"""Confirmation runs as test items: a profile without a clear answer is measured again.

They are clones of the items that measured it, so that watchdog, probe, reports, ``-x`` and a project's own
assertions apply to them as to any other. They run after pytest's own loop has ended, so fixtures of wider
scopes are set up once more for them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from pytest_espperf.errors import DeviceError
from pytest_espperf.plugin.ending import own_report
from pytest_espperf.plugin.items import mark_phase, phase_of
from pytest_espperf.plugin.state import state_of
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.session import PerfSession


def run(session: pytest.Session) -> None:
    """Run the confirmation runs that each session asks for, if any."""
    state = state_of(session.config)
    if session.shouldstop or session.shouldfail:
        return
    for board, perf in state.opened().items():
        again = perf.confirmations()
        planned = again.phases
        if planned:
            names = ", ".join(dict.fromkeys(phase.profile.name for phase in planned))
            where = f"{board}: " if board else ""
            soon = f" in {again.pause_s:.0f} s" if again.pause_s else ""
            state.say(f"{where}{names}: {again.why}: measuring again{soon} ({len(planned)} phases)")
            perf.driver.pause(again.pause_s)
            if state.selected:
                _run(session, planned)
            else:
                _run_here(session, perf, planned)


def _run(session: pytest.Session, planned: Sequence[PlannedPhase]) -> None:
    state = state_of(session.config)
    items = [_clone(state.selected, phase) for phase in planned]
    session.items.extend(items)
    session.testscollected += len(items)
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        # As pytest's own loop does after each item.
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)


def _clone(items: list[pytest.Item], planned: PlannedPhase) -> pytest.Item:
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


def _run_here(session: pytest.Session, perf: PerfSession, planned: Sequence[PlannedPhase]) -> None:
    """Measure phases again in this process, once the workers of pytest-xdist have given the boards back."""
    for phase in planned:
        failure = ""
        try:
            if perf.driver.board is None:
                perf.receiver.take_over()
            result = perf.driver.run_phase(phase, perf.budget(phase))
            failure = "; ".join(result.fail_reasons) if result is not None else ""
        except DeviceError as error:
            failure = str(error)
        report = own_report(phase.id, failure)
        session.config.hook.pytest_runtest_logreport(report=report)
        if failure:
            return
