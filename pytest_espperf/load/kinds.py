"""The kinds of phases whose samples are no requests, and what each needs: streams that stay open."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_espperf.errors import UsageError
from pytest_espperf.load.connector import Connector
from pytest_espperf.load.doors import Doors
from pytest_espperf.load.events import ASKING, EventTraffic
from pytest_espperf.load.feed import Feed
from pytest_espperf.load.guard import SelfWatch
from pytest_espperf.load.login import Login
from pytest_espperf.load.recorder import Recorder
from pytest_espperf.load.requests import PreparedRequest, RequestMaker
from pytest_espperf.load.streams import StreamSetup
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


def stream_request(
    target: Target, phase: PhaseSpec, headers: Sequence[Header]
) -> tuple[RequestMaker, RequestSpec]:
    """Describe the request that opens a phase's streams, and what makes it.

    Raises:
        UsageError: a package is missing.
    """
    if why := what_is_missing(phase):
        raise UsageError(f"phase {phase.name!r} of kind {phase.kind!r} {why}")
    assert phase.stream is not None
    is_websocket = phase.kind == WEBSOCKET
    spec = RequestSpec(phase.stream.path, statuses=frozenset({_SWITCHED if is_websocket else _OK}))
    merged = merge_headers(headers, _UPGRADE) if is_websocket else merge_headers(ASKING, headers)
    return RequestMaker(target, merged, own_connection=not is_websocket), spec


def stream_traffic(
    phase: PhaseSpec,
    *,
    feed: Feed,
    recorder: Recorder,
    connector: Connector,
    timeout_s: float,
    watch: SelfWatch,
    request: PreparedRequest,
    login: Login | None = None,
) -> EventTraffic | WebSocketTraffic:
    """Make the clients of a phase of streams; ``request`` opens one, behind the ``login`` of each."""
    setup = StreamSetup(
        clients=phase.clients,
        feed=feed,
        recorder=recorder,
        connector=connector,
        timeout_s=timeout_s,
        request=request,
        doors=None if login is None else Doors(phase, login, connector=connector, timeout_s=timeout_s),
    )
    if phase.kind == EVENTS:
        return EventTraffic(setup)
    from pytest_espperf.load.websocket import WebSocketTraffic  # noqa: PLC0415 - an extra

    assert phase.stream is not None
    return WebSocketTraffic(setup, watch=watch, stream=phase.stream)
