"""What a path answers is part of the comparison: status, size, content type, coding."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from support.gate_sessions import history, kinds, session

from pytest_espperf.gate import judge
from pytest_espperf.gate.answers import changed_answers
from pytest_espperf.gate.early import decide_early
from pytest_espperf.gate.verdict import unclear_profiles
from pytest_espperf.history.load import for_judging
from pytest_espperf.model.artifact import (
    BodySizes,
    PathAnswer,
    PathReport,
    PhaseReport,
    SessionArtifact,
    Verdict,
)
from pytest_espperf.model.verdicts import OTHER_ANSWERS
from pytest_espperf.report import render_terminal
from pytest_espperf.report.view import make_view

PROFILE = "python_light"
Statuses = Mapping[str, int]
OK = {"200": 400}


def answering(
    made: SessionArtifact,
    statuses: Statuses = OK,
    sizes: Sequence[int] | int | None = 500,
    *,
    content_type: str | None = "text/html",
    encoding: str = "",
    asked_bytes: int | None = None,
) -> SessionArtifact:
    """The session with one path per profile that answers so; ``sizes``: least, median and most."""
    least, middle, most = (sizes,) * 3 if isinstance(sizes, int) else sizes or (0, 0, 0)
    body = BodySizes(least=least, median=middle, most=most) if sizes is not None else None
    path = PathReport(requests_total=400, ok=400, status_counts=dict(statuses), body_bytes=body)

    def changed(report: PhaseReport) -> PhaseReport:
        return msgspec.structs.replace(report, path_metrics={"/a": path})

    runs = [
        msgspec.structs.replace(
            run, results=[msgspec.structs.replace(x, report=changed(x.report)) for x in run.results]
        )
        for run in made.raw_runs
    ]
    asked = (
        {}
        if content_type is None
        else {
            "/a": PathAnswer(status=200, body_bytes=asked_bytes, content_type=content_type, encoding=encoding)
        }
    )
    return msgspec.structs.replace(made, raw_runs=runs, answers=dict.fromkeys(made.profiles, asked))


def past(rng: random.Random, count: int = 4, **facts: Any) -> list[SessionArtifact]:
    # As the store hands them out.
    return [for_judging(answering(one, **facts)) for one in history(rng, count)]


@pytest.fixture
def rng() -> random.Random:
    return random.Random(15)


CHANGED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a redirect": ({}, {"statuses": {"302": 400}}, "status 200 -> 302"),
    "a redirect here and there": (
        {},
        {"statuses": {"200": 300, "302": 100}},
        "2xx in 100 % -> 75 % of the answers",
    ),
    "a small body": ({"sizes": 8000}, {"sizes": 20}, "8,000 -> 20 bytes"),
    "an empty body": ({"sizes": 20}, {"sizes": 0}, "20 -> 0 bytes"),
    "a body where there was none": ({"sizes": 0}, {"sizes": 800}, "0 -> 800 bytes"),
    "a large body": ({"sizes": 500}, {"sizes": 1200}, "500 -> 1,200 bytes"),
    "beyond all that was seen": (
        {"sizes": (100, 300, 900)},
        {"sizes": (40, 45, 200)},
        "300 -> 45 bytes",
    ),
    "another type": ({}, {"content_type": "application/json"}, "text/html -> application/json"),
    "no type any more": ({}, {"content_type": ""}, "text/html -> none"),
    "packed": ({}, {"encoding": "gzip"}, "Content-Encoding none -> gzip"),
    "sizes from before the load": (
        {"sizes": None, "asked_bytes": 8000},
        {"sizes": None, "asked_bytes": 20},
        "8,000 -> 20 bytes",
    ),
}


@pytest.mark.parametrize(("before", "now", "words"), CHANGED.values(), ids=CHANGED)
@pytest.mark.parametrize("slower", [0.3, 1.0])
def test_other_answers_are_no_improvement(
    rng: random.Random, before: dict[str, Any], now: dict[str, Any], words: str, slower: float
) -> None:
    candidate = answering(session(rng, slower=dict.fromkeys(("python_light",), slower)), **now)
    verdict = judge(candidate, past(rng, **before))
    assert verdict.kind == "inconclusive"
    assert not verdict.joins_baseline
    assert verdict.held_back
    said = [finding for finding in verdict.findings if finding.kind == "answers"]
    assert len(said) == 3, "each profile has a sentence of its own"
    assert all(f"/a: {words}" in finding.message for finding in said)
    assert {"not-excluded", "provisional"}.isdisjoint(kinds(verdict))
    assert {row.verdict for row in verdict.gates if row.metric in {"rps_ok", "p95_ms"}} == {"inconclusive"}
    assert unclear_profiles(verdict) == [], "further runs would answer nothing else"
    shown = msgspec.structs.replace(candidate, gate=verdict)
    assert make_view(shown).meaning == OTHER_ANSWERS.text
    text = " ".join(" ".join(line.text for line in render_terminal(shown)).split())
    assert "espperf accept" in text
    assert words in text


ALIKE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the same": ({}, {}),
    "half as much again": ({"sizes": 500}, {"sizes": 750}),
    "a counter": ({"sizes": 15}, {"sizes": 40}),
    "a list that varies": ({"sizes": (2, 60, 400)}, {"sizes": (2, 700, 900)}),
    "an empty list": ({"sizes": (0, 60, 400)}, {"sizes": (0, 0, 400)}),
    "another status of its class": ({}, {"statuses": {"201": 400}}),
    "a few errors": ({}, {"statuses": {"200": 390, "500": 10}}),
    "a busy board": ({}, {"statuses": {"200": 300, "503": 100, "429": 50}}),
    "a mix of old": ({"statuses": {"200": 200, "304": 200}}, {"statuses": {"200": 220, "304": 180}}),
    "said to be as it is": ({}, {"encoding": "identity"}),
    "nothing known before": ({"statuses": {}, "sizes": None, "content_type": None}, {"sizes": 20}),
    "nothing known now": ({}, {"statuses": {}, "sizes": None, "content_type": None}),
}


@pytest.mark.parametrize(("before", "now"), ALIKE.values(), ids=ALIKE)
def test_answers_that_vary_by_nature_are_the_same(
    rng: random.Random, before: dict[str, Any], now: dict[str, Any]
) -> None:
    verdict = judge(answering(session(rng), **now), past(rng, **before))
    assert verdict.kind == "unchanged"
    assert "answers" not in kinds(verdict)


def test_what_any_session_of_the_baseline_saw_is_usual(rng: random.Random) -> None:
    baseline = [*past(rng, 2), *past(rng, 2, sizes=4000, content_type="text/plain", statuses={"302": 400})]
    for facts in ({}, {"sizes": 2000, "content_type": "text/plain"}, {"statuses": {"302": 400}}):
        assert judge(answering(session(rng), **facts), baseline).kind == "unchanged"


def test_sessions_without_these_facts_are_judged_as_before(rng: random.Random) -> None:
    plain = history(rng, 4)
    assert judge(session(rng), plain).kind == "unchanged"
    assert judge(answering(session(rng), sizes=3), plain).kind == "unchanged"
    assert judge(session(rng), past(rng)).kind == "unchanged"


def test_a_slowdown_stays_one(rng: random.Random) -> None:
    candidate = answering(session(rng, slower={PROFILE: 2.0}), sizes=20)
    verdict = judge(candidate, past(rng))
    assert verdict.kind == "regressed"
    assert "answers" in kinds(verdict)
    assert unclear_profiles(verdict) == [PROFILE]


def test_an_accepted_session_is_the_norm(rng: random.Random) -> None:
    baseline = past(rng)
    first = answering(session(rng, name="first"), sizes=20)
    first = msgspec.structs.replace(first, gate=judge(first, baseline))
    again = answering(session(rng, name="again"), sizes=20)
    assert judge(again, [*baseline, for_judging(first)]).kind == "inconclusive", "once is not accepted"
    accepted = msgspec.structs.replace(for_judging(first), accepted={"reason": "a login"})
    assert judge(again, [*baseline, accepted]).kind == "unchanged"
    assert judge(answering(session(rng), sizes=500), [*baseline, accepted]).kind == "inconclusive"


def test_sessions_with_other_answers_never_join_by_their_number(rng: random.Random) -> None:
    sessions = past(rng)
    for number in range(6):
        candidate = answering(session(rng, name=f"n{number}"), sizes=20)
        verdict = judge(candidate, sessions)
        assert verdict.held_back, number
        sessions.append(for_judging(msgspec.structs.replace(candidate, gate=verdict)))
    assert judge(answering(session(rng)), sessions).kind == "unchanged", "nor do they move the baseline"


def test_a_profile_with_other_answers_does_not_end_early(rng: random.Random) -> None:
    baseline = past(rng, 8)
    so_far = session(rng, rounds=3)
    so_far = msgspec.structs.replace(so_far, runs_per_profile=6, partial=True)
    assert set(decide_early(answering(so_far), baseline)) == set(so_far.profiles)
    assert decide_early(answering(so_far, sizes=20), baseline) == {}


def test_only_what_both_asked_for_is_compared(rng: random.Random) -> None:
    now = answering(session(rng))
    assert changed_answers(now, {PROFILE: [for_judging(session(rng))]}) == {}
    assert changed_answers(now, {}) == {}
    assert Verdict(kind="unchanged").held_back is False


def test_a_profile_of_redirects_alone_says_so(rng: random.Random) -> None:
    def found(answers: dict[str, PathAnswer]) -> list[str]:
        made = session(rng)
        verdict = judge(msgspec.structs.replace(made, answers={PROFILE: answers}), [])
        return [one.message for one in verdict.findings if one.kind == "redirects"]

    page, moved = PathAnswer(status=200), PathAnswer(status=301)
    (message,) = found({f"/{number}": moved for number in range(5)})
    assert "(/0: 301, /1: 301, /2: 301 and 2 more)" in message
    assert found({"/": moved, "/index.html": page}) == []
    assert found({"/cached": PathAnswer(status=304)}) == []
    assert found({}) == []
