"""How many connections a board serves at once: opened one by one, each asked once, and kept.

Strategy: a connection counts as held once a request on it was answered. The first one that is not served
while all others are held is no proof: its packets may have been lost, or the board may not have let go yet of
a connection from before. So one of the held ones is asked again, which shows that the board is there and as
quick as before, and then another new one is tried. Only where that one is not served either is it the board's
limit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import httpx

from pytest_espperf.load.faults import LocalError
from pytest_espperf.load.talk import Caller, CheckClient
from pytest_espperf.system.loops import run_async

Ended = Literal["", "refused", "closed", "unanswered", "busy", "dropped", "not kept"]

UNSERVED: frozenset[Ended] = frozenset({"refused", "closed", "unanswered", "busy"})
"""What a client meets that never gets an answer, or none but 503."""


@dataclass(frozen=True)
class Held:
    """How many connections a board holds at once.

    Attributes:
        connections: that were open at once, each of which had answered a request.
        ended: what the next one met, and one more that was tried after it: ``refused``, ``closed`` (at once),
            ``unanswered``, ``busy`` (status 503); ``dropped``: it was served, and an older one closed for it;
            ``not kept``: the board closes each after its answer, and the limit is unknown; "" where no more
            were opened, or what they met was not met twice.
    """

    connections: int
    ended: Ended = ""


def hold(
    caller: Caller,
    *,
    most: int,
    patience_s: Callable[[float], float],
    left: Callable[[], float],
    known: int = 0,
) -> Held:
    """Open connections, have one request answered on each, keep them; until one is not served.

    Args:
        caller: whom to ask.
        most: how many to open at once at the most.
        patience_s: seconds to wait for a new one, from those of the slowest answer so far.
        left: seconds left for all of it, now.
        known: a limit that was found before: where it is met again, no second new one is tried.
    """
    return run_async(_hold(caller, most, patience_s, left, known))


async def _hold(
    caller: Caller, most: int, patience_s: Callable[[float], float], left: Callable[[], float], known: int
) -> Held:
    clients: list[CheckClient] = []
    slowest_s = 0.0
    async with contextlib.AsyncExitStack() as closing:
        while len(clients) < most:
            wait_s = min(patience_s(slowest_s), caller.timeout_s)
            if clients and left() < wait_s:
                break
            ended, client, took_s = await _join(await closing.enter_async_context(caller.client(wait_s)))
            if ended in UNSERVED and clients:
                if not await _still_answers(clients):
                    return Held(len(clients))
                if len(clients) == known and all(one.is_open for one in clients):
                    return Held(known, ended)
                if left() < wait_s:
                    return Held(len(clients))
                last_s = min(max(wait_s, left()), caller.timeout_s)
                ended, client, took_s = await _join(await closing.enter_async_context(caller.client(last_s)))
                if ended and not await _still_answers(clients):
                    return Held(len(clients))
            held = sum(one.is_open for one in clients)
            if ended:
                return Held(held, ended if held == len(clients) else "dropped")
            if held < len(clients):
                return Held(held + 1, "dropped")
            clients.append(client)
            slowest_s = max(slowest_s, took_s)
    return Held(len(clients))


async def _join(client: CheckClient) -> tuple[Ended, CheckClient, float]:
    """Ask on one more connection: what it met ("": served and kept), the client, seconds to its answer."""
    try:
        answer = await client.ask()
    except httpx.ConnectError:
        return "refused", client, 0.0
    except httpx.TimeoutException:
        return "unanswered", client, 0.0
    except LocalError:
        raise
    except httpx.TransportError:
        return "closed", client, 0.0
    if answer.status == 503:
        client.close()
        return "busy", client, 0.0
    return "" if client.is_open else "not kept", client, 1e-3 * answer.took_ms


async def _still_answers(clients: list[CheckClient]) -> bool:
    """Whether a connection that is held is answered once more, in the time that a new one was given."""
    for client in clients:
        if client.is_open:
            try:
                await client.ask()
            except httpx.TransportError:
                return False
            return True
    return False
