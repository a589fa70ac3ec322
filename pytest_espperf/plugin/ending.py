"""The end of a run that measured boards: they are judged, and the verdicts are shown.

What no verdict item has reported is reported, the exit status is escalated, the summary is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest

from pytest_espperf.gate import host_finding
from pytest_espperf.history.shared.sharing import Sent
from pytest_espperf.interrupts import deferred_signals
from pytest_espperf.model.text import printable
from pytest_espperf.model.verdicts import mood_of
from pytest_espperf.plugin import judging, outputs
from pytest_espperf.plugin.items import is_phase, is_planned, phase_of, uses_device
from pytest_espperf.plugin.state import HANDED, HANDED_FIGURES, PerfState, state_of
from pytest_espperf.plugin.terminal import write_line
from pytest_espperf.report import Line, render_terminal
from pytest_espperf.report.boards import in_common, render_boards, without
from pytest_espperf.report.terminal import finding_lines
from pytest_espperf.session.saving import SessionOutcome

COLOURS = {"good": "green", "bad": "red", "warn": "yellow"}

INTERRUPTED = "the run was interrupted"

MOST_IN_FULL = 4
"""Boards of a run that are all shown in full; of more, those about which there is something to be done."""


class Interruption:
    """Memory of a Ctrl-C: a second one, while pytest handles the first, leaves another exit status."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Note the interruption before any other hook, in which the second Ctrl-C may come."""
        state_of(self.config).ended_by = INTERRUPTED


def hand_over(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """In a worker: let the report of a phase's setup, in which it is measured, take its result along.

    What a test or the console says later, the report of a test's teardown does.
    """
    workers = state_of(item.config).workers
    if call.when == "setup" and workers and is_phase(item):
        planned = phase_of(item)
        item.user_properties.append((HANDED, workers[planned.board].result_of(planned)))
    if call.when == "teardown":
        for board, worker in workers.items():
            if figures := worker.take_figures():
                item.user_properties.append((HANDED_FIGURES, [board, msgspec.json.encode(figures).decode()]))


def note(item: pytest.Item, report: pytest.TestReport) -> None:
    """Remember a phase whose own test failed after it was measured; make text from a board plain."""
    if uses_device(item):
        outputs.plain_report(report)
    if not report.failed or not is_phase(item) or not is_planned(phase_of(item)):
        return
    state, board = state_of(item.config), phase_of(item).board
    if board not in state.opened():
        return
    if report.when != "setup":
        state.failed.setdefault(board, []).append(item.nodeid)
    reason = state.sessions[board].driver.state.hard_stop_reason
    if reason and reason in report.longreprtext:
        state.stopped_in.setdefault(board, item.name)


def finish(session: pytest.Session, exitstatus: int) -> None:
    """Judge and write what is left; raise the exit status, never lower it. A worker gives its boards back."""
    state = state_of(session.config)
    for worker in state.workers.values():
        worker.close()
    broken: list[Exception] = []
    interrupted = _interruption(session, exitstatus)
    for board, perf in state.opened().items():
        try:
            if board not in state.awaited:
                perf.abandon()
            elif board not in state.outcomes:
                judging.finish_board(session, board, perf, interrupted)
        except KeyboardInterrupt:
            session.exitstatus = pytest.ExitCode.INTERRUPTED
        except Exception as error:  # noqa: BLE001 - raised below: first the other boards get what is theirs
            broken.append(error)
    judging.report_unreported(session)
    try:
        _share(session)
    except Exception as error:  # noqa: BLE001 - likewise: what is about all boards is still to be written
        broken.append(error)
    judging.write_overview(session, state)
    if broken:
        raise broken[0]


def _share(session: pytest.Session) -> None:
    """Send to a shared history what is on the disk of all boards: whatever is pressed, that stays."""
    try:
        with deferred_signals(at_once_from=3):
            state_of(session.config).share()
    except KeyboardInterrupt:
        session.exitstatus = pytest.ExitCode.INTERRUPTED


def _interruption(session: pytest.Session, exitstatus: int) -> str:
    """Why pytest stopped early, "" where it did not."""
    if ended_by := state_of(session.config).ended_by:
        return ended_by
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        return INTERRUPTED
    if exitstatus == pytest.ExitCode.INTERNAL_ERROR:
        return "pytest met an internal error"
    stopped = session.shouldfail or session.shouldstop
    return str(stopped) if stopped else ""


def show(reporter: pytest.TerminalReporter, state: PerfState) -> None:
    """Show the summary of each session; of several boards, first a table of all."""
    if not state.outcomes:
        return
    quiet = state.config.get_verbosity() < 0
    outcomes = _show_boards(reporter, state) if len(state.outcomes) > 1 else state.outcomes
    for board, outcome in outcomes.items():
        if not quiet:
            reporter.write_sep("=", printable(f"espperf: {board}") if board else "espperf")
        _show_board(reporter, state.config, board, outcome)
    if len(state.outcomes) == 1 and outputs.NO_BOARD not in state.outcomes:  # of several, one was wanted
        outputs.show_overview(reporter, state.config)


def _show_boards(reporter: pytest.TerminalReporter, state: PerfState) -> dict[str, SessionOutcome]:
    """Show what became of several boards, and what is the same for all; return those to be shown in full."""
    config, verbosity = state.config, state.config.get_verbosity()
    sessions = {board: outcome.artifact for board, outcome in state.outcomes.items()}
    common = in_common(sessions.values(), "run")
    sent = next((outcome.sent for outcome in reversed(state.outcomes.values()) if outcome.sent), None)
    outcomes = {
        board: replace(outcome, artifact=without(outcome.artifact, "run"), sent=None)
        for board, outcome in state.outcomes.items()
    }
    host = host_finding(sessions)
    if host is not None and verbosity <= 0:
        for board, outcome in outcomes.items():
            outcomes[board] = replace(outcome, artifact=without(outcome.artifact, "computer"))
    many = len(outcomes) > MOST_IN_FULL and verbosity <= 0
    brief = {
        board: outcome for board, outcome in outcomes.items() if many and _is_fine(config, board, outcome)
    }
    if verbosity >= 0:
        reporter.write_sep("=", "espperf: boards")
    sessions = {board: outcome.artifact for board, outcome in outcomes.items()}
    _write(reporter, [*render_boards(sessions, brief, host), *finding_lines(common)])
    outputs.annotate_run(reporter, common)
    for board, outcome in brief.items():
        outputs.annotate(reporter, config, board, outcome)
    folders = {str(outcome.saved.json_path.parent) for outcome in brief.values() if outcome.saved is not None}
    if verbosity == 0 and folders:
        write_line(
            reporter,
            f"{len(brief)} of {len(outcomes)} boards are shown in this table alone (-v shows them in full); "
            f"their artifacts are in {', '.join(sorted(folders))}",
        )
    _show_sent(reporter, config, sent)
    outputs.show_overview(reporter, config)
    return {board: outcome for board, outcome in outcomes.items() if board not in brief}


def _is_fine(config: pytest.Config, board: str, outcome: SessionOutcome) -> bool:
    """Whether there is nothing to be done about a board."""
    good = mood_of(outcome.verdict.kind) == "good" and not outcome.fails
    return good and not outputs.unsaved(config, board, outcome)


def _write(reporter: pytest.TerminalReporter, lines: Sequence[Line]) -> None:
    for line in lines:
        colour = COLOURS.get(line.mood)
        markup = {"bold": line.bold} | ({colour: True} if colour else {})
        write_line(reporter, line.text, **markup)


def _show_board(
    reporter: pytest.TerminalReporter, config: pytest.Config, board: str, outcome: SessionOutcome
) -> None:
    lines = render_terminal(outcome.artifact, verbosity=config.get_verbosity())
    if board and config.get_verbosity() < 0:  # no heading names it
        lines[0] = replace(lines[0], text=f"{board}: {lines[0].text}")
    _write(reporter, lines)
    if outcome.save_error:
        write_line(reporter, f"NOT SAVED: {outcome.save_error}", red=True)
    elif outcome.saved is not None:
        for name, path in (
            ("saved_json", outcome.saved.json_path),
            ("saved_md", outcome.saved.markdown_path),
        ):
            write_line(reporter, f"{name}={path}")  # the original's words: scripts look for them
    _show_sent(reporter, config, outcome.sent)
    outputs.show(reporter, config, board, outcome)


def _show_sent(reporter: pytest.TerminalReporter, config: pytest.Config, sent: Sent | None) -> None:
    if sent is not None and not (sent.arrived and config.get_verbosity() < 0):
        write_line(reporter, sent.text, red=not sent.arrived)
