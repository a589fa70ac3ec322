"""Both ends of a pytest run: reaching for the board, and the verdict.

Failing gates become test reports, the exit status is escalated, the summary is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_espperf import outputs
from pytest_espperf.errors import EspperfError
from pytest_espperf.interrupts import deferred_signals
from pytest_espperf.items import is_phase, phase_of
from pytest_espperf.state import HANDED, PerfState, state_of

if TYPE_CHECKING:
    from pytest_espperf.session import Outcome, PerfSession

COLOURS = {"good": "green", "bad": "red", "warn": "yellow"}


def begin(session: pytest.Session) -> None:
    """Open the sessions where boards are needed.

    Raises:
        pytest.UsageError: it cannot be opened, in one sentence.
    """
    config = session.config
    state = state_of(config)
    if hasattr(config, "workerinput"):
        if state.device_needed:
            state.make_drivers(config.workerinput.get(HANDED, {}))
        return
    if not state.device_needed or config.getoption("collectonly") or config.getoption("setupplan", False):
        return
    if session.testsfailed and not config.getoption("continue_on_collection_errors"):
        return  # pytest is about to stop, too
    try:
        sessions = state.make_sessions()
        outputs.plan(config, state.settings, list(sessions))
        for perf in sessions.values():
            perf.open(alone=len(sessions) == 1)
    except EspperfError as error:
        state.close()
        raise pytest.UsageError(str(error)) from None


def hand_over(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """In a worker: let the report of a phase's setup, in which it is measured, take its figures along."""
    drivers = state_of(item.config).drivers
    if call.when == "setup" and drivers and is_phase(item):
        planned = phase_of(item)
        item.user_properties.append((HANDED, drivers[planned.board].hand_over(planned)))


def note(item: pytest.Item, report: pytest.TestReport) -> None:
    """Remember a phase whose own test failed after it was measured."""
    if not report.failed or report.when == "setup":
        return
    state = state_of(item.config)
    if is_phase(item) and (board := phase_of(item).board) in state.opened():
        state.failed.setdefault(board, []).append(item.nodeid)


def finish(session: pytest.Session, exitstatus: int) -> None:
    """Judge and write; escalate the exit status, never lower it. A worker gives its boards back."""
    state = state_of(session.config)
    for driver in state.drivers.values():
        driver.close()
    broken: list[Exception] = []
    for board, perf in state.opened().items():
        if board not in state.awaited:
            perf.abandon()
            continue
        try:
            _finish_board(session, exitstatus, board, perf)
        except Exception as error:  # noqa: BLE001 - raised below: first the other boards get what is theirs
            broken.append(error)
    if broken:
        raise broken[0]


def _finish_board(session: pytest.Session, exitstatus: int, board: str, perf: PerfSession) -> None:
    state = state_of(session.config)
    interrupted = False
    try:
        # What was measured is written, whatever is pressed; what is pressed is obeyed afterwards.
        with deferred_signals(at_once_from=3):
            failed = state.failed.get(board, [])
            outcome = perf.finish(_interruption(session, exitstatus), failed_tests=failed)
            state.outcomes[board] = outcome
            outputs.write(session.config, board, outcome.artifact, perf.store)
    except KeyboardInterrupt:
        if board not in state.outcomes:
            raise
        interrupted = True
    from pytest_espperf.report.failing import failures  # noqa: PLC0415 - only after a session

    outcome = state.outcomes[board]
    broken = failures(outcome.verdict) if outcome.fails else []
    broken += outputs.unsaved(session.config, board, outcome)
    for name, message in broken:
        _report(session, f"{board}::{name}" if board else name, message)
    if broken or outcome.fails:
        _escalate(session)
    if interrupted:
        session.exitstatus = pytest.ExitCode.INTERRUPTED


def _interruption(session: pytest.Session, exitstatus: int) -> str:
    """Why pytest stopped early, "" where it did not."""
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        return "the run was interrupted"
    if exitstatus == pytest.ExitCode.INTERNAL_ERROR:
        return "pytest met an internal error"
    stopped = session.shouldfail or session.shouldstop
    return str(stopped) if stopped else ""


def own_report(name: str, failure: str) -> pytest.TestReport:
    """A test report of ours, about no item: passed where there is no failure."""
    return pytest.TestReport(
        nodeid=f"espperf::{name}",
        location=("espperf", None, name),
        keywords={"perf": 1},
        outcome="failed" if failure else "passed",
        longrepr=failure or None,
        when="call",
    )


def _report(session: pytest.Session, name: str, message: str) -> None:
    """One failed test report, so that the terminal, JUnit files and IDEs show it by name."""
    report = own_report(name, outputs.inert(message))
    session.testscollected += 1  # the progress line counts it
    session.config.hook.pytest_runtest_logreport(report=report)
    # No such item will ever be collected: --lf must not look for it.
    last_failed = getattr(session.config.pluginmanager.get_plugin("lfplugin"), "lastfailed", {})
    last_failed.pop(report.nodeid, None)


def _escalate(session: pytest.Session) -> None:
    if session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def show(reporter: pytest.TerminalReporter, state: PerfState) -> None:
    """The summary of each session; of several boards, first what became of them."""
    if not state.outcomes:
        return
    from pytest_espperf.report.view import MOODS  # noqa: PLC0415 - only after a session

    quiet = state.config.get_verbosity() < 0
    if len(state.outcomes) > 1:
        if not quiet:
            reporter.section("espperf: boards")
        width = max(map(len, state.outcomes))
        for board, outcome in state.outcomes.items():
            colour = {COLOURS[MOODS[outcome.verdict.kind]]: True}
            reporter.write_line(f"{board:<{width}}  {outcome.verdict.kind}", **colour)
    for board, outcome in state.outcomes.items():
        if not quiet:
            reporter.section(f"espperf: {board}" if board else "espperf")
        _show_board(reporter, state.config, board, outcome)


def _show_board(
    reporter: pytest.TerminalReporter, config: pytest.Config, board: str, outcome: Outcome
) -> None:
    from pytest_espperf.report import render_terminal  # noqa: PLC0415 - only after a session

    for line in render_terminal(outcome.artifact, verbosity=config.get_verbosity()):
        colour = COLOURS.get(line.mood)
        markup = {"bold": line.bold} | ({colour: True} if colour else {})
        reporter.write_line(outputs.inert(line.text), **markup)
    if outcome.save_error:
        reporter.write_line(f"NOT SAVED: {outcome.save_error}", red=True)
    elif outcome.saved is not None:
        for name, path in (
            ("saved_json", outcome.saved.json_path),
            ("saved_md", outcome.saved.markdown_path),
        ):
            reporter.write_line(f"{name}={path}")  # the original's words: scripts look for them
    outputs.show(reporter, config, board, outcome)
