"""Verdicts in words that need no statistics."""

from __future__ import annotations

from pytest_espperf.artifact import MAIN_RULE, Verdict


def _percent(value: float) -> str:
    """Rounded up to what a person says: 6.3 -> "7 %"; a promise must not be rounded down."""
    whole = int(value)
    return f"{whole if value - whole < 0.05 else whole + 1} %"


def detectable(verdict: Verdict) -> dict[str, float]:
    """Profile -> slowdown in percent that would have been noticed nine times in ten.

    A profile that is slower shows in each of its gates; the sharpest of them counts.
    """
    found: dict[str, float] = {}
    for row in verdict.gates:
        if row.rule == MAIN_RULE and row.metric != "p99_ms" and row.reliable_pct is not None:
            found[row.profile] = min(found.get(row.profile, row.reliable_pct), row.reliable_pct)
    return found


def detectable_sentence(verdict: Verdict) -> str:
    """What this session would have noticed, as one sentence; "" where nothing was compared.

    Example: "This session would have noticed (nine times in ten) c_static_only being 7 % slower or more,
    python_heavy 9 %; smaller slowdowns can pass unseen."
    """
    parts = [(profile, _percent(value)) for profile, value in detectable(verdict).items()]
    if not parts:
        return ""
    (name, least), *rest = parts
    listed = ", ".join(
        [f"{name} being {least} slower or more", *(f"{other} {value}" for other, value in rest)]
    )
    return f"This session would have noticed (nine times in ten) {listed}; smaller slowdowns can pass unseen."
