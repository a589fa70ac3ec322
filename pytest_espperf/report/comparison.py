"""Two sessions side by side in 80 columns of text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.model.comparison import COLUMNS, ComparedCell, Comparison, ProfileChange
from pytest_espperf.model.gates import POINTS, divided
from pytest_espperf.model.registry import METRICS, PER_SECOND, Metric, common_unit, find_metric
from pytest_espperf.model.text import clip, grouped
from pytest_espperf.model.verdicts import UNJUDGED, Mood
from pytest_espperf.report.changes import pair_text, size_text
from pytest_espperf.report.layout import WIDTH, Line, columns, wrapped
from pytest_espperf.report.listing import SHOWN_OF_AN_ID

_NAME, _WHO, _FIGURE = 27, 8, 9
_FIGURE_WIDTHS = (27, 22, 11, 11, 9)
_WIDTHS = (_NAME, _WHO, *(_FIGURE for _ in COLUMNS))


def render_comparison(
    comparison: Comparison, *, everything: bool = False, when: Callable[[str], str] = str
) -> list[Line]:
    """Render the answer in a sentence, which two sessions, the rules, and the figures, worst first.

    Args:
        comparison: of two sessions.
        everything: rows within the noise, too.
        when: how the time of a session is written.
    """
    why = comparison.why_not()
    mood: Mood = "warn" if why else _mood(comparison)
    answer = f"NOT COMPARABLE: {why}" if why else comparison_sentence(comparison)
    lines = [Line(text, mood, bold=True) for text in wrapped(answer, hanging=4)]
    lines += [_session("A", comparison.a, when), _session("B", comparison.b, when), Line("")]
    lines += _rules(comparison)
    shown = list(comparison.cells) if everything or why else _telling(comparison)
    hidden = [cell for cell in _distinct(comparison.cells) if cell not in shown]
    if shown:
        unit = common_unit(cell.unit for cell in shown)
        lines.append(Line(_head(unit), bold=True))
        lines += [line for cell in shown for line in _cell(cell, mixed=unit == PER_SECOND)]
        lines += [
            Line(text) for text in wrapped("slower: B against A, slower positive; of errors in points (pt)")
        ]
    lines += [Line(text) for text in wrapped(_folded(comparison, shown, hidden), hanging=4)]
    lines += _figures(comparison)
    for which, names in (("A", comparison.only_a), ("B", comparison.only_b)):
        lines += [Line(text) for name in names for text in wrapped(f"only in {which}: {name}", hanging=4)]
    return lines


def comparison_sentence(comparison: Comparison) -> str:
    """Describe how B differs from A: which profiles are slower, by how much, and how many are as before."""
    if why := comparison.why_not():
        return f"not comparable: {why}"
    of = {
        word: [one for one in comparison.profiles if one.verdict == word]
        for word in ("worse", "better", "within-noise", "unknown")
    }
    if not (of["worse"] or of["better"]):
        return "; ".join([_no_difference(comparison, of["within-noise"]), *_unknown(of["unknown"])])
    parts = []
    if of["worse"]:
        parts.append(f"B {_changed('is slower', 'has more errors', of['worse'])}")
    if of["better"]:
        who = "" if of["worse"] else "B "
        parts.append(f"{who}{_changed('is faster', 'has fewer errors', of['better'])}")
    if within := len(of["within-noise"]):
        verb = "is" if within == 1 else "are"
        parts.append(f"{within} of {len(comparison.profiles)} profiles {verb} within the noise")
    return "; ".join([*parts, *_unknown(of["unknown"])])


def _changed(in_time: str, in_errors: str, changes: Sequence[ProfileChange]) -> str:
    """``is slower: python_heavy 60 % slower (...)``, or ``has more errors: python_light 2.5 points``."""
    if any(one.metric for one in changes):
        return f"{in_time}: {', '.join(f'{one.profile} {_size(one)}' for one in changes)}"
    return (
        f"{in_errors}: {', '.join(f'{one.profile} {abs(one.errors or 0.0):.1f} points' for one in changes)}"
    )


def _size(change: ProfileChange) -> str:
    """``60 % slower (239 -> 149 req/s)``, and the errors where they changed as well."""
    parts = []
    if change.metric:
        metric = find_metric(change.metric, change.unit)
        size = size_text(metric, change.a, change.b, change.slower_pct)
        parts.append(f"{size} ({pair_text(metric, change.a, change.b)})")
    if change.errors is not None:
        parts.append(size_text(POINTS, 0.0, change.errors, None))
    return " and ".join(parts)


def _unknown(changes: Sequence[ProfileChange]) -> list[str]:
    names = ", ".join(one.profile for one in changes)
    return [f"no figures to compare of {names}"] if names else []


def _no_difference(comparison: Comparison, within: Sequence[ProfileChange]) -> str:
    """Describe sessions whose profiles are all within the noise, and the row that is not."""
    if not within:
        return "no profile could be compared"
    noise = f"all {len(within)} profiles are within the noise"
    if len(within) == 1:
        (one,) = within
        pair = pair_text(find_metric(one.metric, one.unit), one.a, one.b)
        noise = f"{one.profile} is within the noise ({pair})"
    beyond = [cell for cell in _distinct(comparison.cells) if cell.beyond_noise]
    if not beyond:
        return f"no difference: {noise}"
    count = len(beyond) - 1
    more = f", and {count} more row{'s' if count > 1 else ''} changed" if count else ""
    return f"{noise}, but {_row_change(beyond[0])}{more}"


def _row_change(cell: ComparedCell) -> str:
    """``python_light:burst /deps is 80 % slower (p95 12.0 -> 21.6 ms)``."""
    name = f"{cell.cell} {cell.path}".strip()
    changes = {
        metric: abs(math.log1p(slower / 100)) / max(1e-9, math.log1p((cell.noise[metric] or 0.0) / 100))
        for metric in cell.noise
        if (slower := cell.slower[metric]) is not None and slower > -100
    }
    largest = max(changes, key=lambda metric: changes[metric], default="")
    if not largest or changes[largest] <= 1:
        return f"{name} changed"
    metric = find_metric(largest, cell.unit)
    size = size_text(metric, cell.a[largest], cell.b[largest], cell.slower[largest])
    return f"{name} is {size} ({pair_text(metric, cell.a[largest], cell.b[largest])})"


def _mood(comparison: Comparison) -> Mood:
    words = {one.verdict for one in comparison.profiles}
    if "worse" in words:
        return "bad"
    return "good" if words <= {"better", "within-noise"} else "warn"


def _telling(comparison: Comparison) -> list[ComparedCell]:
    """Choose the rows to show: phases of profiles that changed, and what else is beyond the noise."""
    changed = {one.profile for one in comparison.profiles if one.verdict != "within-noise"}
    beyond = {cell.cell for cell in comparison.cells if cell.beyond_noise}
    aggregated = comparison.b.aggregated
    return [
        cell
        for cell in _distinct(comparison.cells)
        if cell.beyond_noise
        or (not cell.path and (cell.cell in beyond or aggregated[cell.cell].profile in changed))
    ]


def _distinct(cells: Sequence[ComparedCell]) -> list[ComparedCell]:
    """Leave out the only path of a phase, which has the figures of the phase."""
    phases = {cell.cell: cell for cell in cells if not cell.path}
    paths = Counter(cell.cell for cell in cells if cell.path)

    def repeats(cell: ComparedCell) -> bool:
        phase = phases.get(cell.cell)
        if not cell.path or phase is None or paths[cell.cell] > 1:
            return False
        return (cell.a, cell.b) == (phase.a, phase.b) and cell.beyond_noise <= phase.beyond_noise

    return [cell for cell in cells if not repeats(cell)]


def _folded(comparison: Comparison, shown: Sequence[ComparedCell], hidden: Sequence[ComparedCell]) -> str:
    """Name in one sentence the rows that are not shown; "" where all are."""
    if not hidden:
        return ""
    seen = {comparison.b.aggregated[cell.cell].profile for cell in shown}
    profiles = dict.fromkeys(comparison.b.aggregated[cell.cell].profile for cell in hidden)
    whole = [name for name in profiles if name not in seen]
    rest = sum(comparison.b.aggregated[cell.cell].profile in seen for cell in hidden)
    parts = [*whole, *([f"{rest} more row{'s' if rest > 1 else ''}"] if rest else [])]
    return f"within the noise: {', '.join(parts)}; --all shows {'them' if len(hidden) > 1 else 'it'}"


def _session(which: str, session: SessionArtifact, when: Callable[[str], str]) -> Line:
    verdict = session.gate.kind if session.gate is not None else UNJUDGED
    facts = (
        when(session.timestamp_utc),
        session.session_id[:SHOWN_OF_AN_ID],
        verdict,
        session.target,
        session.tag,
    )
    return Line(clip(f"{which}  {'  '.join(fact for fact in facts if fact)}", WIDTH))


def _figures(comparison: Comparison) -> list[Line]:
    """Lay out what only some phases have, and the firmware's own figures."""
    if not comparison.figures:
        return []
    head = Line(columns(("figures", "", "A", "B", "slower"), _FIGURE_WIDTHS, texts=2), bold=True)
    lines = [Line(""), head]
    for one in comparison.figures:
        metric = find_metric(one.metric, one.unit, one.better)
        assert metric is not None
        label = f"{metric.label} {metric.unit}".rstrip() if metric.only_some else metric.unit
        values = (metric.number(one.a), metric.number(one.b), _change(metric, one.slower_pct))
        lines.append(Line(columns((one.name, label, *values), _FIGURE_WIDTHS, texts=2)))
    return lines


def _rules(comparison: Comparison) -> list[Line]:
    if not comparison.rules:
        return []
    broken = comparison.broken
    if not broken:
        return [Line(f"every rule is kept ({len(comparison.rules)} figures)", "good", bold=True), Line("")]
    head = Line(f"{len(broken)} of {len(comparison.rules)} figures break a rule", "bad", bold=True)
    sentences = [f"{one.name}: {one.detail}" for one in broken]
    lines = [Line(text, "bad") for one in sentences for text in wrapped(one, indent=2, hanging=2)]
    return [head, *lines, Line("")]


def _head(unit: str) -> str:
    titles = []
    for name in COLUMNS:
        metric = find_metric(name, unit) or METRICS[name]
        short = f"{metric.label} {metric.unit}"
        titles.append(short if len(short) < _FIGURE else metric.unit)
    return columns(("medians", "", *titles), _WIDTHS, texts=2)


def _cell(cell: ComparedCell, *, mixed: bool) -> list[Line]:
    name = f"  {cell.path}" if cell.path else cell.cell
    below = f"  {cell.unit}" if mixed else ""

    def line(first: str, who: str, texts: list[str]) -> Line:
        return Line(columns((first, who, *texts), _WIDTHS, texts=2))

    return [
        line(name, "A", [_figure(cell.a[metric]) for metric in COLUMNS]),
        line(below, "B", [_figure(cell.b[metric]) for metric in COLUMNS]),
        line("", "slower", [_change(METRICS[metric], cell.slower[metric]) for metric in COLUMNS]),
    ]


def _figure(value: float | None) -> str:
    return "-" if value is None else grouped(value, 1)


def _change(metric: Metric, slower: float | None) -> str:
    if slower is None:
        return "-"
    value = divided(metric, slower)
    digits = 1 if abs(value) < 100 else 0
    text = f"{round(value, digits) + 0.0:+.{digits}f}" if abs(value) < 1e12 else f"{value:+.3g}"
    return f"{text} {'pt' if metric.name == POINTS else '%'}"
