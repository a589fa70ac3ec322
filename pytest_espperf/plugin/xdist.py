"""pytest-xdist: each board is driven by one worker at a time; the controller keeps, judges and writes.

The workers' results travel as a property of their test reports, which survives the death of a worker. A
phase whose worker died is void: what another worker measures of it later is not taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

import pytest
from xdist.scheduler import LoadScopeScheduling

from pytest_espperf.errors import EspperfError
from pytest_espperf.plugin.opening import open_sessions
from pytest_espperf.plugin.state import HANDED, HANDED_FIGURES, state_of
from pytest_espperf.plugin.verdict_items import keys_of
from pytest_espperf.session.plan import PlannedPhase
from pytest_espperf.session.session import NO_WORKER

T = TypeVar("T")

ONE_PROCESS = ("perf_ab_baseline_cmd", "perf_ab_candidate_cmd")


class BoardScheduling(LoadScopeScheduling):  # type: ignore[misc] # xdist is typed only in part
    """All tests of one board in one scope, and a scope with one worker; whatever ``--dist`` says."""

    def __init__(self, config: pytest.Config, log: Any, board_of: Callable[[str], str]) -> None:
        super().__init__(config, log)
        self._board_of = board_of

    def _split_scope(self, nodeid: str) -> str:
        return f"board {self._board_of(nodeid)}"

    def remove_node(self, node: Any) -> str | None:
        """Take a worker out; what it left undone is for others, but for the test in which it died.

        xdist would run that test once more, over which the next worker may die, and would hand out scopes
        with nothing left in them, at which a worker waits for ever.
        """
        left = {scope: unit for scope, unit in self.assigned_work.pop(node).items() if not all(unit.values())}
        if not left:
            return None
        first = next(iter(left.values()))
        crashed: str = next(nodeid for nodeid, done in first.items() if not done)
        first[crashed] = True
        self.workqueue.update({scope: unit for scope, unit in left.items() if not all(unit.values())})
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed


class Names(Generic[T]):
    """Finds out which of many named things a test is about, by its id.

    Args:
        things: by a name each, as test ids have it between brackets, dashes or both.
    """

    def __init__(self, things: Mapping[str, T]) -> None:
        self._things = {"-".join(_words(name)): thing for name, thing in things.items() if name}
        self._longest = max((len(_words(name)) for name in things), default=0)
        self._known: dict[str, T | None] = {}

    def of(self, nodeid: str) -> T | None:
        """Return the thing whose name comes first in the id, of several there the longest; or None."""
        if nodeid not in self._known:
            self._known[nodeid] = next(
                (self._things[name] for name in self._parts(nodeid) if name in self._things), None
            )
        return self._known[nodeid]

    def _parts(self, nodeid: str) -> Iterator[str]:
        words = _words(nodeid.partition("[")[2])
        for first in range(len(words)):
            for last in range(min(len(words), first + self._longest), first, -1):
                yield "-".join(words[first:last])


def _words(text: str) -> list[str]:
    return re.split(r"[-\[\]]", text)


class Controller:
    """The hooks of the process that starts the workers."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.state = state_of(config)
        self.void: set[str] = set()
        self._ahead: dict[str, set[str]] = {}
        self._died = False
        self._session: pytest.Session | None = None
        self._tests = 0

    @cached_property
    def _phases(self) -> Names[PlannedPhase]:
        sessions = self.state.sessions.values()
        return Names({phase.id: phase for perf in sessions for phase in perf.planned()})

    @cached_property
    def _boards(self) -> Names[str]:
        return Names({name: name for name in self.state.sessions})

    def board_of(self, nodeid: str) -> str:
        """Return the board that a test is about by its id, "" where there is one only, or it names none."""
        planned = self._phases.of(nodeid)
        return planned.board if planned is not None else self._boards.of(nodeid) or ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Open the sessions, but no board: before the workers are started."""
        self._session = session
        if self.state.only_looks:
            return
        try:
            settings = self.state.settings
        except EspperfError as error:
            raise pytest.UsageError(str(error)) from None
        for dest in ONE_PROCESS:
            if getattr(settings, dest):
                raise pytest.UsageError(f"{settings.where(dest)} works in one process only: add -n0")
        open_sessions(self.config, reach=False)

    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to leave logs, for which sessions, and how many boards are driven at once."""
        opened = self.state.opened()
        at_once = min(len(opened), node.workerinput["workercount"])
        node.workerinput[HANDED] = {
            name: {
                "folder": str(perf.context.folder),
                "session_id": perf.context.session_id,
                "at_once": at_once,
            }
            for name, perf in opened.items()
        }

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> BoardScheduling:
        """Return our scheduler, in place of the one that ``--dist`` names."""
        return BoardScheduling(config, log, self.board_of)

    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Remember the phases that are to be measured; each worker has the same, and so has a new one."""
        self._tests = len(ids)
        if self._ahead:
            return
        for nodeid in ids:
            planned = self._phases.of(nodeid)
            if planned is not None:
                self._ahead.setdefault(planned.board, set()).add(planned.id)
                place = nodeid.partition("[")[0].rpartition("::")[0]
                for key in keys_of([planned]):
                    self.state.verdict_places.setdefault(key, place)
        self.state.awaited |= self._ahead.keys()
        for board, perf in self.state.opened().items():
            ahead = self._ahead.get(board, ())
            self.state.announce(board, [planned for planned in perf.planned() if planned.id in ahead])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        """Count the verdicts among the tests, as pytest-xdist does not: progress never passes 100 %."""
        if self._session is not None:
            self._session.testscollected = self._tests + len(self.state.verdict_places)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a worker hands over; of no use to anybody else, it does not stay in the report."""
        handed = [value for name, value in report.user_properties if name == HANDED]
        figures: list[Any] = [value for name, value in report.user_properties if name == HANDED_FIGURES]
        ours = {HANDED, HANDED_FIGURES}
        report.user_properties[:] = [pair for pair in report.user_properties if pair[0] not in ours]
        for board, text in figures:
            if board in self.state.opened():
                for note in self.state.opened()[board].receiver.receive_figures(text):
                    self.state.say(f"WARNING: {note}")
        planned = self._phases.of(report.nodeid)
        if planned is None or planned.board not in self.state.opened():
            return
        if report.when == "setup" and handed and planned.id not in self.void:
            self.state.opened()[planned.board].receiver.receive(planned, str(handed[0]))
        elif report.when in {"call", "teardown"} and report.failed:
            self.state.failed.setdefault(planned.board, []).append(report.nodeid)
        if report.when == "teardown":
            self._ended(planned)

    def _ended(self, planned: PlannedPhase) -> None:
        """Say of a board, of several, that no phase of it is ahead any more."""
        ahead = self._ahead[planned.board]
        if planned.id not in ahead:
            return
        ahead.remove(planned.id)
        if not ahead and len(self._ahead) > 1 and self.config.get_verbosity() >= 0:
            became = (
                "stopped" if self.state.opened()[planned.board].driver.state.hard_stop_reason else "measured"
            )
            ended = sum(not left for left in self._ahead.values())
            self.state.say(f"{planned.board}: {became}, {ended} of {len(self._ahead)} boards")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, error: object) -> None:
        """Remember that a worker died: one that has ended with an error."""
        self._died = self._died or error is not None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Find out before the boards are judged whether any was left without a worker."""
        try:
            return (yield)
        finally:
            if self._died and any(self._ahead.values()):
                self.state.ended_by = self.state.ended_by or NO_WORKER

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """Make a phase void whose worker died: what comes of it later is not its first measurement."""
        planned = self._phases.of(crashitem)
        if planned is not None:
            self.void.add(planned.id)
            self.state.opened()[planned.board].receiver.discard(planned)
            self.state.say(f"WARNING: a worker died in {planned.id}: this phase is void")
            self._ended(planned)
