"""The kinds of phases whose samples are no requests, and what each needs: streams that stay open."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_espperf.errors import UsageError
from pytest_espperf.load.connection import Connector
from pytest_espperf.load.events import ASKING, EventTraffic
from pytest_espperf.load.feed import Feed
from pytest_espperf.load.guard import SelfWatch
from pytest_espperf.load.outcomes import OutcomeTable
from pytest_espperf.load.recorder import Recorder
from pytest_espperf.load.requests import PreparedRequest, prepare_requests
from pytest_espperf.model.workload import Header, PhaseSpec, RequestSpec, Target, merge_headers

if TYPE_CHECKING:
    from pytest_espperf.load.websocket import WebSocketTraffic

WEBSOCKET, EVENTS = "websocket", "events"
STREAMS = frozenset({WEBSOCKET, EVENTS})

_SWITCHED, _OK = 101, 200
_UPGRADE: tuple[Header, ...] = (
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
)
"""Headers of the request that opens a WebSocket, besides its key (RFC 6455 4.1)."""


def what_is_missing(phase: PhaseSpec) -> str:
    """Say what a phase needs that is not installed; "" where nothing is missing."""
    if phase.kind == WEBSOCKET and importlib.util.find_spec("websockets") is None:
        return "needs the package websockets, which is not installed: pip install 'pytest-espperf[websocket]'"
    return ""


def prepare_stream(
    target: Target, phase: PhaseSpec, headers: Sequence[Header], table: OutcomeTable
) -> PreparedRequest:
    """Prepare the request that opens a phase's streams.

    Raises:
        UsageError: it cannot be made, or a package is missing.
    """
    if why := what_is_missing(phase):
        raise UsageError(f"phase {phase.name!r} of kind {phase.kind!r} {why}")
    assert phase.stream is not None
    is_websocket = phase.kind == WEBSOCKET
    spec = RequestSpec(phase.stream.path, statuses=frozenset({_SWITCHED if is_websocket else _OK}))
    merged = merge_headers(headers, _UPGRADE) if is_websocket else merge_headers(ASKING, headers)
    (prepared,) = prepare_requests(target, (spec,), merged, table, own_connection=not is_websocket)
    return prepared


def stream_traffic(
    phase: PhaseSpec,
    *,
    feed: Feed,
    recorder: Recorder,
    connector: Connector,
    timeout_s: float,
    watch: SelfWatch,
    request: PreparedRequest,
) -> EventTraffic | WebSocketTraffic:
    """Make the clients of a phase of streams; ``request`` opens one."""
    if phase.kind == EVENTS:
        return EventTraffic(
            clients=phase.clients,
            feed=feed,
            recorder=recorder,
            connector=connector,
            timeout_s=timeout_s,
            request=request,
        )
    from pytest_espperf.load.websocket import WebSocketTraffic  # noqa: PLC0415 - an extra

    assert phase.stream is not None
    return WebSocketTraffic(
        clients=phase.clients,
        feed=feed,
        recorder=recorder,
        connector=connector,
        timeout_s=timeout_s,
        watch=watch,
        request=request,
        stream=phase.stream,
    )
