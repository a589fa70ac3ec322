"""Phases of kind websocket and events in a project's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_espperf.config.lookup import resolve
from pytest_espperf.config.profiles import load_profiles
from pytest_espperf.errors import UsageError
from pytest_espperf.model.workload import PhaseSpec, StreamSpec
from pytest_espperf.session.plan import describe_profiles, make_plan

LIVE = """
[profiles.live.phases.chat]
kind = "websocket"
path = "/ws"
message = '{"id": {n}}'
size = 64
rate = 50
clients = 3
duration_s = 2
[profiles.live.phases.binary]
kind = "websocket"
path = "/ws"
size = 300
binary = true
[profiles.live.phases.plain]
kind = "websocket"
path = "/ws"
[profiles.live.phases.feed]
kind = "events"
path = "/events?rate=20"
clients = 4
duration_s = 5
"""


def load(folder: Path, text: str, name: str = "live") -> Any:
    (folder / "espperf.toml").write_text(text)
    return load_profiles(folder)[name]


def test_a_profile_of_streams_needs_no_paths(tmp_path: Path) -> None:
    profile = load(tmp_path, LIVE)
    assert profile.requests == ()
    chat = StreamSpec("/ws", message='{"id": {n}}', size=64)
    assert profile.phases == (
        PhaseSpec("chat", 3, 2.0, 50.0, kind="websocket", stream=chat),
        PhaseSpec("binary", 0, 0.0, kind="websocket", stream=StreamSpec("/ws", size=300, binary=True)),
        PhaseSpec("plain", 0, 0.0, kind="websocket", stream=StreamSpec("/ws", size=32)),
        PhaseSpec("feed", 4, 5.0, kind="events", stream=StreamSpec("/events?rate=20")),
    )


def test_clients_and_seconds_that_are_not_given_are_those_of_the_preset(tmp_path: Path) -> None:
    load(tmp_path, LIVE)
    made = make_plan(resolve({"perf_profiles": ["live"]}, {}, {}), load_profiles(tmp_path))
    resolved = {
        phase.name: (phase.clients, phase.duration_s, phase.kind) for phase in made.profiles[0].phases
    }
    assert resolved == {
        "chat": (3, 2.0, "websocket"),
        "binary": (8, 8.0, "websocket"),
        "plain": (8, 8.0, "websocket"),
        "feed": (4, 5.0, "events"),
    }


def test_streams_and_requests_may_stand_in_one_profile(tmp_path: Path) -> None:
    profile = load(
        tmp_path,
        LIVE.replace(
            "[profiles.live.phases.chat]",
            '[profiles.live]\npaths = ["/"]\n'
            "[profiles.live.phases.burst]\nclients = 2\n[profiles.live.phases.chat]",
            1,
        ),
    )
    assert [request.path for request in profile.requests] == ["/"]
    assert [phase.kind for phase in profile.phases] == ["requests", *["websocket"] * 3, "events"]


def test_the_list_of_profiles_shows_the_paths_of_streams(tmp_path: Path) -> None:
    load(tmp_path, LIVE)
    shown = describe_profiles(resolve({}, {}, {}), tmp_path)
    assert "    /ws (websocket, chat)" in shown
    assert "    /events?rate=20 (events, feed)" in shown


HEAD = "[profiles.x.phases.a]\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            'kind = "websockets"\npath = "/ws"',
            "kind: 'websockets' is not one of requests, page, websocket, events; did you mean 'websocket'?",
        ),
        (
            'kind = "event"\npath = "/ws"',
            "'event' is not one of requests, page, websocket, events; did you mean 'events'?",
        ),
        ('kind = 3\npath = "/ws"', "kind must be text, not a whole number"),
        ('kind = ["events"]\npath = "/ws"', "kind must be text, not a list"),
        ('kind = "websocket"\npath = "ws"', "begins with '/'"),
        ('kind = "websocket"\npath = "/ws"\nmesage = "x"', "unknown key 'mesage'; did you mean 'message'?"),
        ('kind = "websocket"\npath = "/ws"\nsize = 0', "size: 0 must be at least 1"),
        ('kind = "websocket"\npath = "/ws"\nsize = 1048577', "size: 1048577 must be at most"),
        ('kind = "websocket"\npath = "/ws"\nsize = 4\nmessage = "hello"', "message has 5 bytes, more than 4"),
        ('kind = "websocket"\npath = "/ws"\nsize = 9\nmessage = "{n}"', "message has 10 bytes, more than 9"),
        ('kind = "websocket"\npath = "/ws"\nmessage = 3', "message must be text, not a whole number"),
        ('kind = "websocket"\npath = "/ws"\nrate = 0', "rate: 0 must be above 0"),
        ('kind = "websocket"\npath = "/ws"\nbinary = 2', "binary must be a boolean"),
        (
            'kind = "events"\npath = "/ws"\nrate = 5',
            "key 'rate' is one of phases of another kind (requests, page, websocket)",
        ),
        (
            'kind = "events"\npath = "/ws"\nsize = 5',
            "key 'size' is one of phases of kind = 'websocket', and this one is 'events'",
        ),
        ('kind = "events"\npath = "/ws"\nclient = 5', "unknown key 'client'; did you mean 'clients'?"),
    ],
)
def test_a_bad_phase_is_one_sentence_with_file_and_table(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, HEAD + text, "x")
    assert says in str(caught.value)
    assert "espperf.toml: [profiles.x] phases.a" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD + 'kind = "websocket"', "phases.a: it has no path"),
        (HEAD + 'kind = "events"\npath = "/e"\n[profiles.x.phases.b]\nclients = 1', "paths must be a list"),
        ('[profiles.x]\npaths = ["/"]\n' + HEAD + 'kind = "websocket"', "it has no path"),
        (
            '[profiles.x]\npaths = ["/"]\n' + HEAD + 'message = "x"',
            "key 'message' is one of phases of kind = 'websocket'",
        ),
    ],
)
def test_a_path_that_is_missing_is_asked_for(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load(tmp_path, text, "x")
