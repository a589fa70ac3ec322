"""Both ends of a pytest run: reaching for the board, and the verdict.

Failing gates become test reports, the exit status is escalated, the summary is shown.
"""

from __future__ import annotations

import pytest

from pytest_espperf import outputs
from pytest_espperf.errors import EspperfError
from pytest_espperf.interrupts import deferred_signals
from pytest_espperf.items import is_phase
from pytest_espperf.state import PerfState, state_of

COLOURS = {"good": "green", "bad": "red", "warn": "yellow"}


def begin(session: pytest.Session) -> None:
    """Open the session where a board is needed.

    Raises:
        pytest.UsageError: it cannot be opened, in one sentence.
    """
    config = session.config
    state = state_of(config)
    if not state.device_needed or config.getoption("collectonly") or config.getoption("setupplan", False):
        return
    if session.testsfailed and not config.getoption("continue_on_collection_errors"):
        return  # pytest is about to stop, too
    try:
        perf = state.make_session()
        outputs.plan(config, state.settings)
        perf.open()
    except EspperfError as error:
        state.close()
        raise pytest.UsageError(str(error)) from None


def note(item: pytest.Item, report: pytest.TestReport) -> None:
    """Remember a phase whose own test failed after it was measured."""
    if not report.failed or report.when == "setup":
        return
    state = state_of(item.config)
    if state.session is not None and state.session.is_open and is_phase(item):
        state.failed.append(item.nodeid)


def finish(session: pytest.Session, exitstatus: int) -> None:
    """Judge and write; escalate the exit status, never lower it."""
    state = state_of(session.config)
    perf = state.session
    if perf is None or not perf.is_open:
        return
    if not state.selected:
        perf.abandon()
        return
    interrupted = False
    try:
        # What was measured is written, whatever is pressed; what is pressed is obeyed afterwards.
        with deferred_signals(at_once_from=3):
            state.outcome = perf.finish(_interruption(session, exitstatus), failed_tests=state.failed)
            outputs.write(session.config, state.outcome.artifact, perf.store)
    except KeyboardInterrupt:
        if state.outcome is None:
            raise
        interrupted = True
    from pytest_espperf.report.failing import failures  # noqa: PLC0415 - only after a session

    broken = failures(state.outcome.verdict) if state.outcome.fails else []
    broken += outputs.unsaved(state)
    for name, message in broken:
        _report(session, name, message)
    if broken or state.outcome.fails:
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


def _report(session: pytest.Session, name: str, message: str) -> None:
    """One failed test report, so that the terminal, JUnit files and IDEs show it by name."""
    report = pytest.TestReport(
        nodeid=f"espperf::{name}",
        location=("espperf", None, name),
        keywords={"perf": 1},
        outcome="failed",
        longrepr=outputs.inert(message),
        when="call",
    )
    session.testscollected += 1  # the progress line counts it
    session.config.hook.pytest_runtest_logreport(report=report)
    # No such item will ever be collected: --lf must not look for it.
    last_failed = getattr(session.config.pluginmanager.get_plugin("lfplugin"), "lastfailed", {})
    last_failed.pop(report.nodeid, None)


def _escalate(session: pytest.Session) -> None:
    if session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def show(reporter: pytest.TerminalReporter, state: PerfState) -> None:
    """The summary of the session."""
    if state.outcome is None:
        return
    from pytest_espperf.report import render_terminal  # noqa: PLC0415 - only after a session

    verbosity = state.config.get_verbosity()
    if verbosity >= 0:
        reporter.section("espperf")
    for line in render_terminal(state.outcome.artifact, verbosity=verbosity):
        colour = COLOURS.get(line.mood)
        markup = {"bold": line.bold} | ({colour: True} if colour else {})
        reporter.write_line(outputs.inert(line.text), **markup)
    if state.outcome.save_error:
        reporter.write_line(f"NOT SAVED: {state.outcome.save_error}", red=True)
    elif state.outcome.saved is not None:
        for name, path in (
            ("saved_json", state.outcome.saved.json_path),
            ("saved_md", state.outcome.saved.markdown_path),
        ):
            reporter.write_line(f"{name}={path}")  # the original's words: scripts look for them
    outputs.show(reporter, state)
