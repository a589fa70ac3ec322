"""The health probe: does the board answer at all, before it is put under load?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from pytest_espperf.device.http import HttpAnswer, get
from pytest_espperf.errors import ComputerError, DeviceError, ProbeError
from pytest_espperf.model.workload import DEFAULT_PORTS, Target

DELAY_STEP_S = 0.25
LEAST_TRY_S = 0.5

MALFORMED = "RemoteProtocolError: "
"""How an error begins that says that what came was no HTTP."""

DISCONNECTED = "disconnected"
"""Part of the words for a connection that was closed without an answer: a board that boots may do that."""

SETTLED_TRIES = 3
"""The same malformed answer so many times in a row is no board that is still booting."""


@dataclass(frozen=True)
class Redirect:
    """An answer that sends its clients elsewhere, where no request of ours goes.

    Attributes:
        url: where to.
        measure: what to measure in its place, and by which option.
    """

    url: str
    measure: str


@dataclass(frozen=True)
class Probe:
    """A healthy answer.

    Attributes:
        tries: how many it took.
        status: of the answer.
        took_s: seconds that the last try took.
        redirect: where the answer sends its clients; None where it does not.
    """

    tries: int
    status: int
    took_s: float
    redirect: Redirect | None = None


def probe(
    target: Target,
    path: str,
    *,
    tries: int,
    timeout_s: float,
    budget_s: float = float("inf"),
    fetch: Callable[..., HttpAnswer] = get,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Probe:
    """Ask until the board answers with anything below 500; the delay grows by a quarter second a try.

    A 404 is an answer: the board lives, it has no such path.

    Args:
        target: the board.
        path: what to ask for.
        tries: at most so many.
        timeout_s: of one try.
        budget_s: of all tries and delays together.
        fetch: replaced in tests, as are ``sleep`` and ``clock``.
        sleep: seconds -> None.
        clock: monotonic seconds.

    Raises:
        ProbeError: no such answer; says what the last try met.
    """
    began = clock()
    last, ours = "no try was made", False
    made = alike = 0
    for attempt in range(1, tries + 1):
        left = budget_s - (clock() - began)
        if attempt > 1 and left < LEAST_TRY_S:
            break
        made = attempt
        started = clock()
        before = last
        try:
            answer = fetch(target, path, timeout_s=max(LEAST_TRY_S, min(timeout_s, left)))
        except DeviceError as error:
            last, ours = str(error), isinstance(error, ComputerError)
            alike = alike + 1 if last == before else 1
            if alike >= SETTLED_TRIES and last.startswith(MALFORMED) and DISCONNECTED not in last:
                break
        else:
            if answer.status < 500:
                return Probe(
                    tries=attempt,
                    status=answer.status,
                    took_s=answer.took_s or clock() - started,
                    redirect=read_redirect(target, path, answer.location) if answer.location else None,
                )
            last, ours = f"status {answer.status}", False
        if attempt < tries:
            sleep(max(0.0, min(DELAY_STEP_S * attempt, budget_s - (clock() - began))))
    if ours:
        raise ProbeError(f"the board at {target.origin} could not be asked: {last}")
    raise ProbeError(
        f"the board at {target.origin} gave no healthy answer to {path} in {made} "
        f"{'try' if made == 1 else 'tries'} ({clock() - began:.1f} s); the last one met: {last}"
    )


def read_redirect(target: Target, path: str, location: str) -> Redirect:
    """Work out where a redirect leads, and which option measures that.

    Args:
        target: the board.
        path: that was asked for.
        location: the header's value, a whole URL or a part of one.
    """
    asked = f"{target.scheme}://{target.host_header}{path}"
    try:
        url = urljoin(asked, location)
        leads, came = urlsplit(url), urlsplit(asked)
        port, came_port = (part.port or DEFAULT_PORTS.get(part.scheme) for part in (leads, came))
    except ValueError:
        return Redirect(location, "another path with --perf-probe-path")
    if leads.hostname not in {came.hostname, target.address.partition("%")[0]}:
        measure = "a path that the board answers itself, with --perf-probe-path"
    elif leads.scheme != came.scheme and leads.scheme in DEFAULT_PORTS:
        measure = f"that with --device-scheme {leads.scheme} --device-port {port}"
    elif port != came_port:
        measure = f"that with --device-port {port}"
    else:
        path = leads._replace(scheme="", netloc="", fragment="").geturl() or "/"
        measure = f"that with --perf-probe-path '{path}'"
    return Redirect(url, measure)
