"""Changes in the few words that sentences, badges and comments share: ``60 % slower (239 -> 149 req/s)``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pytest_espperf.model.artifact import MAIN_RULE, OWN_RULE, GateRow, Verdict
from pytest_espperf.model.gates import (
    MAIN_METRIC,
    POINTS,
    TAIL,
    change_words,
    divided,
    divided_pct,
    has_news,
    worst_first,
)
from pytest_espperf.model.registry import METRICS, Metric
from pytest_espperf.model.text import grouped
from pytest_espperf.model.verdicts import NOT_GATEABLE

SHOWN_RULES = (MAIN_RULE, OWN_RULE)
"""Rules of the gates that a short table shows where there is no news."""


def _metric(metric: str | Metric | None) -> Metric | None:
    return METRICS.get(metric) if isinstance(metric, str) else metric


def size_text(
    metric: str | Metric | None, before: float | None, after: float | None, slower_pct: float | None
) -> str:
    """Describe a change in percent, as ``60 % slower`` or ``25 % faster``; "" where it is unknown.

    Of errors in percentage points, as ``2.5 points more errors``. A reader who divides the two values gets
    the same figure. Of a firmware's own figure, which need be no speed, it is ``worse`` or ``better``.
    """
    found = _metric(metric)
    return _size(found, before, after, None if slower_pct is None else divided(found, slower_pct))


def _size(metric: Metric | None, before: float | None, after: float | None, shown_pct: float | None) -> str:
    """Do the same with a change that is on the scale of :func:`divided` already."""
    if metric is not None and metric.name == POINTS:
        if before is None or after is None:
            return ""
        return f"{grouped(abs(after - before), 1)} points {'more' if after >= before else 'fewer'} errors"
    if shown_pct is None:
        return ""
    if abs(shown_pct) < 0.5:
        return "0 %"
    slower, faster = change_words(metric)
    return f"{grouped(abs(shown_pct), 0)} % {slower if shown_pct > 0 else faster}"


def pair_text(metric: str | Metric | None, before: float | None, after: float | None) -> str:
    """Two values with their unit, as ``239 -> 149 req/s`` or ``p95 145 -> 252 ms``; "" without both."""
    found = _metric(metric)
    if before is None or after is None or found is None:
        return ""
    label = "" if found.name == MAIN_METRIC else f"{found.label} "
    digits = _digits(min(abs(before), abs(after)))
    return f"{label}{grouped(before, digits)} -> {grouped(after, digits)} {found.unit}".rstrip()


def value_text(metric: str | Metric | None, value: float | None) -> str:
    """Format one value with its unit in three digits, as ``239 req/s``; ``-`` where there is none."""
    found = _metric(metric)
    if value is None or found is None:
        return "-" if value is None else f"{value:.3g}"
    return f"{grouped(value, _digits(abs(value)))} {found.unit}".rstrip()


def _digits(least: float) -> int:
    """Choose the decimals with which a value has three digits."""
    return 0 if least >= 100 else 1 if least >= 10 else 2


def gate_size(row: GateRow) -> str:
    """Describe the change of a gate; see :func:`size_text`."""
    return _size(row.described, row.baseline, row.now, divided_pct(row, row.d_pct))


def with_news(verdict: Verdict) -> list[GateRow]:
    """List the gates with a verdict that is not neutral, worst first."""
    return worst_first(row for row in verdict.gates if has_news(row))


def short_list(verdict: Verdict, most: int) -> list[GateRow]:
    """Choose at most ``most`` gates for a short table: those with news, or else those of every profile."""
    telling = with_news(verdict)
    usual = [row for row in worst_first(verdict.gates) if row.rule in SHOWN_RULES and row.metric != TAIL]
    return (telling or usual)[:most]


def others_text(verdict: Verdict, shown: Sequence[GateRow], words: Mapping[str, str]) -> str:
    """Count the gates that are not shown by their verdict: ``of the other gates 4 are unchanged``.

    Args:
        verdict: of the session.
        shown: the gates that are.
        words: what verdicts are called that are not called by their own word.

    Returns:
        "" where all are shown.
    """
    names = {row.name for row in shown}
    counts = Counter(row.verdict for row in verdict.gates if row.name not in names)
    parts = [f"{count} {_said(words.get(word, word), count)}" for word, count in counts.items()]
    return f"of the other gates {' and '.join(parts)}" if parts else ""


def _said(word: str, count: int) -> str:
    if word == NOT_GATEABLE:
        return "was not judged" if count == 1 else "were not judged"
    return f"{'is' if count == 1 else 'are'} {'the same' if word == 'same' else word}"


def baseline_text(verdict: Verdict) -> str:
    """Describe what a session was compared with, as ``the median of 5 accepted sessions``; "" for nothing."""
    found = verdict.baseline.get("sessions")
    count = len(found) if isinstance(found, list) else 0
    named = verdict.baseline.get("mode") == "fixed"
    if count == 1:
        return "the session that was named" if named else "one accepted session"
    return f"the median of {count} {'named' if named else 'accepted'} sessions" if count else ""
