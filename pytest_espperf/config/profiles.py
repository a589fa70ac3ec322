"""Profiles: the built-in ones, their aliases, and a project's own from TOML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from pytest_espperf.config.phases import read_phase
from pytest_espperf.config.requests import MOST_PATHS, Limit, RequestReader, read_header
from pytest_espperf.config.tables import convert, read_tables
from pytest_espperf.errors import TableError
from pytest_espperf.model.registry import GATED_FIGURES
from pytest_espperf.model.text import nearest
from pytest_espperf.model.workload import Profile, RatioSpec, RequestSpec

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


class ProfileTable(msgspec.Struct, forbid_unknown_fields=True):
    """One profile; its paths, headers, phases and limits are converted one by one."""

    paths: list[Any] = []
    headers: dict[str, Any] = {}
    phases: dict[str, Any] | None = None
    limits: dict[str, Any] = {}
    session: Any = msgspec.UNSET

    def __post_init__(self) -> None:
        if self.phases == {}:
            raise ValueError("phases is empty: leave it out, or name at least one")


LimitsTable = msgspec.defstruct(
    "LimitsTable", [(name, Limit | None, None) for name in LIMITS], forbid_unknown_fields=True
)
"""A profile's absolute budgets."""


RATIO_METRICS = ("rps_ok", "p50_ms", "p95_ms", "p99_ms", *GATED_FIGURES)
"""The figures that a profile may have a budget of against another profile."""

_Factor = Annotated[float, Meta(gt=0, le=1e6)] | None

RatioTable = msgspec.defstruct(
    "RatioTable",
    [("to", str), *((name, _Factor, None) for name in RATIO_METRICS)],
    forbid_unknown_fields=True,
)
"""A profile's budgets against another one."""


def load_profiles(root: Path) -> dict[str, Profile]:
    """Load all profiles that a project knows: the built-in ones and its own.

    A project's own stand in ``[tool.espperf.profiles.NAME]`` of pyproject.toml or in
    ``[profiles.NAME]`` of espperf.toml, both in ``root``.

    Raises:
        TableError: a file cannot be parsed, or a table has an unknown key or a bad value; names the
            file and the table.
    """
    known = {
        name: Profile(name, tuple(RequestSpec(path) for path in paths), phases=())
        for name, paths in BUILT_IN.items()
    }
    own: dict[str, Profile] = {}
    for section, tables in read_tables(root, "profiles"):
        if not isinstance(tables, dict):
            raise TableError(f"{section} must be a table of profiles")
        for name, table in tables.items():
            where = f"{section[:-1]}.{name}]"
            if name in own:
                raise TableError(f"{where}: the profile is defined twice (also in {own[name].source})")
            own[name] = _profile(name, table, where, root)
    everything = known | own
    for profile in own.values():
        _check_ratios(profile, everything)
    return everything


def _check_ratios(profile: Profile, known: Mapping[str, Profile]) -> None:
    """Check that the other profiles of a profile's ratios exist.

    Raises:
        TableError: one does not, or it is the profile itself.
    """
    for ratio in profile.ratios:
        where = f"{profile.source} limits.ratio"
        if ratio.to == profile.name:
            raise TableError(f"{where}: {ratio.to!r} is the profile itself: name another one")
        if ratio.to not in known:
            raise TableError(f"{where}: there is no profile {ratio.to!r}{nearest(ratio.to, known)}")


def profile_name(text: str) -> str:
    """Parse the name of a profile."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", text):
        raise ValueError("a profile's name is made of letters, digits, '_', '.' and '-'")
    return text


def _profile(name: str, value: object, where: str, root: Path) -> Profile:
    try:
        profile_name(name)
    except ValueError as error:
        raise TableError(f"{where}: {error}") from None
    table = convert(value, ProfileTable, where)
    given = dict(table.limits)
    ratios = _ratios(given.pop("ratio", []), f"{where} limits.ratio")
    limits = convert(given, LimitsTable, f"{where} limits")
    headers = tuple(read_header(key, text, f"{where} headers") for key, text in table.headers.items())
    reader = RequestReader(root, where, headers, tuple(LIMITS))
    login = reader.login(table.session) if table.session is not msgspec.UNSET else None
    phases = [read_phase(key, spec, f"{where} phases.{key}") for key, spec in (table.phases or {}).items()]
    if not table.paths:
        without = next((phase.name for phase in phases if not phase.has_own_paths), "")
        if without or not phases:
            why = f": phase {without!r} has none of its own" if without else ""
            raise TableError(f"{where}: paths must be a list of at least one path{why}")
    profile = Profile(
        name=name,
        requests=reader.requests(table.paths, login, phases),
        phases=tuple(phases),
        headers=headers,
        limits={key: limit for key in given if (limit := getattr(limits, key)) is not None},
        source=where,
        login=login,
        ratios=ratios,
    )
    if len(profile.asked) > MOST_PATHS:
        raise TableError(
            f"{where}: {len(profile.asked)} paths are more than a profile can hold ({MOST_PATHS})"
        )
    return profile


def _ratios(value: object, where: str) -> tuple[RatioSpec, ...]:
    """Convert one table of budgets against another profile, or a list of them."""
    tables = value if isinstance(value, list) else [value]
    found = []
    for index, item in enumerate(tables):
        at = f"{where}[{index}]" if isinstance(value, list) else where
        table: Any = convert(item, RatioTable, at)  # made of the list of metrics: no type knows its fields
        limits = {name: factor for name in RATIO_METRICS if (factor := getattr(table, name)) is not None}
        if not limits:
            raise TableError(f"{at}: it has no budget: give one of {', '.join(RATIO_METRICS)}")
        found.append(RatioSpec(to=table.to, limits=limits))
    return tuple(found)
