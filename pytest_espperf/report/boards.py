"""The boards of one run beside each other, and once what they have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from pytest_espperf.model.artifact import Finding, GateRow, SessionArtifact
from pytest_espperf.model.findings import INCOMPLETE, Scope
from pytest_espperf.model.gates import divided_pct
from pytest_espperf.model.text import printable
from pytest_espperf.model.verdicts import BLAMING, NOT_GATEABLE, WORST_FIRST, Mood, mood_of, rank, worst_of
from pytest_espperf.report.layout import Line, columns
from pytest_espperf.report.terminal import finding_lines
from pytest_espperf.report.view import make_view, signed_pct


@dataclass(frozen=True)
class Ended:
    """Result of one board of a run.

    Attributes:
        session: with its verdict.
        fails: whether it fails the run.
        report: URL of its own report, relative to the page over all boards; "" where there is none.
        summary: name of its Markdown file, "" where there is none.
        summary_link: its URL as that of the report; "" where it does not lie below the page.
        folder: where its artifacts are, "" where they could not be written.
        lost: what was to be written or sent, and was not.
    """

    session: SessionArtifact
    fails: bool = False
    report: str = ""
    summary: str = ""
    summary_link: str = ""
    folder: str = ""
    lost: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class BoardRow:
    """One board in words, for a table of several.

    Attributes:
        board: its name.
        verdict: of its session.
        mood: how that is meant.
        meaning: its verdict in words.
        worst: the gate that speaks most against it; None where nothing was compared.
        findings: what failed or is to be known, worst first, and why not everything was measured.
        requests: that were sent to it.
        facts: of its session.
        steps: what to do next.
    """

    board: str
    verdict: str
    mood: Mood
    meaning: str
    worst: GateRow | None
    findings: tuple[Finding, ...]
    requests: int
    facts: tuple[tuple[str, str], ...]
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Overview:
    """Summary of a run over several boards.

    Attributes:
        verdict: that of its worst board.
        mood: how that is meant; bad where any board fails the run.
        counts: how many boards have which verdict, worst first.
        failing: how many boards fail the run.
        boards: each with what became of it, worst first.
        host: the finding about the computer that drove them all; None where there is none.
        facts: what is the same for all boards.
    """

    verdict: str
    mood: Mood
    counts: tuple[tuple[str, int], ...]
    failing: int
    boards: tuple[tuple[BoardRow, Ended], ...]
    host: Finding | None
    facts: tuple[tuple[str, str], ...]


def board_row(board: str, session: SessionArtifact) -> BoardRow:
    """Describe a board for a table of several."""
    view = make_view(session)
    return BoardRow(
        board=board,
        verdict=session.gate.kind if session.gate is not None else "incomplete",
        mood=view.mood,
        meaning=view.meaning,
        worst=next((row for row in view.gates if _was_compared(row)), None),
        findings=tuple(one for one in view.findings if one.severity != "info" or one.kind == INCOMPLETE),
        requests=sum(
            result.report.requests_total
            for run in session.raw_runs
            for result in run.results
            if run.role != "reference"
        ),
        facts=view.facts,
        steps=view.next_steps,
    )


def _was_compared(row: GateRow) -> bool:
    return row.verdict in BLAMING or (row.d_pct is not None and row.verdict != NOT_GATEABLE)


def render_boards(
    sessions: Mapping[str, SessionArtifact], brief: Collection[str] = (), host: Finding | None = None
) -> list[Line]:
    """Render a line for each board with its verdict, and the finding about the computer that drove them all.

    Args:
        sessions: with their verdicts, by the name of their board.
        brief: boards of which nothing else is shown: their line has their worst gate too, and their warnings
            stand below it.
        host: see :func:`pytest_espperf.gate.host_finding`.
    """
    rows = [board_row(board, session) for board, session in sessions.items()]
    widths = [max((len(printable(row.board)) for row in rows), default=0) + 2]
    widths.append(max((len(row.verdict) for row in rows), default=0) + 2)
    lines = []
    for row in rows:
        worst = row.worst if row.board in brief else None
        gate = f"{worst.name} {signed_pct(divided_pct(worst, worst.d_pct))}" if worst is not None else ""
        text = columns((row.board, row.verdict), widths, texts=2)
        lines.append(Line(f"{text}{gate}".rstrip(), row.mood))
        if row.board in brief:
            lines += finding_lines(row.findings)
    return [*lines, *finding_lines([host] if host is not None else [])]


def make_overview(ended: Mapping[str, Ended], host: Finding | None = None) -> Overview:
    """Gather what is shown of a run over several boards.

    Args:
        ended: at least one board, by its name.
        host: see :func:`pytest_espperf.gate.host_finding`; the boards' own findings about it are left out.
    """
    pairs = [(_row_of(board, one, host), one) for board, one in ended.items()]
    pairs.sort(key=lambda pair: _worst_first(*pair))
    worst, worst_ended = pairs[0]
    counts = Counter(row.verdict for row, _ in pairs)
    return Overview(
        verdict=worst_of(counts),
        mood="bad" if worst_ended.fails else worst.mood,
        counts=tuple((word, counts[word]) for word in WORST_FIRST if counts[word]),
        failing=sum(one.fails for one in ended.values()),
        boards=tuple(pairs),
        host=host,
        facts=_common(pairs),
    )


def _row_of(board: str, ended: Ended, host: Finding | None) -> BoardRow:
    row = board_row(board, without(ended.session, "computer") if host is not None else ended.session)
    steps = row.steps
    if ended.fails or mood_of(row.verdict) != "good":
        steps += (f"this board whole, and no other, again: the same command with -k {board}-run",)
    return replace(row, findings=(*ended.lost, *row.findings), steps=steps)


def _worst_first(row: BoardRow, ended: Ended) -> tuple[bool, int, float]:
    change = row.worst.d_pct if row.worst is not None else None
    return not ended.fails, rank(row.verdict), -(change or 0.0)


def _common(pairs: Sequence[tuple[BoardRow, Ended]]) -> tuple[tuple[str, str], ...]:
    """Collect the facts that all boards share, when the first began, and the totals."""
    rows = [row for row, _ in pairs]
    facts = {
        "time": min((value for row in rows for name, value in row.facts if name == "time"), default=""),
        **{name: value for name, value in rows[0].facts if all((name, value) in row.facts for row in rows)},
        "requests": f"{sum(row.requests for row in rows):,}",
        "artifacts": ", ".join(sorted({ended.folder for _, ended in pairs if ended.folder})),
    }
    return tuple((name, value) for name, value in facts.items() if value)


def without(session: SessionArtifact, scope: Scope) -> SessionArtifact:
    """Leave out the findings of a scope, which are shown elsewhere, once for all boards."""
    if session.gate is None:
        return session
    kept = [finding for finding in session.gate.findings if finding.scope != scope]
    return structs.replace(session, gate=structs.replace(session.gate, findings=kept))


def in_common(sessions: Iterable[SessionArtifact], scope: Scope) -> list[Finding]:
    """Collect the findings of a scope from several sessions, each once."""
    carried = (finding for one in sessions if one.gate is not None for finding in one.gate.findings)
    found: list[Finding] = []
    for finding in carried:
        if finding.scope == scope and finding not in found:
            found.append(finding)
    return found
