from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from pytest_espperf.config.lookup import resolve
from pytest_espperf.config.profiles import load_profiles
from pytest_espperf.model.artifact import Comparability, PhaseReport
from pytest_espperf.model.error_kinds import errors_by_kind
from pytest_espperf.model.metrics import summarise
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import PhaseSpec, StreamSpec
from pytest_espperf.session.identity import describe_environment, make_comparability
from pytest_espperf.session.limits import phase_failures, thresholds, worst_failures
from pytest_espperf.session.plan import PlannedPhase, SessionPlan, make_plan
from pytest_espperf.session.time_budget import MARGIN_S, TELEMETRY_S, phase_budget


def plan(**command_line: Any) -> SessionPlan:
    return make_plan(resolve(command_line, {}, {}), load_profiles(Path("/nowhere")))


def key(made: SessionPlan, **changed: Any) -> Comparability:
    facts: dict[str, Any] = {"board": "b:1", "scheme": "http", "engine": "e", "device_headers": ()}
    return make_comparability(made, **(facts | changed))


def test_equal_sessions_have_equal_keys_and_unlike_ones_do_not() -> None:
    assert key(plan()) == key(plan())
    unlike: list[tuple[SessionPlan, dict[str, Any]]] = [
        (plan(), {}),
        (plan(), {"board": "b:2"}),
        (plan(), {"scheme": "https"}),
        (plan(), {"engine": "f"}),
        (plan(), {"device_headers": (("X-A", "1"),)}),
        (plan(perf_runs="3"), {}),
        (plan(perf_burst_clients="3"), {}),
        (plan(perf_burst_duration="1"), {}),
        (plan(perf_warmup_s="1"), {}),
        (plan(perf_profiles=["python_light"]), {}),
    ]
    assert len({key(made, **facts).key for made, facts in unlike}) == len(unlike)


def test_the_key_of_what_uses_no_stream_is_that_of_older_versions() -> None:
    assert key(plan()).key == "e1672bdfc72ab082"
    phases = key(plan()).fields["profiles"]["python_light"]["phases"]
    assert phases["burst"].keys() == {"clients", "duration_s", "rate_rps"}


def test_streams_that_differ_in_anything_have_keys_of_their_own() -> None:
    chat = PhaseSpec("p", 2, 1.0, kind="websocket", stream=StreamSpec("/ws", size=64))
    stream = chat.stream
    assert stream is not None
    phases = [
        PhaseSpec("p", 2, 1.0),
        chat,
        replace(chat, rate_rps=5.0),
        replace(chat, stream=replace(stream, path="/ws2")),
        replace(chat, stream=replace(stream, size=65)),
        replace(chat, stream=replace(stream, message="x")),
        replace(chat, stream=replace(stream, binary=True)),
        PhaseSpec("p", 2, 1.0, kind="events", stream=StreamSpec("/ws")),
    ]
    made = plan(perf_profiles=["python_light"])
    keys = {key(replace(made, profiles=(replace(made.profiles[0], phases=(one,)),))).key for one in phases}
    assert len(keys) == len(phases)


def test_of_a_message_a_digest_and_its_length_are_kept() -> None:
    made = plan(perf_profiles=["python_light"])

    def of(message: str) -> Comparability:
        stream = StreamSpec("/ws", message=message, size=64)
        phase = PhaseSpec("p", 2, 1.0, kind="websocket", stream=stream)
        return key(replace(made, profiles=(replace(made.profiles[0], phases=(phase,)),)))

    kept = of("token s3cr3t")
    assert "s3cr3t" not in str(kept)
    assert kept.fields["profiles"]["python_light"]["phases"]["p"]["message"].keys() == {"sha256", "bytes"}
    assert len({of(text).key for text in ("token s3cr3t", "token another", "")}) == 3


def test_no_secret_is_in_the_key_or_its_fields() -> None:
    made = plan(perf_profiles=["python_light"])
    secret = replace(
        made, profiles=(replace(made.profiles[0], headers=(("X-Api-Key", "s3cr3t"), ("Accept", "a/b"))),)
    )
    found = key(secret, device_headers=(("X-A", "s3cr3t"),))
    assert "s3cr3t" not in str(found)
    assert found.fields["profiles"]["python_light"]["headers"] == ["accept: a/b", "x-api-key"]
    assert found == key(secret, device_headers=(("X-A", "another"),))


def test_the_repository_is_recorded(tmp_path: Path) -> None:
    assert describe_environment(tmp_path)["git_commit"] is None

    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True, stdout=-3
        )

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "x")
    clean = describe_environment(tmp_path)
    assert len(clean["git_commit"]) == 40
    assert clean["git_dirty"] is False
    (tmp_path / "a").write_text("2")
    assert describe_environment(tmp_path)["git_dirty"] is True


# --- budgets


@pytest.mark.parametrize(
    ("duration", "options", "expected"),
    [(2.0, {}, 45.0), (30.0, {}, 97.0), (30.0, {"perf_phase_timeout_multiplier": "1"}, 52.0)],
)
def test_the_watchdogs_budget_is_the_originals(
    duration: float, options: dict[str, str], expected: float
) -> None:
    quiet = {"perf_settle_ms": "0", "perf_between_runs_ms": "0"} | options
    budget = phase_budget(
        resolve(quiet, {}, {}), plan(), PlannedPhase(1, plan().profiles[0], PhaseSpec("burst", 12, duration))
    )
    assert budget.watchdog_s == expected


def test_the_inner_deadline_comes_first() -> None:
    settings = resolve({}, {}, {})
    for duration in (0.1, 2.0, 30.0, 600.0):
        budget = phase_budget(
            settings, plan(), PlannedPhase(1, plan().profiles[0], PhaseSpec("burst", 12, duration))
        )
        assert budget.inner_s <= budget.watchdog_s - MARGIN_S
        assert budget.probe_s + budget.load_s + TELEMETRY_S <= budget.inner_s
        assert budget.load_s > duration + settings.perf_request_timeout


# --- absolute budgets of one phase

LIMITS = thresholds(resolve({}, {}, {}), None)
GOOD = PhaseReport(
    requests_total=400,
    ok=400,
    tail_ok=100,
    p95_ms=100.0,
    p99_ms=150.0,
    p95_tail_ms=120.0,
    elapsed=1.0,
    error_rate=0.0,
)


def heap(internal: int, psram: int) -> dict[str, Any]:
    return {"heap": {"internal_free": internal, "psram_free": psram}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"error_rate": 2.5}, "error rate 2.50 %"),
        ({"p95_ms": 2000.5}, "p95 2,000.50 ms"),
        ({"p99_ms": 3001.0}, "p99 3,001.00 ms"),
        ({"p95_tail_ms": 181.0}, "last quarter over p95 1.81"),
        (
            {"mem_before": heap(300000, 1), "mem_after": heap(160000, 1)},
            "loss of internal_free 140,000.00 bytes",
        ),
        ({"mem_before": heap(1, 900000), "mem_after": heap(1, 300000)}, "loss of psram_free"),
        ({"ok": 0, "error_kinds": {"ReadTimeout": 3}}, "no request succeeded in 1.0 s (3 x ReadTimeout)"),
    ],
)
def test_each_budget_of_the_original(changes: dict[str, Any], says: str) -> None:
    (reason,) = phase_failures(structs.replace(GOOD, **changes), LIMITS)
    assert says in reason


def test_at_the_limit_is_within_it() -> None:
    exact = structs.replace(GOOD, error_rate=2.0, p95_ms=2000.0, p99_ms=3000.0, p95_tail_ms=3600.0)
    assert phase_failures(exact, LIMITS) == []
    assert phase_failures(structs.replace(GOOD, mem_before={"heap": 3}, mem_after=heap(1, 1)), LIMITS) == []


def test_a_quarter_of_a_few_requests_is_no_tail() -> None:
    """One cluster of spikes in 0.15 s is not a board that gets slower."""
    few = structs.replace(GOOD, tail_ok=58, p95_tail_ms=500.0)
    assert phase_failures(few, LIMITS) == []
    assert phase_failures(structs.replace(few, tail_ok=59), LIMITS)
    # A single stall catches one request of each client.
    many = structs.replace(few, clients=12, tail_ok=240)
    assert not phase_failures(many, LIMITS)
    assert phase_failures(structs.replace(many, tail_ok=241), LIMITS)


def test_an_empty_phase_fails() -> None:
    assert phase_failures(summarise(PhaseSamples(("/",), 1, 1.0, elapsed_s=1.0)), LIMITS)


def test_a_profiles_own_limits_come_first() -> None:
    profile = replace(plan().profiles[0], limits={"max_p95_ms": 5.0})
    assert thresholds(resolve({}, {}, {}), profile)["max_p95_ms"] == 5.0
    assert thresholds(resolve({"perf_max_p99_ms": "7"}, {}, {}), profile)["max_p99_ms"] == 7.0


KINDS = {"ReadTimeout": 12, "ConnectError": 4, "http_503": 8, "http_404": 2, "body_size": 1, "http_500": 1}
WRONG = structs.replace(GOOD, requests_total=400, ok=372, error_rate=7.0, error_kinds=KINDS)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "transport",
            "rate of transport errors 4.00 % is above the budget of 1 % (transport: 12 x",
        ),
        (
            "status",
            "rate of status errors 2.75 % is above the budget of 1 % (status: 8 x http_503",
        ),
        ("body", "rate of body errors 0.25 % is above the budget of 0.1 % (body: 1 x body_size)"),
    ],
)
def test_kinds_of_errors_have_budgets_apart(name: str, says: str) -> None:
    limits = {"transport": "1", "status": "1", "body": "0.1"}
    given = {"perf_max_error_rate": "50", f"perf_max_{name}_error_rate": limits[name]}
    (reason,) = phase_failures(WRONG, thresholds(resolve(given, {}, {}), None))
    assert says in reason
    profile = replace(plan().profiles[0], limits={f"max_{name}_error_rate": 5.0})
    assert phase_failures(WRONG, thresholds(resolve(given, {}, {}), profile)) == []


def test_the_total_names_the_kinds() -> None:
    (reason,) = phase_failures(WRONG, LIMITS)
    assert reason == (
        "error rate 7.00 % is above the budget of 2 % (transport: 12 x ReadTimeout, 4 x ConnectError; "
        "status: 8 x http_503, 2 x http_404, 1 x http_500; body: 1 x body_size)"
    )
    assert not {"max_transport_error_rate", "max_status_error_rate", "max_body_error_rate"} & LIMITS.keys()


TRANSPORT_KINDS = (
    *("ReadTimeout", "ConnectError", "RemoteProtocolError", "other", "MyError"),
    *("ws_lost", "event_missed", "event_dropped"),
)


@pytest.mark.parametrize("error", ["body_size", "body_type", "ws_payload", "ws_reordered"])
def test_what_came_and_is_wrong_is_of_the_body(error: str) -> None:
    assert errors_by_kind(structs.replace(GOOD, error_kinds={error: 2})) == {"body": {error: 2}}


@pytest.mark.parametrize("error", TRANSPORT_KINDS)
def test_what_is_neither_status_nor_body_is_transport(error: str) -> None:
    assert errors_by_kind(structs.replace(GOOD, error_kinds={error: 2})) == {"transport": {error: 2}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"error_rate": 10.5, "error_kinds": {"http_503": 9}}, "error rate 10.50 % is above 10 %"),
        ({"p95_ms": 4001.0}, "p95 4,001.00 ms is above 4,000 ms, the budget of any single run"),
    ],
)
def test_the_budgets_of_any_single_run(changes: dict[str, Any], says: str) -> None:
    (reason,) = worst_failures(structs.replace(GOOD, **changes), LIMITS)
    assert says in reason
    assert "the budget of any single run" in reason


def test_those_of_a_single_run_are_kept_at_the_limit_and_where_nothing_was_answered() -> None:
    assert worst_failures(structs.replace(GOOD, error_rate=10.0, p95_ms=4000.0), LIMITS) == []
    assert worst_failures(structs.replace(GOOD, ok=0, error_rate=100.0), LIMITS) == []


def test_a_budget_of_the_median_lifts_the_default_of_the_single_run() -> None:
    """Whoever lets half of all requests fail means it of each run as well; whoever gives both means both."""
    some = thresholds(resolve({"perf_max_error_rate": "50", "perf_max_p95_ms": "9000"}, {}, {}), None)
    assert (some["max_error_rate_worst"], some["max_p95_worst_ms"]) == (50.0, 9000.0)
    both = {"perf_max_error_rate": "50", "perf_worst_error_rate": "20"}
    assert thresholds(resolve(both, {}, {}), None)["max_error_rate_worst"] == 20.0
    profile = replace(plan().profiles[0], limits={"max_p95_ms": 5000.0, "max_error_rate_worst": 1.0})
    own = thresholds(resolve({}, {}, {}), profile)
    assert (own["max_error_rate_worst"], own["max_p95_worst_ms"]) == (1.0, 5000.0)


def test_a_credential_in_the_value_of_any_header_is_compared_by_its_digest() -> None:
    def headers(value: str) -> list[str]:
        profile = replace(plan().profiles[0], headers=(("X-From", value),))
        made = key(replace(plan(), profiles=(profile,)))
        found: list[str] = made.fields["profiles"][profile.name]["headers"]
        return found

    assert headers("bench 1") == ["x-from: bench 1"]
    (one,), (other,) = headers("Bearer abcdef12"), headers("Bearer abcdef13")
    assert "abcdef" not in one
    assert one != other


def test_what_a_phase_has_beyond_the_usual_is_in_the_key_and_nothing_else(tmp_path: Path) -> None:
    def of(phase: str) -> Comparability:
        (tmp_path / "espperf.toml").write_text(
            f'[profiles.x]\npaths = ["/"]\nphases.p = {{clients = 2, duration_s = 1{phase}}}'
        )
        options = {"perf_profiles": ["x"]}
        return key(make_plan(resolve(options, {}, {}), load_profiles(tmp_path)))

    page = ', kind = "page", path = "/", assets = ["/a"'
    unlike = [
        "",
        ", reuse = false",
        ", reuse = false, tls_resumption = false",
        ", think_time_s = 1",
        f"{page}]",
        f'{page}, "/b"]',
        f"{page}], connections = 2",
        f"{page}], revalidate = true",
        f"{page}], reuse = false",
    ]
    assert len({of(phase).key for phase in unlike}) == len(unlike)
    assert of("").fields["profiles"]["x"] == {
        "paths": ["/"],
        "headers": [],
        "phases": {"p": {"clients": 2, "duration_s": 1.0, "rate_rps": None}},
    }
    for default in (', kind = "requests"', ", reuse = true"):
        assert of(default) == of("")
    assert of(", reuse = false, tls_resumption = true") == of(", reuse = false")
    assert of(f"{page}], connections = 6, revalidate = false") == of(f"{page}]")
