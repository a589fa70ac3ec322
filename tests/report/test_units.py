"""The unit of a throughput follows from what is counted, in everything that people read."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from support.report_sessions import full_session

from pytest_espperf.gate.comparison import compare
from pytest_espperf.history import HistoryStore
from pytest_espperf.history.load import load_session
from pytest_espperf.model.artifact import GateRow, SessionArtifact
from pytest_espperf.model.gates import units_of, with_units
from pytest_espperf.model.registry import COUNTED, PER_SECOND, RATES, find_metric, rate_unit
from pytest_espperf.model.workload import PhaseKind
from pytest_espperf.output.reports import write_report
from pytest_espperf.output.trends import gather_history
from pytest_espperf.report.comment import render_comment
from pytest_espperf.report.comparison import comparison_sentence, render_comparison
from pytest_espperf.report.exports.dashboards import render_bencher, render_github_action_benchmark
from pytest_espperf.report.html.page import render_history
from pytest_espperf.report.markdown import render_markdown
from pytest_espperf.report.terminal import render_terminal
from pytest_espperf.report.view import make_view

UNITS: Mapping[PhaseKind, str] = {
    "requests": "req/s",
    "page": "pages/s",
    "websocket": "msg/s",
    "events": "events/s",
}
"""What people read, written down once more on purpose."""


def two_sessions(kinds: Mapping[str, PhaseKind]) -> tuple[SessionArtifact, SessionArtifact]:
    """One session, and one whose ``heavy`` is far slower."""
    rng = random.Random(7)
    first = full_session(rng, 1, kinds=kinds)
    return first, full_session(rng, 2, kinds=kinds, slower=3.0, history=[first])


def text_of(session: SessionArtifact, verbosity: int = 0) -> str:
    return "\n".join(line.text for line in render_terminal(session, verbosity=verbosity))


def test_every_kind_of_phase_has_a_unit() -> None:
    assert {kind: rate_unit((kind,)) for kind in COUNTED} == dict(UNITS)
    assert set(COUNTED) == set(UNITS)
    assert rate_unit(("requests", "requests")) == "req/s"
    assert rate_unit(("requests", "page")) == PER_SECOND
    assert {*UNITS.values(), PER_SECOND} == RATES


@pytest.mark.parametrize("unit", ["", "ms", "<b>", "req"])
def test_no_other_unit_can_be_given_to_a_throughput(unit: str) -> None:
    found = find_metric("rps_ok", unit)
    assert found is not None
    assert found.unit == "req/s"
    latency = find_metric("p95_ms", "pages/s")
    assert latency is not None
    assert latency.unit == "ms"


@pytest.mark.parametrize(("kind", "unit"), UNITS.items())
def test_one_kind_has_its_unit_in_everything_that_is_read(kind: PhaseKind, unit: str, tmp_path: Path) -> None:
    first, slow = two_sessions(dict.fromkeys(("light", "heavy"), kind))
    store = HistoryStore(tmp_path)
    for session in (first, slow):
        store.save(session, latest=True)
    page = tmp_path / "page.html"
    write_report(slow, store, page)
    outputs = {
        "first": text_of(first),
        "slower": text_of(slow),
        "markdown": render_markdown(slow),
        "comment": render_comment(slow),
        "comparison": "\n".join(line.text for line in render_comparison(compare(first, slow))),
        "page": page.read_text(),
        "history": render_history(gather_history(store)),
        "export": render_github_action_benchmark(slow, better="higher"),
    }
    others = set(UNITS.values()) - {unit}
    if kind == "page":
        others.remove("req/s")  # its assets are requests
    for name, text in outputs.items():
        assert unit in text, name
        assert not [other for other in others if re.search(rf"\b{other}", text)], name
    assert re.search(rf"REGRESSED: heavy is \d+ % slower \(\d+ -> \d+ {unit}, p95", outputs["slower"])
    assert re.search(
        rf"heavy \d+ % slower \([\d.]+ -> [\d.]+ {unit}\)", comparison_sentence(compare(first, slow))
    )


def test_profiles_of_several_kinds_have_each_its_own() -> None:
    first, slow = two_sessions({"light": "websocket", "heavy": "events"})
    assert units_of(first) == {
        name: unit
        for profile, unit in (("light", "msg/s"), ("heavy", "events/s"))
        for name in (profile, f"{profile}:burst", f"{profile}:long")
    }
    lines = text_of(first).splitlines()
    assert any(re.fullmatch(r"medians over the runs +per s +p50 ms .*", line) for line in lines)
    assert re.search(r"light:burst +[\d.,]+ msg ", text_of(first))
    assert re.search(r"heavy:long +[\d.,]+ events ", text_of(first))
    assert all(len(line) <= 80 for line in lines)
    assert re.search(r"\| [\d.,]+ events \|", render_markdown(first))
    rows = {row.name: row for row in slow.gate.gates} if slow.gate is not None else {}
    assert (rows["light:rps_ok"].unit, rows["heavy:rps_ok"].unit) == ("msg/s", "events/s")
    assert not rows["heavy:p95_ms"].unit
    assert not rows["heavy:rps_ok"].is_own
    both = "\n".join(line.text for line in render_comparison(compare(first, slow), everything=True))
    assert "per s" in both
    assert "  events/s" in both


def test_the_assets_of_a_page_are_requests() -> None:
    first, _ = two_sessions({"light": "page", "heavy": "page"})
    units = {row.name: row.unit for row in make_view(first).cells if row.is_path}
    assert units == {"/hello": "pages/s", "/deps": "req/s", "/template": "pages/s"}


def mixed_session() -> SessionArtifact:
    """A profile with a phase of requests and one of WebSocket messages."""
    first, _ = two_sessions({"heavy": "websocket"})
    (run, *_) = (one for one in first.raw_runs if one.profile == "heavy")
    results = [
        msgspec.structs.replace(one, report=msgspec.structs.replace(one.report, kind=kind))
        for one, kind in zip(run.results, ("requests", "websocket"), strict=True)
    ]
    return msgspec.structs.replace(first, raw_runs=[msgspec.structs.replace(run, results=results)])


def test_a_phase_of_streams_among_requests_has_no_unit_in_common() -> None:
    mixed = mixed_session()
    assert units_of(mixed) == {"heavy": PER_SECOND, "heavy:long": "msg/s"}


def test_exports_for_programs_keep_their_names() -> None:
    _, slow = two_sessions({"light": "websocket", "heavy": "page"})
    measures = json.loads(render_bencher(slow))
    assert all("throughput" in of for of in measures.values())
    assert '"rps_ok"' in msgspec.json.encode(slow).decode()


def test_an_artifact_without_units_has_those_of_what_it_counted(tmp_path: Path) -> None:
    _, slow = two_sessions({"heavy": "page", "light": "websocket"})
    old = json.loads(msgspec.json.encode(slow))
    for cell in old["aggregated"].values():
        del cell["kind"]
        for path in cell["path_metrics"].values():
            del path["kind"]
    for row in old["gate"]["gates"]:
        del row["unit"]
    name = "perf_20260101T000200Z.json"
    (tmp_path / name).write_text(json.dumps(old), encoding="utf-8")
    loaded = load_session(tmp_path / name)
    assert loaded.gate is not None
    assert slow.gate is not None
    assert text_of(loaded, verbosity=2) == text_of(slow, verbosity=2)
    assert "pages/s" in text_of(loaded)
    assert [cell.unit for cell in make_view(loaded).cells] == [cell.unit for cell in make_view(slow).cells]
    assert [row.unit for row in loaded.gate.gates] == [row.unit for row in slow.gate.gates]
    (row,) = HistoryStore(tmp_path).select()
    assert row.units == units_of(slow)


def test_sessions_of_two_kinds_have_no_unit_in_common() -> None:
    first, _ = two_sessions({"heavy": "page"})
    _, slow = two_sessions({"heavy": "websocket"})
    comparison = compare(first, slow)
    assert {cell.unit for cell in comparison.cells if cell.cell.startswith("heavy") and not cell.path} == {
        PER_SECOND
    }
    assert {cell.unit for cell in comparison.cells if cell.cell.startswith("light")} == {"req/s"}
    # As sessions of one key: the report differs, not what was asked for.
    other = msgspec.structs.replace(slow, comparability=first.comparability)
    units = {one.profile: one.unit for one in compare(first, other).profiles}
    assert units == {"light": "", "heavy": PER_SECOND}


def test_a_gate_of_one_phase_has_the_unit_of_that_phase() -> None:
    mixed = mixed_session()
    names = ["heavy:rps_ok", "heavy:burst:rps_ok", "heavy:long:rps_ok", "heavy:rps_ok:drift"]
    rows = [GateRow(name=name, profile="heavy", metric="rps_ok") for name in names]
    assert [row.unit for row in with_units(rows, mixed)] == [PER_SECOND, "", "msg/s", PER_SECOND]
