"""Load: one phase of traffic, from requests to samples.

``requests``, ``login``, ``body_check``, ``feed``, ``wire``, ``chunked`` and ``outcomes`` are pure. ``engine``
drives a phase, or several at once, whose time ``conductor`` keeps; its clients are ``lanes`` or browsers that
load ``pages``, over ``opening``, ``connection`` and ``stamped``, or ``custom`` over a user's own httpx
transport. Phases of other ``kinds`` have clients of ``streams``: ``websocket`` (with the pure ``echoes``) and
``events`` (with ``sse``), each over a ``channel``, whose logins are ``doors``. ``guard`` and ``processor``
watch the generator. ``asking`` asks for each path once, or logs in once; ``talk`` is a client for checks,
``delayed_ack`` one that delays acknowledgements as most clients do.
"""

from __future__ import annotations

from pytest_espperf.load.asking import Asked, ask_each, ask_login
from pytest_espperf.load.conductor import Progress
from pytest_espperf.load.custom import TransportFactory
from pytest_espperf.load.delayed_ack import DelayedAcks, find_delayed_acks
from pytest_espperf.load.engine import Job, run_phase, run_together
from pytest_espperf.load.guard import ENGINE_VERSION
from pytest_espperf.load.kinds import what_is_missing
from pytest_espperf.load.outcomes import classify

__all__ = [
    "ENGINE_VERSION",
    "Asked",
    "DelayedAcks",
    "Job",
    "Progress",
    "TransportFactory",
    "ask_each",
    "ask_login",
    "classify",
    "find_delayed_acks",
    "run_phase",
    "run_together",
    "what_is_missing",
]
