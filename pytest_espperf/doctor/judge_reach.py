"""Judgements about reaching the board, and about its telemetry. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_espperf.device import ConsoleEvent, Redirect, TelemetryReading, TelemetrySpec
from pytest_espperf.doctor.findings import Check
from pytest_espperf.doctor.measures import Contact
from pytest_espperf.gate.health import COLLAPSE_RATIO
from pytest_espperf.load.talk import TimedAnswer
from pytest_espperf.model.figures import (
    BOOT,
    COLLECTED,
    COUNTERS,
    HEAP,
    PEAKS,
    SECURE_COUNTERS,
    STARTED,
    find_figure,
    number_at,
)

SLOW_NAME_S = 1.0
"""A name that takes longer than this makes every session's start slow, and its failure unclear."""

TABLE = "[tool.espperf.telemetry]"


def address(shown: str, *, how: str, took_s: float) -> Check:
    """Describe a host that has an address."""
    figure = f"{shown} ({'IPv6' if ':' in shown else 'IPv4'}), {how}"
    values = {"address": shown, "took_ms": round(1e3 * took_s, 3)}
    if took_s > SLOW_NAME_S:
        return Check(
            "board",
            "address",
            "note",
            f"{figure}; the name took {took_s:.1f} s",
            "give the address instead of the name.",
            values,
        )
    return Check("board", "address", "ok", figure, values=values)


def no_address(reason: str) -> Check:
    """Describe a host that has no address."""
    advice = "look for it in what the board prints as it boots, or in the router's list of clients."
    return Check("board", "address", "fail", reason, advice)


def no_reference_device(reason: str) -> Check:
    """Describe a reference device that did not start."""
    advice = "start it by itself to see what it says: espperf sim --port 8080."
    return Check("board", "address", "fail", reason, advice)


def lock(busy: str) -> Check:
    """Whether another session has the board: its message, "" where there is none."""
    if not busy:
        return Check("board", "lock", "ok", "no other session measures it")
    return Check("board", "lock", "fail", busy, "run this again when that session has ended.")


def connect(contact: Contact) -> Check:
    """TCP."""
    if contact.connect_ms is not None:
        values = {"connect_ms": round(contact.connect_ms, 3)}
        return Check("board", "connect", "ok", f"TCP in {contact.connect_ms:.1f} ms", values=values)
    advice = "see that it is switched on, on this network, and at this address."
    if contact.refused:
        advice = "nobody listens there: give its port with --device-port, or start its server."
    return Check("board", "connect", "fail", contact.trouble, advice)


def tls(contact: Contact, *, insecure: bool) -> Check:
    """TLS, of a board that speaks HTTPS."""
    if contact.tls_trouble:
        advice = "see that the port speaks TLS; --device-scheme http is the other way."
        if contact.untrusted:
            advice = "give its CA with --device-ca, or do without the check by --device-insecure."
        return Check("board", "TLS", "fail", contact.tls_trouble, advice)
    figure = f"{contact.tls} in {contact.tls_ms or 0.0:.0f} ms, certificate {'not ' * insecure}checked"
    values = {"version": contact.tls, "handshake_ms": contact.tls_ms, "alpn": contact.alpn}
    if contact.alpn == "h2":
        return Check(
            "board",
            "TLS",
            "note",
            f"{figure}; it prefers HTTP/2",
            "sessions measure HTTP/1.1; a perf_transport of your own measures HTTP/2.",
            values,
        )
    return Check("board", "TLS", "ok", figure, values=values)


def no_answer(reason: str) -> Check:
    """Describe the failure of the health probe, in its words."""
    return Check(
        "board",
        "answer",
        "fail",
        reason,
        "look at its console (--device-serial), and see that its server runs.",
    )


def unreadable(reason: str) -> Check:
    """Describe an answer that the load engine cannot read, though browsers and curl may."""
    return Check(
        "board",
        "answer",
        "fail",
        reason,
        "correct what its server sends: browsers and curl may put up with it, but every request of a session "
        "would be an error.",
    )


def answer(path: str, found: TimedAnswer, *, tries: int, redirect: Redirect | None = None) -> Check:
    """Judge what the probe path answers, after how many tries, and where it redirects to."""
    figure = f"{path}: status {found.status}, HTTP/{found.version}, {found.took_ms:.1f} ms"
    values = {
        "status": found.status,
        "http_version": found.version,
        "took_ms": round(found.took_ms, 3),
        "tries": tries,
    }
    if found.beyond:
        advice = "count the bytes of the body as it is sent (in UTF-8), not its characters."
        return Check("board", "answer", "fail", f"{figure}; {found.beyond}", advice, values)
    if found.status >= 400:
        advice = "name a path that it has with --perf-probe-path."
        if found.status in {401, 403}:
            advice = "give what it asks for with --device-header 'Authorization: ...'."
        elif found.status == 429:
            advice = "take this machine out of its rate limiter, and try again."
        elif found.status >= 500:
            advice = "try again: it answered the health probe better than that."
        return Check("board", "answer", "warn", figure, advice, values)
    if redirect is not None:
        figure = f"{figure}, a redirect to {redirect.url}, which requests do not follow"
        values["redirect"] = redirect.url
        return Check("board", "answer", "warn", figure, f"measure {redirect.measure}.", values)
    if tries > 1:
        advice = "let it boot and settle before a session; look at its console if it goes on."
        return Check("board", "answer", "warn", f"{figure}, at the try number {tries}", advice, values)
    return Check("board", "answer", "ok", figure, values=values)


def encoding(found: TimedAnswer) -> Check:
    """Whether it answers as it was asked to: uncompressed."""
    if not found.encoding or found.encoding.lower() == "identity":
        return Check("board", "encoding", "ok", "identity, as asked for")
    return Check(
        "board",
        "encoding",
        "warn",
        f"{found.encoding}, though identity was asked for",
        "have the board respect Accept-Encoding, or sizes and times are those of compressed bodies.",
    )


def telemetry(reading: TelemetryReading, spec: TelemetrySpec, notes: Sequence[str]) -> Check:
    """Which counters and figures there are."""
    whole = {"stats": reading.stats, "memory": reading.memory}
    answered = [path for path, part in ((spec.stats, reading.stats), (spec.memory, reading.memory)) if part]
    wanted = (STARTED, *HEAP, *COLLECTED, *COUNTERS, *PEAKS, *BOOT)
    found = [name for name in wanted if find_figure(whole, name) is not None]
    # Only some boards have a Python heap, HTTPS or one of the queues.
    optional = {*COLLECTED, *PEAKS, *SECURE_COUNTERS}
    missing = [name for name in wanted if name not in found and name not in optional]
    values = {"paths": answered, "found": found, "missing": missing, "notes": list(notes)}
    if not answered:
        return Check(
            "board",
            "telemetry",
            "note",
            "; ".join(notes) or "none is described",
            f"it is measured all the same; if its figures are elsewhere, name the path in {TABLE}.",
            values,
        )
    lacks = f", without {', '.join(missing)}" if missing else ""
    figure = f"{' and '.join(dict.fromkeys(answered))}: {len(found)} figures{lacks}"
    if notes or any(name in missing for name in (STARTED, *HEAP)):
        advice = f"if the board has them by other names or elsewhere, say so in {TABLE}."
        return Check("board", "telemetry", "note", "; ".join((figure, *notes)), advice, values)
    return Check("board", "telemetry", "ok", figure, values=values)


def heap(memory: Mapping[str, object]) -> Check | None:
    """Free heap and how much of it is in one piece; None where the telemetry lacks it."""
    free, largest = number_at(memory, "internal_free"), number_at(memory, "internal_largest")
    if free is None:
        return None
    low, psram = number_at(memory, "internal_min_free"), number_at(memory, "psram_free")
    parts = [f"{free:,.0f} bytes free"]
    share = largest / free if largest is not None and free > 0 else None
    if share is not None:
        parts.append(f"{100 * share:.0f} % of it in one piece")
    if low is not None:
        parts.append(f"{low:,.0f} at the lowest since it booted")
    if psram:
        parts.append(f"PSRAM {psram:,.0f}")
    values = {
        "internal_free_bytes": free,
        "internal_largest_bytes": largest,
        "internal_min_free_bytes": low,
        "psram_free_bytes": psram,
    }
    if share is not None and share < COLLAPSE_RATIO:
        advice = "reset the board before a session, and look for what breaks its heap into pieces."
        return Check("board", "heap", "warn", ", ".join(parts), advice, values)
    return Check("board", "heap", "ok", ", ".join(parts), values=values)


def after_load(signs: Sequence[str], moved: Mapping[str, int], lost_bytes: float | None) -> Check:
    """Judge the short load by the board's own figures.

    Args:
        signs: of a reboot.
        moved: counters that a healthy board leaves alone.
        lost_bytes: of internal heap; None where it is unknown.
    """
    heap_said = "" if lost_bytes is None else f"{lost_bytes:+,.0f} bytes of heap used"
    values = {"reboot_signs": list(signs), "counters": dict(moved), "heap_used_bytes": lost_bytes}
    if signs:
        advice = "look at its console (--device-serial): so light a load must not make it reboot."
        return Check("board", "after load", "fail", f"it rebooted: {'; '.join(signs)}", advice, values)
    if moved:
        counted = ", ".join(f"{count} {COUNTERS.get(name, name)}" for name, count in moved.items())
        advice = "see what makes it refuse or fail so few requests: its queue, its sockets, its handlers."
        return Check("board", "after load", "warn", counted, advice, values)
    figure = "no reboot, no counter of trouble moved"
    return Check("board", "after load", "ok", ", ".join(filter(None, (figure, heap_said))), values=values)


def no_console(reason: str) -> Check:
    """Describe a console that could not be opened."""
    return Check(
        "board",
        "console",
        "fail",
        reason,
        "close what else has the port open, and see that its name is right.",
    )


def console(
    url: str,
    lines: Sequence[str],
    events: Sequence[ConsoleEvent],
    remarks: Sequence[str],
    *,
    listened_s: float,
) -> Check:
    """Judge the lines that the console printed."""
    values = {"lines": len(lines), "listened_s": round(listened_s, 1), "events": [str(one) for one in events]}
    fatal = [str(event) for event in events if event.fatal]
    if fatal:
        figure = f"it died: {'; '.join(fatal[:3])}"
        advice = "put that right first: what is measured of a board that dies is its boot."
        return Check("board", "console", "fail", figure, advice, values)
    warnings = [str(event) for event in events if not event.fatal]
    if warnings:
        figure = f"{url}: {'; '.join(warnings[:3])}"
        advice = "look at these lines: they may be what makes it slow."
        return Check("board", "console", "warn", figure, advice, values)
    if remarks:
        figure = f"{'; '.join(remarks)} ({listened_s:.0f} s)"
        advice = "a quiet firmware says nothing; reset the board by hand to hear it boot."
        return Check("board", "console", "note", figure, advice, values)
    return Check("board", "console", "ok", f"{url}: {len(lines)} lines in {listened_s:.0f} s", values=values)
