"""Comparison of a board's own figures with the baseline: figures that are gone, queue peaks, a Python heap.

A rule without figures fails nothing. So a finding names each figure that the baseline had and this session
lacks, with the reason and the rule that it switches off, and the session keeps its verdict.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median

from pytest_espperf.gate.policy import LEAK_MIN_LOSS, LEAK_MIN_PHASES
from pytest_espperf.gate.series import cells_of, results_of
from pytest_espperf.model.artifact import Finding, PhaseResult, SessionArtifact
from pytest_espperf.model.figures import (
    BOOT,
    COLLECTED,
    COUNTERS,
    HEAP,
    PEAKS,
    STARTED,
    UNREAD,
    WATCHED,
    find_figure,
    number_at,
    watched,
)
from pytest_espperf.model.findings import HIGHER_PEAKS, LEAK, TELEMETRY

REBOOT = (*BOOT, STARTED, "internal_min_free")
"""The figures of the reboot rule: each of them is enough for it."""

LEAKS = (*(name for name in HEAP if name in LEAK_MIN_LOSS), *COLLECTED)
"""The figures of the leak rule."""

NAMED_MOST = 4
"""Names in one sentence; the others are counted."""

PEAK_LEVEL = 0.05
"""Chance that all runs of a session lie above all of the baseline's where nothing changed ..."""

PEAK_SHARE = 0.25
"""... and by how much they must: this share ..."""

PEAK_LEAST = 2.0
"""... and so many, since one request more in a queue is nothing."""

FALLING_SHARE = 0.9
"""Share of a collected heap's readings that lie below the one before, from which on no collection is seen."""

FALL_FACTOR = 2.0
"""A heap without a collection leaks where it falls by this many times what it moved by in the baseline."""


def telemetry_findings(
    candidate: SessionArtifact, baselines: Mapping[str, Sequence[SessionArtifact]]
) -> Iterator[Finding]:
    """Report what changed in the board's own figures, and what they lack.

    Args:
        candidate: the session.
        baselines: the sessions that it is compared with, by profile.
    """
    sessions = list({id(one): one for baseline in baselines.values() for one in baseline}.values())
    yield from _lost(candidate, sessions)
    yield from _cut(candidate)
    yield from _peaks(candidate, baselines)
    for name in COLLECTED:
        yield from _uncollected(candidate, sessions, name)


# --- figures that are gone ----------------------------------------------------------------------------------


def _counts(session: SessionArtifact) -> dict[str, int]:
    """Count the phases of a session that have each figure."""
    reports = [result.report for result in results_of(session)]
    return Counter(
        name for one in reports for name in watched(one.stats_after).keys() | watched(one.mem_after).keys()
    )


def _cut(candidate: SessionArtifact) -> Iterator[Finding]:
    """Warn of figures that were read and not kept."""
    for note in _notes(candidate):
        if not note.startswith(UNREAD):
            yield Finding(severity="warn", kind=TELEMETRY, message=f"telemetry: {note}.")


def _lost(candidate: SessionArtifact, sessions: Sequence[SessionArtifact]) -> Iterator[Finding]:
    results = results_of(candidate)
    now = _counts(candidate)
    had: dict[str, None] = {}
    for session in sessions:
        phases = len(results_of(session))
        had |= dict.fromkeys(name for name, count in _counts(session).items() if count * 2 >= phases)

    def lacks(name: str) -> bool:
        count = now.get(name, 0)
        needs = LEAK_MIN_PHASES if name in LEAKS and len(results) >= LEAK_MIN_PHASES else 0
        return count * 2 < len(results) or count < needs

    lost = [name for name in had if lacks(name)] if results else []
    if lost:
        fewest = min(now.get(name, 0) for name in lost)
        missing = len(results) - fewest
        message = (
            f"telemetry: the baseline had {_named(lost)}, missing now in {missing} of {len(results)} phases"
            f"{_because(candidate, lost)}.{_switched_off(lost, now)}"
        )
        yield Finding(severity="warn", kind=TELEMETRY, message=message)
    elif not sessions and (why := _broken(candidate, results)):
        message = f"telemetry: {why}. Without it there is no leak rule, and a reboot may pass unseen."
        yield Finding(severity="warn", kind=TELEMETRY, message=message)


def _notes(candidate: SessionArtifact) -> list[str]:
    """List what could not be read of the telemetry, and why."""
    notes = candidate.device.get("telemetry_notes")
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []


def _because(candidate: SessionArtifact, lost: Sequence[str]) -> str:
    """Explain why figures are missing: what was read in their place, else what could not be read."""
    notes = _notes(candidate)
    if notes:
        return f" ({'; '.join(notes[:2])})"
    for name in lost:
        for result in results_of(candidate):
            for tree in (result.report.stats_after, result.report.mem_after):
                value = find_figure(tree, name)
                if value is not None and number_at(tree, name) is None:
                    return f" ({name} is {str(value)[:40]!r}, and no finite number)"
    return " (the board's answer has none)"


def _broken(candidate: SessionArtifact, results: Sequence[PhaseResult]) -> str:
    """Explain why most phases could not be read without a baseline; "" for a board without telemetry."""
    absent = candidate.device.get("telemetry_absent")
    gone = absent if isinstance(absent, list) else []
    notes = [note for note in _notes(candidate) if not any(f"from {path}:" in note for path in gone)]
    empty = sum(not one.report.stats_after or not one.report.mem_after for one in results)
    return "; ".join(notes[:2]) if notes and empty * 2 > len(results) else ""


def _switched_off(lost: Sequence[str], now: Mapping[str, int]) -> str:
    """List in a sentence the rules that have no figures any more; "" where none is concerned."""
    heaps = [name for name in LEAKS if name in lost]
    rules = [f"the leak rule ({', '.join(heaps)})"] if heaps else []
    if "internal_largest" in lost or "internal_free" in lost:
        rules.append("the fragmentation rule")
    boot = [name for name in REBOOT if name in lost]
    if boot:
        left = [name for name in REBOOT if name not in lost and now.get(name)]
        rules.append(f"of the reboot rule {', '.join(boot)}" if left else "the reboot rule")
    counters = [name for name in lost if name in COUNTERS]
    if counters:
        rules.append("the watch over counters")
    return f" Switched off by it: {', '.join(rules)}." if rules else ""


def _named(names: Sequence[str]) -> str:
    """Name the first figures, those of rules before others, and count the rest."""
    ordered = sorted(names, key=lambda name: WATCHED.index(name) if name in WATCHED else len(WATCHED))
    first = sorted(ordered, key=lambda name: name in COUNTERS or name not in WATCHED)[:NAMED_MOST]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")


# --- queue peaks --------------------------------------------------------------------------------------------


def _peaks(
    candidate: SessionArtifact, baselines: Mapping[str, Sequence[SessionArtifact]]
) -> Iterator[Finding]:
    """Cells in which every run's peak lies above every run's of the baseline.

    Where nothing changed, n runs lie above m others with a chance of one in ``binomial(n + m, n)``, whatever
    the distribution.
    """
    higher = []
    for cell, results in cells_of(candidate).items():
        baseline = baselines.get(results[0].profile, ())
        before = [result for session in baseline for result in cells_of(session).get(cell, ())]
        for name, words in PEAKS.items():
            now, then = _heights(results, name), _heights(before, name)
            if not now or not then or 1 / math.comb(len(now) + len(then), len(now)) > PEAK_LEVEL:
                continue
            if min(now) > max(max(then) * (1 + PEAK_SHARE), max(then) + PEAK_LEAST - 0.5):
                moved = f"from {median(then):.0f} to {median(now):.0f}"
                higher.append(f"{cell}: the peak of {words} ({name}) rose {moved}")
    if higher:
        yield Finding(
            severity="warn",
            kind=HIGHER_PEAKS,
            message=f"{'; '.join(higher)}: every run lies above every run of the baseline.",
        )


def _heights(results: Sequence[PhaseResult], name: str) -> list[float]:
    """List the peaks of the phases that set one: a mark that was there before is not of this phase."""
    heights = []
    for result in results:
        report = result.report
        before, after = number_at(report.stats_before, name), number_at(report.stats_after, name)
        if after is not None and (before is None or after > before):
            heights.append(after)
    return heights


# --- a Python heap that is not collected any more -----------------------------------------------------------


def _values(session: SessionArtifact, name: str) -> list[float]:
    """List a figure of the heap after each phase."""
    values = (number_at(result.report.mem_after, name) for result in results_of(session))
    return [value for value in values if value is not None]


def _only_falls(values: Sequence[float]) -> bool:
    falls = sum(after < before for before, after in pairwise(values))
    return falls >= FALLING_SHARE * (len(values) - 1)


def falls_uncollected(
    candidate: SessionArtifact, sessions: Sequence[SessionArtifact], name: str, factor: float = FALL_FACTOR
) -> tuple[float, float, float] | None:
    """Measure a collected heap that falls and never comes back, where it came back in the baseline.

    The leak rule tells a leak from garbage by the collections between. Where a phase leaks more than a
    collection gives back, none shows; and a heap that only falls may be one that was not full yet. What it
    moved by in the baseline, where it was collected, tells which: garbage makes it fall no further.

    Args:
        candidate: the session.
        sessions: the baseline.
        name: of the figure.
        factor: of what it moved by in the baseline.

    Returns:
        The first and the last reading, and by how much it moved in the baseline at most; else None.
    """
    values = _values(candidate, name)
    past = [one for one in (_values(session, name) for session in sessions) if len(one) > 2]
    moved = [max(one) - min(one) for one in past if not _only_falls(one)]
    if len(values) < 3 or not moved or not _only_falls(values):
        return None
    fell = values[0] - values[-1] > max(LEAK_MIN_LOSS[name], factor * max(moved))
    return (values[0], values[-1], max(moved)) if fell else None


def _uncollected(
    candidate: SessionArtifact, sessions: Sequence[SessionArtifact], name: str
) -> Iterator[Finding]:
    found = falls_uncollected(candidate, sessions, name)
    if found is not None and len(_values(candidate, name)) >= LEAK_MIN_PHASES:
        first, last, moved = (value / 1024 for value in found)
        yield Finding(
            severity="fail",
            kind=LEAK,
            where=name,
            message=f"{name} falls from {first:.0f} KB to {last:.0f} KB and never comes back; in the "
            f"baseline it moved by {moved:.0f} KB at most, and was collected.",
        )
