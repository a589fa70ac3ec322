"""Two sessions side by side in 80 columns of text."""

from __future__ import annotations

from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.model.comparison import COLUMNS, POINTS, ComparedCell, Comparison
from pytest_espperf.model.registry import METRICS
from pytest_espperf.model.text import clip, grouped
from pytest_espperf.model.verdicts import UNJUDGED
from pytest_espperf.report.layout import WIDTH, Line, columns, wrapped
from pytest_espperf.report.listing import SHOWN_OF_AN_ID

_NAME, _WHO, _FIGURE = 27, 8, 9
_WIDTHS = (_NAME, _WHO, *(_FIGURE for _ in COLUMNS))


def render_comparison(comparison: Comparison) -> list[Line]:
    """Render which two sessions, whether they compare, the rules, and the figures, worst first."""
    lines = [_session("A", comparison.a), _session("B", comparison.b), Line("")]
    if why := comparison.why_not():
        lines += [Line(text, "warn") for text in wrapped(f"NOT COMPARABLE: {why}", hanging=4)]
        lines.append(Line(""))
    lines += _rules(comparison)
    if comparison.cells:
        lines.append(Line(_head(), bold=True))
        lines += [line for cell in comparison.cells for line in _cell(cell)]
        lines += [
            Line(text) for text in wrapped("slower: B against A, slower positive; of errors in points (pt)")
        ]
    for which, names in (("A", comparison.only_a), ("B", comparison.only_b)):
        lines += [Line(text) for name in names for text in wrapped(f"only in {which}: {name}", hanging=4)]
    return lines


def _session(which: str, session: SessionArtifact) -> Line:
    verdict = session.gate.kind if session.gate is not None else UNJUDGED
    facts = (session.timestamp_utc, session.session_id[:SHOWN_OF_AN_ID], verdict, session.target, session.tag)
    return Line(clip(f"{which}  {'  '.join(fact for fact in facts if fact)}", WIDTH), bold=True)


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


def _head() -> str:
    titles = []
    for name in COLUMNS:
        metric = METRICS[name]
        short = f"{metric.label} {metric.unit}"
        titles.append(short if len(short) < _FIGURE else metric.unit)
    return columns(("medians", "", *titles), _WIDTHS, texts=2)


def _cell(cell: ComparedCell) -> list[Line]:
    name = f"  {cell.path}" if cell.path else cell.cell

    def line(first: str, who: str, texts: list[str]) -> Line:
        return Line(columns((first, who, *texts), _WIDTHS, texts=2))

    return [
        line(name, "A", [_figure(cell.a[metric]) for metric in COLUMNS]),
        line("", "B", [_figure(cell.b[metric]) for metric in COLUMNS]),
        line("", "slower", [_change(metric, cell.slower[metric]) for metric in COLUMNS]),
    ]


def _figure(value: float | None) -> str:
    return "-" if value is None else grouped(value, 1)


def _change(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    digits = 1 if abs(value) < 100 else 0
    text = f"{round(value, digits) + 0.0:+.{digits}f}" if abs(value) < 1e12 else f"{value:+.3g}"
    return f"{text} {'pt' if metric == POINTS else '%'}"
