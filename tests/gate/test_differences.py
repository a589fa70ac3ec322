"""Why earlier sessions are not compared, in words."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st
from msgspec import structs
from support.gate_sessions import PROFILES, history, key, session

from pytest_espperf.gate import judge
from pytest_espperf.gate.differences import sentence
from pytest_espperf.report import render_terminal

THOSE = "the 3 earlier sessions"


def phases(**burst: Any) -> dict[str, Any]:
    return {"phases": {"burst": {"clients": 12, "duration_s": 1.0, "rate_rps": None, **burst}}}


@pytest.mark.parametrize(
    ("mine", "theirs", "text"),
    [
        (phases(duration_s=2.0), phases(), f"burst lasted 1 s in {THOSE}, 2 s now"),
        (phases(clients=8), phases(), f"burst had 12 clients in {THOSE}, 8 clients now"),
        (phases(rate_rps=5), phases(), f"burst was sent at no fixed rate in {THOSE}, 5 requests/s now"),
        (phases(reuse=False), phases(), f"burst used each connection again in {THOSE}, once now"),
        (phases(), phases(reuse=False), f"burst used each connection once in {THOSE}, again now"),
        (
            phases(reuse=False, tls_resumption=False),
            phases(reuse=False),
            f"burst had TLS handshakes that were resumed where the board could in {THOSE}, full now",
        ),
        (
            phases(message={"sha256": "a", "bytes": 5}),
            phases(message={"sha256": "b", "bytes": 9}),
            f"burst sent another message (9 bytes) in {THOSE}, this message (5 bytes) now",
        ),
        (
            phases(message={"sha256": "a", "bytes": 5}),
            phases(),
            f"burst sent its own numbers in {THOSE}, this message (5 bytes) now",
        ),
        (phases(think_time_s=2.0), phases(), f"burst paused for 0 s in {THOSE}, 2 s now"),
        (phases(kind="page"), phases(), f"burst was of the kind requests in {THOSE}, page now"),
        (
            phases(page={"path": "/", "assets": ["/a", "/b"]}),
            phases(page={"path": "/", "assets": ["/a"]}),
            f"burst had page path /, assets /a in {THOSE}, path /, assets /a, /b now",
        ),
        ({"phases": {}}, phases(), f"burst was measured in {THOSE}, not measured now"),
        ({"paths": ["/a"]}, {"paths": []}, f"the path /a was not requested in {THOSE}, requested now"),
        (
            {"paths": ["/a", "/b"]},
            {"paths": ["/b", "/a"]},
            f"the paths were requested in the order /b, /a in {THOSE}, /a, /b now",
        ),
        ({"runs": 6}, {"runs": 3}, f"the number of runs was 3 in {THOSE}, 6 now"),
        ({"new": 1}, {}, f"new was not recorded in {THOSE}, 1 now"),
        (
            phases(duration_s=2.0, clients=8),
            phases(),
            f"in {THOSE} burst had 12 clients (now 8 clients), burst lasted 1 s (now 2 s)",
        ),
    ],
)
def test_what_differs_is_said_in_words(mine: dict[str, Any], theirs: dict[str, Any], text: str) -> None:
    assert sentence(mine, theirs, THOSE) == text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc/ ", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(st.sampled_from(["phases", "paths", "headers", "runs", "x"]), VALUES, min_size=1)


@seed(20261129)
@given(FIELDS, FIELDS)
def test_nothing_of_python_is_shown(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    if mine != theirs:
        assert not set(sentence(mine, theirs, THOSE)) & set("{}[]'\"")


def test_the_same_reason_is_given_once_for_all_profiles() -> None:
    rng = random.Random(5)
    fields = key().fields
    longer = {name: {**own, "runs": 2} for name, own in fields["profiles"].items()}
    earlier = history(rng, 3, comparability=key(profiles=longer))
    now = session(rng)
    verdict = judge(now, earlier)
    assert verdict.kind == "no-baseline"
    (found,) = [one for one in verdict.findings if one.kind == "incomparable"]
    assert found.where == ""
    lines = render_terminal(structs.replace(now, gate=verdict))
    headline = " ".join(line.text.strip() for line in lines if line.mood == "good")
    assert headline == f"NO-BASELINE: {found.message.removesuffix('.')}"
    assert "in the 3 earlier sessions" in lines[0].text
    assert not any(
        profile in line.text for profile in PROFILES for line in lines if "not compared" in line.text
    )
    assert any(line.text.startswith("next: ") for line in lines)


def test_sessions_that_differ_otherwise_are_not_counted_in() -> None:
    rng = random.Random(5)
    earlier = [
        *history(rng, 2, comparability=key(runs=3)),
        *history(rng, 1, comparability=key(runs=4)),
    ]
    (found,) = [one for one in judge(session(rng), earlier).findings if one.kind == "incomparable"]
    assert found.message == "the number of runs was 4 in the latest session, 6 now: not compared."
