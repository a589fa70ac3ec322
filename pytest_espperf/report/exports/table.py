"""CSV: one row for each phase of each run, and one for each of its paths."""

from __future__ import annotations

import csv
import io
import typing
from collections.abc import Iterator

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


def render_csv(session: SessionArtifact) -> str:
    """Render the raw results; ``path`` is empty for all paths together, a cell where there is no figure.

    A text is one printable line; one that a spreadsheet would take for a formula gets an apostrophe in front
    (in a file from elsewhere: a path begins with ``/``, a profile with a letter).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run in session.raw_runs:
        for result in run.results:
            writer.writerows(_rows(session, run, result))
    return text.getvalue()


def _rows(session: SessionArtifact, run: RawRun, result: PhaseResult) -> Iterator[list[object]]:
    parts = {"": result.report, **{path: part for path, part in result.report.path_metrics.items() if path}}
    for path, report in parts.items():
        keys = (
            *(session.session_id, session.timestamp_utc, session.tag),
            *(result.profile, result.phase, run.run_index, run.role, path, result.report.elapsed),
        )
        numbers = [getattr(report, name) for name in NUMBERS.values()]
        yield [_inert(key) if isinstance(key, str) else key for key in keys] + [
            "" if number is None else number for number in numbers
        ]


def _inert(text: str) -> str:
    shown = printable(text)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown
