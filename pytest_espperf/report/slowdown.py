"""The one size of a slowdown, in words: the same in the headline, in messages of failures and in annotations.

Several gates of a profile show the same slowdown by different figures. One gate stands for the profile: the
throughput where it fails, as the figure that moves least by chance, else the failing gate with the largest
change. Only its percentage is given; the others are named with from -> to alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_espperf.model.artifact import FAIL_ON_RULE, MAIN_RULE, OWN_RULE, GateRow
from pytest_espperf.model.gates import MAIN_METRIC, POINTS, change_words, worst_first
from pytest_espperf.model.verdicts import FAILING

MOST_PROFILES = 3
"""Profiles whose slowdown a headline gives."""


def leads(gates: Sequence[GateRow]) -> list[GateRow]:
    """List for each profile that fails the gate that stands for it, the worst first."""
    found: dict[str, GateRow] = {}
    for row in sorted((row for row in gates if row.verdict in FAILING), key=_place):
        found.setdefault(row.profile or row.name, row)
    return worst_first(found.values())


def _place(row: GateRow) -> tuple[bool, bool, bool, float]:
    """Sort gates of one profile: throughput first, rules about one phase and those without a size last."""
    judged = row.rule == MAIN_RULE
    return row.d_pct is None, not (judged and row.metric == MAIN_METRIC), not judged, -(row.d_pct or 0.0)


def headline(gates: Sequence[GateRow]) -> str:
    """Give the size of each profile's slowdown; "" where no gate fails.

    Example: ``python_heavy is 75 % slower (72 -> 41 req/s, p95 145 -> 252 ms)``.
    """
    found = leads(gates)
    parts = [_size(row, gates) for row in found[:MOST_PROFILES]]
    if len(found) > MOST_PROFILES:
        parts.append(f"{len(found) - MOST_PROFILES} more profiles are slower")
    return "; ".join(parts)


def _size(row: GateRow, gates: Sequence[GateRow]) -> str:
    who, moved = row.profile or row.name, row.moved
    if row.metric == POINTS:
        return f"{who} fails more requests ({moved})" if moved else f"{who} fails more requests"
    if row.d_pct is None:
        return f"{who}: {row.detail}" if row.detail else f"{who} is slower"
    at = "" if row.metric == MAIN_METRIC else f" at {_label(row)}"
    if row.is_own:
        return f"{who} is {percent(row)} worse{f' ({moved})' if moved else ''}"
    since = " since the beginning of this epoch" if row.verdict == "drift" else ""
    inside = [moved, *(f"{_label(one)} {one.moved}" for one in _beside(row, gates))]
    values = ", ".join(filter(None, inside))
    return f"{who} is {percent(row)} slower{at}{since}{f' ({values})' if values else ''}"


def _beside(row: GateRow, gates: Sequence[GateRow]) -> list[GateRow]:
    """Find the p95 that belongs beside a throughput."""
    if row.metric != MAIN_METRIC or row.rule != MAIN_RULE:
        return []
    return [
        one
        for one in gates
        if one.profile == row.profile and one.rule == MAIN_RULE and one.metric == "p95_ms" and one.moved
    ][:1]


def gate_message(row: GateRow, gates: Sequence[GateRow]) -> str:
    """Describe a gate's verdict in one sentence, with from -> to.

    Args:
        row: the gate.
        gates: all gates of its session.
    """
    if row.verdict not in FAILING:
        change = f"{row.name} {row.moved}".rstrip()
        return f"{change}: {row.verdict}{f': {row.detail}' if row.detail else ''}"
    if row.metric == POINTS:
        change = f"{row.name} rose" + (f": {row.moved}" if row.moved else "")
    elif row.d_pct is None:
        return f"{row.name}: {row.detail or row.verdict}"
    else:
        others = row.profile and any(one is not row and one.profile == row.profile for one in leads(gates))
        slower, _ = change_words(row.described)
        size = f"{slower}, too" if others else f"{percent(row)} {slower}"
        change = f"{row.name} is {size}" + (f": {row.moved}" if row.moved else "")
    why = "; ".join(filter(None, (_fails_from(row), _confirmed(row))))
    return f"{change} ({why})" if why else change


def percent(row: GateRow) -> str:
    """Give the size of a change as messages do: ``75 %``."""
    return f"{row.d_pct or 0.0:,.0f} %"


def _label(row: GateRow) -> str:
    return row.described.label if row.described is not None else row.metric


def _fails_from(row: GateRow) -> str:
    """Name the change from which on the gate fails, where that is why it does."""
    limit = row.smallest_detectable_pct if row.rule in (MAIN_RULE, OWN_RULE) else row.threshold_pct
    if limit is None or row.d_pct is None or row.d_pct < limit:
        return ""
    unit = "points" if row.metric == POINTS else "%"
    return f"fails from {limit:.0f} {unit}" if limit >= 1 else f"fails from {limit:.2g} {unit}"


def _confirmed(row: GateRow) -> str:
    """Give the reason of a gate's verdict; of a plain rule the message has it already."""
    return "" if row.rule == FAIL_ON_RULE else row.detail
