"""Profiles: the built-in ones, their aliases, a project's own from TOML, and the presets' schedules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_espperf.artifact import RunRole
from pytest_espperf.errors import UsageError
from pytest_espperf.options import Settings
from pytest_espperf.parsers import header, nearest, number, url_path, whole
from pytest_espperf.tables import check_keys, checked, read_tables
from pytest_espperf.workload import PhaseSpec, Profile, RequestSpec

SCHEDULE_VERSION = 1
"""Part of the comparability key: raised when the same settings come to mean another load."""

BURST, LONG = "burst", "long"

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


@dataclass(frozen=True)
class Preset:
    """A schedule: runs, and seconds of burst and long by profile ("" for any other)."""

    runs: int
    seconds: Mapping[str, tuple[float, float]]
    warmup_s: float = 0.0

    def durations(self, profile: str) -> tuple[float, float]:
        """Seconds of the burst and the long phase of a profile."""
        return self.seconds.get(profile, self.seconds[""])


PRESETS: Mapping[str, Preset] = {
    "quick": Preset(runs=3, seconds={"": (2, 3)}),
    "balanced": Preset(
        runs=6,
        seconds={"c_static_only": (3, 4), "python_light": (4, 8), "python_heavy": (8, 15), "": (4, 8)},
    ),
    "classic": Preset(runs=3, seconds={"": (12, 30)}),
    "soak": Preset(runs=6, seconds={"": (60, 600)}, warmup_s=5),
}


@dataclass(frozen=True)
class PlannedPhase:
    """One phase of one round of one profile: the parameter of one test item.

    ``board`` is its name where a run has several, else "".
    """

    run: int
    profile: Profile
    phase: PhaseSpec
    role: RunRole = "run"
    board: str = ""

    @property
    def cell(self) -> str:
        """``python_heavy:burst``."""
        return f"{self.profile.name}:{self.phase.name}"

    @property
    def id(self) -> str:
        """``run1-python_heavy-burst``, the test id; of several boards' one behind the board's name."""
        board = f"{self.board}-" if self.board else ""
        return f"{board}{self.role}{self.run}-{self.profile.name}-{self.phase.name}"

    def label(self, runs: int) -> str:
        """``run 1/6 python_heavy:burst``, for people."""
        board = f"{self.board} " if self.board else ""
        return f"{board}{self.role} {self.run}{f'/{runs}' if self.role == 'run' else ''} {self.cell}"


@dataclass(frozen=True)
class Plan:
    """What a session drives: the profiles, their phases resolved, and how often.

    ``selection`` keeps the names as the user gave them, in order.
    """

    profiles: tuple[Profile, ...]
    runs: int
    warmup_s: float
    board: str = ""

    def profile(self, name: str) -> Profile:
        """The planned profile of that name.

        Raises:
            KeyError: it is not planned.
        """
        return next(profile for profile in self.profiles if profile.name == name)

    def phases(self) -> list[PlannedPhase]:
        """Every phase in run-major order: run 1 of every profile, then run 2, ...

        Interleaving the profiles spreads a slow drift of the link over all of them.
        """
        return [
            PlannedPhase(run, profile, phase, board=self.board)
            for run in range(1, self.runs + 1)
            for profile in self.profiles
            for phase in profile.phases
        ]


def make_plan(settings: Settings, known: Mapping[str, Profile], board: str = "") -> Plan:
    """Resolve the settings into a plan.

    An explicit option wins over a profile's own phase, and that over the preset.

    Args:
        settings: the options in force.
        known: all profiles by name, see :func:`load_profiles`; phases may be empty.
        board: its name where a run has several.

    Raises:
        UsageError: an unknown profile is named.
    """
    preset = PRESETS[settings.perf_preset]
    chosen = []
    for name in settings.perf_profiles:
        if name not in known:
            raise UsageError(
                f"{settings.where('perf_profiles')}: there is no profile {name!r}"
                f"{nearest(name, known)} (known: {', '.join(sorted(known))})"
            )
        chosen.append(_with_phases(known[name], settings, preset))
    warmup_s = preset.warmup_s if settings.perf_warmup_s is None else settings.perf_warmup_s
    runs = settings.perf_runs or preset.runs
    return Plan(profiles=tuple(chosen), runs=runs, warmup_s=warmup_s, board=board)


def describe_profiles(settings: Settings, root: Path) -> str:
    """What ``--perf-list-profiles`` prints: every known profile with its phases and paths.

    Raises:
        UsageError: a profile file is bad.
    """
    lines = []
    preset = PRESETS[settings.perf_preset]
    for profile in load_profiles(root).values():
        full = _with_phases(profile, settings, preset)
        phases = ", ".join(
            f"{phase.name} {phase.duration_s:g} s x {phase.clients} clients"
            + (f" at {phase.rate_rps:g}/s" if phase.rate_rps else "")
            for phase in full.phases
        )
        lines.append(f"{profile.name}  ({profile.source}; {phases})")
        lines += [f"    {request.path}" for request in profile.requests]
    return "\n".join(lines)


def _with_phases(profile: Profile, settings: Settings, preset: Preset) -> Profile:
    burst_s, long_s = preset.durations(profile.name)
    defaults = {
        BURST: PhaseSpec(BURST, settings.perf_burst_clients, settings.perf_burst_duration or burst_s),
        LONG: PhaseSpec(LONG, settings.perf_long_clients, settings.perf_long_duration or long_s),
    }
    if not profile.phases:
        return replace(profile, phases=tuple(defaults.values()))
    phases = []
    for phase in profile.phases:
        # A phase of the profile's own leaves 0 where it says nothing.
        default = defaults.get(phase.name, defaults[LONG])
        explicit = f"perf_{phase.name}_duration" in settings.sources and phase.name in defaults
        asked_clients = f"perf_{phase.name}_clients" in settings.sources and phase.name in defaults
        phases.append(
            replace(
                phase,
                duration_s=default.duration_s if explicit or not phase.duration_s else phase.duration_s,
                clients=default.clients if asked_clients or not phase.clients else phase.clients,
            )
        )
    return replace(profile, phases=tuple(phases))


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
