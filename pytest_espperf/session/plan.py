"""The plan of a session: presets, phases, and the order in which they are driven."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_espperf.config.profiles import load_profiles
from pytest_espperf.config.settings import Settings
from pytest_espperf.errors import UsageError
from pytest_espperf.model.artifact import RunRole
from pytest_espperf.model.text import nearest
from pytest_espperf.model.workload import PhaseSpec, Profile

SCHEDULE_VERSION = 1
"""Part of the comparability key: raised when the same settings come to mean another load."""


BURST, LONG = "burst", "long"


_FIRMWARES = {"ab-baseline": "old", "ab-candidate": "new"}
"""What people call the rounds of a pair."""


@dataclass(frozen=True)
class Preset:
    """A schedule: runs, and seconds of burst and long by profile ("" for any other)."""

    runs: int
    seconds: Mapping[str, tuple[float, float]]
    warmup_s: float = 0.0

    def durations(self, profile: str) -> tuple[float, float]:
        """Return the seconds of the burst and the long phase of a profile."""
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
    """One phase of one run of one profile: the parameter of one test item.

    ``board`` is its name where a run has several, else "".
    """

    run: int
    profile: Profile
    phase: PhaseSpec
    role: RunRole = "run"
    board: str = ""

    @property
    def cell(self) -> str:
        """The profile and the phase: ``python_heavy:burst``."""
        return f"{self.profile.name}:{self.phase.name}"

    @property
    def id(self) -> str:
        """The test id: ``run1-python_heavy-burst``, behind the board's name where a run has several."""
        board = f"{self.board}-" if self.board else ""
        return f"{board}{self.role}{self.run}-{self.profile.name}-{self.phase.name}"

    def label(self, runs: int) -> str:
        """Name the phase for people: ``run 1/6 python_heavy:burst``."""
        board = f"{self.board} " if self.board else ""
        who = _FIRMWARES.get(self.role, self.role)
        return f"{board}{who} {self.run}{f'/{runs}' if self.role == 'run' else ''} {self.cell}"


@dataclass(frozen=True)
class SessionPlan:
    """The profiles that a session drives, their phases resolved, and how often.

    ``marked`` names those that tests asked for by their marker: only these tests measure them.
    """

    profiles: tuple[Profile, ...]
    runs: int
    warmup_s: float
    board: str = ""
    marked: tuple[str, ...] = ()

    def profile(self, name: str) -> Profile:
        """Return the planned profile of that name.

        Raises:
            KeyError: it is not planned.
        """
        return next(profile for profile in self.profiles if profile.name == name)

    def phases(self) -> list[PlannedPhase]:
        """Return every phase in run-major order: run 1 of every profile, then run 2, ...

        Interleaving the profiles spreads a slow drift of the link over all of them.
        """
        return [
            PlannedPhase(run, profile, phase, board=self.board)
            for run in range(1, self.runs + 1)
            for profile in self.profiles
            for phase in profile.phases
        ]


def make_plan(
    settings: Settings, known: Mapping[str, Profile], board: str = "", marked: Sequence[str] = ()
) -> SessionPlan:
    """Resolve the settings into a plan.

    An explicit option wins over a profile's own phase, and that over the preset.

    Args:
        settings: the options in force.
        known: all profiles by name, see :func:`load_profiles`; phases may be empty.
        board: its name where a run has several.
        marked: known profiles that tests ask for by their marker, besides those of the options.

    Raises:
        UsageError: an unknown profile is named.
    """
    preset = PRESETS[settings.perf_preset]
    chosen = []
    for name in settings.perf_profiles:
        if name not in known:
            raise UsageError(f"{settings.where('perf_profiles')}: {unknown_profile(name, known)}")
        chosen.append(_with_phases(known[name], settings, preset))
    more = tuple(name for name in dict.fromkeys(marked) if name not in settings.perf_profiles)
    chosen += [_with_phases(known[name], settings, preset) for name in more]
    warmup_s = preset.warmup_s if settings.perf_warmup_s is None else settings.perf_warmup_s
    runs = settings.perf_runs or preset.runs
    return SessionPlan(profiles=tuple(chosen), runs=runs, warmup_s=warmup_s, board=board, marked=more)


def unknown_profile(name: str, known: Collection[str]) -> str:
    """Say that there is no profile of a name, which are known, and which one is near."""
    return f"there is no profile {name!r}{nearest(name, known)} (known: {', '.join(sorted(known))})"


def describe_profiles(settings: Settings, root: Path) -> str:
    """Describe every known profile with its phases and paths, for ``--perf-list-profiles``.

    Raises:
        UsageError: a profile file is bad.
    """
    lines = []
    preset = PRESETS[settings.perf_preset]
    for profile in load_profiles(root).values():
        full = _with_phases(profile, settings, preset)
        lines.append(f"{profile.name}  ({profile.source}; {', '.join(map(_in_words, full.phases))})")
        lines += [f"    {profile.login.request.label}  (login)"] if profile.login is not None else []
        lines += [f"    {request.label}" for request in full.asked]
        lines += [
            f"    {phase.stream.path} ({phase.kind}, {phase.name})"
            for phase in full.phases
            if phase.stream is not None
        ]
    return "\n".join(lines)


def _in_words(phase: PhaseSpec) -> str:
    words = f"{phase.name} {phase.duration_s:g} s x {phase.clients} clients"
    if phase.rate_rps:
        words += f" at {phase.rate_rps:g}/s"
    if phase.think_time_s:
        words += f", pause {phase.think_time_s:g} s"
    if phase.page is not None:
        page = phase.page
        words += f", page {page.path} + {len(page.assets)} assets over {page.connections} connections"
        words += ", revalidated" if page.revalidate else ""
    if not phase.reuse:
        words += ", a connection per request"
        words += "" if phase.tls_resumption else ", full TLS handshakes"
    return words


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
