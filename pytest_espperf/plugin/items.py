"""Which test items measure what: reading fixtures, markers and parameters of a collected run."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_espperf.errors import EspperfError, TableError, UsageError
from pytest_espperf.plugin import neighbours
from pytest_espperf.plugin.state import NO_DEVICE, PerfState, VerdictKey, state_of
from pytest_espperf.plugin.verdict_items import VerdictItem, keys_of
from pytest_espperf.system.homes import expand_user

if TYPE_CHECKING:
    from pytest_espperf.session.plan import PlannedPhase

FIXTURES = "pytest_espperf.plugin.fixtures"
DEVICE_FIXTURES = ("device_ip", "device_port", "device_lock", "health_probe", "board", "perf_phase")
PATH_OPTIONS = (
    "--perf-history",
    "--perf-baseline",
    "--perf-lock-file",
    "--device-ca",
    "--device-lab",
    "--device-serial",
)
EMBEDDED_NAMES = ("pytest_embedded", "pytest_embedded.plugin")
"""Names under which pytest-embedded is registered: by its entry point, or by ``-p`` with its module."""

EMBEDDED_PATH_OPTIONS = (
    "--port",
    "--flash-port",
    "--app-path",
    "--build-dir",
    "--root-logdir",
    "--cache-dir",
    "--metric-path",
)
"""Options of pytest-embedded whose value may be an existing file, see :func:`refuse_stray_path`."""

INI_FILES = (
    "pytest.toml",
    ".pytest.toml",
    "pytest.ini",
    ".pytest.ini",
    "pyproject.toml",
    "tox.ini",
    "setup.cfg",
)


def _definition(node: pytest.Item | pytest.Metafunc, name: str) -> str:
    """Return the module of the definition of a fixture that a test uses, "" where it uses none."""
    # pytest has no public way to ask which definition of a fixture a test will get.
    info = getattr(node, "_fixtureinfo", None) or getattr(node, "_arg2fixturedefs", None)
    found = getattr(info, "name2fixturedefs", info or {}).get(name, ())
    return getattr(found[-1].func, "__module__", "") if found else ""


def uses_device(item: pytest.Item) -> bool:
    """Whether an item requests a fixture of ours that needs a board; a project's namesakes do not count."""
    return any(_definition(item, name) == FIXTURES for name in DEVICE_FIXTURES)


def has_own_device(item: pytest.Item) -> bool:
    """Whether the project overrides ``device_ip``, for example with what its ``dut`` printed."""
    return _definition(item, "device_ip") not in {"", FIXTURES}


def is_phase(item: pytest.Item) -> bool:
    """Whether an item requests our ``perf_phase``."""
    return _definition(item, "perf_phase") == FIXTURES


def phase_of(item: pytest.Item) -> PlannedPhase:
    """Return the phase that an item measures; it must be one that does."""
    assert isinstance(item, pytest.Function)
    phase: PlannedPhase = item.callspec.params["perf_phase"]  # type: ignore[assignment]
    return phase


def is_planned(parameter: object) -> bool:
    """Whether a parameter is a phase: pytest replaces an empty list of parameters by one of its own."""
    return hasattr(parameter, "cell")


def add_verdicts(collector: pytest.Collector, report: pytest.CollectReport) -> None:
    """Collect an item for each verdict, with the tests of a module or class that measure its phases."""
    if not report.passed:
        return
    phases = [item for item in report.result if isinstance(item, pytest.Item) and is_phase(item)]
    phases = [item for item in phases if is_planned(phase_of(item))]
    state = state_of(collector.config)
    if not any(state.device_named or has_own_device(item) for item in phases):
        return
    state.collected += phases
    for key in keys_of(map(phase_of, phases)):
        own = [item for item in phases if key.board == phase_of(item).board]
        own = [item for item in own if key.profile in {"", phase_of(item).profile.name}]
        # By its text pytest 9.2 knows what stands in brackets as parameters, as it does of ids that it reads.
        nodeid = f"{collector.nodeid}::{key.name}"
        verdict = VerdictItem.from_parent(collector, name=key.name, nodeid=nodeid, key=key, phases=own)
        report.result.append(verdict)
        state.collected.append(verdict)
        state.verdict_places.setdefault(key, collector.nodeid)


def parametrize(metafunc: pytest.Metafunc) -> None:
    """One item per phase for a test that requests ``perf_phase``, in run-major order."""
    if "perf_phase" not in metafunc.fixturenames or _definition(metafunc, "perf_phase") not in {"", FIXTURES}:
        return
    state = state_of(metafunc.config)
    planned = state.planned()
    wanted, unusable = _marked_profiles(metafunc), state.error
    if wanted is not None and planned:
        try:
            planned = _of_profiles(state, wanted, metafunc.definition.nodeid)
        except EspperfError as error:
            unusable = error
    if unusable is not None:  # it fails by this name
        metafunc.parametrize("perf_phase", [unusable], indirect=True, ids=["unusable"])
        return
    metafunc.parametrize("perf_phase", planned, indirect=True, ids=[phase.id for phase in planned])


def _marked_profiles(metafunc: pytest.Metafunc) -> object:
    """Return what the markers of a test name as its profiles; None where none does."""
    markers = (marker.kwargs for marker in metafunc.definition.iter_markers("perf"))
    return next((kwargs["profiles"] for kwargs in markers if "profiles" in kwargs), None)


def parametrize_boards(metafunc: pytest.Metafunc) -> None:
    """Of several boards each for a test that requests one without ``perf_phase``."""
    fixtures = set(metafunc.fixturenames)
    if "perf_phase" in fixtures or not fixtures & set(DEVICE_FIXTURES) or "espperf_board" not in fixtures:
        return
    state = state_of(metafunc.config)
    state.planned()
    if len(state.sessions) > 1:
        metafunc.parametrize("espperf_board", list(state.sessions), indirect=True)


def _of_profiles(state: PerfState, wanted: object, where: str) -> list[PlannedPhase]:
    """Return the phases of the profiles that a marker names; those that are not planned yet are added.

    Raises:
        TableError: it names none, or one that the project does not have.
    """
    marker = f"{where}: @pytest.mark.perf(profiles=...)"
    if isinstance(wanted, str) or not isinstance(wanted, Collection) or not wanted:
        raise TableError(f"{marker} takes a list of names, not {wanted!r}")
    planned = state.planned(marked=True)
    names = list(map(str, wanted))
    new = [name for name in names if name not in {phase.profile.name for phase in planned}]
    if new and state.config.getoption("dist", "no") != "no":
        raise TableError(f"{marker}: under pytest-xdist, name {', '.join(new)} with --perf-profiles too")
    if new:
        try:
            for perf in state.sessions.values():
                perf.add_profiles(new)
        except EspperfError as error:
            raise TableError(f"{marker}: {error}") from None
        planned = state.planned(marked=True)
    return [phase for phase in planned if phase.profile.name in names]


def mark_phase(item: pytest.Item) -> None:
    """Mark what measures a phase: as perf, and with its time budget."""
    if not is_phase(item):
        return
    item.add_marker("perf")
    neighbours.keep_first_try(item)
    state, planned = state_of(item.config), phase_of(item)
    if not is_planned(planned) or planned.board not in state.sessions:
        return
    if item.config.pluginmanager.hasplugin("timeout"):
        budget_s = state.sessions[planned.board].budget(planned).watchdog_s
        # The load runs in a fixture: a project's timeout_func_only must not leave it unwatched.
        item.add_marker(pytest.mark.timeout(budget_s, func_only=False))


def select(session: pytest.Session) -> None:
    """Once it is known what is left to be run: refuse, skip, or take note.

    Raises:
        UsageError: a bad option, two tests of one phase, or perf tests asked for without a device.
    """
    config, state = session.config, state_of(session.config)
    neighbours.keep_together(session, state.collected)
    _place_verdicts(session)
    needing = [item for item in session.items if uses_device(item)]
    if not needing:
        _refuse_nothing(session)
        return
    if embedded_plugin(config) is not None:
        refuse_stray_path(config, EMBEDDED_PATH_OPTIONS)
    if state.error is not None and not _stands_aside(session, needing):
        raise state.error
    homeless = [item for item in needing if not state.device_named and not has_own_device(item)]
    if homeless and state.asked_for and not config.getoption("collectonly"):
        raise UsageError(NO_DEVICE)
    for item in homeless:
        item.add_marker(pytest.mark.skip(reason=NO_DEVICE))
    state.selected = [item for item in needing if is_phase(item) and is_planned(phase_of(item))]
    neighbours.refuse_repeats(config)
    neighbours.refuse_closed_sockets(config, state.selected)
    _refuse_overlap(state.selected)
    _restore_order(session, state.selected)
    state.awaited = {phase_of(item).board for item in state.selected}
    state.device_needed = len(homeless) < len(needing) and state.error is None


def _refuse_nothing(session: pytest.Session) -> None:
    """Refuse a run for perf tests that has no test at all.

    Raises:
        UsageError: there is none; says what to run.
    """
    config, state = session.config, state_of(session.config)
    looks = state.only_looks or hasattr(config, "workerinput")
    if session.items or state.collected or looks or session.testsfailed:
        return
    if not (state.asked_for and state.device_named):
        return
    device = next(iter(state.settings.device_ip), "HOST")
    raise UsageError(
        "no test here requests the fixture perf_phase: "
        f"pytest --pyargs pytest_espperf.suite -m perf --device-ip {device} measures the built-in profiles"
    )


def _stands_aside(session: pytest.Session, needing: Collection[pytest.Item]) -> bool:
    """Whether a bad value fails the perf tests alone: it is the project's own, and other tests are run, too.

    Without a device they are skipped in any case.
    """
    state = state_of(session.config)
    others = len(session.items) > len(needing)
    return isinstance(state.error, TableError) and not state.asked_for and (others or not state.device_named)


def embedded_plugin(config: pytest.Config) -> Any:
    """Return the plugin module of pytest-embedded, None where it is not loaded."""
    return next(filter(None, map(config.pluginmanager.get_plugin, EMBEDDED_NAMES)), None)


def _place_verdicts(session: pytest.Session) -> None:
    """Put each verdict once, behind all else; with it the phases that a selection by its id left out."""
    verdicts = [item for item in session.items if isinstance(item, VerdictItem)]
    if not verdicts:
        return
    items = [item for item in session.items if not isinstance(item, VerdictItem)]
    placed = set(items)
    for verdict in verdicts:
        if placed.isdisjoint(verdict.phases):
            items += verdict.phases
            placed.update(verdict.phases)
    first: dict[VerdictKey, VerdictItem] = {}
    if not hasattr(session.config, "workerinput"):  # the controller reports them
        for verdict in verdicts:
            first.setdefault(verdict.key, verdict)
    session.items[:] = [*items, *sorted(first.values(), key=lambda item: not item.key.profile)]


def selected_phases(config: pytest.Config, board: str) -> list[PlannedPhase]:
    """Return the phases of a board that are to be run."""
    phases = map(phase_of, state_of(config).selected)
    return [phase for phase in phases if phase.board == board]


def selected_profiles(config: pytest.Config, board: str) -> set[str]:
    """Return the profiles of which phases of a board are to be run."""
    return {phase.profile.name for phase in selected_phases(config, board)}


def _refuse_overlap(items: Iterable[pytest.Item]) -> None:
    """Two tests must not measure the same phase: their figures would be mixed."""
    seen: dict[str, str] = {}
    for item in items:
        planned = phase_of(item).id
        if planned in seen:
            raise UsageError(
                f"{item.nodeid} and {seen[planned]} measure the same phase: "
                "run one of them, or give each its profiles with @pytest.mark.perf(profiles=[...])"
            )
        seen[planned] = item.nodeid


def _restore_order(session: pytest.Session, phases: list[pytest.Item]) -> None:
    """Put phases that a plugin has shuffled back into run-major order: sessions are compared by it."""
    if len({item.parent for item in phases}) != 1:
        return
    planned = state_of(session.config).planned(marked=True)
    order = {phase.id: index for index, phase in enumerate(planned)}
    phases.sort(key=lambda item: order[phase_of(item).id])
    waiting = iter(list(phases))
    shuffled = {id(item) for item in phases}
    session.items[:] = [next(waiting) if id(item) in shuffled else item for item in session.items]


def refuse_stray_path(config: pytest.Config, options: Collection[str] = PATH_OPTIONS) -> None:
    """Refuse a path option whose value pytest took for a test, and its root directory from there.

    pytest looks for its root before it knows the options of plugins, so that an existing folder in
    ``--perf-history FOLDER`` can move it away from the project, and with it ini file, profiles and history.

    Raises:
        UsageError: that happened; says how to write it.
    """
    words = [str(word) for word in config.invocation_params.args]
    here = config.invocation_params.dir
    for option, value in pairwise(words):
        if option not in options or not _exists(here / value):
            continue
        inner = [folder for folder in (here, *here.parents) if folder.is_relative_to(config.rootpath)]
        passed_over = [
            folder for folder in inner[:-1] if any((folder / name).is_file() for name in INI_FILES)
        ]
        if not inner or passed_over or (config.inipath is None and config.rootpath != here):
            raise UsageError(
                f"{option}: pytest took {value} for a test and moved its root directory to "
                f"{config.rootpath}; write {option}={value}"
            )


def refuse_missing_lab(config: pytest.Config) -> None:
    """Refuse ``--device-lab`` without its file, whatever tests are to be run: none may be skipped for it.

    Raises:
        UsageError: there is no such file.
    """
    given = config.getoption("device_lab")
    if given and not _exists(path := config.rootpath / expand_user(given, "--device-lab")):
        from pytest_espperf.lab import load_lab  # noqa: PLC0415 - heavy; it says what is wrong

        load_lab(path, "--device-lab")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
