"""The Markdown that a reviewer sees: the comment on a pull request, and the report's short table."""

from __future__ import annotations

import random
import re
from typing import Any

import lxml.html
import pytest
from hypothesis import example, given, seed
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from msgspec import structs
from support.report_sessions import full_session

from pytest_espperf.model.artifact import Finding, PathChange, SessionArtifact, Verdict
from pytest_espperf.model.findings import BUDGET, REPOSITORY
from pytest_espperf.report import make_view, render_markdown
from pytest_espperf.report.comment import describe_comment, marker, render_comment

SEED = 20261129
HOSTILE = "x --> <script>alert(1)</script> `a` | b @team #1 [c](http://d) ![e](f) <!-- espperf:other -->"


@pytest.fixture(scope="module")
def sessions() -> list[SessionArtifact]:
    """Three sessions of the baseline, a red one, and one as the baseline after it."""
    rng = random.Random(SEED)
    made: list[SessionArtifact] = []
    for number, slower in enumerate((1.0, 1.0, 1.0, 1.6, 1.0)):
        made.append(full_session(rng, number, slower=slower, history=made))
    return made


@pytest.fixture(scope="module")
def slow(sessions: list[SessionArtifact]) -> SessionArtifact:
    return sessions[3]


def drawn(text: str) -> Any:
    return lxml.html.fromstring(MarkdownIt("gfm-like").render(text))


def tables(text: str) -> list[list[list[str]]]:
    return [
        [[cell.text_content() for cell in row.iter("td", "th")] for row in table.iter("tr")]
        for table in drawn(text).iter("table")
    ]


def test_the_comment_is_short_and_has_verdict_gates_place_and_next_step(slow: SessionArtifact) -> None:
    text = render_comment(slow, [("HTML report", "https://example.org/perf(1).html")])
    assert len(text.splitlines()) <= 25
    assert text.splitlines()[0] == "<!-- espperf:b -->"
    (table,) = tables(text)
    assert table[0] == ["gate", "verdict", "baseline", "now", "change"]
    assert 2 <= len(table) <= 5
    assert {row[1] for row in table[1:]} == {"regressed"}
    assert slow.gate is not None
    row = next(row for row in slow.gate.gates if row.name == "heavy:rps_ok")
    assert ["heavy:rps_ok", "regressed", f"{row.baseline:.0f} req/s", f"{row.now:.0f} req/s"] in [
        cells[:4] for cells in table
    ]
    shown = drawn(text).text_content()
    assert "REGRESSED: heavy is " in shown
    assert re.search(r"where: /template in heavy:\w+, \d+ % slower \(p95 [\d.]+ -> [\d.]+ ms\)", shown)
    assert "next: if it is intended: espperf accept " in shown
    assert "look at /template" not in shown, "it stands above"
    assert [(link.text, link.get("href")) for link in drawn(text).iter("a")] == [
        ("HTML report", "https://example.org/perf(1).html")
    ]


def test_the_sizes_are_those_of_the_gates(slow: SessionArtifact) -> None:
    assert slow.gate is not None
    sizes = {row.name: f"{row.d_pct:.0f} % slower" for row in slow.gate.gates if row.verdict == "regressed"}
    (table,) = tables(render_comment(slow))
    assert {row[0]: row[4] for row in table[1:]} == sizes


def test_where_is_said_of_a_session_that_fails_alone(slow: SessionArtifact) -> None:
    assert slow.gate is not None
    unclear = [structs.replace(row, verdict="inconclusive") for row in slow.gate.gates]
    other = structs.replace(slow, gate=structs.replace(slow.gate, kind="inconclusive", gates=unclear))
    assert describe_comment(slow)["places"]
    assert not describe_comment(other)["places"]
    assert "where: " not in render_comment(other)


def test_an_unchanged_session_shows_its_gates_and_a_first_one_none(sessions: list[SessionArtifact]) -> None:
    (table,) = tables(render_comment(sessions[4]))
    assert {row[1] for row in table[1:]} == {"unchanged"}
    assert tables(render_comment(sessions[0])) == []
    assert tables(render_comment(SessionArtifact())) == []


def test_what_failed_is_listed_without_the_headline() -> None:
    findings = [
        Finding(severity="fail", kind=BUDGET, message=f"p95 {number},000.00 ms is above the budget.")
        for number in range(2, 9)
    ]
    findings.append(Finding(severity="info", kind=REPOSITORY, message="nothing to see"))
    artifact = SessionArtifact(gate=Verdict(kind="failed", findings=findings))
    shown = drawn(render_comment(artifact)).text_content()
    assert "p95 3,000.00 ms is above the budget" in shown
    assert "and 3 more findings" in shown
    assert "nothing to see" not in shown
    assert shown.count("p95 2,000.00 ms") == 1


@pytest.mark.parametrize(
    ("board", "name"),
    [("bench-1", "bench-1"), ("192.168.0.135:8080", "192.168.0.135:8080"), ("a b", "a-b"), ("", "board")],
)
def test_the_marker_names_the_board(board: str, name: str) -> None:
    assert marker(SessionArtifact(target=board)) == f"<!-- espperf:{name} -->"


@seed(SEED)
@example(HOSTILE)
@given(st.text())
def test_nothing_that_a_board_or_user_sends_is_markup_or_another_marker(text: str) -> None:
    place = PathChange(
        profile=text, phase="burst", path=text, metric="p95_ms", baseline=1.0, now=2.0, d_pct=100.0
    )
    finding = Finding(severity="fail", kind=BUDGET, where=text, message=text)
    artifact = SessionArtifact(
        target=text,
        tag=text,
        session_id=text,
        device={"firmware": text},
        environment={"git_commit": text, "git_dirty": True},
        gate=Verdict(kind="failed", findings=[finding, finding], places=[place]),
    )
    rendered = render_comment(artifact, [(text, "https://example.org")])
    first, *rest = rendered.splitlines()
    assert re.fullmatch(r"<!-- espperf:[\w.:@+-]+ -->", first)
    assert "--" not in first.removeprefix("<!-- ").removesuffix(" -->")
    document = drawn("\n".join(rest))
    assert not list(document.iter("script", "img"))
    assert not [node for node in document.iter() if not isinstance(node.tag, str)], "no other comment"


def test_as_data_it_has_the_same_and_the_whole_text(slow: SessionArtifact) -> None:
    links = [("job", "https://example.org")]
    data = describe_comment(slow, links)
    assert data["marker"] == marker(slow)
    assert data["body"] == render_comment(slow, links)
    assert data["fails"] is True
    assert data["headline"] == make_view(slow).meaning
    assert {row.profile for row in data["gates"]} == {"heavy"}
    assert data["links"] == [{"text": "job", "url": "https://example.org"}]


# --- the report beside the artifact


def test_the_report_compares_with_the_baseline_and_not_with_the_red_session(
    sessions: list[SessionArtifact],
) -> None:
    after = sessions[4]
    text = render_markdown(after)
    assert "to previous" not in text
    told = structs.replace(
        after, comparison_to_previous={name: {"p95_ms_median_pct": -40.0} for name in after.aggregated}
    )
    assert render_markdown(told) == text
    short = tables(text)[0]
    assert after.gate is not None
    row = next(row for row in after.gate.gates if row.name == "heavy:rps_ok")
    assert next(cells for cells in short if cells[0] == "heavy:rps_ok")[2:4] == [
        f"{row.baseline:.0f} req/s",
        f"{row.now:.0f} req/s",
    ]
    assert "The baseline is the median of 3 accepted sessions." in drawn(text).text_content()


def test_the_answer_of_the_report_comes_before_the_fold(slow: SessionArtifact) -> None:
    answer, fold, below = render_markdown(slow).partition("<details>")
    assert fold
    assert len(answer.splitlines()) < 40
    assert re.findall(r"^## (.*)$", answer, re.MULTILINE) == ["Where", "Next"]
    assert re.findall(r"^## (.*)$", below, re.MULTILINE) == ["More findings", "Gates", "Medians"]
    assert below.rstrip().endswith("</details>")
    assert "| `heavy:rps_ok` | regressed |" in answer
    assert "not\\-gateable" not in answer
    assert "were not judged" in answer
