"""Profiles: the built-in ones, their aliases, a project's own from TOML, and the presets' schedules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_espperf.config.parsers import header, number, url_path, whole
from pytest_espperf.config.tables import check_keys, checked, read_tables
from pytest_espperf.errors import UsageError
from pytest_espperf.model.workload import PhaseSpec, Profile, RequestSpec

_QUERY = "/query-typed?q=abc&page=2&ratio=1.5&active=true"
_COMPAT = "/template-compat?name=Ana&count=2&role=user&roles=user,viewer&items=a,b,c"

BUILT_IN: Mapping[str, tuple[str, ...]] = {
    "c_static_only": ("/file", "/static/large.txt"),
    "python_light": ("/hello", "/api/ping", "/deps", _QUERY),
    "python_heavy": ("/template", _COMPAT),
    # Names of older versions of the original tool, still in use.
    "api": ("/hello", "/api/ping", _QUERY, "/deps", "/template"),
    "mixed": ("/hello", "/api/ping", _QUERY, "/deps", "/template", "/file"),
    "static": ("/file", "/template"),
}

LIMITS: Mapping[str, str] = {
    "max_error_rate": "perf_max_error_rate",
    "max_transport_error_rate": "perf_max_transport_error_rate",
    "max_status_error_rate": "perf_max_status_error_rate",
    "max_body_error_rate": "perf_max_body_error_rate",
    "max_p95_ms": "perf_max_p95_ms",
    "max_p99_ms": "perf_max_p99_ms",
    "max_tail_p95_ratio": "perf_max_tail_p95_ratio",
    "max_internal_free_drop": "perf_max_internal_free_drop",
    "max_psram_free_drop": "perf_max_psram_free_drop",
    "max_error_rate_worst": "perf_worst_error_rate",
    "max_p95_worst_ms": "perf_worst_p95_ms",
}
"""Absolute budgets and their options; each may be set per profile."""

WORST_LIMITS: Mapping[str, str] = {"max_error_rate_worst": "max_error_rate", "max_p95_worst_ms": "max_p95_ms"}
"""Those of any single run, and those of the median of the runs beside them."""


def load_profiles(root: Path) -> dict[str, Profile]:
    """All profiles a project knows: the built-in ones and its own.

    A project's own stand in ``[tool.espperf.profiles.NAME]`` of pyproject.toml or in
    ``[profiles.NAME]`` of espperf.toml, both in ``root``.

    Raises:
        UsageError: a file cannot be parsed, or a table has an unknown key or a bad value; names the
            file and the table.
    """
    known = {
        name: Profile(name, tuple(RequestSpec(path) for path in paths), phases=())
        for name, paths in BUILT_IN.items()
    }
    own: dict[str, Profile] = {}
    for section, tables in read_tables(root, "profiles"):
        if not isinstance(tables, dict):
            raise UsageError(f"{section} must be a table of profiles")
        for name, table in tables.items():
            where = f"{section[:-1]}.{name}]"
            if name in own:
                raise UsageError(f"{where}: the profile is defined twice (also in {own[name].source})")
            own[name] = _profile(name, table, where)
    return known | own


def _profile(name: str, table: object, where: str) -> Profile:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise UsageError(f"{where}: a profile's name is made of letters, digits, '_', '.' and '-'")
    keys = check_keys(table, ("paths", "headers", "phases", "limits"), where)
    headers = check_keys(keys.get("headers", {}), None, f"{where} headers")
    limits = check_keys(keys.get("limits", {}), LIMITS, f"{where} limits")
    phases = check_keys(keys.get("phases", {}), None, f"{where} phases")
    if "phases" in keys and not phases:
        raise UsageError(f"{where}: phases is empty: leave it out, or name at least one")
    return Profile(
        name=name,
        requests=_requests(keys.get("paths"), where),
        phases=tuple(_phase(phase, spec, f"{where} phases.{phase}") for phase, spec in phases.items()),
        headers=tuple(_header(key, value, f"{where} headers") for key, value in headers.items()),
        limits={key: checked(limits, key, number(least=0), None, f"{where} limits") for key in limits},
        source=where,
    )


def _header(name: str, value: object, where: str) -> tuple[str, str]:
    if not isinstance(value, str):
        raise UsageError(f"{where}: the value of {name!r} must be text")
    try:
        return header(f"{name}: {value}")
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None


def _requests(paths: object, where: str) -> tuple[RequestSpec, ...]:
    if not isinstance(paths, list) or not paths:
        raise UsageError(f"{where}: paths must be a list of at least one path")
    requests = [_request(item, f"{where} paths[{index}]") for index, item in enumerate(paths)]
    if len(requests) > 255:
        raise UsageError(f"{where}: {len(requests)} paths are more than a profile can hold (255)")
    seen: set[str] = set()
    for request in requests:
        if request.path in seen:
            raise UsageError(f"{where}: path {request.path!r} is listed twice: give it a weight instead")
        seen.add(request.path)
    return tuple(requests)


def _request(item: object, where: str) -> RequestSpec:
    table = {"path": item} if isinstance(item, str) else item
    keys = check_keys(table, ("path", "weight", "status", "size", "sha256", "contains"), where)
    if "path" not in keys:
        raise UsageError(f"{where}: it has no path")
    contains = keys.get("contains")
    if contains is not None and not (isinstance(contains, str) and contains):
        raise UsageError(f"{where}: contains must be text, and not empty")
    return RequestSpec(
        path=checked(keys, "path", url_path, "", where),
        weight=checked(keys, "weight", whole(least=1, most=1000), 1, where),
        statuses=_statuses(keys.get("status"), where),
        size_bytes=checked(keys, "size", whole(least=0), None, where),
        sha256=checked(keys, "sha256", _digest, None, where),
        contains=contains.encode() if contains is not None else None,
    )


def _statuses(value: object, where: str) -> frozenset[int] | None:
    if value is None:
        return None
    statuses: Sequence[object] = value if isinstance(value, list) else [value]
    if not statuses or any(
        not isinstance(item, int) or isinstance(item, bool) or not 100 <= item <= 599 for item in statuses
    ):
        raise UsageError(f"{where}: status: {value!r} is no HTTP status, nor a list of them")
    return frozenset(item for item in statuses if isinstance(item, int))


def _digest(text: str) -> str:
    digest = text.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError(f"{text!r} is no SHA-256: 64 hexadecimal digits")
    return digest


def _phase(name: str, table: object, where: str) -> PhaseSpec:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.]*", name):
        raise UsageError(f"{where}: a phase's name is made of letters, digits, '_' and '.'")
    keys = check_keys(table, ("clients", "duration_s", "rate"), where)
    return PhaseSpec(
        name=name,
        clients=checked(keys, "clients", whole(least=1, most=1000), 0, where),
        duration_s=checked(keys, "duration_s", number(above=0, most=86400), 0.0, where),
        rate_rps=checked(keys, "rate", number(above=0, most=1e6), None, where),
    )
