"""The timing model: when an answer is due. Pure: time comes in as an argument, in device seconds.

One Python worker serves jobs first in, first out; static files share one link, also first in, first
out. A job starts at ``max(now, free)`` and ends a service time later, whatever the timers of the
process that plays the device do: an answer may leave a millisecond late, but the next job's times do
not inherit it, so capacity is exactly one over the mean service time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pytest_espperf.sim.catalog import RouteCost
from pytest_espperf.sim.config import SimConfig
from pytest_espperf.sim.images import FirmwareImage
from pytest_espperf.sim.noise import BoardNoise
from pytest_espperf.sim.values import error_rate_of, slowdown_of

LINK_BYTES_PER_S = 10_000_000.0
GC_THRESHOLD_BYTES = 192_000
QUEUE_TIMEOUT_S = 5.0
RESUMED_PART = 0.1
"""Part of a full TLS handshake that a resumed one takes: it has no signature to make."""

Fate = Literal["served", "queue-full", "timed-out"]


@dataclass(frozen=True)
class Ticket:
    """When an accepted request is answered, and how.

    ``start_s`` is when its service began (the arrival, where it was never served), ``due_s`` when
    the answer reaches the client.
    """

    fate: Fate
    start_s: float
    due_s: float


class TimingModel:
    """Worker, link and noise of one device.

    Args:
        config: its settings.
        image: the firmware that runs at first.
    """

    def __init__(self, config: SimConfig, image: FirmwareImage | None = None) -> None:
        self._config = config
        self.image = image or FirmwareImage()
        self._noise = _noise_of(config)
        self._worker_free_s = 0.0
        self._link_free_s = 0.0
        self._crypto_free_s = 0.0
        self._leaving_s: list[float] = []
        self.uncollected_bytes = 0
        self.collections = 0
        self.gc_pause_s = 0.0

    def reconfigure(self, config: SimConfig) -> None:
        """Take new settings; the noise starts anew only where its seed or strength changed."""
        before = self._config
        if (config.seed, config.noise, config.boot_noise) != (before.seed, before.noise, before.boot_noise):
            self._noise = _noise_of(config)
        self._config = config

    def restart(self, now_s: float, image: FirmwareImage | None = None) -> None:
        """Forget all jobs and garbage, as a boot does: into that image, or again into the same one."""
        self.image = image or self.image
        self._noise.boot()
        self._worker_free_s = self._link_free_s = self._crypto_free_s = now_s
        self._leaving_s.clear()
        self.uncollected_bytes = 0

    def depth(self, now_s: float) -> int:
        """Count the Python jobs that wait or are served."""
        self._leaving_s = [leaving for leaving in self._leaving_s if leaving > now_s]
        return len(self._leaving_s)

    def pressed(self, now_s: float) -> bool:
        """Whether the queue is so full that kept-alive connections are given up."""
        return self.depth(now_s) >= max(1, self._config.queue_limit - 1)

    def python_job(self, cost: RouteCost, now_s: float) -> Ticket:
        """Queue a request for the Python worker."""
        if self.depth(now_s) >= self._config.queue_limit:
            return Ticket("queue-full", now_s, now_s + self.link_delay_s(now_s))
        start_s = max(now_s, self._worker_free_s)
        if start_s - now_s > QUEUE_TIMEOUT_S:
            given_up_s = now_s + QUEUE_TIMEOUT_S
            self._leaving_s.append(given_up_s)
            return Ticket("timed-out", now_s, given_up_s + self.link_delay_s(given_up_s))
        service_s = (cost.service_s + self._collect(cost.alloc_bytes)) * self._factor(cost, "worker", start_s)
        done_s = self._worker_free_s = start_s + service_s
        self._leaving_s.append(done_s)
        return Ticket("served", start_s, done_s + self.link_delay_s(done_s))

    def transfer(self, cost: RouteCost, n_bytes: int, now_s: float) -> Ticket:
        """Queue a static answer or an upload of so many body bytes for the link."""
        start_s = max(now_s, self._link_free_s)
        service_s = (cost.service_s + n_bytes / LINK_BYTES_PER_S) * self._factor(cost, "link", start_s)
        done_s = self._link_free_s = start_s + service_s
        return Ticket("served", start_s, done_s + self.link_delay_s(done_s))

    def handshake(self, now_s: float, *, resumed: bool) -> float:
        """Queue a TLS handshake; return when the board's part of it is done."""
        took_s = self._config.handshake_s * (RESUMED_PART if resumed else 1.0)
        self._crypto_free_s = max(now_s, self._crypto_free_s) + took_s
        return self._crypto_free_s

    def link_delay_s(self, now_s: float) -> float:
        """Draw the seconds that the link adds to an answer that leaves now."""
        return self._noise.link_delay_s(now_s)

    def fails(self, cost: RouteCost) -> bool:
        """Draw whether this request is one of the route's configured errors."""
        own, also = (error_rate_of(of.error_rate, cost.path) for of in (self._config, self.image))
        return self._noise.chance(own + also - own * also)

    def _factor(self, cost: RouteCost, resource: Literal["worker", "link"], start_s: float) -> float:
        slowdown = math.prod(slowdown_of(of.slowdown, cost.path) for of in (self._config, self.image))
        return slowdown * self._noise.service_factor(resource, start_s)

    def _collect(self, alloc_bytes: int) -> float:
        """Allocate; return the pause in seconds where that made the heap due for a collection."""
        self.uncollected_bytes += alloc_bytes
        if self.uncollected_bytes < GC_THRESHOLD_BYTES:
            return 0.0
        self.uncollected_bytes = 0
        self.collections += 1
        pause_s = self._noise.level.gc_pause_s
        self.gc_pause_s += pause_s
        return pause_s


def _noise_of(config: SimConfig) -> BoardNoise:
    return BoardNoise(config.seed, config.noise, config.boot_noise)


class ScaledClock:
    """Device seconds: real seconds divided by the time scale, continuous when that changes.

    ``real`` is a monotonic clock in seconds. ``time.perf_counter`` is the default because an event
    loop's own clock ticks in steps of 16 ms on some platforms.
    """

    def __init__(self, scale: float, real: Callable[[], float] = time.perf_counter) -> None:
        self._real = real
        self._scale = scale
        self._base_real_s = real()
        self._base_s = 0.0

    def restart(self) -> None:
        """Make now the time 0."""
        self._base_s, self._base_real_s = 0.0, self._real()

    def now(self) -> float:
        """Read the device seconds since the device started."""
        return self._base_s + (self._real() - self._base_real_s) / self._scale

    def real_s(self, device_s: float) -> float:
        """Convert a duration of the device to real seconds."""
        return device_s * self._scale

    def real_until(self, at_s: float) -> float:
        """Compute the real seconds from now to a device time, 0 if it has passed."""
        return max(0.0, (at_s - self.now()) * self._scale)

    def rescale(self, scale: float) -> None:
        """Change the time scale from now on."""
        self._base_s, self._base_real_s = self.now(), self._real()
        self._scale = scale


class RateLimiter:
    """A token bucket: 200 requests/s, burst 400."""

    RATE_RPS = 200.0
    BURST = 400.0

    def __init__(self, now_s: float = 0.0) -> None:
        self._tokens = self.BURST
        self._at_s = now_s

    def allows(self, now_s: float) -> bool:
        """Take a token, if there is one."""
        self._tokens = min(self.BURST, self._tokens + max(0.0, now_s - self._at_s) * self.RATE_RPS)
        self._at_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
