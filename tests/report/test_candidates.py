"""The firmwares among which an answer was looked for, in every report that a reader sees."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET

import pytest
from support.gate_sessions import session

from pytest_espperf.model.artifact import GateRow, SessionArtifact, Verdict
from pytest_espperf.model.contest import Candidate, Contest
from pytest_espperf.report import render_terminal
from pytest_espperf.report.comment import render_comment
from pytest_espperf.report.contest import candidate_table
from pytest_espperf.report.exports.junit import render_junit
from pytest_espperf.report.markdown import render_markdown
from pytest_espperf.report.view import make_view

COMMITS = [
    Candidate(label="aaaaaaa", subject="Begin", rounds=0, figure=72.4, metric="rps_ok"),
    Candidate(label="bbbbbbb", subject="Break", probability=0.01, trouble="cannot be built: no gcc"),
    Candidate(label="ccccccc", subject="Slow", rounds=12, d_pct=12.0, probability=0.98, figure=64.6),
]
VALUES = [
    Candidate(label="4", rounds=6, d_pct=3.6, word="worse", figure=60.0, metric="p95_ms"),
    Candidate(label="12", rounds=3, d_pct=28.2, word="cannot be distinguished", figure=64.0, metric="p95_ms"),
    Candidate(label="3", trouble="the command ended with exit code 1"),
]


def searched(candidates: list[Candidate], kind: str = "bisect") -> SessionArtifact:
    contest = Contest(kind=kind, word="found", answer="ccccccc did it", candidates=candidates)  # type: ignore[arg-type]
    row = GateRow(
        name="python_heavy:rps_ok",
        profile="python_heavy",
        metric="rps_ok",
        verdict="regressed",
        baseline=72.4,
        now=64.6,
        d_pct=12.0,
    )
    verdict = Verdict(kind="regressed", baseline={}, gates=[row] if kind == "bisect" else [])
    return session(random.Random(0), contest=contest, gate=verdict, overall_pass=True, comparability=None)


def drawn(candidates: list[Candidate], kind: str = "bisect") -> list[str]:
    contest = searched(candidates, kind).contest
    assert contest is not None
    return [line.text for line in candidate_table(contest)]


def test_commits_have_figures_and_reasons() -> None:
    head, good, broken, slow = drawn(COMMITS)
    assert head.split() == ["commit", "runs", "req/s", "vs", "aaaaaaa", "began", "here"]
    assert good.split() == ["aaaaaaa", "-", "72.4", "-", "-", "Begin"]
    assert broken.endswith("  skipped: cannot be built: no gcc")
    assert slow.split() == ["ccccccc", "12", "64.6", "+12.0", "%", "98", "%", "Slow"]


def test_values_have_blanks_between_their_columns() -> None:
    head, four, twelve, three = drawn(VALUES, "sweep")
    assert head.split() == ["value", "runs", "p95", "ms", "vs", "best", "answer"]
    assert four.split() == ["4", "6", "60.00", "+3.6", "%", "worse"]
    assert twelve.endswith("+28.2 %  cannot be distinguished")
    assert three.endswith("  left out: the command ended with exit code 1")


def test_odd_candidates_fit() -> None:
    odd = [
        Candidate(label="x" * 200, subject="s" * 300, metric="none", trouble="a\nb" * 90),
        Candidate(label=""),
    ]
    assert all(len(line) <= 80 for line in drawn(odd))
    assert drawn([]) == []


@pytest.mark.parametrize(("candidates", "kind"), [(COMMITS, "bisect"), (VALUES, "sweep")])
def test_every_report_has_the_table(candidates: list[Candidate], kind: str) -> None:
    artifact = searched(candidates, kind)
    shown = "\n".join(line.text for line in render_terminal(artifact))
    assert "\n".join(drawn(candidates, kind)) in shown
    for text in (render_comment(artifact), render_markdown(artifact)):
        assert all(f"| {one.label} |" in text for one in candidates)
        assert ("cannot be built" if kind == "bisect" else "left out") in text


def test_the_gate_of_a_search_stands_behind_its_table_where_all_is_asked_for() -> None:
    def shown(verbosity: int) -> list[str]:
        return [line.text for line in render_terminal(searched(COMMITS), verbosity=verbosity)]

    assert any(text.startswith("ccccccc ") for text in shown(0))
    assert not any(text.startswith("gate ") for text in shown(0))
    assert any(text.startswith("gate ") for text in shown(1))


def test_a_search_names_its_ends_in_the_heads_of_columns() -> None:
    assert make_view(searched([])).sides == ("good", "bad")
    assert make_view(searched([], "sweep")).sides == ("baseline", "now")


def test_a_search_that_found_it_is_no_failure() -> None:
    root = ET.fromstring(render_junit(searched(COMMITS)))
    assert [suite.get("failures") for suite in root.iter("testsuites")] == ["0"]
    assert not list(root.iter("failure"))
    assert "python_heavy:rps_ok" in [case.get("name") for case in root.iter("testcase")]
