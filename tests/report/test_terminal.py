from __future__ import annotations

from typing import Any

import lxml.html
import msgspec
import pytest
from hypothesis import example, given, seed
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pytest_espperf.model.artifact import (
    CellAggregate,
    Finding,
    GateRow,
    PathAggregate,
    PathChange,
    SessionArtifact,
    Summary,
    Verdict,
)
from pytest_espperf.model.findings import BROKEN, BUDGET, LEAK
from pytest_espperf.report import make_view, render_markdown, render_terminal
from pytest_espperf.report.markdown import code, escape

PATH = "/template?a=1"


def session(verdict: str = "regressed", *, path: str = PATH, message: str = "a note") -> SessionArtifact:
    cell = CellAggregate(
        profile="heavy",
        phase="burst",
        sample_count=3,
        pass_rate=1.0,
        p95_ms=Summary(median=10.0, best=9.0, worst=11.0, mean=10.0),
        rps_ok=Summary(median=100.0),
        path_metrics={path: PathAggregate(p95_ms=Summary(median=12.0)), "/fast": PathAggregate()},
    )
    rows = [
        GateRow(name="light:p95_ms", profile="light", metric="p95_ms", d_pct=0.1, threshold_pct=5.0),
        GateRow(
            name="heavy:p95_ms",
            profile="heavy",
            metric="p95_ms",
            verdict="regressed",
            d_pct=80.0,
            threshold_pct=10.0,
            smallest_detectable_pct=10.0,
            baseline=5.0,
            now=9.0,
        ),
    ]
    return SessionArtifact(
        target="board:8080",
        timestamp_utc="20261123T150000Z",
        aggregated={"heavy:burst": cell},
        comparison_to_previous={"heavy:burst": {"p95_ms_median_pct": 80.0}},
        gate=Verdict(
            kind=verdict,  # type: ignore[arg-type] # parametrized with its words
            gates=rows,
            findings=[Finding(message=message), Finding(severity="fail", message="x")],
            places=[
                PathChange(
                    profile="heavy", phase="burst", path=one, metric="p95_ms", baseline=1, now=2, d_pct=pct
                )
                for one, pct in ((path, 80.0), ("/fast", 2.0))
            ],
        ),
    )


def test_worst_first() -> None:
    view = make_view(session())
    assert [row.name for row in view.gates] == ["heavy:p95_ms", "light:p95_ms"]
    assert [finding.severity for finding in view.findings] == ["fail", "info"]
    assert [row.name for row in view.cells] == ["heavy:burst", PATH, "/fast"]


def test_the_terminal_table_fits_eighty_columns() -> None:
    lines = render_terminal(session(path="/" + "x" * 200))
    assert all(len(line.text) <= 80 for line in lines if not line.text.startswith(" " * 6 + "/x"))
    assert sum("xxx" in line.text for line in lines) > 1
    assert lines[0].text.startswith("REGRESSED: heavy ")
    assert lines[0].mood == "bad"


def test_paths_of_a_failing_profile_are_shown_without_asking() -> None:
    assert any(PATH in line.text for line in render_terminal(session()))
    assert not any(PATH in line.text for line in render_terminal(session(), verbosity=-1))


@pytest.mark.parametrize(
    "verdict", ["unchanged", "no-baseline", "failed", "incomplete", "drift", "inconclusive"]
)
def test_every_verdict_has_its_words(verdict: str) -> None:
    assert render_terminal(session(verdict))[0].text.startswith(verdict.upper())
    assert f": {verdict}" in render_markdown(session(verdict))


def test_a_session_without_verdict_is_shown_as_incomplete() -> None:
    assert make_view(SessionArtifact()).verdict == "incomplete"


@seed(20261125)
@example("\\|")
@given(st.text())
def test_nothing_that_a_board_sends_moves_the_cursor_or_breaks_a_table(text: str) -> None:
    shown = session(path=text, message=text)
    for line in render_terminal(shown, verbosity=1):
        assert line.text.isprintable()
    rows = [line for line in render_markdown(shown).splitlines() if line.startswith("|")]
    for row in rows:
        unescaped = row.replace("\\\\", "").replace("\\|", "")
        assert unescaped.count("|") in {6, 7, 10}


@given(st.text())
def test_markdown_escapes(text: str) -> None:
    for escaped in (escape(text), code(text)):
        assert "\n" not in escaped
        assert "\r" not in escaped
    assert "<" not in escape(text).replace("\\<", "")


def test_markdown_of_hostile_text() -> None:
    text = render_markdown(session(path="/<script>|`x`", message="<img src=x> [a](b) @team #1"))
    assert "`` /<script>\\|`x` ``" in text
    assert "<img" not in text.replace("\\<img", "")
    assert "[a]" not in text.replace("\\[a\\]", "")


def test_the_summary_renders_as_tables_and_nothing_of_a_boards_as_markup() -> None:
    hostile = "/<b>|`x` [a](http://b) ![c](d) | e"
    rendered = MarkdownIt("gfm-like").render(render_markdown(session(path=hostile, message=hostile)))
    document: Any = lxml.html.fromstring(rendered)
    cells = [[cell.text_content() for cell in row.iter("td", "th")] for row in document.iter("tr")]
    assert {len(row) for row in cells} == {5, 6, 9}
    assert [row for row in cells if row[0] == hostile], cells
    assert not list(document.iter("img", "b"))
    # An address that stands in the text may be made a link, one that hides behind other words may not.
    assert all(link.text_content() in link.get("href") for link in document.iter("a"))
    assert hostile in document.text_content()


def test_a_board_that_is_slow_by_nature_is_told_how_to_get_a_baseline() -> None:
    def steps(finding: Finding) -> str:
        failed = msgspec.structs.replace(session("failed"), gate=Verdict(kind="failed", findings=[finding]))
        return " ".join(make_view(failed).next_steps)

    broken = Finding(severity="fail", kind=BUDGET, message="p95 2,001.00 ms is above the budget of 2,000 ms")
    assert "--perf-max-p95-ms" in steps(broken)
    errors = "page:long: error rate 6.25 % is above the budget of 2 %: /: 500 (7 of 112) (3 of 3 runs)"
    assert "--perf-max-p95-ms" not in steps(Finding(severity="fail", kind=BUDGET, message=errors))
    assert "--perf-max-p95-ms" not in steps(Finding(severity="fail", kind=BROKEN, message="a crash"))
    assert "--perf-max-p95-ms" not in steps(Finding(severity="warn", kind=BUDGET, message="one bad run"))


def test_a_failed_session_is_headed_by_what_failed() -> None:
    budget = "python_heavy:long: p95 2,310.00 ms is above the budget of 2,000 ms (3 of 3 runs)"
    broken = Finding(severity="fail", kind=BUDGET, where="python_heavy:long", message=f"{budget}.")
    leak = Finding(severity="fail", kind=LEAK, where="internal_free", message="free memory falls.")
    slower = GateRow(name="python_light:rps_ok", profile="python_light", verdict="regressed")

    def headline(*findings: Finding) -> str:
        verdict = Verdict(kind="failed", gates=[slower], findings=list(findings))
        lines = render_terminal(SessionArtifact(gate=verdict), verbosity=-1)
        assert all(len(line.text) <= 80 for line in lines)
        return " ".join(line.text.strip() for line in lines if line.bold)

    assert headline(broken) == f"FAILED: {budget}"
    assert headline(broken, leak) == f"FAILED: {budget} (and 1 more finding)"
    assert headline() == "FAILED: a budget is exceeded, or the board could not be measured"


def test_gates_stand_worst_first_and_what_was_not_judged_last() -> None:
    words = ("not-gateable", "improved", "unchanged", "inconclusive", "regressed")
    gates = [GateRow(name=f"a:{word}", verdict=word, d_pct=float(len(word))) for word in words]
    view = make_view(SessionArtifact(gate=Verdict(kind="regressed", gates=gates)))
    assert [row.verdict for row in view.gates] == [
        "regressed",
        "inconclusive",
        "unchanged",
        "improved",
        "not-gateable",
    ]
