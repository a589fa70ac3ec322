"""Whatever stands in a session, each format's reader takes the export."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import xmlschema
from hypothesis import HealthCheck, given, settings
from msgspec import structs
from support.export_readers import SCHEMA, benchmark_results, read
from support.export_sessions import PATHS, session
from support.history_samples import DATA, sessions

from pytest_espperf.config.settings import BY_DEST
from pytest_espperf.history import load_session
from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.report.exports import EXPORTS

OLD = sorted(DATA.glob("schema?/perf_*.json"))
HOSTILE = 'a"b\\c\nd,e\r=1+1\x1b[31m<&>]]>\u2028é'


@pytest.fixture(scope="module")
def schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(str(SCHEMA))


@settings(
    derandomize=True,
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(artifact=sessions)
def test_any_session_can_be_exported_and_read(artifact: SessionArtifact, schema: xmlschema.XMLSchema) -> None:
    for name, export in EXPORTS.items():
        for behind, render in export.renderers.items():
            read(name, behind, render(artifact), schema)


@pytest.mark.parametrize("path", OLD, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_sessions_of_old_can_be_exported_and_read(path: Path, schema: xmlschema.XMLSchema) -> None:
    artifact = load_session(path)
    for name, export in EXPORTS.items():
        for behind, render in export.renderers.items():
            read(name, behind, render(artifact), schema)
    values = {
        entry["name"]: entry["value"]
        for entry in benchmark_results(EXPORTS["github-action-benchmark"].renderers["-smaller"](artifact))
    }
    for key, cell in artifact.aggregated.items():
        assert values[f"{key} p95"] == cell.p95_ms.median


@pytest.mark.parametrize("name", EXPORTS)
def test_hostile_names_stay_text(name: str, schema: xmlschema.XMLSchema) -> None:
    sample = session(random.Random(1))
    gate = sample.gate
    assert gate is not None
    gates = [structs.replace(row, name=HOSTILE, profile=HOSTILE, detail=HOSTILE) for row in gate.gates]
    findings = [structs.replace(one, where=HOSTILE, message=HOSTILE) for one in gate.findings]
    cells = {
        HOSTILE + key: structs.replace(
            cell, profile=HOSTILE + key, phase=HOSTILE, path_metrics={HOSTILE: cell.path_metrics[PATHS[0]]}
        )
        for key, cell in sample.aggregated.items()
    }
    artifact = structs.replace(
        sample,
        session_id=HOSTILE,
        tag=HOSTILE,
        target=HOSTILE,
        aggregated=cells,
        raw_runs=[structs.replace(run, profile=HOSTILE) for run in sample.raw_runs],
        gate=structs.replace(gate, gates=gates, findings=findings),
        environment={"host": HOSTILE},
    )
    for behind, render in EXPORTS[name].renderers.items():
        text = render(artifact)
        assert "\x1b" not in text
        read(name, behind, text, schema)


def test_a_session_without_figures_exports_nothing_and_says_so() -> None:
    empty = SessionArtifact()
    assert json.loads(EXPORTS["bencher"].renderers[""](empty)) == {}
    assert json.loads(EXPORTS["github-action-benchmark"].renderers["-bigger"](empty)) == []
    assert json.loads(EXPORTS["pytest-benchmark"].renderers[""](empty))["benchmarks"] == []
    assert len(EXPORTS["csv"].renderers[""](empty).splitlines()) == 1


def test_the_help_names_every_format() -> None:
    for name in EXPORTS:
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", BY_DEST["perf_export"].help)
