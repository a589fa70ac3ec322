"""A badge of shields: the JSON that its endpoint badge reads."""

from __future__ import annotations

import json

from pytest_espperf.model.artifact import SessionArtifact, Verdict
from pytest_espperf.model.gates import gate_of_profile
from pytest_espperf.model.text import flat, json_printable
from pytest_espperf.model.verdicts import UNJUDGED, VERDICTS, VerdictKind
from pytest_espperf.report.changes import gate_size, with_news
from pytest_espperf.report.contest import word_of
from pytest_espperf.report.exports.figures import board_of

LABEL = "performance"


def render_badge(session: SessionArtifact) -> str:
    """Render the response of an endpoint: ``schemaVersion``, ``label``, ``message``, ``color``.

    The label names the board where the run had several.
    """
    gate = session.gate
    label = f"{LABEL} {flat(board_of(session))}" if session.boards > 1 else LABEL
    document = {
        "schemaVersion": 1,
        "label": label.strip(),
        "message": UNJUDGED if gate is None else _message(session, gate),
        "color": "lightgrey" if gate is None else _color(VERDICTS[gate.kind]),
    }
    return json_printable(json.dumps(document, indent=2)) + "\n"


def _message(session: SessionArtifact, verdict: Verdict) -> str:
    """``regressed: python_heavy 60 % slower``: the verdict, and the size of what it is about."""
    word = word_of(session, verdict.kind)
    about = [row for row in with_news(verdict) if row.verdict == verdict.kind and row.profile]
    profiles = list(dict.fromkeys(row.profile for row in about))
    if not profiles:
        return word
    row = gate_of_profile(about, profiles[0])
    size = f" {gate_size(row)}" if row is not None else ""
    more = f" and {len(profiles) - 1} more" if len(profiles) > 1 else ""
    return flat(f"{word}: {profiles[0]}{size}{more}")


def _color(kind: VerdictKind) -> str:
    if kind.mood == "good":
        return "brightgreen" if kind.excludes_slowdown else "blue"
    return "red" if kind.mood == "bad" else "orange"
