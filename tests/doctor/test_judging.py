"""What ``espperf doctor`` makes of figures, and how its page shows it. Pure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pytest_espperf.device import ConsoleEvent, LinkReading, TelemetryReading, TelemetrySpec
from pytest_espperf.doctor import (
    Check,
    Examination,
    judge_pace,
    judge_reach,
    machine,
    render_json,
    render_page,
)
from pytest_espperf.doctor.findings import STATUSES
from pytest_espperf.doctor.measures import Contact, KeptAlive, Wake, Wakes
from pytest_espperf.load import DelayedAcks
from pytest_espperf.load.capacity import Held
from pytest_espperf.load.talk import TimedAnswer
from pytest_espperf.model.artifact import GeneratorReport, PhaseReport

# --- the page


def test_the_page_is_80_columns_of_tame_text() -> None:
    hostile = "\x1b]0;title\x07" + "x" * 200 + "\n\u202e" + "word " * 40
    checks = tuple(
        Check("board", "a name", status, hostile, hostile, {"text": hostile}) for status in STATUSES
    )
    whole = Examination(hostile, "2026-11-25T00:00:00Z", checks, {"device_id": hostile})
    page = render_page(whole)
    assert max(len(line) for line in page.splitlines()) <= 80
    assert all(line.isprintable() for line in page.splitlines())
    assert "FAIL: 1 failure, 1 warning, 1 note" in page
    loaded = json.loads(render_json(whole))
    assert loaded["status"] == "fail"
    assert [one["values"]["text"] for one in loaded["checks"]] == [hostile] * 4
    assert render_json(whole).isascii()


def test_the_headline_is_that_of_the_worst() -> None:
    def headline(*statuses: str, interrupted: bool = False) -> str:
        checks = tuple(Check("link", "x", status, "y") for status in statuses)  # type: ignore[arg-type]
        page = render_page(Examination("h", "t", checks, interrupted=interrupted))
        return page.splitlines()[1].removeprefix("t  ")

    assert headline("ok", "ok") == "OK: nothing to do"
    assert headline("ok", "note", "note") == "OK: 2 notes"
    assert headline("note", "warn") == "WARN: 1 warning, 1 note"
    assert headline("ok", interrupted=True) == "INTERRUPTED: nothing to do so far"


# --- judgements


@pytest.mark.parametrize(
    ("acks", "status", "words"),
    [
        (DelayedAcks(), "note", "not known"),
        (DelayedAcks(("/",)), "ok", "do not wait"),
        (DelayedAcks(("/",), {"/": 41.2}), "warn", "41 ms"),
    ],
)
def test_answers_that_wait_for_an_acknowledgement(acks: DelayedAcks, status: str, words: str) -> None:
    check = judge_pace.delayed_acks(acks, "/")
    assert check.status == status
    assert words in check.figure
    assert "sessions measure that wait" not in check.advice


def test_where_sessions_measure_that_wait_it_is_said() -> None:
    check = judge_pace.delayed_acks(DelayedAcks(("/",), {"/": 200.0}, measured=True), "/")
    assert "sessions measure that wait" in check.advice


def wakes(*pairs: tuple[float, float]) -> Wakes:
    return Wakes(tuple(Wake(first, (then, then, then)) for first, then in pairs))


CALM = LinkReading(connect_ms=(2.0, 2.1, 2.2, 2.0, 3.0, 2.1, 2.0, 2.4, 2.2, 2.1))


@pytest.mark.parametrize(
    ("link", "rested", "status"),
    [
        # A station that sleeps until the next beacon, 102 ms apart: anything up to that, 51 ms on average.
        (CALM, wakes((95, 5), (31, 4), (60, 5), (12, 5), (77, 6)), "warn"),
        (CALM, wakes((6, 5), (5, 4), (7, 5), (5, 5), (6, 6)), "ok"),
        (CALM, wakes((6, 5), (5, 4), (95, 5), (5, 5), (6, 6)), "ok"),  # one packet sent again
        (CALM, wakes((420, 400), (431, 400), (425, 402)), "ok"),  # a slow handler, by 25 ms slower
        (LinkReading(connect_ms=(3, 110, 4, 205, 3, 95, 60, 4, 150, 3)), wakes((6, 5), (5, 4)), "warn"),
        (LinkReading(connect_ms=(3, 3, 4, 3, 3, 205, 3, 4, 3, 3, 3, 3)), wakes((6, 5), (5, 4)), "ok"),
        (CALM, Wakes(), "note"),
        (CALM, Wakes((), "ReadTimeout: no complete answer within 6 s"), "fail"),
    ],
)
def test_the_power_save_hint(link: LinkReading, rested: Wakes, status: str) -> None:
    check = judge_pace.power_save(link, rested, idle_s=1.0)
    assert check.status == status
    assert ("WIFI_PS_NONE" in check.advice) == ("wlan.config(pm=wlan.PM_NONE)" in check.advice)
    assert ("WIFI_PS_NONE" in check.advice) == (status == "warn")


@pytest.mark.parametrize(
    ("link", "status"),
    [
        (CALM, "ok"),
        (replace(CALM, retransmitted=1), "ok"),
        (replace(CALM, retransmitted=2), "warn"),
        (replace(CALM, failed=1), "warn"),
        (LinkReading(connect_ms=(2.0, 2.0, 2.0, 2.0, 60.0)), "note"),
        (LinkReading(retransmitted=1), "fail"),
        (LinkReading(), "note"),
    ],
)
def test_idle_connects(link: LinkReading, status: str) -> None:
    assert judge_pace.idle_connects(link).status == status


def report(rps: float, p95_ms: float | None, ok: int = 500, **more: Any) -> PhaseReport:
    return PhaseReport(rps_ok=rps, p95_ms=p95_ms, ok=ok, requests_total=ok, clients=4, **more)


def test_the_spread_is_that_of_the_rounds() -> None:
    rounds = [report(100.0, 10.0), report(104.0, 12.0), report(96.0, 20.0)]
    rps = judge_pace.pace(rounds, "rps_ok", "throughput")
    p95 = judge_pace.pace(rounds, "p95_ms", "p95")
    assert rps is not None
    assert p95 is not None
    assert (rps.status, rps.values["spread_pct"]) == ("ok", 8.0)
    assert (p95.status, p95.values["spread_pct"]) == ("warn", 83.3)
    one = judge_pace.pace(rounds[:1], "rps_ok", "throughput")
    assert one is not None
    assert one.status == "note"


def test_a_p95_of_few_answers_is_not_given() -> None:
    assert judge_pace.pace([report(5.0, 10.0, ok=19)] * 3, "p95_ms", "p95") is None
    assert judge_pace.pace([report(5.0, 10.0, ok=20)] * 3, "p95_ms", "p95") is not None


def test_errors_are_told_by_kind_and_the_limiters_apart() -> None:
    rounds = [report(1.0, 1.0, ok=90, error_kinds={"http_429": 5, "ReadError": 3}), report(1.0, 1.0)]
    check = judge_pace.errors(rounds)
    assert check.status == "warn"
    assert "3 x ReadError" in check.figure
    assert check.values["errors"] == {"ReadError": 3}
    assert judge_pace.errors([report(1.0, 1.0, stalled_s=1.5)]).status == "warn"
    assert judge_pace.errors([report(0.0, None, ok=0, error_kinds={"ReadTimeout": 4})]).status == "fail"
    assert judge_pace.errors([report(1.0, 1.0, error_kinds={"http_429": 5})]).status == "ok"
    assert judge_pace.rate_limiter([report(1.0, 1.0, status_counts={"429": 5})]).status == "warn"


def test_limits() -> None:
    assert judge_pace.keep_alive(KeptAlive(40), most=40).figure == "at least 40 requests"
    assert judge_pace.keep_alive(KeptAlive(3, trouble="ReadTimeout"), most=40).status == "fail"
    for held, status in (
        (Held(16), "ok"),
        (Held(12, "refused"), "ok"),
        (Held(7, "unanswered"), "warn"),
        (Held(0, "refused"), "fail"),
        (Held(0, "not kept"), "note"),
    ):
        assert judge_pace.connections(held, clients=12, most=16).status == status


def test_the_board_in_its_own_figures() -> None:
    spec = TelemetrySpec()
    memory = {
        "heap": {"internal_free": 1000, "internal_largest": 240, "internal_min_free": 5, "psram_free": 0}
    }
    reading = TelemetryReading(stats={"server": {"requests_started": 1}}, memory=memory)
    assert judge_reach.telemetry(reading, spec, []).status == "ok"
    assert judge_reach.telemetry(TelemetryReading(memory=memory), spec, ["no telemetry"]).status == "note"
    assert judge_reach.telemetry(TelemetryReading(), spec, ["no telemetry"]).status == "note"
    broken = judge_reach.heap(memory)
    assert broken is not None
    assert broken.status == "warn"
    whole = judge_reach.heap({"internal_free": 1000, "internal_largest": 600})
    assert whole is not None
    assert whole.status == "ok"
    assert judge_reach.heap({}) is None
    assert judge_reach.after_load([], {}, None).status == "ok"
    assert judge_reach.after_load([], {"ring_full": 2}, 0.0).figure == "2 times that the ring was full"
    assert judge_reach.after_load(["boot_id"], {"ring_full": 2}, 0.0).status == "fail"


def test_answers_and_addresses() -> None:
    well = TimedAnswer(200, "1.1", "", 3.0, True)
    assert judge_reach.answer("/", well, tries=1).status == "ok"
    assert judge_reach.answer("/", well, tries=3).status == "warn"
    assert "--device-header" in judge_reach.answer("/", replace(well, status=401), tries=1).advice
    assert judge_reach.encoding(replace(well, encoding="identity")).status == "ok"
    assert judge_reach.address("10.0.0.1", how="given", took_s=0.1).status == "ok"
    assert judge_reach.address("fe80::1", how="given", took_s=2.0).status == "note"
    h2 = Contact(connect_ms=1.0, tls="TLSv1.3", tls_ms=5.0, alpn="h2")
    assert judge_reach.tls(h2, insecure=False).status == "note"
    assert "network" in judge_reach.connect(Contact(trouble="no answer")).advice


def test_the_console() -> None:
    def status(*events: ConsoleEvent, remarks: tuple[str, ...] = ()) -> str:
        return judge_reach.console("COM1", ["x"], events, remarks, listened_s=2.0).status

    assert status() == "ok"
    assert status(remarks=("no data came",)) == "note"
    assert status(ConsoleEvent(0.0, "task watchdog", False, "E")) == "warn"
    assert status(ConsoleEvent(0.0, "panic", True, "Guru")) == "fail"


def test_this_machine() -> None:
    assert machine.judge_clock("x", 1e-9).status == "ok"
    assert machine.judge_clock("x", 0.0156).status == "warn"
    assert machine.judge_loop("uvloop").status == "ok"
    assert "[fast]" in machine.judge_loop("asyncio").advice
    assert machine.judge_stamps(True, scheme="http", platform="linux").status == "ok"
    assert "TLS" in machine.judge_stamps(True, scheme="https", platform="linux").figure
    assert "Linux" in machine.judge_stamps(False, scheme="http", platform="darwin").figure
    free = GeneratorReport(cpu_share=0.1, lag_p99_ms=0.4, engine="e")
    calm = machine.judge_generator([report(1.0, 1.0, generator=free)])
    assert (calm.status, calm.figure) == ("ok", "lag p99 0.4 ms, 10 % of a core")
    slow = GeneratorReport(cpu_share=0.95, lag_p99_ms=0.4, bound=True)
    busy = GeneratorReport(cpu_share=0.2, lag_p99_ms=80.0, bound=True)
    assert "faster machine" in machine.judge_generator([report(1.0, 1.0, generator=slow)]).advice
    assert "what else" in machine.judge_generator([report(1.0, 1.0, generator=busy)]).advice
