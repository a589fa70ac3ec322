"""The identity of a session: facts that make two sessions comparable, and those only recorded."""

from __future__ import annotations

import hashlib
import platform
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from pytest_espperf import __version__
from pytest_espperf.config.settings import SIM, Settings
from pytest_espperf.errors import UsageError
from pytest_espperf.model.address import split_host
from pytest_espperf.model.artifact import Comparability, SessionArtifact
from pytest_espperf.model.workload import Header, LoginSpec, PhaseSpec, Profile, RequestSpec
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
    fields: dict[str, Any] = {
        "paths": [
            request.label if request.weight == 1 else f"{request.label} x{request.weight}"
            for request in profile.requests
        ],
        "headers": _header_facts(profile.headers),
        "phases": {phase.name: _phase_fields(phase) for phase in profile.phases},
    }
    # Only what was not there before: a profile of plain paths stays comparable with its earlier sessions.
    requests = {spec.label: facts for spec in profile.requests if (facts := _request_facts(spec))}
    if requests:
        fields["requests"] = requests
    if profile.login is not None:
        fields["login"] = _login_facts(profile.login)
    return fields


def _header_facts(headers: Sequence[Header]) -> list[str]:
    return sorted(
        name.lower() if _CREDENTIAL.search(name) else f"{name.lower()}: {_compared(value)}"
        for name, value in headers
    )


def _request_facts(spec: RequestSpec) -> dict[str, Any]:
    """Return what is sent beside method and path; of the body a digest.

    What a right answer looks like is left out: another check shows in the errors.
    """
    facts: dict[str, Any] = {}
    if spec.headers:
        facts["headers"] = _header_facts(spec.headers)
    if spec.body is not None:
        facts["body_sha256"] = hashlib.sha256(spec.body).hexdigest()[:16]
        facts["body_bytes"] = len(spec.body)
    if spec.chunked:
        facts["chunked"] = True
    if spec.expect_continue:
        facts["expect_continue"] = True
    return facts


def _login_facts(login: LoginSpec) -> dict[str, Any]:
    """Return the shape of a login; of its body nothing: a digest of a short password would give it away."""
    spec = login.request
    facts: dict[str, Any] = {"request": spec.label}
    if spec.headers:
        facts["headers"] = sorted({name.lower() for name, _ in spec.headers})
    if login.take:
        facts["take"] = dict(sorted(login.take.items()))
    return facts


def _phase_fields(phase: PhaseSpec) -> dict[str, Any]:
    """Facts of a phase; what few phases have stands there of those alone, so that older keys hold."""
    fields: dict[str, Any] = {
        "clients": phase.clients,
        "duration_s": phase.duration_s,
        "rate_rps": phase.rate_rps,
    }
    if not phase.reuse:
        fields["reuse"] = False
    if not phase.tls_resumption:
        fields["tls_resumption"] = False
    if phase.think_time_s:
        fields["think_time_s"] = phase.think_time_s
    if phase.kind != "requests":
        fields["kind"] = phase.kind
    if phase.stream is not None:
        fields["path"] = phase.stream.path
    if phase.stream is not None and phase.kind == "websocket":
        fields |= {"size": phase.stream.size, "binary": phase.stream.binary}
        if message := phase.stream.message.encode():  # it may be a credential
            fields["message"] = {"sha256": hashlib.sha256(message).hexdigest()[:16], "bytes": len(message)}
    if phase.page is not None:
        fields["page"] = {
            "path": phase.page.path,
            "assets": list(phase.page.assets),
            "connections": phase.page.connections,
            "revalidate": phase.page.revalidate,
        }
    return fields


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


def clean_build_of(environment: Mapping[str, Any], commit: str) -> dict[str, Any]:
    """Describe the git state of a session that measured the build of a commit, not of the work tree."""
    return {**environment, "git_commit": commit, "git_dirty": False, "git_trouble": ""}
