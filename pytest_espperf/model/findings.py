"""The registry of findings: the only list of their kinds, with severities and scope. Data only.

A kind is the key ``kind`` of a finding in an artifact. Every :class:`pytest_espperf.model.artifact.Finding`
is made with a constant of this module, and displays filter findings by scope.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["fail", "warn", "info"]
"""``fail`` fails the session; ``warn`` is something a reader must know; ``info`` explains."""

SEVERITIES: tuple[Severity, ...] = ("fail", "warn", "info")
"""Severities, the worst first."""

Scope = Literal["board", "run", "computer"]
"""What a finding is about: one board's session; the run of all boards; the computer that drove them all."""


@dataclass(frozen=True)
class FindingKind:
    """One kind of finding.

    Attributes:
        name: the key ``kind`` of the finding.
        severities: those that it can have.
        scope: what it is about.
        standing: it decides whether its session may be a baseline, where the verdict leaves that open.
        kept: it does not follow from the figures, so that it survives when the session is judged again.
    """

    name: str
    severities: tuple[Severity, ...]
    scope: Scope = "board"
    standing: bool = False
    kept: bool = False


FINDINGS: dict[str, FindingKind] = {}
"""Every kind by its name. Each is defined by the constant below that has its name."""


def _kind(
    name: str, *severities: Severity, scope: Scope = "board", standing: bool = False, kept: bool = False
) -> str:
    assert name not in FINDINGS, name
    FINDINGS[name] = FindingKind(name, severities, scope, standing, kept)
    return name


# --- what was measured --------------------------------------------------------------------------------------

NOT_MEASURED = _kind("not-measured", "fail")
"""Too little of a profile was measured or, without ``where``, nothing at all."""

STOPPED = _kind("stopped", "fail")
"""The session was stopped by its hard time-out."""

BROKEN = _kind("broken", "fail", "warn")
"""The board crashed, hung or served no request in a phase."""

BUDGET = _kind("budget", "fail", "warn")
"""A phase exceeds an absolute budget."""

RATIO = _kind("ratio", "fail", "info")
"""A profile exceeds its budget against another profile of the session, or that could not be judged."""

WORST_RUN = _kind("worst-run", "fail", "warn")
"""A run exceeds a budget of any single run."""

LEAK = _kind("leak", "fail")
"""Free memory falls with the requests."""

FRAGMENTATION = _kind("fragmentation", "fail")
"""The largest free block of the heap collapsed."""

ERRORS = _kind("errors", "info")
"""Requests failed, for these reasons."""

CUT_SHORT = _kind("cut-short", "warn")
"""Runs ended before their time."""

RISEN_COUNTERS = _kind("counters", "info")
"""Counters of the board rose that a healthy board leaves alone."""

CONSOLE = _kind("console", "fail", "warn", kept=True)
"""A line on the serial console reported trouble during a phase or between two."""

RATE_LIMITED = _kind("rate-limited", "warn")
"""The board's rate limiter was measured."""

STALLED = _kind("stalled", "warn")
"""No answer came for seconds."""

TELEMETRY = _kind("telemetry", "warn")
"""Figures of the board are missing or were not kept."""

HIGHER_PEAKS = _kind("peaks", "warn")
"""Queue peaks of the board lie above those of the baseline."""

CAPACITY = _kind("capacity", "fail", "warn")
"""Clients never get an answer: the board serves fewer connections at once."""

DELAYED_ACKS = _kind("delayed-ack", "warn", "info")
"""Answers wait for delayed acknowledgements."""

FIGURES = _kind("figures", "warn", "info")
"""Figures that the baseline had and the session lacks, or the reverse, or that cannot be compared."""

ANSWERS = _kind("answers", "warn")
"""A profile's paths answer something else than in the baseline."""

REDIRECTS = _kind("redirects", "warn")
"""A profile measured redirects alone."""

LINK = _kind("link", "warn")
"""The link to the board lost packets, refused connects, or is slower or faster than before."""

REFERENCE = _kind("reference", "warn", "info")
"""What the control board showed, or that it was lost."""

GENERATOR_BOUND = _kind("generator-bound", "warn", scope="computer")
"""This computer, and not the board, set the pace, or was short of processors."""

DISTURBED = _kind("disturbed", "warn")
"""Runs were disturbed; what was done about them."""

ENDED_EARLY = _kind("ended-early", "info")
"""Profiles ended before their planned runs."""

# --- the comparison with the baseline -----------------------------------------------------------------------

INCOMPARABLE = _kind("incomparable", "warn", "info")
"""Earlier sessions differ in what was measured, and were left out."""

NO_USABLE_BASELINE = _kind("baseline", "warn")
"""Comparable sessions exist, but none of them can be a baseline."""

NAMED_BASELINE = _kind("named-baseline", "fail")
"""Nothing of this session can be compared with the baseline that was named."""

NO_BASELINE = _kind("no-baseline", "info")
"""Nothing comparable to a profile was measured before."""

NOT_JUDGED = _kind("not-judged", "warn")
"""A profile has no figures that can be compared."""

NOT_EXCLUDED = _kind("not-excluded", "warn")
"""A slowdown beyond the tolerance is neither shown nor excluded."""

ENVIRONMENT_SHIFT = _kind("environment-shift", "warn")
"""The surroundings changed: the old firmware is slower now, too."""

GATE_OFF = _kind("gate-off", "info")
"""The comparison was switched off."""

FIRMWARES = _kind("firmwares", "warn", "info", kept=True)
"""What a comparison of firmwares rests on: how they were switched, which one runs, why it ended."""

DETECTABLE = _kind("detectable", "info")
"""The slowdown that the session would have noticed."""

HELD_BACK = _kind("held-back", "warn", standing=True)
"""The session looks slower without proof, or its answers changed: it is not used as a baseline."""

PROVISIONAL = _kind("provisional", "warn", "info", standing=True)
"""The session joins the baseline though its verdict leaves that open."""

FIRST_OF_BOARD = _kind("first-of-board", "warn", "info")
"""The history has sessions of other boards only."""

# --- how the session went -----------------------------------------------------------------------------------

OWN_TEST = _kind("own-test", "fail", kept=True)
"""A project's own test of a measured phase failed; pytest has reported it by itself."""

WORKER = _kind("worker", "warn")
"""A worker of pytest-xdist died during a session, or none was left for it."""

INCOMPLETE = _kind("incomplete", "info", kept=True)
"""Phases were not measured, for these reasons."""

RECOVERED = _kind("recovered", "warn", kept=True)
"""The session ended without saving its result: this is its last checkpoint."""

LAB = _kind("lab", "warn", kept=True)
"""How long it was not known whether the board was still reserved for this session."""

NOT_WRITTEN = _kind("not-written", "fail")
"""A file of the session could not be written. Only in reports over several boards."""

NOT_SENT = _kind("not-sent", "warn")
"""The session did not reach the shared history. Only in reports over several boards."""

# --- the run of all boards ----------------------------------------------------------------------------------

SHARED_HISTORY = _kind("shared-history", "warn", scope="run")
"""The shared history is not up to date on this computer."""

UNREADABLE_ARTIFACT = _kind("unreadable-artifact", "warn", scope="run")
"""Files of the history cannot be read."""

REPOSITORY = _kind("repository", "warn", scope="run")
"""The commit of the firmware, or what is uncommitted, is not known."""

STANDING = frozenset(kind.name for kind in FINDINGS.values() if kind.standing)
"""Kinds that decide whether a session may be a baseline."""

KEPT = frozenset(kind.name for kind in FINDINGS.values() if kind.kept)
"""Kinds that survive when a session is judged again."""
