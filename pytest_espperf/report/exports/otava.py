"""A history for Apache Otava: a CSV file for each test that its importer reads, and its configuration. Pure.

Otava looks for change points in each column; a row needs a value in every one. So the gates that the same
sessions have share a file, and each file begins where the newest workload does.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence

from pytest_espperf.model.text import printable
from pytest_espperf.report.exports.table import inert_cell
from pytest_espperf.report.html.data import OTHER_WORKLOAD, HistoryPage, Trend, TrendPoint

CONFIG = "otava.yaml"
GROUP = "espperf"
"""Name of the group of all tests."""

TIME = "time"
ATTRIBUTES = ("commit", "firmware", "session", "verdict")

_ODD = re.compile(r"[^A-Za-z0-9._-]+")


def render_otava(page: HistoryPage) -> dict[str, str]:
    """Render a history: name of a file -> its text.

    The configuration is JSON, which is YAML, too; its files are relative to the folder of all.
    """
    files: dict[str, str] = {}
    tests: dict[str, object] = {}
    many = len({trend.board for trend in page.trends}) > 1
    for trends, points in _tables(page.trends):
        board = f"{trends[0].board}." if many else ""
        name = _free(_ODD.sub("_", f"{board}{trends[0].group}"), tests)
        files[f"{name}.csv"] = _table(trends, points)
        tests[name] = {
            "type": "csv",
            "file": f"{name}.csv",
            "time_column": TIME,
            "attributes": list(ATTRIBUTES),
            "metrics": {
                printable(trend.metric): {
                    "column": printable(trend.metric),
                    "direction": 1 if trend.described.better == "higher" else -1,
                    "scale": 1,
                }
                for trend in trends
            },
        }
    config = {"tests": tests, "test_groups": {GROUP: list(tests)}}
    return {CONFIG: json.dumps(config, indent=2) + "\n", **files}


def _free(name: str, taken: dict[str, object]) -> str:
    """Return a name that is not taken, whatever case files have."""
    lower = {one.lower() for one in taken}
    count = 1
    found = name
    while found.lower() in lower:
        count += 1
        found = f"{name}-{count}"
    return found


def _tables(trends: Sequence[Trend]) -> Iterator[tuple[list[Trend], list[tuple[TrendPoint, ...]]]]:
    """Group the gates of one board and profile that the same sessions have, with their points."""
    tables: dict[tuple[object, ...], tuple[list[Trend], list[tuple[TrendPoint, ...]]]] = {}
    for trend in trends:
        points = _of_newest_workload(trend.points)
        key = (trend.board, trend.group, tuple(point.session.file for point in points))
        found = tables.setdefault(key, ([], []))
        found[0].append(trend)
        found[1].append(points)
    yield from tables.values()


def _of_newest_workload(points: tuple[TrendPoint, ...]) -> tuple[TrendPoint, ...]:
    begins = max((place for place, one in enumerate(points) if one.opens == OTHER_WORKLOAD), default=0)
    return points[begins:]


def _table(trends: Sequence[Trend], points: Sequence[tuple[TrendPoint, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((TIME, *ATTRIBUTES, *(printable(trend.metric) for trend in trends)))
    for row in zip(*points, strict=True):
        one = row[0].session
        facts = (one.moment, one.commit, one.firmware, one.session_id[:8], row[0].verdict or one.verdict)
        writer.writerow((*map(inert_cell, facts), *(point.value for point in row)))
    return text.getvalue()
