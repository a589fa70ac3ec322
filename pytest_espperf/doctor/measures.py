"""What is measured of a board at rest, and of one that is a little. I/O; judged elsewhere."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import httpx

from pytest_espperf import device, load
from pytest_espperf.load.talk import Caller, words
from pytest_espperf.model import metrics
from pytest_espperf.model.artifact import PhaseReport
from pytest_espperf.model.workload import PhaseSpec, RequestSpec, Target
from pytest_espperf.system.loops import run_async
from pytest_espperf.system.tls import tls_for

AFTER_WAKING = 3
"""Requests that follow the first one after a second without any."""

GREETING_S = 1.0
"""Seconds in which the request of the first connection may be answered; more are given later."""

LATE_ANSWER_S = 3.0
"""What a run of load may take beyond its duration."""

Closed = Literal["", "announced", "silent"]


@dataclass(frozen=True)
class Contact:
    """One connection.

    Attributes:
        connect_ms: how long TCP took; None where there is no connection.
        trouble: why there is none, "" where there is; ``tls_trouble`` likewise.
        refused: whether the address answered, and nobody listens at the port.
        tls: version of TLS, "" for plain HTTP or none.
        alpn: the protocol the board would speak if it had the choice.
        untrusted: TLS failed for the certificate alone.
    """

    connect_ms: float | None = None
    trouble: str = ""
    refused: bool = False
    tls: str = ""
    tls_ms: float | None = None
    alpn: str = ""
    tls_trouble: str = ""
    untrusted: bool = False


def touch(target: Target, path: str, *, timeout_s: float) -> Contact:
    """Connect once, by TLS where the target speaks it; else with a request, as no client goes without one."""
    began = time.perf_counter()
    try:
        sock = socket.create_connection((target.address, target.port), timeout=timeout_s)
    except OSError as error:
        trouble = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return Contact(trouble=trouble, refused=isinstance(error, ConnectionRefusedError))
    with sock:
        connect_ms = 1e3 * (time.perf_counter() - began)
        context = tls_for(target, alpn=("h2", "http/1.1"))
        if context is None:
            device.ask(sock, target, path, budget_s=GREETING_S)
            return Contact(connect_ms=connect_ms)
        began = time.perf_counter()
        try:
            with context.wrap_socket(sock, server_hostname=target.tls_name or target.address) as secured:
                return Contact(
                    connect_ms=connect_ms,
                    tls=secured.version() or "",
                    tls_ms=1e3 * (time.perf_counter() - began),
                    alpn=secured.selected_alpn_protocol() or "",
                )
        except OSError as error:  # ssl.SSLError is one
            untrusted = isinstance(error, ssl.SSLCertVerificationError)
            trouble = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error)
            return Contact(connect_ms=connect_ms, tls_trouble=trouble, untrusted=untrusted)


@dataclass(frozen=True)
class Wake:
    """The first request after a while without any, and those right after it; milliseconds."""

    first_ms: float
    next_ms: tuple[float, ...]


@dataclass(frozen=True)
class Wakes:
    """Several of them; ``trouble`` says why there are fewer than wanted."""

    rounds: tuple[Wake, ...] = ()
    trouble: str = ""


def wake(caller: Caller, *, idle_s: float, rounds: int, left: Callable[[], float]) -> Wakes:
    """Let the board rest, then ask it a few times at once; again and again.

    Args:
        caller: whom to ask.
        idle_s: how long to rest.
        rounds: how often.
        left: seconds left for all of it, now.
    """

    async def go() -> Wakes:
        found: list[Wake] = []
        for _ in range(rounds):
            if left() < idle_s:
                break
            async with caller.client() as client:
                try:
                    await client.ask()
                    await asyncio.sleep(idle_s)
                    first = await client.ask_again()
                    following = [(await client.ask_again()).took_ms for _ in range(AFTER_WAKING)]
                except httpx.TransportError as error:
                    return Wakes(tuple(found), words(error))
            found.append(Wake(first.took_ms, tuple(following)))
        return Wakes(tuple(found))

    return run_async(go())


@dataclass(frozen=True)
class KeptAlive:
    """How long a connection is kept.

    Attributes:
        requests: that were answered on one connection.
        ended: ``announced`` (``Connection: close``), ``silent`` (closed without a word) or "": not at all.
        trouble: what else ended it.
    """

    requests: int
    ended: Closed = ""
    trouble: str = ""


def keep_alive(caller: Caller, *, most: int, left: Callable[[], float]) -> KeptAlive:
    """Ask on one connection until the board closes it, ``most`` times, or until no time is left."""

    async def go() -> KeptAlive:
        async with caller.client() as client:
            for answered in range(most):
                if answered and not client.is_open:
                    return KeptAlive(answered, "silent")
                if left() <= 0:
                    return KeptAlive(answered)
                try:
                    answer = await client.ask()
                except (httpx.RemoteProtocolError, httpx.ReadError) as error:
                    if answered and client.died_unanswered:
                        return KeptAlive(answered, "silent")
                    return KeptAlive(answered, trouble=words(error))
                except httpx.TransportError as error:
                    return KeptAlive(answered, trouble=words(error))
                if not answer.keeps:
                    return KeptAlive(answered + 1, "announced")
        return KeptAlive(most)

    return run_async(go())


def rounds_of_load(
    target: Target,
    path: str,
    *,
    clients: int,
    rounds: int,
    round_s: float,
    pause_s: float,
    timeout_s: float,
    left: Callable[[], float],
) -> Iterator[PhaseReport]:
    """Run a short closed-loop load on one path several times, until nothing succeeds in a run.

    Raises:
        UsageError: the request cannot be made.
    """
    for number in range(rounds):
        if number:
            time.sleep(pause_s)
        if left() < round_s:
            return
        samples = load.run_phase(
            target,
            (RequestSpec(path),),
            PhaseSpec("doctor", clients, round_s),
            request_timeout_s=timeout_s,
            deadline_s=round_s + min(timeout_s, LATE_ANSWER_S),
        )
        report = metrics.summarise(samples)
        yield report
        if not report.ok:
            return
