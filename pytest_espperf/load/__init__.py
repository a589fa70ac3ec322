"""Load: one phase of traffic, from requests to samples.

``schedule``, ``feed``, ``plans``, ``wire``, ``chunked`` and ``outcomes`` are pure; ``connection``,
``stamped`` and ``lanes`` are the engine; ``custom`` drives a user's own httpx transport instead;
``transport`` is our connection as one. ``asking`` asks for each path once; ``talk`` is one client for checks,
``delayed_ack`` one of the kind that others have.
"""

from __future__ import annotations

from pytest_espperf.load.asking import Asked, ask_each
from pytest_espperf.load.custom import TransportFactory
from pytest_espperf.load.delayed_ack import DelayedAcks, find_delayed_acks
from pytest_espperf.load.engine import Progress, run_phase
from pytest_espperf.load.guard import ENGINE_VERSION
from pytest_espperf.load.outcomes import classify

__all__ = [
    "ENGINE_VERSION",
    "Asked",
    "DelayedAcks",
    "Progress",
    "TransportFactory",
    "ask_each",
    "classify",
    "find_delayed_acks",
    "run_phase",
]
