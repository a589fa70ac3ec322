"""The identity of a session: facts that make two sessions comparable, and those only recorded."""

from __future__ import annotations

import hashlib
import platform
import re
import socket
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from pytest_espperf import __version__
from pytest_espperf.config.settings import SIM, Settings
from pytest_espperf.errors import UsageError
from pytest_espperf.model.address import split_host
from pytest_espperf.model.artifact import Comparability, SessionArtifact
from pytest_espperf.model.workload import PhaseSpec, Profile
from pytest_espperf.session.plan import SCHEDULE_VERSION, SessionPlan
from pytest_espperf.session.repository import describe_repository
from pytest_espperf.system.redaction import hidden, redact

_CREDENTIAL = re.compile(r"auth|cookie|key|token|secret|passw|session", re.IGNORECASE)


def asked_for(settings: Settings) -> tuple[str, int] | None:
    """Return host and port of the board that the options name, ``sim`` and 0 for the reference device."""
    if settings.device in {"", SIM}:
        return (SIM, 0) if settings.device else None
    host, port = split_host(settings.device)
    return host, port or settings.device_port


def address_of(settings: Settings) -> tuple[str, int] | None:
    """Return host and port as :func:`asked_for` does, if no more than one port is given.

    Raises:
        UsageError: two ports are given.
    """
    asked = asked_for(settings)
    explicit = "device_port" in settings.sources
    if asked is not None and asked[0] != SIM and explicit and asked[1] != settings.device_port:
        raise UsageError(
            f"{settings.where('device_ip')} says port {asked[1]} and "
            f"{settings.where('device_port')} says {settings.device_port}: give one of them"
        )
    return asked


def board_name(host: str, port: int, settings: Settings) -> str:
    """Name a board as people do: host:port as given."""
    if host != SIM:
        return f"{host}:{port}"
    # Its port is another one each time; its pace is what makes it the same board.
    return SIM if settings.sim_time_scale == 1 else f"{SIM} x{settings.sim_time_scale:g}"


def identity_of(session: SessionArtifact) -> str:
    """Return the identity of the board that a session measured; "" where it reached none."""
    fields = session.comparability.fields if session.comparability is not None else {}
    return str(fields.get("board") or "")


def make_comparability(
    plan: SessionPlan, *, board: str, scheme: str, engine: str, device_headers: tuple[tuple[str, str], ...]
) -> Comparability:
    """Make the comparability key and its fields.

    Firmware version and git commit are not in it: they are what is compared. Of ``--device-header``
    only the names are, never a value.

    Args:
        plan: what is driven.
        board: the board's identity.
        scheme: ``http`` or ``https``.
        engine: label of the load engine, event loop included.
        device_headers: of every request.
    """
    fields: dict[str, Any] = {
        "board": board,
        "scheme": scheme,
        "engine": engine,
        "schedule_version": SCHEDULE_VERSION,
        "runs": plan.runs,
        "warmup_s": plan.warmup_s,
        "headers": sorted(name.lower() for name, _ in device_headers),
        "profiles": {profile.name: _profile_fields(profile) for profile in plan.profiles},
    }
    return _keyed(fields)


def with_engine(comparability: Comparability, engine: str) -> Comparability:
    """Return the facts of a session that is yet to be measured, by an engine of this label."""
    return _keyed({**comparability.fields, "engine": engine})


def _keyed(fields: dict[str, Any]) -> Comparability:
    digest = hashlib.sha256(msgspec.json.encode(fields, order="deterministic")).hexdigest()
    return Comparability(key=digest[:16], fields=fields)


def _profile_fields(profile: Profile) -> dict[str, Any]:
    return {
        "paths": [
            request.path if request.weight == 1 else f"{request.path} x{request.weight}"
            for request in profile.requests
        ],
        "headers": sorted(
            name.lower() if _CREDENTIAL.search(name) else f"{name.lower()}: {_compared(value)}"
            for name, value in profile.headers
        ),
        "phases": {
            phase.name: {
                "clients": phase.clients,
                "duration_s": phase.duration_s,
                "rate_rps": phase.rate_rps,
                **_stream_fields(phase),
            }
            for phase in profile.phases
        },
    }


def _stream_fields(phase: PhaseSpec) -> dict[str, Any]:
    """Return what a phase of streams adds; nothing for any other, whose key is that of older versions."""
    stream = phase.stream
    if stream is None:
        return {}
    facts: dict[str, Any] = {"kind": phase.kind, "path": stream.path}
    if phase.kind == "websocket":
        facts |= {"message": stream.message, "size": stream.size, "binary": stream.binary}
    return facts


def _compared(value: str) -> str:
    """Return a header's value as it is kept: of a credential a digest, which can be compared."""
    return value if redact(value, {}) == value else hidden(value)


def describe_environment(root: Path, history: Path | None = None) -> dict[str, Any]:
    """Describe host, Python, package versions and the repository; recorded, never compared.

    Args:
        root: the project's root directory.
        history: the folder of its sessions, which are no change of the repository.
    """
    repository = describe_repository(root, apart=history)
    packages = {}
    for name in ("pytest", "pytest-timeout", "httpx", "httptools", "uvloop", "winloop", "msgspec"):
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "pytest_espperf": __version__,
        "packages": packages,
        "git_commit": repository.commit,
        "git_dirty": repository.dirty,
        "git_trouble": repository.trouble,
    }
