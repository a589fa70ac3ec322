"""A comparison of two firmwares in every report: one size of a change, one word for it, an interval."""

from __future__ import annotations

import math
import random
import re

import pytest
from msgspec import structs
from support.gate_sessions import run

from pytest_espperf.gate.contest import NEW, OLD, Judged, judge_contest, series_of
from pytest_espperf.gate.policy import GatePolicy
from pytest_espperf.gate.sequential import PairPlan, decide
from pytest_espperf.history.names import OrderKey
from pytest_espperf.history.rows import row_of
from pytest_espperf.model.artifact import GateRow, RunRole, SessionArtifact, Verdict
from pytest_espperf.model.contest import Candidate, Contest, FirmwareFacts, Switch
from pytest_espperf.model.gates import worst_gate
from pytest_espperf.report import render_terminal
from pytest_espperf.report.boards import render_boards
from pytest_espperf.report.comment import render_comment
from pytest_espperf.report.contest import basis, candidate_rows
from pytest_espperf.report.exports.badge import render_badge
from pytest_espperf.report.exports.junit import render_junit
from pytest_espperf.report.html.data import ReportData
from pytest_espperf.report.html.page import render_html
from pytest_espperf.report.listing import ListedSession, render_listing
from pytest_espperf.report.markdown import render_markdown
from pytest_espperf.report.view import make_view
from pytest_espperf.session.contest import answer_words

PLAN = PairPlan(most_pairs=6)
STAMP = "20260101T000000Z"


def compared(factor: float, *, noise: float = 0.01, pairs: int = 6) -> tuple[SessionArtifact, str]:
    """A comparison whose new firmware takes so many times as long; and its last line of progress."""
    rng = random.Random(4)
    runs = []
    for index in range(1, pairs + 1):
        roles: tuple[RunRole, RunRole] = (OLD, NEW)
        for role in roles:
            times = factor if role == NEW else 1.0
            runs.append(run("page", index, [times * math.exp(rng.gauss(0, noise)) for _ in range(2)], role))
    contest = Contest(kind="ab", pairs=pairs, most_pairs=6, seconds=60.0)
    session = SessionArtifact(session_id="abcd1234", profiles=["page"], raw_runs=runs, contest=contest)
    series = series_of(session)
    answers = decide(series, PLAN)
    verdict = judge_contest(session, Judged(series=series, answers=answers), GatePolicy())
    return structs.replace(session, gate=verdict), answer_words(answers.values())


def texts(session: SessionArtifact) -> dict[str, str]:
    return {
        "terminal": "\n".join(line.text for line in render_terminal(session, verbosity=1)),
        "markdown": render_markdown(session),
        "comment": render_comment(session),
        "page": re.sub(
            r"<[^>]+>", " ", render_html(ReportData(session)).split("<main>")[1].split("<script")[0]
        ),
        "junit": render_junit(session),
        "badge": render_badge(session),
    }


def test_a_faster_firmware_has_one_size_everywhere() -> None:
    session, progress = compared(0.5)
    shown = texts(session)
    headline = shown["terminal"].splitlines()[0]
    (size,) = re.findall(r"page is ([0-9]+) % faster", headline)
    old, new = (float(text) for text in re.findall(r"([0-9.]+) -> ([0-9.]+) req/s", headline)[0])
    assert 100 * (new / old - 1) == pytest.approx(float(size), abs=2)
    (told,) = re.findall(r"page faster by ([0-9.]+) %", progress)
    assert float(told) == pytest.approx(float(size), abs=0.51)
    row = next(line for line in shown["terminal"].splitlines() if line.startswith("page:rps_ok "))
    assert f"-{told} %" in row
    assert row.endswith("faster")
    assert f"-{told} %" in shown["markdown"]
    assert f"-{told} %" in shown["page"]
    assert f"{size} % faster" in shown["comment"]
    assert f"faster: page {size} % faster" in shown["badge"]
    (value,) = re.findall(r'name="page:rps_ok.d_pct" value="([^"]+)"', shown["junit"])
    assert float(value) == pytest.approx(-float(told), abs=0.051)
    row_of_it = row_of(session, OrderKey(STAMP, 1, f"perf_{STAMP}.json"))
    assert row_of_it.worst_change == pytest.approx(-float(told), abs=0.051)
    assert row_of_it.worst_pct is not None
    listed = ListedSession(
        "now", "abcd1234", "improved", "", "", row_of_it.worst_gate, row_of_it.worst_change
    )
    assert f"page:rps_ok -{told} %" in render_listing([listed])[-1].text


def test_a_session_that_is_faster_than_its_history_has_one_size_everywhere() -> None:
    row = GateRow(
        name="heavy:rps_ok",
        profile="heavy",
        metric="rps_ok",
        verdict="improved",
        d_pct=-47.8,
        baseline=100.0,
        now=191.6,
    )
    session = SessionArtifact(session_id="abcd1234", gate=Verdict(kind="improved", gates=[row]))
    for name, text in texts(session).items():
        assert "-47.8" not in text, name
    shown = texts(session)
    for name in ("terminal", "markdown", "page"):
        assert "-91.6 %" in shown[name], name
    assert "92 % faster" in shown["badge"]
    assert "heavy:rps_ok -91.6 %" in render_boards({"a": session}, brief=["a"])[0].text


def test_a_value_or_a_commit_that_is_faster_has_the_size_of_the_figures() -> None:
    twice = Candidate(label="8", rounds=3, d_pct=-50.0, figure=80.0, metric="rps_ok")
    tail = Candidate(label="4", rounds=3, d_pct=-50.0, figure=20.0, metric="p95_ms")
    for one, change in ((twice, "-100.0 %"), (tail, "-50.0 %")):
        contest = Contest(kind="sweep", candidates=[one])
        assert candidate_rows(contest)[1][3] == change
        assert change in dict(basis(contest))[one.label]


def test_what_is_shown_to_be_faster_is_called_so() -> None:
    session, _ = compared(0.5)
    assert session.gate is not None
    words = {row.metric: row.verdict for row in session.gate.gates}
    assert words["rps_ok"] == words["p95_ms"] == "improved"
    worst = worst_gate(session.gate)
    assert worst is not None
    assert worst.name == "page:rps_ok"


@pytest.mark.parametrize(
    ("factor", "noise", "word"),
    [(1.3, 0.01, "slower"), (0.5, 0.01, "faster"), (1.0, 0.005, "same"), (1.0, 0.3, "unclear")],
)
def test_the_answer_has_one_word_everywhere(factor: float, noise: float, word: str) -> None:
    session, _ = compared(factor, noise=noise)
    assert session.gate is not None
    for name, text in texts(session).items():
        if not (name == "junit" and word == "same"):  # a test that passes says nothing
            assert word in text.lower(), name
        for_readers = re.sub(r"<property [^>]*>", "", text)  # the artifact's field, for programs
        assert not re.search("regressed|improved|unchanged|inconclusive", for_readers), name
    worst = worst_gate(session.gate)
    assert worst is not None
    assert worst.verdict == session.gate.kind


def test_the_interval_stands_in_place_of_thresholds() -> None:
    session, _ = compared(1.3)
    shown = texts(session)
    row = next(line for line in shown["terminal"].splitlines() if line.startswith("page:rps_ok "))
    low, high = (float(text) for text in re.findall(r"([+-][0-9.]+) to ([+-][0-9.]+) %", row)[0])
    assert 20 < low < 30 < high < 40
    for name in ("terminal", "markdown", "page"):
        assert "interval" in shown[name], name
        assert "fails at" not in shown[name], name
    assert all(len(line) <= 80 for line in shown["terminal"].splitlines())


@pytest.mark.parametrize(("factor", "commits"), [(1.3, True), (1.3, False), (1.0, True)])
def test_bisect_is_advised_where_it_can_be_run(factor: float, commits: bool) -> None:
    session, _ = compared(factor, noise=0.01 if factor > 1 else 0.3)
    known = {"old": "a" * 40, "new": "b" * 40} if commits else {}
    assert session.contest is not None
    contest = structs.replace(
        session.contest,
        firmwares=[FirmwareFacts(label=label, commit=known.get(label, "")) for label in ("old", "new")],
        switches=[Switch(label="old", seconds=1.0)],
    )
    steps = " ".join(make_view(structs.replace(session, contest=contest)).next_steps)
    asked = f"espperf bisect {'a' * 12} {'b' * 12} HOST"
    assert (asked in steps) == (commits and factor > 1)
    assert ("bisect" in steps) == (commits and factor > 1)
    assert "look at" not in steps or factor > 1


def test_a_comparison_without_a_whole_pair_has_no_table() -> None:
    session, _ = compared(1.3, pairs=1)
    last = session.raw_runs[-1]
    crashed = structs.replace(last, results=last.results[:1])
    session = structs.replace(session, raw_runs=[*session.raw_runs[:-1], crashed])
    series = series_of(session)
    verdict = judge_contest(session, Judged(series=series, answers=decide(series, PLAN)), GatePolicy())
    assert {row.verdict for row in verdict.gates} >= {"not-gateable"}
    shown = [line.text for line in render_terminal(structs.replace(session, gate=verdict))]
    assert not any(text.startswith("gate ") for text in shown)


def test_an_interrupted_comparison_blames_no_path() -> None:
    session, _ = compared(1.3, pairs=2)
    assert session.gate is not None
    cut = structs.replace(session, gate=structs.replace(session.gate, kind="incomplete"), partial=True)
    assert {row.verdict for row in session.gate.gates if row.metric != "error_rate"} == {"inconclusive"}
    assert not any(step.startswith("look at") for step in make_view(cut).next_steps)


def test_what_the_board_said_is_shown() -> None:
    facts = [FirmwareFacts(label="old", how="command", running="fw 1.0")]
    assert dict(basis(Contest(kind="ab", firmwares=facts)))["old"] == "command, says 'fw 1.0'"
    facts = [FirmwareFacts(label="old", how="slot", slot="a", running="a")]
    assert dict(basis(Contest(kind="ab", firmwares=facts)))["old"] == "slot a, says 'a'"


@pytest.mark.parametrize("factor", [1.5, 0.6])
def test_the_columns_are_named_for_the_firmwares_everywhere(factor: float) -> None:
    session, _ = compared(factor)
    heads = re.findall(r'scope="col"[^>]*>([^<]*)<', render_html(ReportData(session)))
    shown = texts(session) | {"page": " ".join(heads)}
    assert "pairs" in heads
    for name in ("terminal", "markdown", "comment", "page"):
        words = set(re.findall(r"[a-z0-9]+", shown[name].lower()))
        assert {"old", "new"} <= words, name
        assert not {"baseline", "now", "sessions"} & words, name


def test_the_same_is_said_of_both_figures() -> None:
    session, _ = compared(1.0, noise=0.004)
    assert session.gate is not None
    rows = {row.metric: row for row in session.gate.gates}
    most = {name: max(0.0, rows[name].at_most_pct or 0.0) for name in ("rps_ok", "p95_ms")}
    told = f"no profile is slower by more than {most['rps_ok']:.1f} % (p95: {most['p95_ms']:.1f} %)"
    assert make_view(session).meaning.startswith(told)
    assert "1 is the same" in render_comment(session) or "are the same" in render_comment(session)


def test_too_few_pairs_have_no_interval() -> None:
    session, _ = compared(1.3, pairs=2)
    row = next(line.text for line in render_terminal(session) if line.text.startswith("page:rps_ok "))
    assert row.split()[-2:] == ["?", "unclear"]


def test_a_page_without_medians_has_no_table_for_them() -> None:
    session, _ = compared(1.5)
    drawn = render_html(ReportData(session))
    assert "Profiles and paths" not in drawn
    assert "#paths" not in drawn
