"""The fixtures: device_ip, device_port, board, health_probe, device_lock, watchdog, perf_phase, and more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from pytest_espperf.config.settings import SIM
from pytest_espperf.errors import DeviceError, EspperfError, UsageError
from pytest_espperf.model.address import split_host
from pytest_espperf.plugin.items import selected_phases, selected_profiles
from pytest_espperf.plugin.state import NO_DEVICE, NO_XDIST, ONLY_LOOKS, state_of

if TYPE_CHECKING:
    from pytest_espperf.device import Probe
    from pytest_espperf.load import TransportFactory
    from pytest_espperf.model.artifact import PhaseResult
    from pytest_espperf.session.board import Board
    from pytest_espperf.session.driver import PhaseDriver
    from pytest_espperf.session.time_budget import PhaseBudget


OVERRIDDEN = "the project's fixture device_ip"


def _driver(request: pytest.FixtureRequest) -> PhaseDriver:
    if state_of(request.config).only_looks:
        pytest.skip(ONLY_LOOKS)
    if (unusable := _unusable(request)) is not None:
        pytest.fail(str(unusable), pytrace=False)
    driver = state_of(request.config).driving().get(request.getfixturevalue("espperf_board"))
    worker = hasattr(request.config, "workerinput")
    if driver is None and worker and state_of(request.config).device_named:
        pytest.fail(NO_XDIST, pytrace=False)
    if driver is None:
        pytest.skip(NO_DEVICE)
    if driver.board is None and not driver.state.hard_stop_reason and worker:
        try:
            driver.bench.find_named()
        except EspperfError as error:
            from pytest_espperf.session.boards import why_unreached  # noqa: PLC0415 - heavy: httpx, asyncio

            why = why_unreached(error, driver.context.settings, state_of(request.config).at_hand())
            driver.state.stop(why)
            raise pytest.fail.Exception(why, pytrace=False) from None
    if driver.state.hard_stop_reason:
        pytest.skip(f"not measured: {driver.state.hard_stop_reason}")
    return driver


def _unusable(request: pytest.FixtureRequest) -> EspperfError | None:
    """Return what is wrong with the project's tables, or with the marker of a test; None without a fault."""
    planned = getattr(getattr(request.node, "callspec", None), "params", {}).get("perf_phase")
    return planned if isinstance(planned, EspperfError) else state_of(request.config).error


@pytest.fixture
def espperf_board(request: pytest.FixtureRequest) -> str:
    """Return the name of the board that a test is about, "" where the run has one only."""
    if hasattr(request, "param"):
        return str(request.param)
    planned = getattr(request.node, "callspec", None)
    return getattr(planned.params.get("perf_phase"), "board", "") if planned is not None else ""


@pytest.fixture
def device_ip(espperf_board: str, request: pytest.FixtureRequest) -> str:
    """Return the board's address; override it to take the address from elsewhere, as a ``dut``'s console."""
    board = _driver(request).board
    if board is None:
        pytest.skip(NO_DEVICE)
    return board.target.address


@pytest.fixture
def device_port(espperf_board: str, request: pytest.FixtureRequest) -> int:
    """Return the board's HTTP port; override it with ``device_ip`` where it is another one."""
    driver = _driver(request)
    return driver.board.target.port if driver.board is not None else driver.context.settings.device_port


@pytest.fixture
def device_lock(
    espperf_board: str, request: pytest.FixtureRequest, device_ip: str, device_port: int
) -> Board:
    """Lock the board for this session, and return it: no other session measures it until this one ends."""
    driver = _driver(request)
    try:
        host, port = _address(device_ip)
        found = driver.bench.find(host, port or device_port, source=OVERRIDDEN)
    except (DeviceError, UsageError) as error:
        driver.state.stop(str(error))
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    state_of(request.config).announce(espperf_board, selected_phases(request.config, espperf_board))
    return found


def _address(given: object) -> tuple[str, int | None]:
    """Take the value of a ``device_ip`` fixture apart, which may be a project's own."""
    try:
        host, port = split_host(given) if isinstance(given, str) else ("", None)
    except ValueError as error:
        raise UsageError(f"{OVERRIDDEN} gives {given!r}: {error}") from None
    if host in {"", SIM}:
        raise UsageError(f"{OVERRIDDEN} gives {given!r}: it must be the address of a board")
    return host, port


@pytest.fixture
def health_probe(request: pytest.FixtureRequest, device_lock: Board) -> Callable[[], Probe]:
    """Return a function that checks whether the board answers; if not, it fails test and session."""

    def probe() -> Probe:
        try:
            return _driver(request).probe()
        except DeviceError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None

    return probe


@pytest.fixture
def board(device_lock: Board, health_probe: Callable[[], Probe]) -> Board:
    """Return the probed, locked board: ``board.url``, ``board.target``, ``board.telemetry.read()``."""
    health_probe()
    return device_lock


@pytest.fixture
def watchdog(request: pytest.FixtureRequest) -> PhaseBudget | None:
    """Return the time budget of this phase, which pytest-timeout enforces; None outside of a phase."""
    planned = getattr(getattr(request.node, "callspec", None), "params", {}).get("perf_phase")
    if planned is None:
        return None
    return _driver(request).context.budget(planned)


@pytest.fixture
def perf_metric(request: pytest.FixtureRequest, espperf_board: str) -> Callable[..., None]:
    """Return a function that adds a figure of the firmware's own to the session of the board.

    ``perf_metric(name, value, unit="", better="lower")``. In a run that measures no board the value is
    checked, and not kept.
    """

    def add(name: str, value: float, unit: str = "", better: str = "lower") -> None:
        try:
            _add_figure(request.config, espperf_board, (name, value, unit, better))
        except ValueError as error:
            raise pytest.fail.Exception(f"perf_metric: {error}", pytrace=False) from None

    return add


def _add_figure(config: pytest.Config, board: str, given: tuple[str, float, str, str]) -> None:
    """Check a figure, and add it to the session of a board where one is measured.

    Raises:
        ValueError: it is badly named, no number, or cannot be added.
    """
    from pytest_espperf.model import own_figures as own  # noqa: PLC0415 - heavy: msgspec

    name, value = own.check_name(given[0]), own.check_value(given[1])
    unit, better = own.check_unit(given[2]), own.check_better(given[3])
    state = state_of(config)
    driving = state.driving()
    if not driving:
        return
    if board not in driving:
        raise ValueError(
            f"the run has several boards ({', '.join(driving)}), and this test is about none of them: "
            "parametrize espperf_board indirectly"
        )
    if board in state.outcomes:
        raise ValueError("the session is judged already: this test must come before its verdict")
    own.add_value(driving[board].state.figures, name, value, unit=unit, better=better, source="test")


@pytest.fixture(scope="session")
def perf_transport() -> TransportFactory | None:
    """Return None; override it to send the load through an httpx transport of your own (one per client)."""
    return None


@pytest.fixture
def perf_phase(
    request: pytest.FixtureRequest,
    device_lock: Board,
    watchdog: PhaseBudget,
    perf_transport: TransportFactory | None,
) -> PhaseResult:
    """Measure one phase and return it: requesting it makes a test a profile x run x phase benchmark."""
    driver = _driver(request)
    driver.select(selected_profiles(request.config, request.param.board))
    try:
        result = driver.run_phase(request.param, watchdog, perf_transport)
    except DeviceError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    except pytest.fail.Exception:
        driver.state.stop(f"the watchdog ended {request.param.label(driver.context.plan.runs)}")
        raise
    if result is None:
        from pytest_espperf.session.driver import ended_sentence  # noqa: PLC0415 - heavy: httpx, asyncio

        name = request.param.profile.name
        pytest.skip(ended_sentence(name, driver.state.ended[name]))
    return result
