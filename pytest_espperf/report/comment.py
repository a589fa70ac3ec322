"""The comment on a pull request: short Markdown that a bot can find again and replace."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pytest_espperf.model.artifact import Json, PathChange, SessionArtifact
from pytest_espperf.model.text import clip, flat
from pytest_espperf.report.changes import pair_text, short_list, size_text
from pytest_espperf.report.exports.figures import began, board_of
from pytest_espperf.report.markdown import baseline_sentence, candidate_markdown, code, escape, gate_table
from pytest_espperf.report.view import View, blamed, finding_text, make_view

MOST_GATES = 4
MOST_PLACES = 2
MOST_FINDINGS = 3
MOST_OF_A_TEXT = 300
SHOWN_OF_A_COMMIT = 10

Links = Sequence[tuple[str, str]]
"""Text and address of each link."""


def marker(session: SessionArtifact) -> str:
    """Return the hidden first line, by which a bot finds the comment about the same board again."""
    name = re.sub(r"[^\w.:@+]+", "-", flat(board_of(session)), flags=re.ASCII).strip("-")
    return f"<!-- espperf:{name or 'board'} -->"


def render_comment(session: SessionArtifact, links: Links = ()) -> str:
    """Render the comment: verdict and size, the gates that changed, where, what next, the links.

    Args:
        session: with its verdict.
        links: of the last line but one; an address must be one of ``http`` or ``https`` without blanks and
            ``<>``.
    """
    view = make_view(session)
    lines = [marker(session), f"### Performance of {code(board_of(session) or 'no device')}", ""]
    lines += [f"**{view.verdict.upper()}**: {escape(clip(view.meaning, MOST_OF_A_TEXT))}.", ""]
    if session.gate is not None and (shown := short_list(session.gate, MOST_GATES)):
        lines += [*gate_table(shown, view), ""]
        if rest := baseline_sentence(session.gate, shown, view.words):
            lines += [rest, ""]
    places = _slowest(session)
    where = [f"- where: {_place(place)}" for place in places]
    if candidates := candidate_markdown(session):
        lines += [*candidates, ""]
    if listed := [*_findings(view), *where, *_next(view, places)]:
        lines += [*listed, ""]
    if links:
        lines += [" · ".join(f"[{escape(text)}](<{address}>)" for text, address in links), ""]
    return "\n".join([*lines, f"<sub>{_origin(session)}</sub>"]) + "\n"


def describe_comment(session: SessionArtifact, links: Links = ()) -> Json:
    """Describe the comment as data: its parts, and the whole text as ``body``."""
    view = make_view(session)
    gates = short_list(session.gate, MOST_GATES) if session.gate is not None else []
    return {
        "marker": marker(session),
        "session_id": session.session_id,
        "board": board_of(session),
        "verdict": view.verdict,
        "fails": session.gate is not None and session.gate.fails,
        "headline": view.meaning,
        "gates": gates,
        "places": _slowest(session),
        "next_steps": list(view.next_steps),
        "links": [{"text": text, "url": address} for text, address in links],
        "body": render_comment(session, links),
    }


def _findings(view: View) -> list[str]:
    """List the findings that a reader must know, except one that is the headline."""
    known = [finding_text(finding) for finding in view.findings if finding.severity != "info"]
    texts = [text for text in known if not view.meaning.startswith(text.removesuffix("."))]
    more = [f"- and {len(texts) - MOST_FINDINGS} more findings"] if len(texts) > MOST_FINDINGS else []
    return [f"- {escape(clip(text, MOST_OF_A_TEXT))}" for text in texts[:MOST_FINDINGS]] + more


def _slowest(session: SessionArtifact) -> list[PathChange]:
    """Choose the paths to name: of a session that fails alone, since in others they are noise."""
    if session.gate is None or not session.gate.fails:
        return []
    return [place for place in blamed(session)[:MOST_PLACES] if place.d_pct > 0]


def _place(place: PathChange) -> str:
    size = size_text(place.metric, place.baseline, place.now, place.d_pct)
    pair = pair_text(place.metric, place.baseline, place.now)
    path, cell = code(clip(place.path, MOST_OF_A_TEXT)), code(f"{place.profile}:{place.phase}")
    return f"{path} in {cell}, {escape(f'{size} ({pair})')}"


def _next(view: View, places: Sequence[PathChange]) -> list[str]:
    """List the next steps but the one that says where to look, where that stands above."""
    said = f"look at {places[0].path} " if places else "\n"
    return [f"- next: {escape(step)}" for step in view.next_steps if not step.startswith(said)]


def _origin(session: SessionArtifact) -> str:
    """Which commit or firmware, session and time it is about; short, last, in small letters."""
    commit = str(session.environment.get("git_commit") or "")[:SHOWN_OF_A_COMMIT]
    dirty = " with uncommitted changes" if commit and session.environment.get("git_dirty") else ""
    time = began(session)
    facts = [
        ("commit", commit, dirty),
        ("firmware", str(session.device.get("firmware") or ""), ""),
        ("tag", session.tag, ""),
        ("session", session.session_id[:8], ""),
        ("", f"{time:%Y-%m-%d %H:%M} UTC" if time is not None else "", ""),
    ]
    return " · ".join(
        f"{name} {code(clip(value, MOST_OF_A_TEXT))}{more}" if name else escape(value)
        for name, value, more in facts
        if value
    )
