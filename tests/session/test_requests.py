"""Requests with methods, bodies and a login, in a session: compared, judged, asked for before the load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import structs
from support.load_servers import HANG_S, PATIENT_S, Handler, Peer, answer, serving
from support.pytest_alone import ENVIRONMENT
from support.sessions_at import artifacts
from support.short_sessions import ANY_CHANGE, SHORT

from pytest_espperf import load
from pytest_espperf.config.lookup import resolve
from pytest_espperf.config.profiles import load_profiles
from pytest_espperf.gate.differences import sentence
from pytest_espperf.load import find_delayed_acks
from pytest_espperf.model.artifact import Comparability, PathReport, PhaseReport, SessionArtifact
from pytest_espperf.model.workload import LoginSpec, PhaseSpec, Profile, RequestSpec, StreamSpec
from pytest_espperf.session.answers import Asker
from pytest_espperf.session.identity import make_comparability
from pytest_espperf.session.limits import phase_failures, thresholds
from pytest_espperf.session.plan import PlannedPhase, SessionPlan, describe_profiles
from pytest_espperf.session.time_budget import MARGIN_S, TELEMETRY_S, phase_budget

SECRET = "hunter2hunter2"
PHASES = (PhaseSpec("burst", 2, 1.0),)
PLAIN = RequestSpec("/a")
POST = RequestSpec("/a", method="POST", body=b"{}", headers=(("Content-Type", "application/json"),))
LOGIN = LoginSpec(
    RequestSpec("/login", method="POST", body=SECRET.encode(), headers=(("X-Key", SECRET),)),
    {"token": "json:token"},
)


def facts(*requests: RequestSpec, login: LoginSpec | None = None) -> Comparability:
    plan = SessionPlan((Profile("shop", requests, PHASES, login=login),), runs=1, warmup_s=0.0)
    return make_comparability(plan, board="b:1", scheme="http", engine="e", device_headers=())


def own(made: Comparability) -> dict[str, Any]:
    found: dict[str, Any] = made.fields["profiles"]["shop"]
    return found


# --- what is compared


def test_a_profile_of_plain_paths_has_the_facts_that_it_always_had() -> None:
    made = facts(replace(PLAIN, weight=2, contains=b"x", limits={"max_p95_ms": 5.0}), RequestSpec("/b"))
    assert own(made) == {
        "paths": ["/a x2", "/b"],
        "headers": [],
        "phases": {"burst": {"clients": 2, "duration_s": 1.0, "rate_rps": None}},
    }


def test_each_part_of_a_request_is_compared() -> None:
    unlike = [
        facts(PLAIN),
        facts(POST),
        facts(replace(POST, method="PUT")),
        facts(replace(POST, body=b"[]")),
        facts(replace(POST, body=None)),
        facts(replace(POST, body=b"")),
        facts(replace(POST, headers=())),
        facts(replace(POST, headers=(("Content-Type", "text/json"),))),
        facts(replace(POST, chunked=True)),
        facts(replace(POST, expect_continue=True)),
        facts(POST, login=LOGIN),
        facts(POST, login=replace(LOGIN, take={})),
        facts(POST, login=replace(LOGIN, request=replace(LOGIN.request, path="/in"))),
    ]
    assert len({made.key for made in unlike}) == len(unlike)


@pytest.mark.parametrize(
    "check",
    [
        {"json_contains": "{}"},
        {"contains": b"x"},
        {"sha256": "0" * 64},
        {"size_bytes": 3},
        {"statuses": frozenset({201})},
        {"limits": {"max_p95_ms": 1.0}},
    ],
    ids=lambda check: next(iter(check)),
)
def test_what_a_right_answer_is_is_not(check: dict[str, Any]) -> None:
    assert facts(replace(POST, **check)) == facts(POST)


def test_no_secret_is_in_the_facts() -> None:
    spec = replace(POST, headers=(("Authorization", f"Bearer {SECRET}"), ("X-Token", SECRET)))
    made = facts(spec, login=LOGIN)
    assert SECRET not in json.dumps(made.fields)
    assert own(made)["login"] == {
        "request": "POST /login",
        "headers": ["x-key"],
        "take": {"token": "json:token"},
    }
    assert made == facts(spec, login=replace(LOGIN, request=replace(LOGIN.request, body=b"other"))), (
        "a digest of a short password would give it away"
    )


def test_what_changed_is_said() -> None:
    now, then = own(facts(replace(POST, chunked=True))), own(facts(POST))
    assert sentence(now, then, "the session before") == (
        "chunked of POST /a was none in the session before, True now"
    )
    said = sentence(own(facts(POST)), own(facts(replace(POST, body=b"[1]"))), "the session before")
    assert said.startswith("in the session before body_bytes of POST /a was 3 (now 2), body_sha256 of POST")
    assert "the path POST /a was not requested" in sentence(own(facts(POST)), own(facts(PLAIN)), "x")


# --- budgets of a path

LIMITS = thresholds(resolve({}, {}, {}), None)
PATH = PathReport(requests_total=100, ok=98, err=2, error_rate=2.0, p95_ms=50.0, p99_ms=80.0)
REPORT = PhaseReport(
    requests_total=400,
    ok=398,
    err=2,
    error_rate=0.5,
    p95_ms=20.0,
    p99_ms=30.0,
    elapsed=1.0,
    error_kinds={"http_503": 2},
    path_metrics={"POST /a": structs.replace(PATH, error_kinds={"http_503": 2}), "/a": PathReport()},
)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"max_p95_ms": 49.0}, "POST /a: p95 50.00 ms is above the budget of 49 ms"),
        ({"max_p99_ms": 79.5}, "POST /a: p99 80.00 ms is above the budget of 79.5 ms"),
        (
            {"max_error_rate": 1.0},
            "POST /a: error rate 2.00 % is above the budget of 1 % (status: 2",
        ),
        ({"max_status_error_rate": 0.0}, "POST /a: rate of status errors 2.00 % is above the budget of 0 %"),
    ],
)
def test_a_path_above_its_budget_is_one_sentence(limits: dict[str, float], says: str) -> None:
    (reason,) = phase_failures(REPORT, LIMITS, [PLAIN, replace(POST, limits=limits)])
    assert says in reason


@pytest.mark.parametrize(
    "limits",
    [{}, {"max_p95_ms": 50.0}, {"max_error_rate": 2.0}, {"max_body_error_rate": 0.0}, {"max_p99_ms": 80.0}],
)
def test_a_path_within_its_budget_is_none(limits: dict[str, float]) -> None:
    assert not phase_failures(REPORT, LIMITS, [replace(PLAIN, limits=limits), replace(POST, limits=limits)])


def test_budgets_of_a_path_add_to_those_of_the_phase() -> None:
    slow = structs.replace(REPORT, p95_ms=1e5)
    reasons = phase_failures(slow, LIMITS, [replace(POST, limits={"max_p95_ms": 1.0})])
    assert [reason.partition(" ")[0] for reason in reasons] == ["p95", "POST"]


def test_what_this_computer_lacked_breaks_no_budget_of_a_path() -> None:
    lacking = structs.replace(REPORT, error_kinds={"local_EMFILE": 2})
    assert not phase_failures(lacking, LIMITS, [replace(POST, limits={"max_p95_ms": 1.0})])


@pytest.mark.parametrize("login", [None, LOGIN])
def test_a_login_has_time_of_its_own(login: LoginSpec | None) -> None:
    settings = resolve({}, {}, {})
    profile = Profile("shop", (PLAIN,), PHASES, login=login)
    plan = SessionPlan((profile,), runs=1, warmup_s=0.0)
    budget = phase_budget(settings, plan, PlannedPhase(1, profile, PHASES[0]))
    times = 1 if login is None else 2
    assert budget.load_s >= PHASES[0].duration_s + times * settings.perf_request_timeout
    assert budget.probe_s + budget.load_s + TELEMETRY_S <= budget.inner_s == budget.watchdog_s - MARGIN_S


# --- before the load


class Member:
    """A board that knows one token, and notes what it is asked for."""

    def __init__(self, login: bytes = b"") -> None:
        self.login = login or answer(json.dumps({"token": SECRET}).encode())
        self.asked: list[str] = []

    def __call__(self, peer: Peer) -> None:
        while (head := peer.request()) is not None:
            method, path = head.decode().split()[:2]
            self.asked.append(f"{method} {path}")
            if path == "/login":
                peer.take(len(SECRET))
                peer.send(self.login)
                continue
            if method == "POST":
                peer.take(2)
            known = f"Bearer {SECRET}" in head.decode()
            peer.send(answer(b"{}", b"200 OK" if known else b"401 Unauthorized"))


def asked(board: Member, *, headers: bool = True) -> Asker:
    profile = Profile(
        "shop",
        (PLAIN, POST),
        PHASES,
        (("Authorization", "Bearer {token}"),) if headers else (),
        login=LOGIN,
        source="/me/espperf.toml: [profiles.shop]",
    )
    with serving(board) as server:
        asker = Asker(server.target, PATIENT_S, sleep=lambda _: None)
        asker.ask([profile], HANG_S)
    return asker


def test_each_request_is_asked_once_behind_the_login() -> None:
    board = Member()
    asker = asked(board)
    assert board.asked == ["POST /login", "GET /a", "POST /a"]
    assert {label: one.status for label, one in asker.answers["shop"].items()} == {"/a": 200, "POST /a": 200}
    assert asker.reason == ""


def test_a_token_that_is_not_sent_ends_the_session() -> None:
    assert "POST /a answers 401 (profile shop, espperf.toml)" in asked(Member(), headers=False).reason


@pytest.mark.parametrize(
    ("login", "why"),
    [
        (answer(SECRET.encode(), b"401 No"), "login: POST /login answers 401"),
        (answer(f'{{"tok": "{SECRET}"}}'.encode()), "answers 200, and there is no json:token in it"),
    ],
)
def test_a_login_that_fails_ends_the_session_with_its_cause(login: bytes, why: str) -> None:
    asker = asked(Member(login))
    assert asker.reason.startswith("login: POST /login answers")
    assert asker.reason.endswith(" (profile shop, espperf.toml)"), "once, whatever waits for it"
    assert why in asker.reason
    assert SECRET not in asker.reason + repr(asker.answers)


STREAMS = (PhaseSpec("talk", 1, 1.0, kind="events", stream=StreamSpec("/events")),)


def asked_by(
    handler: Handler, profile: Profile, *, timeout_s: float = PATIENT_S, budget_s: float = HANG_S
) -> Asker:
    with serving(handler) as server:
        asker = Asker(server.target, timeout_s, sleep=lambda _: None)
        asker.ask([profile], budget_s)
    return asker


@pytest.mark.parametrize("phases", [PHASES, STREAMS], ids=["requests", "streams"])
@pytest.mark.parametrize("transport", [None, httpx.AsyncHTTPTransport])
def test_a_login_that_hangs_ends_the_session(
    phases: tuple[PhaseSpec, ...], transport: load.TransportFactory | None
) -> None:
    heads: list[bytes] = []

    def hangs(peer: Peer) -> None:
        if (head := peer.request()) is not None:
            heads.append(head)
            peer.until_gone()

    requests = () if phases is STREAMS else (PLAIN, POST)
    profile = Profile("shop", requests, phases, login=LOGIN, source="/me/espperf.toml: [profiles.shop]")
    begun = time.monotonic()
    with serving(hangs) as server:
        asker = Asker(server.target, 0.6, transport, sleep=lambda _: None)
        asker.ask([profile], HANG_S)
    assert asker.reason == (
        "login: POST /login gives no answer that can be read: ReadTimeout: no complete response in time"
        " (profile shop, espperf.toml)"
    )
    assert len(heads) == 2, "as often as a path that hangs"
    assert all(head.startswith(b"POST /login") for head in heads)
    assert time.monotonic() - begun < HANG_S / 2


def test_a_login_that_hangs_once_ends_no_session() -> None:
    board = Member()

    def first_hangs(peer: Peer) -> None:
        if peer.number == 0:
            peer.until_gone()
        else:
            board(peer)

    for profile in (
        Profile("shop", (PLAIN,), PHASES, (("Authorization", "Bearer {token}"),), login=LOGIN),
        Profile("talk", (), STREAMS, login=LOGIN),
    ):
        asker = asked_by(first_hangs, profile, timeout_s=1.0)
        assert asker.reason == ""
        assert all(not answer.trouble for answer in asker.answers[profile.name].values())


def test_a_login_without_time_to_wait_for_it_ends_no_session() -> None:
    def hangs(peer: Peer) -> None:
        peer.until_gone()

    for phases, requests in ((PHASES, (PLAIN,)), (STREAMS, ())):
        profile = Profile("shop", requests, phases, login=LOGIN)
        asker = asked_by(hangs, profile, timeout_s=30.0, budget_s=0.8)
        assert asker.reason == ""


def test_the_login_of_streams_alone_is_tried_before_the_load() -> None:
    profile = Profile("talk", (), STREAMS, login=LOGIN, source="/me/espperf.toml: [profiles.talk]")
    board = Member(answer(b"", b"500 Oops"))
    assert asked_by(board, profile).reason == ("login: POST /login answers 500 (profile talk, espperf.toml)")
    board = Member()
    asker = asked_by(board, profile)
    assert (asker.reason, asker.answers) == ("", {"talk": {}})
    assert board.asked == ["POST /login"]
    board = Member()
    assert asked_by(board, replace(profile, login=None)).reason == ""
    assert board.asked == []


def test_no_post_is_repeated_to_find_delayed_acknowledgements() -> None:
    board = Member()
    with serving(board) as server:
        profiles = [Profile("one", (PLAIN, POST), ()), Profile("two", (RequestSpec("/b"),), (), login=LOGIN)]
        found = find_delayed_acks(server.target, profiles, budget_s=20)
    assert found.asked == ("/a",)
    assert set(board.asked) == {"GET /a"}


# --- a whole session on the reference device

SHOP = """
[profiles.shop]
session = {path = "/login", json = {user = "quince"}, take = {token = "json:token"}}
headers = {Authorization = "Bearer {token}"}
paths = [
    "/cart",
    {path = "/item", method = "POST", json = {id = 1}, status = 201, json_contains = {created = true}},
    {path = "/form", form = {name = "Ana"}},
    {path = "/echo", multipart = {note = "x", fw = {file = "note.bin"}}},
    {path = "/upload", method = "PUT", body_file = "firmware.bin", json_contains = {bytes = 200000}},
    {path = "/upload", method = "POST", body_file = "firmware.bin", chunked = true, expect_continue = true},
    {path = "/state", json_contains = {ok = true}, limits = {max_p95_ms = 100000}},
]
[profiles.shop.phases.only]
clients = 3
duration_s = 1
"""


Ended = tuple[subprocess.CompletedProcess[str], list[SessionArtifact]]


def run(folder: Path, table: str, *words: str) -> Ended:
    """``espperf run sim`` with a profile; the firmware is 200 KB, and the multipart body another file."""
    (folder / "espperf.toml").write_text(table, encoding="utf-8")
    (folder / "firmware.bin").write_bytes(bytes(200_000))
    (folder / "note.bin").write_bytes(bytes(2_000))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ESPPERF_")}
    own = {"ESPPERF_PERF_PROFILES": "shop", "ESPPERF_PERF_HISTORY": str(folder / "history")}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest_espperf.cli", "run", "sim", "--sim-time-scale=0.1", *words],
        cwd=folder,
        env={**environment, **ENVIRONMENT, **SHORT, **own},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return ended, artifacts(folder) if (folder / "history").exists() else []


@pytest.mark.timeout(600)
def test_a_session_of_all_kinds_of_requests(tmp_path: Path) -> None:
    for number in (1, 2):
        ended, kept = run(tmp_path, SHOP, ANY_CHANGE)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert len(kept) == number
    session = kept[-1]
    (result,) = [result for _, result in session.results()]
    labels = {"/cart", "POST /item", "POST /form", "POST /echo", "PUT /upload", "POST /upload", "/state"}
    assert set(result.report.path_metrics) == set(session.answers["shop"]) == labels
    assert result.report.error_kinds == {}
    assert all(one.ok for one in result.report.path_metrics.values())
    assert result.report.figures["upload_mb_s"] > 0
    assert session.comparability is not None
    assert kept[0].comparability == session.comparability, "the same bytes in every session"
    assert session.gate is not None
    assert session.gate.kind not in {"no-baseline", "incomparable"}, session.gate
    stored = "".join(path.read_text("utf-8") for path in (tmp_path / "history").rglob("*.json"))
    assert "quince" not in stored


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ('take = {token = "json:token"}', 'take = {token = "json:tok"}', 1, "there is no json:tok in it"),
        ('json = {user = "quince"}', "json = {}", 1, "login: POST /login answers 401"),
        ("max_p95_ms = 100000", "max_p95_ms = 0.001", 1, "/state: p95 "),
        ("bytes = 200000", "bytes = 7", 1, "bytes is 200000, not 7 (body_json)"),
        ("{token}", "{tokn}", 4, "nothing takes {tokn}; did you mean 'token'?"),
        ("firmware.bin", "missing.bin", 4, "there is no file"),
    ],
)
def test_what_is_wrong_is_said_once(tmp_path: Path, old: str, new: str, code: int, says: str) -> None:
    assert old in SHOP
    ended, _ = run(tmp_path, SHOP.replace(old, new))
    said = ended.stdout + ended.stderr
    assert says in said, said
    assert ended.returncode == code, said
    assert "Traceback" not in said


def test_profiles_are_listed_with_their_methods(tmp_path: Path) -> None:
    for name in ("firmware.bin", "note.bin"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "espperf.toml").write_text(SHOP, encoding="utf-8")
    listed = describe_profiles(resolve({}, {}, {}), tmp_path)
    for line in ("    POST /login  (login)", "    /cart", "    POST /item", "    PUT /upload"):
        assert line in listed.splitlines()
    assert load_profiles(tmp_path)["shop"].login is not None
