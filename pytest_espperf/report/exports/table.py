"""CSV: one row for each phase of each run, and one for each of its paths."""

from __future__ import annotations

import csv
import io
import typing
from collections.abc import Iterator, Sequence

from pytest_espperf.model.artifact import PathReport, PhaseResult, RawRun, SessionArtifact
from pytest_espperf.model.registry import METRICS
from pytest_espperf.model.text import printable

KEYS = ("session_id", "timestamp_utc", "tag", "profile", "phase", "run", "role", "path", "elapsed_s")


def _numbers() -> dict[str, str]:
    """Column -> field: every number of a report; a unit that its name lacks is added."""
    hints = typing.get_type_hints(PathReport)
    fields = [name for name in PathReport.__struct_fields__ if hints[name] in (int, float, float | None)]
    percents = {name for name, metric in METRICS.items() if metric.unit == "%"}
    return {f"{name}_pct" if name in percents else name: name for name in fields}


NUMBERS = _numbers()
COLUMNS = (*KEYS, *NUMBERS)

OWN_COLUMNS = ("figure", "value", "unit")
"""Of the firmware's own figures: a row each, in which all but the session is empty."""


def render_csv(session: SessionArtifact) -> str:
    """Render the raw results, then the firmware's own figures.

    ``path`` is empty for all paths together, a cell where there is no figure.

    A text is one printable line; one that a spreadsheet would take for a formula gets an apostrophe in front
    (in a file from elsewhere: a path begins with ``/``, a profile with a letter).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    some = _some(session)
    writer.writerow((*COLUMNS, *some.values(), *(OWN_COLUMNS if session.figures else ())))
    for run in session.raw_runs:
        for result in run.results:
            writer.writerows(_rows(session, run, result, tuple(some)))
    gap = [""] * (len(COLUMNS) - 3 + len(some))
    for name, figure in session.figures.items():
        for value in figure.values:
            keys = map(inert_cell, (session.session_id, session.timestamp_utc, session.tag))
            writer.writerow((*keys, *gap, inert_cell(name), value, inert_cell(figure.unit)))
    return text.getvalue()


def _some(session: SessionArtifact) -> dict[str, str]:
    """Metric -> column of those that only some phases have, as far as the session has them."""
    had = {name for _, result in session.results() for name in result.report.figures}
    return {
        name: f"{name}_pct" if metric.unit == "%" else name for name, metric in METRICS.items() if name in had
    }


def _rows(
    session: SessionArtifact, run: RawRun, result: PhaseResult, some: Sequence[str]
) -> Iterator[list[object]]:
    parts = {"": result.report, **{path: part for path, part in result.report.path_metrics.items() if path}}
    for path, report in parts.items():
        keys = (
            *(session.session_id, session.timestamp_utc, session.tag),
            *(result.profile, result.phase, run.run_index, run.role, path, result.report.elapsed),
        )
        numbers = [getattr(report, name) for name in NUMBERS.values()]
        numbers += [report.value(name) for name in some]
        numbers += [None] * (len(OWN_COLUMNS) if session.figures else 0)
        yield [inert_cell(key) if isinstance(key, str) else key for key in keys] + [
            "" if number is None else number for number in numbers
        ]


def inert_cell(text: str) -> str:
    """Return a text as one printable line that no spreadsheet takes for a formula."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown
