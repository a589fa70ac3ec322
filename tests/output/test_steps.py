"""Where a step began: in the data of the page, on it, on the terminal, and for Apache Otava."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.stepped_history import STEP, commit_of, stepped_history, stepped_sessions

from pytest_espperf.cli import main
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.output.steps import with_changes
from pytest_espperf.output.trends import gather_history
from pytest_espperf.report.exports.otava import render_otava
from pytest_espperf.report.html.data import OTHER_WORKLOAD, HistoryPage, LevelChange, Trend
from pytest_espperf.report.steps import step_lines


@pytest.fixture(scope="module")
def sessions() -> list[SessionArtifact]:
    return stepped_sessions()


@pytest.fixture(scope="module")
def store(sessions: list[SessionArtifact], tmp_path_factory: pytest.TempPathFactory) -> HistoryStore:
    return stepped_history(tmp_path_factory.mktemp("stepped") / "history", sessions)


@pytest.fixture(scope="module")
def page(store: HistoryStore) -> HistoryPage:
    return gather_history(store)


def trend_of(page: HistoryPage, name: str) -> Trend:
    (found,) = [trend for trend in page.trends if trend.name == name]
    return found


@pytest.mark.parametrize("gate", ["heavy:rps_ok", "heavy:p95_ms"])
def test_the_session_of_a_step_is_found_though_all_behind_it_failed(page: HistoryPage, gate: str) -> None:
    trend = trend_of(page, gate)
    assert {point.kind for point in trend.points[STEP:]}.isdisjoint({"history", "accepted", "pinned"})
    (change,) = trend.changes
    assert abs(change.at - STEP) <= 1
    assert change.d_pct == pytest.approx(25, abs=6)
    worse = change.after < change.before if gate.endswith("rps_ok") else change.after > change.before
    assert worse
    assert 0.5 < change.confidence <= 1


@pytest.mark.parametrize("gate", ["light:rps_ok", "light:p95_ms"])
def test_a_gate_without_a_step_has_none(page: HistoryPage, gate: str) -> None:
    assert trend_of(page, gate).changes == ()


def test_another_workload_is_no_step_and_steps_are_looked_for_behind_it(page: HistoryPage) -> None:
    trend = trend_of(page, "heavy:rps_ok")
    points = list(trend.points)
    points[STEP] = replace(points[STEP], opens=OTHER_WORKLOAD)
    assert with_changes(replace(trend, points=tuple(points), changes=())).changes == ()
    longer = (
        *(replace(point, value=point.value * 3) for point in points[:5]),
        *points[STEP:],
        *points[:STEP],
    )
    moved = with_changes(replace(trend, points=longer, changes=()))
    edge = next(place for place, one in enumerate(longer) if one.opens == OTHER_WORKLOAD)
    assert [abs(one.at - (edge + len(points) - STEP)) <= 1 for one in moved.changes] == [True]
    assert moved.changes[0].d_pct < 0, "it became faster again"


def test_values_that_have_no_logarithm_are_left_out(page: HistoryPage) -> None:
    trend = trend_of(page, "heavy:rps_ok")
    points = list(trend.points)
    points[2] = replace(points[2], value=0.0)
    (change,) = with_changes(replace(trend, points=tuple(points), changes=())).changes
    assert abs(change.at - STEP) <= 1
    assert with_changes(replace(trend, points=(), changes=())).changes == ()


def test_the_terminal_names_session_commit_and_firmware(
    store: HistoryStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trend.html"
    assert main(["trend", f"--perf-history={store.folder}", "-o", str(path)]) == 0
    said = capsys.readouterr().out
    assert str(path) in said
    (line,) = [line for line in said.splitlines() if "a step began" in line and "heavy:rps_ok" in line]
    assert "% slower" in line
    assert " -> " in line
    named = [number for number in range(STEP - 1, STEP + 2) if f"commit {commit_of(number)[:8]}" in line]
    assert len(named) == 1
    text = path.read_text(encoding="utf-8")
    assert "Where a step began" in text
    assert commit_of(named[0])[:8] in text


def test_the_json_has_the_changes_of_each_gate(
    store: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trend", f"--perf-history={store.folder}", "--json"]) == 0
    gates = json.loads(capsys.readouterr().out)["gates"]
    found: dict[str, Any] = {f"{one['profile']}:{one['metric']}": one["changes"] for one in gates}
    (change,) = found["heavy:rps_ok"]
    assert found["light:rps_ok"] == []
    assert change["commit"] in {commit_of(number)[:8] for number in range(STEP - 1, STEP + 2)}
    assert {"file", "session_id", "time_utc", "firmware", "before", "after", "d_pct", "confidence"} < set(
        change
    )


def test_many_steps_are_cut_and_boards_are_named(page: HistoryPage) -> None:
    trend = trend_of(page, "heavy:rps_ok")
    changes = tuple(LevelChange(at, 100.0, 80.0, 25.0, 0.99) for at in range(1, 9))
    lines = step_lines([replace(trend, changes=changes), replace(trend, board="other", changes=())])
    assert len(lines) == 6
    assert lines[0].startswith("a step began on b at ")
    assert "25 % slower (100.0 -> 80.0 req/s)" in lines[0]
    assert lines[-1].startswith("and 3 earlier")
    assert step_lines([]) == []


# Apache Otava


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_the_export_has_a_value_in_every_cell(page: HistoryPage) -> None:
    files = render_otava(page)
    config = json.loads(files["otava.yaml"])
    assert set(files) == {"otava.yaml", *(test["file"] for test in config["tests"].values())}
    heavy = config["tests"]["heavy"]
    rows = rows_of(files[heavy["file"]])
    assert len(rows) == len(page.sessions)
    assert all(float(row[metric]) >= 0 for row in rows for metric in heavy["metrics"])
    assert rows[0]["commit"] == commit_of(0)[:8]
    assert rows[0]["time"] == page.sessions[0].moment
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    directions = {name: metric["direction"] for name, metric in heavy["metrics"].items()}
    assert (directions["rps_ok"], directions["p95_ms"]) == (1, -1)


def test_gates_with_gaps_and_other_boards_have_files_of_their_own(page: HistoryPage) -> None:
    trend = trend_of(page, "heavy:rps_ok")
    gappy = replace(trend, metric="ttfb_ms", points=trend.points[3:])
    odd = replace(trend, board="10.0.0.1:80/../x", points=trend.points[:4])
    cut = replace(odd, board="C", points=(*trend.points[:3], replace(trend.points[3], opens=OTHER_WORKLOAD)))
    files = render_otava(HistoryPage(page.sessions, (trend, gappy, odd, cut)))
    tests = json.loads(files["otava.yaml"])["tests"]
    assert [test["file"] for test in tests.values()] == list(files)[1:]
    assert all("/" not in name and len(Path(name).parts) == 1 for name in files)
    assert [len(rows_of(files[test["file"]])) for test in tests.values()] == [20, 17, 4, 1]


def test_a_text_of_a_file_from_elsewhere_stays_in_its_cell(page: HistoryPage) -> None:
    trend = trend_of(page, "heavy:rps_ok")
    evil = replace(trend.points[0].session, firmware="=cmd()\n,x", commit='"')
    trend = replace(trend, points=(replace(trend.points[0], session=evil),))
    (row,) = rows_of(render_otava(HistoryPage((evil,), (trend,)))["heavy.csv"])
    assert row["firmware"].startswith("'=cmd()")
    assert row["commit"] == '"'


def otava_program() -> str | None:
    """Apache Otava, beside this Python or on PATH."""
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    return shutil.which("otava", path=places)


@pytest.mark.skipif(otava_program() is None, reason="needs Apache Otava (apache-otava)")
def test_otava_finds_the_step_in_what_is_written(
    store: HistoryStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "for otava"
    assert main(["trend", f"--perf-history={store.folder}", "--otava", str(folder)]) == 0
    assert str(folder / "otava.yaml") in capsys.readouterr().out
    program = otava_program()
    assert program is not None

    def otava(*words: str) -> str:
        done = subprocess.run(
            [program, *words, "--config-file", "otava.yaml"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            # It reads options from the environment, too.
            env={name: value for name, value in os.environ.items() if name != "BRANCH"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert {"heavy", "light"} <= set(otava("list-tests").split())
    found = json.loads(otava("analyze", "heavy", "--since", "2020-01-01", "--output", "json"))
    stepped = {change["metric"]: point for point in found["heavy"] for change in point["changes"]}
    assert {"rps_ok", "p95_ms"} <= set(stepped)
    near = {commit_of(number)[:8] for number in range(STEP - 1, STEP + 2)}
    assert stepped["rps_ok"]["attributes"]["commit"] in near
    quiet = json.loads(otava("analyze", "light", "--since", "2020-01-01", "--output", "json"))
    assert quiet["light"] == []
