"""One size of a change, that of the two values divided: in words, tables, rows of the index and exports."""

from __future__ import annotations

import json
import random
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest
from support.cli_history import complete
from support.gate_sessions import PROFILES

from pytest_espperf.cli import main
from pytest_espperf.gate import GatePolicy, judge
from pytest_espperf.gate.comparison import compare
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import FAIL_ON_RULE, MAIN_RULE, GateRow, SessionArtifact, Verdict
from pytest_espperf.model.gates import change_of, divided_pct
from pytest_espperf.report.changes import gate_size
from pytest_espperf.report.comparison import comparison_sentence, render_comparison
from pytest_espperf.report.exports.junit import render_junit
from pytest_espperf.report.view import make_view

RULES = (("rps_ok", 10.0), ("p95_ms", 10.0))


def judged(slower: float) -> SessionArtifact:
    """The third session of a board: so much slower than two before it."""
    rng = random.Random(5)
    before = [complete(rng, number) for number in range(2)]
    before = [msgspec.structs.replace(one, gate=Verdict(kind="unchanged")) for one in before]
    now = complete(rng, 3, slower=dict.fromkeys(PROFILES, slower))
    return msgspec.structs.replace(now, gate=judge(now, before, GatePolicy(fail_on=RULES)))


def of_rules(artifact: SessionArtifact, metric: str) -> list[GateRow]:
    assert artifact.gate is not None
    found = [row for row in artifact.gate.gates if row.rule == FAIL_ON_RULE and row.metric == metric]
    assert found
    return found


@pytest.mark.parametrize("slower", [0.2, 0.5, 0.8, 1.5, 3.0])
def test_the_change_of_a_rule_is_in_percent_of_the_value_before(slower: float) -> None:
    artifact = judged(slower)
    view = make_view(artifact)
    for row in of_rules(artifact, "rps_ok"):
        assert row.baseline
        assert row.now
        exact = 100 * (row.baseline - row.now) / row.baseline
        assert row.d_pct == pytest.approx(exact)
        assert change_of(row) == divided_pct(row, row.d_pct) == row.d_pct
        assert view.change(row) == f"{exact:+.1f} %"
        word = "slower" if exact > 0 else "faster"
        assert gate_size(row) == f"{abs(exact):,.0f} % {word}"
        assert row.verdict == ("regressed" if exact > 10 else "unchanged")


@pytest.mark.parametrize("slower", [0.2, 0.5, 3.0])
def test_the_size_of_a_gate_is_that_of_its_values_divided(slower: float) -> None:
    artifact = judged(slower)
    assert artifact.gate is not None
    rows = [row for row in artifact.gate.gates if row.rule == MAIN_RULE and row.d_pct is not None]
    assert {row.metric for row in rows} >= {"rps_ok", "p95_ms"}
    for row in rows:
        assert row.baseline
        assert row.now
        if row.metric == "rps_ok":
            exact = row.baseline / row.now - 1 if slower > 1 else 1 - row.now / row.baseline
        else:
            exact = row.now / row.baseline - 1
        assert change_of(row) == pytest.approx(100 * exact, rel=1e-6)


def test_a_rule_does_not_make_the_index_and_the_export_say_another_size(tmp_path: Path) -> None:
    artifact = judged(0.5)
    row = of_rules(artifact, "rps_ok")[0]
    properties = {
        one.get("name"): one.get("value") for one in ET.fromstring(render_junit(artifact)).iter("property")
    }
    assert row.d_pct is not None
    assert float(properties[f"{row.name}.d_pct"] or "nan") == pytest.approx(row.d_pct, rel=1e-4)
    assert artifact.gate is not None
    only = msgspec.structs.replace(artifact.gate, gates=[row])
    store = HistoryStore(tmp_path)
    store.save(msgspec.structs.replace(artifact, gate=only), latest=True)
    (found,) = store.select()
    assert found.worst_pct == pytest.approx(row.d_pct, rel=1e-5)
    assert found.worst_change == pytest.approx(row.d_pct, rel=1e-5)


def test_a_comparison_says_one_size_in_its_sentence_its_table_and_its_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(5)
    a, b = complete(rng, 1), complete(rng, 2, slower=dict.fromkeys(PROFILES, 0.5))
    comparison = compare(a, b)
    said = {
        profile: float(size)
        for profile, size in re.findall(r"(\w+) (\d+) % faster", comparison_sentence(comparison))
    }
    assert said
    store = HistoryStore(tmp_path)
    paths = [str(store.save(one, latest=True).json_path) for one in (a, b)]
    assert main(["compare", *paths, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    for one in printed["profiles"]:
        if one["metric"] == "rps_ok":
            assert one["slower_pct"] == pytest.approx(100 * (1 - one["b"] / one["a"]), rel=1e-6)
            assert round(-one["slower_pct"]) == said[one["profile"]]
    assert {one["unit"] for one in (*printed["profiles"], *printed["cells"])} == {"req/s"}
    for cell in printed["cells"]:
        before, after = cell["a"], cell["b"]
        assert cell["slower"]["rps_ok"] == pytest.approx(100 * (1 - after["rps_ok"] / before["rps_ok"]))
        assert cell["slower"]["p95_ms"] == pytest.approx(100 * (after["p95_ms"] / before["p95_ms"] - 1))
    first = printed["cells"][0]
    lines = [line.text for line in render_comparison(comparison, everything=True)]
    shown = next(line for line in lines if line.split()[:1] == ["slower"])
    assert (
        shown.split()[1] == f"{first['slower']['rps_ok']:+.{0 if first['slower']['rps_ok'] <= -100 else 1}f}"
    )
