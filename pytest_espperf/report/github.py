"""Output for GitHub Actions: annotations of a run, and what is appended to the job's summary.

The runner takes a line for a command that begins with ``::`` or has ``##[`` anywhere in it.
"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_espperf.model.artifact import SessionArtifact, Verdict
from pytest_espperf.model.findings import ENVIRONMENT_SHIFT, NOT_EXCLUDED
from pytest_espperf.model.text import inert, printable
from pytest_espperf.model.verdicts import mood_of
from pytest_espperf.report.markdown import FOLD, UNFOLD, render_markdown
from pytest_espperf.report.slowdown import gate_message
from pytest_espperf.report.view import (
    failing_findings,
    failing_gates,
    finding_name,
    finding_text,
)

SUMMARY_LIMIT = 1024 * 1024
"""Bytes of a job's summary file, above which all of it is refused."""

_UNFOLD = f"\n{UNFOLD}\n"

CUT = "\n*Cut here: a job's summary holds no more. The whole of it lies beside the session's artifact.*\n"


def escape_data(text: str) -> str:
    """Any text as the message of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """Any text as the value of a workflow command's property."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")


def annotation_lines(
    session: SessionArtifact, lost: Iterable[tuple[str, str]] = (), board: str = ""
) -> list[str]:
    """List the lines to print: an error for what fails the session, a warning for what a reader must know.

    Args:
        session: with its verdict; one without has no annotations of its own.
        lost: what could not be written, by name and in words: errors too.
        board: its name where a run has several.
    """
    found = [("error", name, message) for name, message in lost]
    if session.gate is not None:
        found += _annotations(session.gate)
    who = f"espperf {board}" if board else "espperf"
    return [_command(kind, f"{who} {name}", message) for kind, name, message in found]


def _annotations(verdict: Verdict) -> list[tuple[str, str, str]]:
    found = [("error", row.name, gate_message(row, verdict.gates)) for row in failing_gates(verdict)]
    found += [
        ("error", finding_name(finding), finding_text(finding)) for finding in failing_findings(verdict)
    ]
    # A profile has one annotation: of what fails, or of what is unclear by the finding that says why.
    covered = {row.profile for row in failing_gates(verdict)}
    covered |= {one.where for one in verdict.findings if one.kind in (NOT_EXCLUDED, ENVIRONMENT_SHIFT)}
    unclear = [row for row in verdict.gates if mood_of(row.verdict) == "warn" and row.profile not in covered]
    found += [("warning", row.name, gate_message(row, verdict.gates)) for row in unclear]
    found += [
        ("warning", finding_name(finding), finding_text(finding))
        for finding in verdict.findings
        if finding.severity == "warn"
    ]
    return found


def _command(kind: str, title: str, message: str) -> str:
    return f"::{kind} title={escape_property(printable(title))}::{escape_data(inert(message))}"


def step_summary(session: SessionArtifact, used: int) -> str:
    """Render what to append to the job's summary: the Markdown report, or what of it there is room for.

    Args:
        session: with its verdict.
        used: bytes that the summary has already.

    Returns:
        whole lines; "" where there is no room for any.
    """
    text = f"\n{render_markdown(session)}"
    room = SUMMARY_LIMIT - used
    data = text.encode("utf-8", "replace")
    if len(data) <= room:
        return data.decode("utf-8")
    kept = data[: max(0, room - len(_UNFOLD) - len(CUT))].rpartition(b"\n")[0].decode("utf-8")
    folded = kept.count(FOLD) > kept.count(UNFOLD)
    return f"{kept}\n{_UNFOLD if folded else ''}{CUT}" if kept else ""
