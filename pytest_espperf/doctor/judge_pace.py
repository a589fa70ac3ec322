"""The link, the board's limits, and how restless both are: judgements. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from pytest_espperf.device import LinkReading
from pytest_espperf.doctor.findings import Check
from pytest_espperf.doctor.measures import KeptAlive, Wakes
from pytest_espperf.gate.delayed_ack import CURE
from pytest_espperf.gate.generator import LOST_SHARE
from pytest_espperf.load import DelayedAcks
from pytest_espperf.load.capacity import Held
from pytest_espperf.model.artifact import PhaseReport
from pytest_espperf.model.metrics import percentile
from pytest_espperf.model.registry import METRICS

WAKING_MS = 20.0
"""A first request that is slower by this, and twice as slow as the following ones, was held up: an access
point holds packets for a sleeping station until the next beacon, 102 ms at the most and 51 ms on average."""

SCATTER_MS = 80.0
"""Connects to an idle board whose slowest and fastest tenth are so far apart wait for something."""

RESTLESS_MS = 20.0
"""The same of p95 and median, for a link that is merely restless."""

SPREAD_PCT = {"rps_ok": 20.0, "p95_ms": 50.0}
"""(Greatest - least) / median over the runs of the short load from which on it is no steady board."""

POWER_SAVE = (
    "switch Wi-Fi power save off and look again: esp_wifi_set_ps(WIFI_PS_NONE), in MicroPython "
    "wlan.config(pm=wlan.PM_NONE); or it is this machine's own Wi-Fi."
)


def idle_connects(link: LinkReading) -> Check:
    """Judge connects to the idle board: its network stack answers them, not its server."""
    times = sorted(link.connect_ms)
    made = len(times) + link.retransmitted + link.failed
    values = {
        "connects": made,
        "median_ms": round(median(times), 3) if times else None,
        "p95_ms": round(percentile(times, 0.95), 3) if times else None,
        "lost": link.retransmitted,
        "refused": link.failed,
    }
    if not made:
        advice = "give it less to do, and run this again."
        return Check("link", "idle connects", "note", "not measured: no time was left", advice, values)
    if not times:
        advice = "see what its network stack does: it answered a moment before."
        return Check("link", "idle connects", "fail", f"none of {made} got through", advice, values)
    p95 = percentile(times, 0.95)
    figure = f"median {median(times):.1f} ms, p95 {p95:.1f} ms, {link.retransmitted} of {made} lost a packet"
    if link.failed:
        advice = "have it accept connects while it is idle: something else takes its sockets."
        return Check("link", "idle connects", "warn", f"{figure}, {link.failed} refused", advice, values)
    if link.retransmitted >= 2 and link.retransmitted >= LOST_SHARE * made:
        advice = "bring board, access point and this machine nearer, or to another channel or a cable."
        return Check("link", "idle connects", "warn", figure, advice, values)
    if p95 - median(times) > RESTLESS_MS:
        advice = "look for what else is on the air: p95 of a session moves with it."
        return Check("link", "idle connects", "note", figure, advice, values)
    return Check("link", "idle connects", "ok", figure, values=values)


def power_save(link: LinkReading, wakes: Wakes, *, idle_s: float) -> Check:
    """Whether the link behaves like one whose station sleeps between beacons."""
    times = sorted(link.connect_ms)
    scatter = percentile(times, 0.9) - percentile(times, 0.1) if times else 0.0
    values: dict[str, object] = {"connect_scatter_ms": round(scatter, 3), "rounds": len(wakes.rounds)}
    if wakes.trouble:
        figure = f"a request after {idle_s:g} s of rest: {wakes.trouble}"
        advice = "look at its console: it answered before, and did not any more."
        return Check("link", "power save", "fail", figure, advice, values)
    if not wakes.rounds:
        advice = "give it a quicker path with --perf-probe-path."
        return Check("link", "power save", "note", "not measured: no time was left", advice, values)
    first = median(wake.first_ms for wake in wakes.rounds)
    following = median(median(wake.next_ms) for wake in wakes.rounds)
    held_up = median(wake.first_ms - median(wake.next_ms) for wake in wakes.rounds)
    values |= {"first_ms": round(first, 3), "following_ms": round(following, 3)}
    figure = (
        f"after {idle_s:g} s of rest a request takes {first:.1f} ms, right after it {following:.1f} ms "
        f"({len(wakes.rounds)} times)"
    )
    if held_up >= WAKING_MS and first >= 2 * following:
        return Check("link", "power save", "warn", figure, POWER_SAVE, values)
    if scatter >= SCATTER_MS:
        figure += f"; idle connects scatter by {scatter:.0f} ms"
        return Check("link", "power save", "warn", figure, POWER_SAVE, values)
    return Check("link", "power save", "ok", f"no sign of it: {figure}", values=values)


def keep_alive(kept: KeptAlive, *, most: int) -> Check:
    """How many requests one connection carries."""
    values = {"requests": kept.requests, "ended": kept.ended}
    if kept.trouble:
        figure = f"request {kept.requests + 1} of one connection: {kept.trouble}"
        advice = "look at its console: it did not answer a single client in its turn."
        return Check("limits", "keep-alive", "fail", figure, advice, values)
    if not kept.ended:
        least = "at least " if kept.requests >= most else "in the time there was, at least "
        return Check("limits", "keep-alive", "ok", f"{least}{kept.requests} requests", values=values)
    if kept.requests == 1:
        advice = "let it keep connections if it can: now every figure has a connect in it."
        return Check("limits", "keep-alive", "note", "one request a connection", advice, values)
    if kept.ended == "silent":
        figure = f"closed after {kept.requests} requests, unannounced"
        advice = "have it say 'Connection: close' with the last answer; sessions ask again, and count that."
        return Check("limits", "keep-alive", "note", figure, advice, values)
    return Check(
        "limits", "keep-alive", "ok", f"closed after {kept.requests} requests, announced", values=values
    )


def delayed_acks(found: DelayedAcks, path: str) -> Check:
    """Whether its answers wait for acknowledgements that clients delay."""
    values = {"asked": list(found.asked), "waits_ms": found.waits_ms, "measured": found.measured}
    if path not in found.asked:
        advice = "name a path with a quick answer of at most 16 KB with --perf-probe-path."
        return Check(
            "limits", "delayed ACK", "note", f"not known: {path} was not answered for it", advice, values
        )
    if path not in found.waits_ms:
        return Check("limits", "delayed ACK", "ok", "its answers do not wait for one", values=values)
    figure = (
        f"each answer waits {found.waits_ms[path]:.0f} ms for the acknowledgement of its first part, which "
        "clients delay"
    )
    more = " This computer delays it as well: sessions measure that wait." if found.measured else ""
    return Check("limits", "delayed ACK", "warn", figure, f"{CURE}.{more}", values)


_ENDED = {
    "refused": "one more is refused",
    "closed": "one more is closed at once",
    "unanswered": "one more gets no answer",
    "busy": "one more is answered 503",
    "dropped": "for one more an older one is closed",
}


def connections(held: Held, *, clients: int, most: int) -> Check:
    """How many it holds at once.

    Args:
        held: what was found.
        clients: of the phase that has the most of them.
        most: how many were opened at the most.
    """
    values = {"connections": held.connections, "ended": held.ended, "clients": clients}
    if held.ended == "not kept":
        figure = "not measured: it closes each after its answer"
        advice = "let it keep connections if it can; sessions open one for every request."
        return Check("limits", "connections", "note", figure, advice, values)
    if not held.ended:
        least = "at least " if held.connections >= most else "in the time there was, at least "
        return Check("limits", "connections", "ok", f"{least}{held.connections} at once", values=values)
    figure = f"{held.connections} at once; {_ENDED[held.ended]}"
    if held.connections == 0:
        advice = "look at its console: a moment ago it answered."
        return Check("limits", "connections", "fail", figure, advice, values)
    if held.connections < clients:
        advice = (
            f"give it more sockets (CONFIG_LWIP_MAX_SOCKETS, max_open_sockets), or measure with fewer than "
            f"{clients} clients: --perf-burst-clients {held.connections} --perf-long-clients "
            f"{held.connections}."
        )
        return Check("limits", "connections", "warn", figure, advice, values)
    return Check("limits", "connections", "ok", figure, values=values)


def rate_limiter(reports: Sequence[PhaseReport]) -> Check:
    """Whether one was met in the short load."""
    refused = sum(report.status_counts.get("429", 0) for report in reports)
    total = sum(report.requests_total for report in reports)
    rps = max((report.rps_total for report in reports), default=0.0)
    values = {"answered_429": refused, "requests": total, "rps": round(rps, 1)}
    if refused:
        figure = f"{refused:,} of {total:,} answers were 429"
        advice = "take this machine out of it, or switch it off: else a session measures the limiter."
        return Check("limits", "rate limiter", "warn", figure, advice, values)
    figure = f"none met in {total:,} requests, at up to {rps:,.0f} a second"
    return Check("limits", "rate limiter", "ok", figure, values=values)


def not_loaded(why: str, advice: str) -> Check:
    """No load was put on the board, and why."""
    return Check("noise", "throughput", "note", f"not measured: {why}", advice)


def pace(reports: Sequence[PhaseReport], metric: str, name: str) -> Check | None:
    """Judge a figure of the short load, and how far its runs are apart; None where too little was answered.

    Args:
        reports: of the runs.
        metric: of the registry.
        name: of the check.
    """
    least = METRICS[metric].gateable_from
    found = [value for one in reports if one.ok >= least and (value := getattr(one, metric)) is not None]
    if not found:
        return None
    middle = median(found)
    spread = 100.0 * (max(found) - min(found)) / middle if middle > 0 else 0.0
    figure = METRICS[metric].format(middle)
    values: dict[str, object] = {
        metric: [round(value, 3) for value in found],
        "clients": reports[0].clients,
    }
    if len(found) < 2:
        advice = "run this again: one run does not show how steady the board is."
        return Check("noise", name, "note", f"{figure} in the only run", advice, values)
    values["spread_pct"] = round(spread, 1)
    clients = reports[0].clients
    figure += f"; {len(found)} runs of {clients} client{'' if clients == 1 else 's'} are {spread:.1f} % apart"
    if spread > SPREAD_PCT[metric]:
        advice = "look at the link above, and at what else the board does; more runs help: espperf calibrate."
        return Check("noise", name, "warn", figure, advice, values)
    return Check("noise", name, "ok", figure, values=values)


def errors(reports: Sequence[PhaseReport]) -> Check:
    """Judge what went wrong in the short load (one run at least), a rate limiter's answers apart."""
    kinds = Counter[str]()
    for report in reports:
        kinds.update(report.error_kinds)
    limited = kinds.pop("http_429", 0)
    total, wrong = sum(one.requests_total for one in reports), kinds.total() if kinds else 0
    stalled = sum(report.stalled_s for report in reports)
    cut = next((report.cut_short for report in reports if report.cut_short), "")
    values = {
        "requests": total,
        "errors": dict(kinds),
        "stalled_s": round(stalled, 3),
        "stale_retries": sum(report.stale_retries for report in reports),
    }
    parts = [f"{wrong:,} of {total - limited:,} requests"]
    if kinds:
        first: dict[str, str] = {}
        for reason in (one for report in reports for one in report.error_reasons if one.reason):
            first.setdefault(reason.kind, f": {reason.reason}")
        named = (f"{count:,} x {kind}{first.get(kind, '')}" for kind, count in kinds.most_common(4))
        parts.append(", ".join(named))
    if stalled:
        parts.append(f"no answer for {stalled:.1f} s in all")
    if cut:
        parts.append(cut)
    figure = "; ".join(parts)
    if not any(report.ok for report in reports):
        advice = f"look at its console: with {reports[0].clients} clients nothing was answered well."
        return Check("noise", "errors", "fail", figure, advice, values)
    if wrong or stalled or cut:
        advice = "put these right first: they are in the figures of every session."
        return Check("noise", "errors", "warn", figure, advice, values)
    return Check("noise", "errors", "ok", figure, values=values)
