"""The load on a board: requests, phases, profiles. Data only; shared by profiles and load."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_espperf.model.figures import (
    COUNTERS,
    KNOWN,
    at_path,
    named_value,
)

DEFAULT_PORTS = {"http": 80, "https": 443}
"""The port of each scheme that a ``Host`` header leaves out."""

Header = tuple[str, str]

PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""``{token}`` in a header or a path: a value that the login takes."""


@dataclass(frozen=True)
class RequestSpec:
    """One request of a profile, and what a right answer looks like.

    Attributes:
        path: request target, with its query.
        weight: how often it is taken per round of the rotation, >= 1.
        statuses: the statuses that count as ok; None means 2xx and 3xx.
        size_bytes: exact length of the decoded-transfer body, None for any.
        sha256: lower-case hex digest of the body, None for any.
        contains: bytes that must stand in the body, None for any.
        json_contains: JSON text of what the decoded body must contain, None for any: each key of an object
            with its value, at any depth; lists and other values are compared whole.
        method: in upper case.
        headers: of this request; they override the profile's.
        body: the bytes that are sent, None for no body.
        chunked: whether the body is sent in chunks, without its length.
        expect_continue: whether ``Expect: 100-continue`` is sent, and the body only once the board agrees.
        limits: absolute budgets of this path, by the names of a profile's.
    """

    path: str
    weight: int = 1
    statuses: frozenset[int] | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    contains: bytes | None = None
    json_contains: str | None = None
    method: str = "GET"
    headers: tuple[Header, ...] = ()
    body: bytes | None = None
    chunked: bool = False
    expect_continue: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name of the request, the key of ``path_metrics``: ``/item``, but ``POST /item``."""
        return self.path if self.method == "GET" else f"{self.method} {self.path}"


@dataclass(frozen=True)
class LoginSpec:
    """What each client asks for once, before it is measured.

    Attributes:
        request: it must be answered as it should.
        take: name -> where its value is in the answer: ``json:a.b``, ``header:X-Token``,
            ``cookie:sid``. ``{name}`` stands for it in headers and paths of the profile's requests. Cookies
            are kept without being named.
    """

    request: RequestSpec
    take: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PageSpec:
    """A page and its assets, which a browser asks for together.

    Attributes:
        path: of the page.
        assets: paths that are asked for once the page has come.
        connections: that a client opens at most.
        revalidate: whether later visits ask whether the assets have changed (``If-None-Match``,
            ``If-Modified-Since``), so that 304 is a right answer.
    """

    path: str
    assets: tuple[str, ...]
    connections: int = 6
    revalidate: bool = False


NUMBER = "{n}"
"""In a WebSocket message: where its number goes."""

DIGITS = 10
"""Of such a number."""


@dataclass(frozen=True)
class StreamSpec:
    """What is sent and awaited in a phase of WebSocket messages or of server-sent events.

    Attributes:
        path: request target.
        message: WebSocket: what is sent, padded to ``size`` bytes; with its number in the place of ``{n}``.
            "" for a number and padding.
        size: bytes of a message, 0 for the length of ``message``.
        binary: WebSocket: whether messages are binary.
    """

    path: str
    message: str = ""
    size: int = 0
    binary: bool = False


PhaseKind = Literal["requests", "page", "websocket", "events"]


@dataclass(frozen=True)
class PhaseSpec:
    """One shape of load.

    Attributes:
        name: ``burst``, ``long`` or a name of the profile's own.
        clients: closed loop: concurrent clients; open loop: most connections at once.
        duration_s: seconds during which requests are started.
        rate_rps: None for a closed loop, else the fixed rate of intended starts.
        kind: what a sample is: a request, a page with its assets, a round trip, an event.
        reuse: whether a connection serves more than one request.
        tls_resumption: without ``reuse``, under https: whether a handshake may take up an earlier session.
        think_time_s: closed loop: pause of a client between an answer and its next request.
        page: of the kind ``page``.
        stream: of the kinds ``websocket`` and ``events``.
    """

    name: str
    clients: int
    duration_s: float
    rate_rps: float | None = None
    kind: PhaseKind = "requests"
    reuse: bool = True
    tls_resumption: bool = True
    think_time_s: float = 0.0
    page: PageSpec | None = None
    stream: StreamSpec | None = None

    @property
    def own_paths(self) -> tuple[str, ...]:
        """Paths that it asks for by plain requests instead of the profile's."""
        return () if self.page is None else (self.page.path, *self.page.assets)

    @property
    def has_own_paths(self) -> bool:
        """Whether it says itself what it asks for, so that its profile may have no paths."""
        return self.page is not None or self.stream is not None

    @property
    def most_connections(self) -> int:
        """Connections that its clients hold at once, at most."""
        each = 1 if self.page is None else min(self.page.connections, max(1, len(self.page.assets)))
        return self.clients * each


@dataclass(frozen=True)
class RatioSpec:
    """Budgets of a profile against another one of the same session.

    Attributes:
        to: the other profile.
        limits: metric -> factor: at most so many times its figure; at least, where more is better.
    """

    to: str
    limits: Mapping[str, float]


@dataclass(frozen=True)
class Profile:
    """A named set of requests with its phases, headers and limits.

    ``ratios`` are budgets against other profiles. ``login`` is what each client asks for first. ``limits``
    overrides absolute budgets by option name without the ``perf_`` prefix (``max_p95_ms``); ``source`` says
    where the profile was defined.
    """

    name: str
    requests: tuple[RequestSpec, ...]
    phases: tuple[PhaseSpec, ...]
    headers: tuple[tuple[str, str], ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    source: str = "built-in"
    login: LoginSpec | None = None
    ratios: tuple[RatioSpec, ...] = ()

    def requests_of(self, phase: PhaseSpec) -> tuple[RequestSpec, ...]:
        """Return the requests of a phase; a page's are the page, then its assets.

        What a right answer to one of those looks like is what the profile's own paths say of it.
        """
        if not phase.own_paths:
            return self.requests
        known = {request.path: request for request in self.requests if request.method == "GET"}
        return tuple(known.get(path) or RequestSpec(path) for path in phase.own_paths)

    @property
    def asked(self) -> tuple[RequestSpec, ...]:
        """Every request that its phases make; those for its paths where it has no phases yet."""
        found = [] if self.phases else list(self.requests)
        for phase in self.phases:
            found += [one for one in self.requests_of(phase) if one not in found]
        return tuple(found)


@dataclass(frozen=True)
class Target:
    """Where requests go. ``address`` is numeric; ``host_header`` is the value of that header.

    ``ca_file`` None means the system's trust store; ``insecure`` switches verification off. ``tls_name`` is
    what a certificate must be for, "" for the address: the name that the board was asked for by.
    """

    scheme: str
    address: str
    port: int
    host_header: str
    headers: tuple[tuple[str, str], ...] = ()
    ca_file: str | None = None
    insecure: bool = False
    tls_name: str = ""

    @property
    def origin(self) -> str:
        """URL ``scheme://address:port``, IPv6 addresses in brackets."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{host}:{self.port}"

    def own_headers(self) -> tuple[Header, ...]:
        """Return the headers of every request to this target, in the order in which a browser sends them."""
        return (("Host", self.host_header), *_COMMON_HEADERS)


_COMMON_HEADERS: tuple[Header, ...] = (
    ("Accept", "*/*"),
    ("Accept-Encoding", "identity"),
    ("User-Agent", "pytest-espperf"),
)


def merge_headers(*groups: Sequence[Header]) -> list[Header]:
    """Headers of all groups; a later group replaces the same names (in any case) of earlier ones.

    Names may repeat within one group (two ``Cookie`` lines).
    """
    merged: list[Header] = []
    for group in groups:
        names = {name.lower() for name, _ in group}
        merged = [pair for pair in merged if pair[0].lower() not in names] + list(group)
    return merged


@dataclass(frozen=True)
class Gauge:
    """A number of a board's telemetry that is a figure of the session.

    Attributes:
        name: of the figure.
        path: dotted path to it in the board's JSON, or a name at any depth.
        unit: "" for none.
        better: which direction is better.
    """

    name: str
    path: str
    unit: str = ""
    better: Literal["lower", "higher"] = "lower"


@dataclass(frozen=True)
class TelemetrySpec:
    """Paths of a board's telemetry, and its own names of figures.

    Attributes:
        stats: path of its counters, "" where it has none.
        memory: path of its heap figures, "" where it has none; may be the same.
        reset: query that zeroes the counters before they are read, "" where there is none.
        keys: our name of a figure -> dotted path to it in the board's JSON.
        counters: the board's own counters to be shown where they moved, besides those of
            :data:`pytest_espperf.model.figures.COUNTERS`; names or dotted paths.
        gauges: numbers that are figures of the session.
    """

    stats: str = "/debug/server-stats"
    memory: str = "/debug/memory-stats"
    reset: str = "reset=1"
    keys: Mapping[str, str] = field(default_factory=dict)
    counters: tuple[str, ...] = ()
    gauges: tuple[Gauge, ...] = ()

    @property
    def counter_names(self) -> tuple[str, ...]:
        """Names of all counters that are watched."""
        return (*COUNTERS, *self.counters)

    def known(self, decoded: dict[str, Any]) -> dict[str, Any]:
        """Add to a reading the board's own figures by our names; every key of the board is kept."""
        values = {name: at_path(decoded, path) for name, path in self.keys.items()}
        values |= {name: named_value(decoded, name) for name in self.counters}
        found = {name: value for name, value in values.items() if value is not None}
        return {**decoded, KNOWN: found} if found else decoded
