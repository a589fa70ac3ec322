"""What the reference device serves under load and what each request costs it. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

STATIC_PROFILE = "c_static_only"
UPLOAD_PROFILE = "uploads"
STATIC_BYTES = 410_000
WEBSOCKET_PATH, EVENTS_PATH = "/ws", "/events"
STREAMS = "streams"
ALL = "all"


@dataclass(frozen=True)
class RouteCost:
    """The mean cost of one request, message or event at time scale 1 without noise.

    Attributes:
        path: the route, without query.
        profile: the built-in profile that measures it, or another group of routes.
        service_s: time on the Python worker; of a static file or an upload the fixed part of its transfer.
        alloc_bytes: what its handler allocates on the garbage-collected heap.
    """

    path: str
    profile: str
    service_s: float
    alloc_bytes: int

    @property
    def is_static(self) -> bool:
        """Whether it is sent by the C side, past the Python worker."""
        return self.profile == STATIC_PROFILE

    @property
    def is_upload(self) -> bool:
        """Whether its body is taken in by the C side, past the Python worker."""
        return self.profile == UPLOAD_PROFILE


_COSTS = (
    RouteCost("/hello", "python_light", 0.0032, 3_600),
    RouteCost("/api/ping", "python_light", 0.0030, 3_400),
    RouteCost("/deps", "python_light", 0.0038, 4_200),
    RouteCost("/query-typed", "python_light", 0.0048, 4_800),
    RouteCost("/template", "python_heavy", 0.011, 8_000),
    RouteCost("/template-compat", "python_heavy", 0.016, 10_400),
    RouteCost("/file", STATIC_PROFILE, 0.002, 0),
    RouteCost("/static/large.txt", STATIC_PROFILE, 0.002, 0),
    # Routes that take a body, and those behind the login: which hashes a password, and is slow.
    RouteCost("/echo", "requests", 0.0042, 5_200),
    RouteCost("/item", "requests", 0.0055, 6_000),
    RouteCost("/form", "requests", 0.0050, 5_600),
    RouteCost("/login", "requests", 0.020, 9_000),
    RouteCost("/cart", "requests", 0.0045, 4_800),
    RouteCost("/state", "requests", 0.0034, 3_800),
    RouteCost("/upload", UPLOAD_PROFILE, 0.003, 0),
    RouteCost(WEBSOCKET_PATH, STREAMS, 0.002, 600),
    RouteCost(EVENTS_PATH, STREAMS, 0.0008, 400),
)

COSTS: Mapping[str, RouteCost] = MappingProxyType({cost.path: cost for cost in _COSTS})
PROFILES: tuple[str, ...] = tuple(dict.fromkeys(cost.profile for cost in _COSTS))
TARGETS: tuple[str, ...] = (ALL, *PROFILES, *COSTS)
"""What a slowdown or an error rate may name."""
