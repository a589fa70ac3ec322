"""Observations of one phase of load. Data only: made by load, summarised by metrics.

A sample costs 14 bytes (18 in an open loop), so ten minutes at 5,000 requests/s fit in 42 MB (54 MB).
Offsets and durations are 32-bit floats of seconds: 0.06 ppm of the value, 36 us at ten minutes.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from pytest_espperf.model.workload import PhaseKind


@dataclass(frozen=True)
class Outcome:
    """End of a request: a status, and/or the kind of error it counts as (None: ok).

    ``error`` is an httpx exception name (``ReadTimeout``), ``http_503`` for an unwanted status,
    ``body_size``, ``body_sha256``, ``body_contains``, ``body_json`` for a wrong body, ``login`` for one that
    was not sent, or ``local_EMFILE`` for what this computer lacks.
    """

    status: int | None
    error: str | None


@dataclass(frozen=True)
class GeneratorHealth:
    """Signs that the load generator itself was the limit.

    Attributes:
        cpu_share: CPU seconds of this process per second of the phase, 1.0 = one core.
        lag_p99_ms: 99th percentile of how late the event loop ran its timers.
        turnaround_ms: mean time from an answer's arrival to the same client's next request on that
            connection: the generator's part of a closed loop's cycle. None where there was no such request.
        bound: True when the generator, not the board, set the pace: such a phase gates nothing.
        engine: name and version of the engine (``asyncio+httptools+kernel+quickack/2``).
        waited_share: share of the phase in which its thread was ready to run and had no processor; None where
            the system does not report it (all but Linux).
        lost_share: share of the clients' time that a closed loop lost by that: what its throughput is too low
            by. None where it is not known.
        stopped_s: seconds for which it stood still: stopped, suspended, or without a processor for half a
            second and more at a time.
    """

    cpu_share: float
    lag_p99_ms: float | None
    turnaround_ms: float | None
    bound: bool
    engine: str
    waited_share: float | None = None
    lost_share: float | None = None
    stopped_s: float = 0.0


@dataclass(frozen=True)
class FirstAnswer:
    """The first answer of one status to one path; content type and coding are "" where it names none."""

    body_bytes: int
    content_type: str
    encoding: str


@dataclass
class PathSeen:
    """Properties of the answers to one path, warm-up included.

    Attributes:
        sizes: length of the body in bytes -> how many right answers had it; of at most 1,000 lengths.
        first: the first answer of each status.
    """

    sizes: dict[int, int] = field(default_factory=dict)
    first: dict[int, FirstAnswer] = field(default_factory=dict)


@dataclass
class PhaseSamples:
    """The samples of one phase, as parallel arrays in order of completion per client.

    Attributes:
        paths: the labels of the requests; ``path`` indexes into it.
        outcomes: the distinct outcomes; ``outcome`` indexes into it (at most 255).
        start_s: 'f', actual start of each request, seconds since the phase began.
        lag_s: 'f', actual minus intended start; empty in a closed loop.
        service_s: 'f', actual start to last body byte (or to the error).
        ttfb_s: 'f', actual start to first response byte, NaN where none came.
        path, outcome: 'B', indices.
        elapsed_s: what rates are computed over. From the phase's start to the end of its last request; in a
            closed loop after a warm-up to its last start, as requests are in flight at either border then.
        opening_s: 'f', without ``reuse``: what opening the request's connection took; empty otherwise.
        connect_s: 'f', one per opened connection (TCP, and TLS where used).
        handshake_s: 'f', the part of each of those that TLS took; empty without TLS.
        resumed: those of the handshakes that took up an earlier session.
        stale_retries: requests sent again because a kept-alive connection had died unanswered.
        dropped_starts: open loop: intended starts that could not be made.
        cut_short: why the phase ended before its duration, "" where it did not.
        never_answered: closed loop: clients that asked and never got an answer, of any status.
        warm_answers: answers of any status within the phase to requests of its warm-up: offset of their end,
            service time (seconds), and their path's index.
        reasons: (error kind, path's index) -> the first error of that kind in words.
        seen: what the answers looked like, in the order of the paths.
        sent_bytes: length of the body that is sent to each path; empty where none sends any.
        figures: what only this kind of phase has, by the name of its metric.
        parts: of pages: the requests for their assets, which are no requests of the phase.
        kind: what a sample is: a request, a page, a round trip, an event.
    """

    paths: tuple[str, ...]
    clients: int
    duration_s: float
    rate_rps: float | None = None
    think_time_s: float = 0.0
    reuse: bool = True
    outcomes: list[Outcome] = field(default_factory=list)
    start_s: array[float] = field(default_factory=lambda: array("f"))
    lag_s: array[float] = field(default_factory=lambda: array("f"))
    service_s: array[float] = field(default_factory=lambda: array("f"))
    ttfb_s: array[float] = field(default_factory=lambda: array("f"))
    path: array[int] = field(default_factory=lambda: array("B"))
    outcome: array[int] = field(default_factory=lambda: array("B"))
    elapsed_s: float = 0.0
    opening_s: array[float] = field(default_factory=lambda: array("f"))
    connect_s: array[float] = field(default_factory=lambda: array("f"))
    handshake_s: array[float] = field(default_factory=lambda: array("f"))
    resumed: int = 0
    stale_retries: int = 0
    dropped_starts: int = 0
    generator: GeneratorHealth | None = None
    cut_short: str = ""
    never_answered: int = 0
    warm_answers: list[tuple[float, float, int]] = field(default_factory=list)
    reasons: dict[tuple[str, int], str] = field(default_factory=dict)
    seen: list[PathSeen] = field(default_factory=list)
    sent_bytes: tuple[int, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    parts: PhaseSamples | None = None
    kind: PhaseKind = "requests"

    def __len__(self) -> int:
        return len(self.service_s)
