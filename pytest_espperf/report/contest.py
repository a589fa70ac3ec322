"""A comparison of firmwares in words: the headline, and what it rests on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median

from pytest_espperf.model.artifact import MAIN_RULE, Finding, GateRow, SessionArtifact
from pytest_espperf.model.contest import Candidate, Contest, FirmwareFacts
from pytest_espperf.model.findings import NOT_MEASURED
from pytest_espperf.model.gates import MAIN_METRIC, divided, worst_first
from pytest_espperf.model.registry import METRICS, find_metric
from pytest_espperf.model.text import clip, one_line
from pytest_espperf.model.verdicts import VERDICTS, Headline
from pytest_espperf.report import slowdown
from pytest_espperf.report.changes import gate_size, pair_text
from pytest_espperf.report.layout import WIDTH, Line, columns

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9. -]{0,39}")

WORDS = {
    "regressed": "slower",
    "improved": "faster",
    "unchanged": "same",
    "inconclusive": "unclear",
}
"""What a comparison of two firmwares is called, by its verdict; any other is called as it is."""

MOST_NAMED = 3

_MOST_OF_A_LABEL = 30

NEXT: dict[str, tuple[str, ...]] = {
    "inconclusive": (
        (
            "measure more pairs (--pairs, --minutes) or longer phases (--perf-long-duration), or with less "
            "load on this computer"
        ),
    ),
}


def gate_words(session: SessionArtifact) -> Mapping[str, str]:
    """Return the words for the verdicts of a session's gates that are not called as they are."""
    return WORDS if is_ab(session) else {}


def is_ab(session: SessionArtifact) -> bool:
    """Whether a session compares two firmwares in pairs."""
    return session.contest is not None and session.contest.kind == "ab"


def sides(session: SessionArtifact) -> tuple[str, str]:
    """Return what the two figures of a change are called, in the heads of columns."""
    kind = session.contest.kind if session.contest is not None else ""
    return {"ab": ("old", "new"), "bisect": ("good", "bad")}.get(kind, ("baseline", "now"))


def headline(session: SessionArtifact) -> Headline | None:
    """Say what came of a comparison; None where its verdict says it by itself, as ``failed`` does.

    Example: ``python_heavy is 12 % slower (72 -> 64 req/s) after 5 pairs in 4 min``.
    """
    gate, contest = session.gate, session.contest
    if contest is None:
        return None
    if contest.answer:
        return Headline(contest.answer)
    if gate is None or gate.kind == "incomplete":
        return _interrupted(gate.gates if gate is not None else [], contest)
    if gate.kind == "failed" and contest.kind == "ab":
        return _not_compared(gate.findings)
    if gate.kind not in WORDS:
        return None
    after = effort(contest)
    rows = [row for row in gate.gates if row.rule == MAIN_RULE]
    if gate.kind == "regressed":
        text = slowdown.headline(gate.gates)
    elif gate.kind == "improved":
        text = _faster(rows)
    elif gate.kind == "unchanged":
        text = _same(rows)
    else:
        text = _unclear(rows)
    usual = VERDICTS[gate.kind].headline
    steps = _bisect(contest) if gate.kind == "regressed" else NEXT.get(gate.kind, ())
    return Headline(f"{text or usual.text} {after}", steps)


def _bisect(contest: Contest) -> tuple[str, ...]:
    """Advise how the commit is found, where the firmwares were commits."""
    commits = [one.commit[:12] for one in contest.firmwares if one.commit]
    if len(commits) != 2:
        return ()
    ordered = sorted(contest.firmwares, key=lambda one: one.label != contest.switches[0].label)
    good, bad = (one.commit[:12] for one in ordered)
    command = f"espperf bisect {good} {bad} HOST"
    return (f"find the commit that did it: {command}, with the same --build-cmd and --flash-cmd",)


def _not_compared(findings: Sequence[Finding]) -> Headline | None:
    """Say that there is no answer, where a firmware could not be measured; None where it was."""
    for finding in findings:
        if finding.severity == "fail" and finding.kind == NOT_MEASURED:
            text = f"{finding.message.removesuffix('.')}: the firmwares were not compared"
            return Headline(text, VERDICTS["failed"].headline.next_steps)
    return None


def _interrupted(gates: Sequence[GateRow], contest: Contest) -> Headline:
    """Say how far a comparison came, and what is known by then."""
    rows = [row for row in gates if row.rule == MAIN_RULE]
    slower = slowdown.headline([row for row in rows if row.verdict == "regressed"])
    decided = {row.profile for row in rows if row.verdict == "regressed"}
    faster = _faster([row for row in rows if row.profile not in decided])
    unclear = _unclear([row for row in rows if row.profile not in decided])
    parts = [part for part in (slower, faster, unclear) if part]
    if rows and contest.pairs and not parts:
        parts = [_same(rows)]
    after = effort(contest) if contest.pairs else f"after {duration(contest.seconds)}, before the first pair"
    return Headline(
        f"interrupted {after}{': ' if parts else ''}{'; '.join(parts)}",
        ("run the same command again: a comparison needs all of its pairs in one go",)
        if contest.kind == "ab"
        else ("run the same command again",),
    )


def word_of(session: SessionArtifact, verdict: str) -> str:
    """Return the word in place of the verdict, where a comparison has its own."""
    contest = session.contest
    if contest is None:
        return verdict
    # A word is shown as it is: an artifact may hold anything.
    return contest.word if _WORD.fullmatch(contest.word) else WORDS.get(verdict, verdict)


def effort(contest: Contest) -> str:
    """``after 5 pairs in 4 min``."""
    many = "1 pair" if contest.pairs == 1 else f"{contest.pairs} pairs"
    return f"after {many} in {duration(contest.seconds)}"


def duration(seconds: float) -> str:
    """Format a time: ``45 s``, ``4 min``, ``1 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _faster(rows: Sequence[GateRow]) -> str:
    parts = []
    for row in _one_each(row for row in rows if row.verdict == "improved"):
        moved = pair_text(row.described, row.baseline, row.now)
        parts.append(f"{row.profile} is {gate_size(row)}{f' ({moved})' if moved else ''}")
    return "; ".join(_first(parts))


def _same(rows: Sequence[GateRow]) -> str:
    """Say what is excluded: of the throughput, and of the p95, which moves more."""
    most: dict[str, float] = {}
    for row in rows:
        if row.at_most_pct is not None and row.metric in (MAIN_METRIC, "p95_ms"):
            most[row.metric] = max(most.get(row.metric, 0.0), row.at_most_pct)
    if not most:
        return "no profile is slower"
    if MAIN_METRIC not in most:
        return f"no profile has a p95 that is slower by more than {most['p95_ms']:.1f} %"
    tail = f" (p95: {most['p95_ms']:.1f} %)" if "p95_ms" in most else ""
    return f"no profile is slower by more than {most[MAIN_METRIC]:.1f} %{tail}"


def _unclear(rows: Sequence[GateRow]) -> str:
    names = dict.fromkeys(row.profile for row in rows if row.verdict == "inconclusive")
    if not names:
        return ""
    return f"{', '.join(_first(list(names)))}: neither shown slower nor shown the same"


def _one_each(rows: Iterable[GateRow]) -> list[GateRow]:
    """Choose one gate of each profile, its throughput where that is among them."""
    found: dict[str, GateRow] = {}
    for row in rows:
        if row.profile not in found or row.metric == "rps_ok":
            found[row.profile] = row
    return worst_first(found.values())


def _first(parts: Sequence[str]) -> list[str]:
    more = len(parts) - MOST_NAMED
    return [*parts[:MOST_NAMED], *([f"{more} more"] if more > 0 else [])]


def basis(contest: Contest) -> list[tuple[str, str]]:
    """List what a comparison rests on, by name: firmwares, switches, boards."""
    facts = [(one_line(one.label), _candidate(one)) for one in contest.candidates]
    facts = facts or [(one_line(one.label), _firmware(one)) for one in contest.firmwares]
    if contest.pairs:
        facts.append(("pairs", f"{contest.pairs} of at most {contest.most_pairs}"))
    facts.append(("took", duration(contest.seconds)))
    if contest.switches:
        facts.append(("switches", _switches(contest)))
    if contest.boards:
        facts.append(("boards", f"{' and '.join(contest.boards)}, swapped half way"))
    if contest.board_pct:
        facts.append(("board gap", _boards(contest)))
    return facts


def _candidate(one: Candidate) -> str:
    many = f" in {one.rounds} run{'' if one.rounds == 1 else 's'}"
    parts = [
        one.word,
        f"{_shown_pct(one)}{many}" if one.d_pct is not None else "",
        f"began here: {100 * one.probability:.0f} %" if one.probability is not None else "",
        "cannot be measured" if one.trouble else "",
        one.subject,
    ]
    return ", ".join(filter(None, parts))


def _shown_pct(one: Candidate) -> str:
    """Format a change, slower positive, as a reader computes it who divides two figures of the table."""
    return f"{divided(METRICS.get(one.metric), one.d_pct):+.1f} %" if one.d_pct is not None else "-"


def candidate_rows(contest: Contest) -> list[tuple[str, ...]]:
    """List the firmwares among which an answer was looked for: a head, and a row of texts for each.

    The last column is a text: the answer, the subject of a commit, or why it could not be measured.
    """
    candidates = contest.candidates
    if not candidates:
        return []
    doubts = contest.kind == "bisect"
    metric = next((find_metric(one.metric, one.unit) for one in candidates if one.metric in METRICS), None)
    named = f"{metric.label} {metric.unit}" if metric is not None and metric.unit == "ms" else ""
    head = ("commit" if doubts else "value", "runs", named or (metric.unit if metric is not None else ""))
    against = f"vs {one_line(candidates[0].label, 12)}" if doubts else "vs best"
    rows = [(*head, against, *(("began here", "") if doubts else ("answer",)))]
    for one in candidates:
        text = f"{'skipped' if doubts else 'left out'}: {one.trouble}" if one.trouble else ""
        chance = "-" if one.probability is None else f"{100 * one.probability:.0f} %"
        rows.append(
            (
                one_line(one.label),
                str(one.rounds or "-"),
                metric.number(one.figure) if metric is not None else "-",
                _shown_pct(one),
                *((chance,) if doubts else ()),
                one_line(text or (one.subject if doubts else one.word)),
            )
        )
    return rows


def candidate_table(contest: Contest) -> Iterator[Line]:
    """Draw a table of the firmwares among which an answer was looked for; nothing where there are none."""
    rows = candidate_rows(contest)
    if not rows:
        return
    widths = [2 + max(len(row[n]) for row in rows) for n in range(len(rows[0]) - 1)]
    widths[0] = min(widths[0], _MOST_OF_A_LABEL)
    top = max((one.probability or 0.0 for one in contest.candidates), default=0.0)
    chances = [None, *(one.probability for one in contest.candidates)]
    for row, chance in zip(rows, chances, strict=True):
        line = f"{columns(row[:-1], widths)}  {row[-1]}".rstrip()
        yield Line(clip(line, WIDTH), bold=bool(chance) and chance == top)


def _firmware(one: FirmwareFacts) -> str:
    parts = [
        f"slot {one.slot}" if one.slot else one.how,
        f"commit {one.commit[:12]}" if one.commit else "",
        f"version {one.version}" if one.version else "",
        f"says {one.running!r}" if one.running and one.running != one.version else "",
    ]
    return ", ".join(filter(None, parts))


def _switches(contest: Contest) -> str:
    took = median(one.seconds for one in contest.switches)
    boots = [one.boot_s for one in contest.switches if one.boot_s is not None]
    boot = f", boot {median(boots):.1f} s" if boots else ", the board was not seen to restart"
    return f"{len(contest.switches)}, {took:.1f} s each{boot}"


def _boards(contest: Contest) -> str:
    first, second = [*contest.boards, "", ""][:2]
    parts = []
    for profile, percent in contest.board_pct.items():
        word = "slower" if percent >= 0 else "faster"
        parts.append(f"{profile} {abs(divided(METRICS[MAIN_METRIC], percent)):.1f} % {word}")
    return f"{second} against {first}: {', '.join(parts)}; that is not in the figures"
