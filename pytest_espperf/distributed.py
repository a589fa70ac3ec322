"""pytest-xdist: each board is driven by one worker at a time; the controller keeps, judges and writes.

The workers' results travel as a property of their test reports, which survives the death of a worker. A
phase whose worker died is void: what another worker measures of it later is not taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from pytest_espperf import outputs
from pytest_espperf.ending import own_report
from pytest_espperf.errors import DeviceError, EspperfError, UsageError
from pytest_espperf.state import HANDED, state_of

if TYPE_CHECKING:
    from pytest_espperf.profiles import PlannedPhase
    from pytest_espperf.session import PerfSession

ONE_PROCESS = ("perf_ab_baseline_cmd", "perf_ab_candidate_cmd")


class BoardScheduling(LoadScopeScheduling):  # type: ignore[misc] # xdist is typed only in part
    """All tests of one board in one scope, and a scope with one worker; whatever ``--dist`` says."""

    def _split_scope(self, nodeid: str) -> str:
        return f"board {board_of(self.config, nodeid)}"


def board_of(config: pytest.Config, nodeid: str) -> str:
    """The board that a test is about by its id, "" where there is one only, or where it names none."""
    return max((name for name in state_of(config).sessions if _names(nodeid, name)), key=len, default="")


def _names(nodeid: str, part: str) -> bool:
    """Whether a test's parameters name a part: a board, or a phase."""
    inner = nodeid.partition("[")[2].rstrip("]")
    # Most parts are not there at all: only what may be is worth a pattern.
    return bool(part) and part in inner and bool(re.search(rf"(?:^|-){re.escape(part)}(?:-|$)", inner))


class Controller:
    """The hooks of the process that starts the workers."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.state = state_of(config)
        self.void: set[str] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Open the sessions, but no board: before the workers are started."""
        if self.config.getoption("collectonly"):
            return
        state = self.state
        try:
            for dest in ONE_PROCESS:
                if getattr(state.settings, dest):
                    raise UsageError(f"{state.settings.where(dest)} works in one process only: add -n0")
            sessions = state.make_sessions()
            outputs.plan(self.config, state.settings, list(sessions))
            for perf in sessions.values():
                perf.open(reach=False)
        except EspperfError as error:
            state.close()
            raise pytest.UsageError(str(error)) from None

    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to leave logs, and for which sessions."""
        opened = self.state.opened()
        node.workerinput[HANDED] = {
            name: {"folder": str(perf.folder), "session_id": perf.session_id} for name, perf in opened.items()
        }

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> BoardScheduling:
        """Ours, in place of the one that ``--dist`` names."""
        return BoardScheduling(config, log)

    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Remember the boards of which phases are to be measured."""
        for nodeid in ids:
            planned = self._planned(nodeid)
            if planned is not None:
                self.state.awaited.add(planned.board)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a worker hands over; of no use to anybody else, it does not stay in the report."""
        handed = [value for name, value in report.user_properties if name == HANDED]
        report.user_properties[:] = [pair for pair in report.user_properties if pair[0] != HANDED]
        planned = self._planned(report.nodeid)
        if planned is None or planned.board not in self.state.opened():
            return
        if report.when == "setup" and handed and planned.id not in self.void:
            self.state.opened()[planned.board].take(planned, str(handed[0]))
        elif report.when in {"call", "teardown"} and report.failed:
            self.state.failed.setdefault(planned.board, []).append(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """A worker died in this test: whatever comes of it later is not its first measurement."""
        planned = self._planned(crashitem)
        if planned is not None:
            self.void.add(planned.id)
            self.state.opened()[planned.board].void(planned)
            self.state.say(f"WARNING: a worker died in {planned.id}: this phase is void")

    def _planned(self, nodeid: str) -> PlannedPhase | None:
        found = [
            phase
            for perf in self.state.sessions.values()
            for phase in perf.planned()
            if _names(nodeid, phase.id)
        ]
        return max(found, key=lambda phase: len(phase.id), default=None)


def confirm(session: pytest.Session, perf: PerfSession, planned: Sequence[PlannedPhase]) -> None:
    """Measure again in this process what would fail, once the workers have given the boards back."""
    for phase in planned:
        failure = ""
        try:
            if perf.board is None:
                perf.reach().find_named()
            result = perf.run_phase(phase, perf.budget(phase))
            failure = "; ".join(result.fail_reasons) if result is not None else ""
        except DeviceError as error:
            failure = str(error)
        report = own_report(phase.id, failure)
        session.config.hook.pytest_runtest_logreport(report=report)
        if failure:
            return
