"""From what a profile asks for to requests that are ready to be sent. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import httpx

from pytest_espperf.errors import UsageError
from pytest_espperf.load.outcomes import OutcomeTable, Plan
from pytest_espperf.load.wire import request_bytes
from pytest_espperf.workload import Header, RequestSpec, Target, merge_headers

MOST_PATHS = 255
"""Paths are indexed by a byte in the samples."""

_OF_OUR_CONNECTION: tuple[Header, ...] = (("Connection", "keep-alive"),)


def make_plans(
    target: Target,
    requests: Sequence[RequestSpec],
    headers: Sequence[Header],
    table: OutcomeTable,
    *,
    own_connection: bool,
) -> list[Plan]:
    """A plan per path.

    Args:
        target: the board.
        requests: the paths.
        headers: the profile's headers; they override ``target.headers``, which override ours.
        table: where the outcomes of the phase are entered.
        own_connection: False where a transport of the user's frames the requests: it may speak HTTP/2,
            which has no ``Connection`` header.

    Raises:
        UsageError: too few or too many paths, or a request that cannot be made.
    """
    if not requests or len(requests) > MOST_PATHS:
        raise UsageError(f"a profile has 1 to {MOST_PATHS} requests, not {len(requests)}")
    ours = (*target.own_headers(), *(_OF_OUR_CONNECTION if own_connection else ()))
    merged = merge_headers(ours, target.headers, tuple(headers))
    origin = replace(target, address=target.address.partition("%")[0]).origin  # a URL has no IPv6 zone
    plans: list[Plan] = []
    for index, spec in enumerate(requests):
        try:
            request = httpx.Request("GET", f"{origin}{spec.path}", headers=merged)
            wire = request_bytes(request)
        except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeEncodeError) as exc:
            raise UsageError(f"the request for {spec.path!r} cannot be made: {exc}") from None
        plans.append(Plan(index, spec, request, wire, table))
    return plans
