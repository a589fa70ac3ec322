"""How a session stands to the baseline: one answer for the gate, the history and the lists."""

from __future__ import annotations

from typing import get_args

import pytest
from msgspec import structs

from pytest_espperf.history.names import OrderKey
from pytest_espperf.history.rows import row_of
from pytest_espperf.model.artifact import Comparability, Finding, SessionArtifact, Verdict
from pytest_espperf.model.findings import HELD_BACK, PROVISIONAL
from pytest_espperf.model.standing import Standing
from pytest_espperf.model.verdicts import VerdictWord

MEASURED = Comparability(key="k", fields={"board": "a"})
ACCEPTED = {"reason": "faster is not everything"}


def session(word: VerdictWord, *kinds: str) -> SessionArtifact:
    findings = [Finding(kind=kind) for kind in kinds]
    return SessionArtifact(comparability=MEASURED, gate=Verdict(kind=word, findings=findings))


@pytest.mark.parametrize(
    ("made", "in_baseline", "may_be_named"),
    [
        (session("unchanged"), True, True),
        (session("improved"), True, True),
        (session("no-baseline"), True, True),
        (session("environment-shift"), True, True),
        (session("unchanged", HELD_BACK), False, True),
        (session("inconclusive"), False, True),
        (session("inconclusive", PROVISIONAL), True, True),
        (session("regressed"), False, True),
        (session("drift"), False, True),
        (session("failed"), False, False),
        (session("incomplete"), False, False),
        (structs.replace(session("unchanged"), partial=True), False, False),
        (structs.replace(session("failed"), accepted=ACCEPTED), True, True),
        (structs.replace(session("failed"), accepted=ACCEPTED, partial=True), False, False),
        (SessionArtifact(comparability=MEASURED), True, True),
        (SessionArtifact(), False, False),
        (SessionArtifact(accepted=ACCEPTED), False, False),
    ],
)
def test_who_may_be_a_baseline(made: SessionArtifact, in_baseline: bool, may_be_named: bool) -> None:
    standing = Standing.of(made)
    assert (standing.in_baseline, standing.may_be_named) == (in_baseline, may_be_named)


def test_only_accepted_sessions_and_changes_of_the_bench_open_an_epoch() -> None:
    opens = {word for word in get_args(VerdictWord) if Standing.of(session(word)).opens_epoch}
    assert opens == {"environment-shift"}
    assert not Standing.of(session("environment-shift", HELD_BACK)).opens_epoch
    assert Standing.of(structs.replace(session("failed"), accepted=ACCEPTED)).opens_epoch


def test_a_session_is_kept_out_where_it_is_slower_or_looks_so() -> None:
    kept_out = [session("regressed"), session("drift"), session("unchanged", HELD_BACK)]
    assert all(Standing.of(one).kept_out for one in kept_out)
    accepted = structs.replace(session("regressed"), accepted=ACCEPTED)
    others = [session("failed"), session("failed", HELD_BACK), session("unchanged"), accepted]
    assert not any(Standing.of(one).kept_out for one in others)


def test_its_label_says_what_the_verdict_does_not() -> None:
    labels = [
        Standing.of(one).label
        for one in (
            session("unchanged"),
            session("unchanged", HELD_BACK),
            session("inconclusive", PROVISIONAL),
            session("inconclusive"),
            SessionArtifact(),
        )
    ]
    assert labels == ["", HELD_BACK, PROVISIONAL, "", ""]


@pytest.mark.parametrize("word", [*get_args(VerdictWord), ""])
@pytest.mark.parametrize("kinds", [(), (HELD_BACK,), (PROVISIONAL,)])
@pytest.mark.parametrize("accepted", [None, ACCEPTED])
@pytest.mark.parametrize("comparability", [None, MEASURED])
def test_a_row_of_the_history_stands_as_its_session(
    word: str, kinds: tuple[str, ...], accepted: dict[str, str] | None, comparability: Comparability | None
) -> None:
    gate = Verdict(kind=word, findings=[Finding(kind=kind) for kind in kinds]) if word else None  # type: ignore[arg-type] # a word of each kind
    for partial in (False, True):
        made = SessionArtifact(comparability=comparability, gate=gate, partial=partial, accepted=accepted)
        row = structs.replace(row_of(made, OrderKey("20260101T000000Z", 1, "a.json")), accepted=accepted)
        assert row.standing == Standing.of(made)
