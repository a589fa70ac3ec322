"""Exports at the end of a session: files, pytest's own JUnit file, the exit status."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET

import pytest
import xmlschema
from support.paths import DATA
from support.plugin_project import Project

from pytest_espperf.report.exports import EXPORTS

SCHEMA = str(DATA / "junit-10.xsd")


def test_every_export_lies_where_pytest_was_started(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.pytester.makeini("[pytest]\n")
    here = project.pytester.mkdir("inner")
    monkeypatch.chdir(here)
    result = project.run(*(f"--perf-export={name}=out/{name}.x" for name in EXPORTS), "--junitxml=pytest.xml")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"exported csv: {here / 'out' / 'csv.x'}"])
    files = [f"{name}{behind}.x" for name, export in EXPORTS.items() for behind in export.renderers]
    assert sorted(path.name for path in (here / "out").iterdir()) == sorted(files)
    with (here / "out" / "csv.x").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    reports = [one["report"] for run in project.artifact()["raw_runs"] for one in run["results"]]
    assert [float(row["p95_ms"]) for row in rows if not row["path"]] == [one["p95_ms"] for one in reports]
    xmlschema.XMLSchema(SCHEMA).validate(here / "out" / "junit.x")
    # pytest's own file tells the same of the session.
    xmlschema.XMLSchema(SCHEMA).validate(here / "pytest.xml")
    told = {one.get("name"): one.get("value") for one in ET.parse(here / "pytest.xml").iter("property")}
    assert told["espperf.verdict"] == "no-baseline"
    median = project.artifact()["aggregated"]["one:burst"]["p95_ms"]["median"]
    assert float(told["espperf.one:burst.p95_ms"] or 0) == pytest.approx(median, rel=1e-5)


def test_an_export_that_cannot_be_written_fails_the_session_and_nothing_else(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.block("taken")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.pytester.path))
    monkeypatch.setenv("GITHUB_ACTIONS", "false")
    result = project.run("--perf-export=csv=taken/out.csv", "--perf-export=bencher=b.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "exported bencher: *",
            "NOT EXPORTED: csv: *out.csv cannot be written: *taken is no folder",
            "WARNING: the job's summary * cannot be written: *",
            "FAILED *::session_verdict - *export csv: *",
        ]
    )
    assert not [line for line in result.outlines if line.startswith("::")], "no GitHub job"
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert project.artifact()["gate"]["verdict"] == "no-baseline"
    assert json.loads((project.pytester.path / "b.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--perf-export=junit"], "--perf-export: junit has no path: write junit=PATH"),
        (["--perf-export=junitt=x"], "--perf-export: 'junitt' is no format; did you mean 'junit'?"),
        (["--perf-export=csv=x", "--perf-export=junit=x"], "--perf-export: csv and junit would both write"),
        (["--perf-export=junit=o.xml", "--junitxml=o.xml"], "--junitxml and junit would both write"),
    ],
)
def test_a_bad_export_is_refused_before_anything_is_measured(
    project: Project, arguments: list[str], says: str
) -> None:
    result = project.refuse(*arguments)
    assert result.ret == 4
    (error,) = [line for line in result.errlines if line.startswith("ERROR: ")]
    assert says in error
    assert project.web.served == 0
    assert not project.history.exists()
