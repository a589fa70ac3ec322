"""Sessions of pages, of connections that serve one request, and of clients that pause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.plugin_project import Project
from support.short_sessions import ANY_CHANGE

from pytest_espperf.sim import SimConfig, SimProcess

pytestmark = pytest.mark.timeout(600)  # several sessions, on a machine that may be busy

VISIT = """
[profiles.one.phases.visit]
kind = "page"
path = "/index"
assets = ["/app.js", "/style.css"]
connections = 2
clients = 1
duration_s = 0.3
"""


def reports(project: Project) -> dict[str, dict[str, Any]]:
    results = [result for run in project.artifact()["raw_runs"] for result in run["results"]]
    return {result["phase"]: result["report"] for result in results}


def test_a_profile_of_pages_alone(project: Project) -> None:
    (project.pytester.path / "espperf.toml").write_text(f"[profiles.one]\n{VISIT}")
    for verdict in ("no-baseline", "unchanged"):
        result = project.run(ANY_CHANGE)
        assert result.ret == 0
        artifact = project.artifact()
        assert artifact["gate"]["verdict"] in {verdict, "inconclusive"}
        # Each path was asked for before the load.
        assert list(artifact["answers"]["one"]) == ["/index", "/app.js", "/style.css"]
        report = reports(project)["visit"]
        assert report["ok"] == report["requests_total"] > 0
        parts = report["path_metrics"]
        assert list(parts) == ["/index", "/app.js", "/style.css"]
        assert all(part["ok"] == report["ok"] for part in parts.values())
    assert "one:p95_ms" in {f"{gate['profile']}:{gate['metric']}" for gate in artifact["gate"]["gates"]}


def test_a_missing_asset_ends_the_session_before_the_load(project: Project) -> None:
    (project.pytester.path / "espperf.toml").write_text(
        f"[profiles.one]\n{VISIT.replace('/app.js', '/debug/nosuch.js')}"
    )
    result = project.run()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*/debug/nosuch.js answers 404 (profile one, espperf.toml)*"])
    assert project.artifact()["raw_runs"] == []


def test_another_way_to_connect_is_another_kind_of_session(project: Project) -> None:
    toml = project.pytester.path / "espperf.toml"
    toml.write_text('[profiles.one]\npaths = ["/a"]\nphases.p = {clients = 2, duration_s = 0.3}\n')
    assert project.run(ANY_CHANGE).ret == 0
    toml.write_text(
        '[profiles.one]\npaths = ["/a"]\nphases.p = {clients = 2, duration_s = 0.3, reuse = false}\n'
    )
    result = project.run(ANY_CHANGE)
    assert result.ret == 0
    assert project.artifact()["gate"]["verdict"] == "no-baseline"
    assert "used each connection again" in result.stdout.str().replace("\n", " ")
    report = reports(project)["p"]
    assert report["connects"] == report["requests_total"]
    assert report["figures"].keys() >= {"connect_ms", "connect_p95_ms", "wait_p50_ms"}


def test_pauses_set_the_throughput_which_is_not_judged(project: Project) -> None:
    (project.pytester.path / "espperf.toml").write_text(
        '[profiles.one]\npaths = ["/a"]\nphases.calm = {clients = 2, duration_s = 1, think_time_s = 0.2}\n'
    )
    assert project.run(ANY_CHANGE).ret == 0
    report = reports(project)["calm"]
    assert report["think_time_s"] == 0.2
    assert report["elapsed"] > 0.99
    assert 2 <= report["ok"] <= 10
    assert report["stalled_s"] == 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            'kind = "pages"',
            "kind: 'pages' is not one of requests, page, websocket, events; did you mean 'page'?",
        ),
        ("tls_resumption = false", "tls_resumption needs reuse = false"),
        ("think_time_s = 1\nrate = 2", "rate and think_time_s exclude each other"),
    ],
)
def test_a_bad_phase_is_a_usage_error(project: Project, line: str, says: str) -> None:
    (project.pytester.path / "espperf.toml").write_text(
        f'[profiles.one]\npaths = ["/a"]\n[profiles.one.phases.p]\n{line}\n'
    )
    result = project.refuse()
    assert result.ret == 4
    assert says in (result.stdout.str() + result.stderr.str()).replace("\n", " ")


def test_https_with_and_without_resumption(project: Project, tmp_path: Path) -> None:
    pytest.importorskip("trustme")
    (project.pytester.path / "espperf.toml").write_text(
        '[profiles.one]\npaths = ["/hello"]\n'
        "phases.again = {clients = 1, duration_s = 0.5, reuse = false}\n"
        "phases.full = {clients = 1, duration_s = 0.5, reuse = false, tls_resumption = false}\n"
    )
    ca_file = tmp_path / "ca.pem"
    with SimProcess.start(SimConfig(noise="none", handshake_s=0.05), ca_file=ca_file) as sim:
        words = (f"--device-ip={sim.host}:{sim.port}", "--device-scheme=https", f"--device-ca={ca_file}")
        assert project.run(*words, device=False).ret == 0
    found = reports(project)
    assert found["full"]["figures"]["resumed_share"] == 0
    assert found["full"]["figures"]["handshake_ms"] >= 50
    assert found["again"]["figures"]["resumed_share"] > 0
    assert found["again"]["connects"] == found["again"]["requests_total"]
