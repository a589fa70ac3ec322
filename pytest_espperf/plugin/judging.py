"""Judging a board once all of it is measured, and saying so in its verdict items or in their place.

A board is judged before its first verdict item is set up, after what is measured again. Where there is none
(pytest-xdist, whose controller has no items; items that were deselected; a run that was interrupted), it is
judged at the end, and reports like those of items are logged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import time
from typing import Literal

import pytest

from pytest_espperf.interrupts import deferred_signals
from pytest_espperf.model.text import inert, printable
from pytest_espperf.plugin import outputs
from pytest_espperf.plugin.confirming import measure_again
from pytest_espperf.plugin.state import PerfState, VerdictKey, VerdictText, state_of
from pytest_espperf.plugin.verdict_items import VerdictItem
from pytest_espperf.report.view import failures, headline_of
from pytest_espperf.session.saving import SessionOutcome
from pytest_espperf.session.session import PerfSession


def before_item(item: VerdictItem) -> None:
    """Judge the board of a verdict item, if none of its items did so before."""
    state, board = state_of(item.config), item.key.board
    perf = state.opened().get(board)
    if perf is None or board in state.outcomes or board not in state.awaited:
        return
    measure_again(item.session, perf, item)
    finish_board(item.session, board, perf)


def after_items(session: pytest.Session) -> None:
    """Judge the boards that no verdict item has judged, after a run that nothing has stopped."""
    state = state_of(session.config)
    if session.shouldstop or session.shouldfail or state.ended_by:
        return
    for board, perf in state.opened().items():
        if board in state.awaited and board not in state.outcomes:
            measure_again(session, perf, None)
            finish_board(session, board, perf)
    if not state.selected:  # the controller of pytest-xdist
        report_verdicts(session, state.verdicts)


def finish_board(session: pytest.Session, board: str, perf: PerfSession, interrupted: str = "") -> None:
    """Judge and write one board's session, whatever is pressed; what is pressed is obeyed afterwards."""
    state = state_of(session.config)
    with deferred_signals(at_once_from=3):
        outcome = perf.finish(interrupted, failed_tests=state.failed.get(board, []))
        state.outcomes[board] = outcome
        outputs.write(session.config, board, outcome.artifact, perf.store)
        state.verdicts.update(_texts(session, board, perf, outcome))


def _texts(
    session: pytest.Session, board: str, perf: PerfSession, outcome: SessionOutcome
) -> Iterator[tuple[VerdictKey, VerdictText]]:
    """Yield what each verdict item of a board says."""
    state = state_of(session.config)
    profiles = [profile.name for profile in perf.context.plan.profiles]
    broken = failures(outcome.verdict) if outcome.fails else perf.failures_of_selection()
    if place := state.stopped_in.get(board):
        broken = [_once(pair, outcome.artifact.hard_stop_reason, place) for pair in broken]
    broken += [(name, line) for name, line in state.measured_again.get(board, []) if outcome.fails]
    lost = outputs.unsaved(session.config, board, outcome)
    unjudged = ""
    if outcome.verdict.kind == "incomplete":
        unjudged = f"incomplete: {'; '.join(finding.message for finding in outcome.verdict.findings[:1])}"
    of_profiles = {name: [pair for pair in broken if pair[0].partition(":")[0] == name] for name in profiles}
    for name, own in of_profiles.items():
        yield VerdictKey(board, name), VerdictText(_lines(own), unjudged)
    rest = [pair for pair in broken if pair[0].partition(":")[0] not in of_profiles] + lost
    if outcome.fails and not rest and not any(of_profiles.values()):
        rest = [(outcome.verdict.kind, headline_of(outcome.verdict).text)]
    yield VerdictKey(board, ""), VerdictText(_lines(rest), unjudged)


def _once(failure: tuple[str, str], reason: str, place: str) -> tuple[str, str]:
    """Refer to the test that has reported why the session was stopped, in place of the reason."""
    name, message = failure
    return name, message.replace(reason, f"see the error of {place}") if reason else message


def _lines(broken: Iterable[tuple[str, str]]) -> str:
    return "\n".join(message if name in message else f"{name}: {message}" for name, message in broken)


def report_unreported(session: pytest.Session) -> None:
    """Report the verdicts that fail and that no item has reported."""
    state = state_of(session.config)
    left = {key: text for key, text in state.verdicts.items() if text.failure and key not in state.reported}
    report_verdicts(session, left)
    if left or any(outcome.fails for outcome in state.outcomes.values()):
        escalate(session)


def report_verdicts(session: pytest.Session, texts: dict[VerdictKey, VerdictText]) -> None:
    """Log reports as those of the verdict items would be."""
    state = state_of(session.config)
    for key, text in texts.items():
        state.reported.add(key)
        report(session, state.verdict_id(key), text)


def report(session: pytest.Session, nodeid: str, text: VerdictText) -> None:
    """Log the reports of one test: setup, call and teardown."""
    path = nodeid.partition("::")[0]
    location = (path, None, nodeid.rpartition("::")[2])
    hook = session.config.hook
    hook.pytest_runtest_logstart(nodeid=nodeid, location=location)
    for one in _reports(nodeid, location, text):
        hook.pytest_runtest_logreport(report=one)
    hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)


def _reports(
    nodeid: str, location: tuple[str, int | None, str], text: VerdictText
) -> Iterator[pytest.TestReport]:
    now = time()
    phases: tuple[Literal["setup", "call", "teardown"], ...] = ("setup", "call", "teardown")
    for when in phases:
        outcome: Literal["passed", "failed", "skipped"] = "passed"
        longrepr: str | tuple[str, int, str] | None = None
        if when == "call" and text.failure:
            outcome, longrepr = "failed", inert(text.failure)
        elif when == "call" and text.unjudged:
            outcome, longrepr = "skipped", (location[0], 0, f"Skipped: {printable(text.unjudged)}")
        yield pytest.TestReport(
            nodeid=nodeid,
            location=location,
            keywords={"perf": 1, location[2]: 1},
            outcome=outcome,
            longrepr=longrepr,
            when=when,
            start=now,
            stop=now,
        )


def escalate(session: pytest.Session) -> None:
    """Make a run fail that pytest takes for passed."""
    if session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def write_overview(session: pytest.Session, state: PerfState) -> None:
    """Write what is about all boards together, and the site; a run that lacks one of them has failed."""
    try:
        with deferred_signals(at_once_from=3):
            lost = {outputs.OF_ALL: outputs.write_overview(session.config, state.outcomes)}
            if state.outcomes and state.sharing is not None:
                lost[outputs.OF_SITE] = outputs.write_site(session.config, state.sharing.store)
            for name, why in lost.items():
                if why:
                    report(session, f"espperf::export {name}", VerdictText(why))
                    escalate(session)
    except KeyboardInterrupt:
        session.exitstatus = pytest.ExitCode.INTERRUPTED
