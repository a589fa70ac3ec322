from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.cli_history import as_measured, complete, fill
from support.gate_sessions import key, run, with_runs

from pytest_espperf.cli import main
from pytest_espperf.errors import UsageError
from pytest_espperf.gate.comparison import compare
from pytest_espperf.history import HistoryStore
from pytest_espperf.model.artifact import PathAggregate, SessionArtifact
from pytest_espperf.report.comparison import render_comparison

SEED = 20261125


def session(number: int = 0, **changes: Any) -> SessionArtifact:
    return complete(random.Random(SEED + number), number, **changes)


def only(phases: dict[str, float], *, profile: str = "python_light", **figures: Any) -> SessionArtifact:
    """A session of one round of one profile, ``phases`` being the factor of each."""
    first = run(profile, 1, list(phases.values()), **figures)
    results = [result for result in first.results if result.phase in phases]
    runs = [msgspec.structs.replace(first, results=results)]
    whole = session(profiles=[profile], comparability=key([profile]))
    return as_measured(with_runs(whole, runs))


def test_slower_is_positive_for_every_metric_and_the_worst_comes_first() -> None:
    a, b = session(0), session(1, slower={"python_heavy": 1.5, "c_static_only": 0.8})
    comparison = compare(a, b)
    assert comparison.comparable
    assert [cell.path for cell in comparison.cells[:3]] == ["", "/a", "/b"]
    order = [cell.cell.partition(":")[0] for cell in comparison.cells if not cell.path]
    assert order == ["python_heavy"] * 2 + ["python_light"] * 2 + ["c_static_only"] * 2
    for cell in comparison.cells:
        before, after = a.aggregated[cell.cell], b.aggregated[cell.cell]
        one, two = (
            (before.path_metrics[cell.path], after.path_metrics[cell.path]) if cell.path else (before, after)
        )
        assert one.p95_ms.median
        assert two.p95_ms.median
        assert one.rps_ok.median
        assert two.rps_ok.median
        slower = two.p95_ms.median / one.p95_ms.median - 1
        assert cell.slower["p95_ms"] == pytest.approx(100 * slower)
        assert cell.slower["rps_ok"] == pytest.approx(100 * (one.rps_ok.median / two.rps_ok.median - 1))
        assert cell.slower["error_rate"] == 0.0


def with_one_path(artifact: SessionArtifact) -> SessionArtifact:
    """The session as if each phase had asked for one path, which has the figures of the phase."""
    cells = {}
    for name, cell in artifact.aggregated.items():
        path = PathAggregate(
            error_rate=cell.error_rate,
            p50_ms=cell.p50_ms,
            p95_ms=cell.p95_ms,
            p99_ms=cell.p99_ms,
            rps_ok=cell.rps_ok,
        )
        cells[name] = msgspec.structs.replace(cell, path_metrics={"/a": path})
    return msgspec.structs.replace(artifact, aggregated=cells)


@pytest.mark.parametrize("slower", [1.0, 1.5])
def test_the_only_path_of_a_phase_is_no_row_beside_the_phase(slower: float) -> None:
    a, b = (with_one_path(session(n, slower={"python_heavy": s})) for n, s in ((0, 1.0), (1, slower)))
    comparison = compare(a, b)
    assert any(cell.path for cell in comparison.cells)
    shown = [line.text for line in render_comparison(comparison)]
    assert not any(text.strip().startswith("/a ") for text in shown)
    assert any(text.startswith("python_heavy:burst ") for text in shown) == (slower > 1)
    assert "more row" not in " ".join(shown)
    everything = [line.text for line in render_comparison(comparison, everything=True)]
    assert sum(text.strip().startswith("/a ") for text in everything) == 6


def test_errors_are_told_in_points_and_what_is_missing_is_no_change() -> None:
    a = only({"burst": 1.0}, error_rate=1.0)
    b = only({"burst": 1.0}, error_rate=3.5, p99_ms=None)
    (cell, *_) = compare(a, b).cells
    assert cell.slower["error_rate"] == 2.5
    assert cell.slower["p99_ms"] is None
    assert any("+2.5 pt" in line.text for line in render_comparison(compare(a, b), everything=True))


def test_cells_and_paths_that_one_of_the_two_has_are_named() -> None:
    a = session(0)
    b = msgspec.structs.replace(a, aggregated=dict(list(a.aggregated.items())[1:]))
    comparison = compare(a, b)
    assert comparison.only_a == (next(iter(a.aggregated)),)
    assert comparison.only_b == ()
    assert compare(b, a).only_b == comparison.only_a
    assert "only in A: " in "\n".join(line.text for line in render_comparison(comparison))


def test_what_differs_is_named_with_both_values() -> None:
    a = session(0)
    assert a.comparability is not None
    fields = msgspec.to_builtins(a.comparability.fields)
    fields["runs"] = 3
    fields["profiles"]["python_heavy"]["clients"] = [6, 4]
    fields["profiles"]["mine"] = {"paths": ["/mine"]}  # only one of the two has it: it is not compared
    b = msgspec.structs.replace(a, comparability=msgspec.structs.replace(a.comparability, fields=fields))
    comparison = compare(a, b)
    assert not comparison.comparable
    assert [(one.field, one.a, one.b) for one in comparison.differences] == [
        ("profiles.python_heavy.clients", [12, 8], [6, 4]),
        ("runs", 6, 3),
    ]
    text = " ".join(" ".join(line.text.split()) for line in render_comparison(comparison))
    assert "NOT COMPARABLE: they differ in profiles.python_heavy.clients ([12, 8] in A, [6, 4] in B)" in text
    with pytest.raises(UsageError, match=r"runs \(6 in A, 3 in B\)"):
        compare(a, b, [("p95_ms", 10.0)])


def test_a_session_of_the_original_tool_is_shown_and_held_to_no_rule() -> None:
    a, b = msgspec.structs.replace(session(0), comparability=None), session(1)
    assert compare(a, b).cells
    assert "A has no record" in compare(a, b).why_not()
    with pytest.raises(UsageError, match="A has no record"):
        compare(a, b, [("p95_ms", 10.0)])
    with pytest.raises(UsageError, match="no profile in common"):
        compare(only({"burst": 1.0}), only({"burst": 1.0}, profile="python_heavy"), [("p95_ms", 10.0)])


@pytest.mark.parametrize(
    ("rule", "factor", "broken"),
    [
        (("p95_ms", 10.0), 1.11, True),
        (("p95_ms", 10.0), 1.09, False),
        (("p95_ms", 10.0), 0.5, False),
        (("rps_ok", 20.0), 1.3, True),  # 23 % fewer
        (("rps_ok", 25.0), 1.3, False),
        (("rps_ok", 25.0), 0.5, False),
    ],
)
def test_a_rule_is_broken_by_what_is_worse_alone(
    rule: tuple[str, float], factor: float, broken: bool
) -> None:
    comparison = compare(only({"burst": 1.0, "long": 1.0}), only({"burst": factor, "long": 1.0}), [rule])
    assert [one.name for one in comparison.broken] == [f"python_light:burst:{rule[0]}"] * broken
    assert len(comparison.rules) == 2


def test_every_rule_counts_also_two_of_one_metric() -> None:
    a, b = only({"burst": 1.0}), only({"burst": 1.2})
    for rules in ([("p95_ms", 10.0), ("p95_ms", 50.0)], [("p95_ms", 50.0), ("p95_ms", 10.0)]):
        assert [one.rule for one in compare(a, b, rules).broken] == ["p95_ms:10%"]


def test_a_cell_without_the_figure_that_it_had_breaks_the_rule() -> None:
    a = only({"burst": 1.0, "long": 1.0})
    dead = only({"burst": 1.0, "long": 1.0}, ok=0, rps_ok=0.0, p50_ms=None, p95_ms=None, p99_ms=None)
    assert len(compare(a, dead, [("p95_ms", 10.0)]).broken) == 2
    missing = only({"burst": 1.0})
    (one,) = compare(a, missing, [("p95_ms", 10.0)]).broken
    assert one.name == "python_light:long:p95_ms"
    assert "B has no such figure" in one.detail
    with pytest.raises(UsageError, match="can be applied to nothing"):
        compare(dead, a, [("p95_ms", 10.0)])


def test_another_firmware_measured_in_between_excuses_nothing() -> None:
    a, b = only({"burst": 1.0}), only({"burst": 1.5})
    pairs = [run("python_light", 9, [1.5], role) for role in ("ab-baseline", "ab-candidate")]
    with_pairs = with_runs(b, [*b.raw_runs, *pairs])
    assert compare(a, with_pairs, [("p95_ms", 10.0)]).broken


def test_lines_fit_and_nothing_that_a_board_sends_moves_the_cursor() -> None:
    rng = random.Random(SEED)
    for _ in range(50):
        name = "".join(chr(rng.choice([27, 10, 65, 0x202E, rng.randrange(32, 0x3000)])) for _ in range(60))
        a, b = (
            msgspec.structs.replace(
                only({"burst": rng.lognormvariate(0, 3)}), tag=name, target=name, aggregated={name: cell}
            )
            for cell in (only({"burst": 1.0}).aggregated["python_light:burst"],) * 2
        )
        lines = render_comparison(compare(a, b), everything=True)
        assert all(line.text.isprintable() for line in lines)
        head = next(index for index, line in enumerate(lines) if line.text.startswith("medians"))
        table = [line.text for line in lines[head:] if not line.text.startswith(("only", "within"))]
        assert all(len(text) <= 80 for text in table)


def test_huge_changes_stay_within_their_columns_and_json_has_no_infinity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = HistoryStore(tmp_path)
    a = store.save(only({"burst": 1.0}, p95_ms=1e-300), latest=True)
    b = store.save(
        msgspec.structs.replace(only({"burst": 1.0}, p95_ms=1e300), session_id="other"), latest=True
    )
    words = ["compare", str(a.json_path), str(b.json_path)]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert told["cells"][0]["slower"]["p95_ms"] is None
    assert main(words) == 0


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("filled"), [1.0, 1.0, 1.5]).folder


@pytest.fixture
def history(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HistoryStore:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(filled, tmp_path / "tools" / "perf_history")
    return HistoryStore(tmp_path / "tools" / "perf_history")


def test_the_command_shows_both_and_fails_where_a_rule_is_broken(
    history: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "day0", "day2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(
        r"B is slower: python_heavy \d\d % slower \([\d.]+ -> [\d.]+ req/s\); 2 of 3 profiles are", lines[0]
    )
    assert re.match(r"A  202[56]-(01-01|12-31) \d\d:\d\d  ", lines[2])
    assert lines[3].startswith("B  2026-01-0")
    assert "regressed" in lines[3]
    assert lines[6].startswith("python_heavy:")
    assert main(["compare", "day0", "day2", "--utc"]) == 0
    assert "A  2026-01-01 00:00  " in capsys.readouterr().out
    assert main(["compare", "day0", "day2", "--fail-on", "rps_ok:5%", "--fail-on=p95_ms:90%"]) == 1
    assert "2 of 12 figures break a rule" in capsys.readouterr().out
    assert main(["compare", "day0", "day1", "--fail-on", "rps_ok:5%,p95_ms:5%"]) == 0
    assert "every rule is kept (12 figures)" in capsys.readouterr().out


def test_the_command_as_json(history: HistoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "day0", "day2", "--json", "--fail-on", "p95_ms:10%"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["a"]["tag"] == "day0"
    assert told["b"]["verdict"] == "regressed"
    assert told["comparable"] is True
    assert told["passed"] is False
    assert {rule["name"] for rule in told["rules"] if rule["broken"]} == {
        "python_heavy:burst:p95_ms",
        "python_heavy:long:p95_ms",
    }
    assert told["cells"][0].keys() == {"cell", "path", "a", "b", "slower", "noise", "beyond_noise", "unit"}
    assert len(told["cells"]) == 18, "rows within the noise, too"
    assert told["summary"].startswith("B is slower: python_heavy ")
    heavy = next(one for one in told["profiles"] if one["profile"] == "python_heavy")
    assert heavy["verdict"] == "worse"
    assert heavy["slower_pct"] == pytest.approx(100 * (heavy["a"] / heavy["b"] - 1))
    assert 0 < heavy["noise_pct"] < heavy["slower_pct"]


@pytest.mark.parametrize("rule", ["p95_ms:10", "nosuch:5%", "p95_ms", "p95_ms:-1%"])
def test_a_bad_rule_is_a_usage_error(
    history: HistoryStore, capsys: pytest.CaptureFixture[str], rule: str
) -> None:
    assert main(["compare", "day0", "day1", "--fail-on", rule]) == 4
    assert capsys.readouterr().err.startswith("espperf: --fail-on: ")


def test_rules_on_sessions_that_do_not_compare_are_refused(
    history: HistoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    other = session(9, comparability=key(board="other"))
    history.save(other, latest=True)
    assert main(["compare", "day0", "day9"]) == 0
    assert (
        "NOT COMPARABLE: they differ in board ('10.0.0.9:8080' in A, 'other' in B)" in capsys.readouterr().out
    )
    assert main(["compare", "day0", "day9", "--fail-on", "p95_ms:10%"]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert "board" in said.err
