"""What is asked of a board: requests, phases, profiles. Data only; shared by profiles and load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RequestSpec:
    """One GET of a profile, and what a right answer looks like.

    Attributes:
        path: request target, with its query; the key of ``path_metrics``.
        weight: how often it is taken per round of the rotation, >= 1.
        statuses: the statuses that count as ok; None means 2xx and 3xx.
        size_bytes: exact length of the decoded-transfer body, None for any.
        sha256: lower-case hex digest of the body, None for any.
        contains: bytes that must stand in the body, None for any.
    """

    path: str
    weight: int = 1
    statuses: frozenset[int] | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    contains: bytes | None = None


@dataclass(frozen=True)
class PhaseSpec:
    """One load shape.

    Attributes:
        name: ``burst``, ``long`` or a name of the profile's own.
        clients: closed loop: concurrent clients; open loop: most connections at once.
        duration_s: seconds during which requests are started.
        rate_rps: None for a closed loop, else the fixed rate of intended starts.
    """

    name: str
    clients: int
    duration_s: float
    rate_rps: float | None = None


@dataclass(frozen=True)
class Profile:
    """A named set of GET paths with its phases, headers and limits.

    ``limits`` overrides absolute budgets by option name without the ``perf_`` prefix
    (``max_p95_ms``); ``source`` says where the profile was defined.
    """

    name: str
    requests: tuple[RequestSpec, ...]
    phases: tuple[PhaseSpec, ...]
    headers: tuple[tuple[str, str], ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    source: str = "built-in"


@dataclass(frozen=True)
class Target:
    """Where requests go. ``address`` is what is connected to, ``host_header`` what is sent.

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
        """``scheme://address:port``, IPv6 addresses in brackets."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{host}:{self.port}"
