"""Every path asked once before any load, over the very connections and rules that the load uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_espperf.load.custom import TransportFactory
from pytest_espperf.load.engine import run_phase
from pytest_espperf.model.samples import FirstAnswer, PhaseSamples
from pytest_espperf.model.workload import Header, LoginSpec, PhaseSpec, RequestSpec, Target

_ONCE = PhaseSpec("answers", clients=1, duration_s=0.0)


@dataclass(frozen=True)
class Asked:
    """What one path answered.

    Attributes:
        status: of the answer; None where none was complete.
        answer: what it looked like; None likewise.
        error: the kind of error that a request of the load counts as, "" for a right answer.
        reason: the error in words.
        took_ms: from the request to its last byte, or to the error.
    """

    status: int | None = None
    answer: FirstAnswer | None = None
    error: str = ""
    reason: str = ""
    took_ms: float = 0.0


def ask_each(
    target: Target,
    requests: Sequence[RequestSpec],
    *,
    headers: Sequence[Header] = (),
    timeout_s: float,
    budget_s: float,
    transport: TransportFactory | None = None,
    login: LoginSpec | None = None,
) -> list[Asked | None]:
    """Ask for each path once, one after the other, each with its method and its body.

    Where the login fails, that is the answer of the first path, and no path is asked for.

    Args:
        target: the board.
        requests: the paths.
        headers: the profile's headers.
        timeout_s: of each request.
        budget_s: of all together.
        transport: makes the user's own httpx transport in place of our connections.
        login: what the client asks for first.

    Returns:
        one entry per path, None where no time was left to wait for its answer.

    Raises:
        UsageError: a request that cannot be made.
    """
    samples = run_phase(
        target,
        requests,
        _ONCE,
        headers=headers,
        request_timeout_s=timeout_s,
        deadline_s=budget_s,
        transport=transport,
        each_once=True,
        login=login,
    )
    return [_asked(samples, index) for index in range(len(requests))]


def ask_login(
    target: Target,
    login: LoginSpec,
    *,
    headers: Sequence[Header] = (),
    timeout_s: float,
    budget_s: float,
    transport: TransportFactory | None = None,
) -> Asked | None:
    """Log in once, and ask for nothing; see :func:`ask_each`.

    Returns:
        what went wrong, with no error where nothing did; None where no time was left to wait for the answer.

    Raises:
        UsageError: the login cannot be made.
    """
    samples = run_phase(
        target,
        (replace(login.request, body=None),),  # a name for the error: it is not asked for
        _ONCE,
        headers=headers,
        request_timeout_s=timeout_s,
        deadline_s=budget_s,
        transport=transport,
        login=login,
        login_alone=True,
    )
    return None if samples.cut_short else _asked(samples, 0) or Asked()


def _asked(samples: PhaseSamples, path: int) -> Asked | None:
    """Read the outcome of one path; bytes behind its answer are an error, and count as the path's."""
    places = [place for place, of in enumerate(samples.path) if of == path]
    if not places:
        return None
    met = [samples.outcomes[samples.outcome[place]] for place in places]
    status = next((one.status for one in met if one.status is not None), None)
    error = next((one.error for one in met if one.error is not None), "")
    return Asked(
        status=status,
        answer=samples.seen[path].first.get(status) if status is not None else None,
        error=error,
        reason=samples.reasons.get((error, path), ""),
        took_ms=samples.service_s[places[0]] * 1e3,
    )
