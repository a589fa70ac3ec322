"""The noise of a board on Wi-Fi, as functions of the seed and the device's time. Pure.

Six effects, each with a random stream of its own so that none shifts another:

* the session: one factor per resource, drawn once;
* the boot: another one, drawn at each boot but the first;
* the wander: a factor that drifts between knots 20 s apart, so that runs differ;
* the jitter: a lognormal factor per request;
* Wi-Fi spells: short windows in which every answer is held up 30 to 150 ms;
* garbage collection, which the timing model derives from what handlers allocate.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pytest_espperf.sim.config import NoiseName

Resource = Literal["worker", "link"]

LINK_S = 0.0015
"""What the link adds to every answer, noise or not."""
KNOT_S = 20.0
SPELL_S = 0.04
SPIKE_S = (0.03, 0.15)


@dataclass(frozen=True)
class NoiseLevel:
    """Strength of each effect: sigmas of logarithms, and the share of time in Wi-Fi spells."""

    session_sigma: float
    run_sigma: float
    spell_share: float
    jitter_sigma: float
    link_sigma: float
    gc_pause_s: float
    boot_sigma: float


LEVELS: Mapping[NoiseName, NoiseLevel] = MappingProxyType(
    {
        "none": NoiseLevel(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        "low": NoiseLevel(0.005, 0.01, 0.005, 0.06, 0.3, 0.006, 0.0005),
        "medium": NoiseLevel(0.02, 0.025, 0.01, 0.10, 0.4, 0.006, 0.002),
        "high": NoiseLevel(0.05, 0.05, 0.02, 0.15, 0.5, 0.006, 0.004),
    }
)


class BoardNoise:
    """All random effects of one device.

    Args:
        seed: of all of them.
        name: of the level.
        boot_sigma: in place of the level's.
    """

    def __init__(self, seed: int, name: NoiseName, boot_sigma: float | None = None) -> None:
        level = LEVELS[name]
        self.level = level
        self._boot_sigma = level.boot_sigma if boot_sigma is None else boot_sigma
        self._boots = {r: stream(seed, f"boot/{r}") for r in ("worker", "link")}
        self._boot = dict.fromkeys(self._boots, 1.0)
        self._jitter = {r: stream(seed, f"jitter/{r}") for r in ("worker", "link")}
        self._session = {
            r: math.exp(level.session_sigma * stream(seed, f"session/{r}").gauss(0, 1))
            for r in ("worker", "link")
        }
        self._wander = {r: Wander(stream(seed, f"wander/{r}"), level.run_sigma) for r in ("worker", "link")}
        self._delay = stream(seed, "delay")
        self._spells = Spells(stream(seed, "spells"), level.spell_share)
        self._spikes = stream(seed, "spikes")
        self._errors = stream(seed, "errors")

    def service_factor(self, resource: Resource, now_s: float) -> float:
        """Draw the factor on one job's service time; its mean over all time and seeds is about 1."""
        sigma = self.level.jitter_sigma
        jitter = math.exp(sigma * self._jitter[resource].gauss(0, 1) - sigma * sigma / 2)
        return jitter * self._session[resource] * self._boot[resource] * self._wander[resource].factor(now_s)

    def boot(self) -> None:
        """Draw the factors that hold until the next boot."""
        self._boot = {r: math.exp(self._boot_sigma * drawn.gauss(0, 1)) for r, drawn in self._boots.items()}

    def link_delay_s(self, now_s: float) -> float:
        """Draw the seconds between the end of a job and its answer's arrival."""
        sigma = self.level.link_sigma
        delay_s = LINK_S * math.exp(sigma * self._delay.gauss(0, 1) - sigma * sigma / 2)
        if self._spells.hit(now_s):
            delay_s += self._spikes.uniform(*SPIKE_S)
        return delay_s

    def chance(self, probability: float) -> bool:
        """Draw whether an event of this probability happens."""
        return probability > 0 and self._errors.random() < probability


class Wander:
    """A factor ``exp(sigma * z(t))`` where z is normal at every time and smooth between knots."""

    def __init__(self, source: random.Random, sigma: float) -> None:
        self._source = source
        self._sigma = sigma
        self._knots: list[float] = []

    def factor(self, now_s: float) -> float:
        """Compute the factor at a time >= 0."""
        if self._sigma == 0:
            return 1.0
        index, weight = divmod(now_s / KNOT_S, 1.0)
        first = int(index)
        while len(self._knots) < first + 2:
            self._knots.append(self._source.gauss(0, 1))
        mixed = self._knots[first] * (1 - weight) + self._knots[first + 1] * weight
        return math.exp(self._sigma * mixed / math.hypot(1 - weight, weight))


class Spells:
    """Windows of trouble on the link, at random times, exponential in length and in distance."""

    def __init__(self, source: random.Random, share: float) -> None:
        self._source = source
        self._share = share
        self._starts: list[float] = []
        self._ends: list[float] = []

    def hit(self, now_s: float) -> bool:
        """Whether a time lies in such a window."""
        if self._share == 0:
            return False
        while not self._starts or self._starts[-1] <= now_s:
            previous = self._ends[-1] if self._ends else 0.0
            start = previous + self._source.expovariate(self._share / SPELL_S / (1 - self._share))
            self._starts.append(start)
            self._ends.append(start + self._source.expovariate(1 / SPELL_S))
        index = bisect_right(self._starts, now_s) - 1
        return index >= 0 and now_s < self._ends[index]


def stream(seed: int, purpose: str) -> random.Random:
    """Make a random stream for one purpose; it is the same on every platform and Python."""
    return random.Random(f"{seed}/{purpose}")  # noqa: S311 - noise, not a secret
