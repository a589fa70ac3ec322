"""The board of one session: where it is, its lock, its probe, its telemetry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_espperf import device, load
from pytest_espperf.config.settings import SIM, Settings
from pytest_espperf.errors import ProbeError, UsageError
from pytest_espperf.load.talk import Caller, why_unreadable
from pytest_espperf.model.artifact import DELAYED_ACK, FIRMWARE_TOLD
from pytest_espperf.model.workload import Profile, Target
from pytest_espperf.session.identity import asked_for, board_name
from pytest_espperf.system.homes import expand_user
from pytest_espperf.system.tls import tls_for

QUICK_S = 0.25
"""A probe that is answered in this time may be repeated a few times around each phase."""

SECOND_LOOK_S = 2.0
"""Seconds in which an answer that the health probe could not use has to come once more."""

SHOWN = 3
"""Lines of the console quoted in one message."""

if TYPE_CHECKING:
    # The reference device is loaded where it is asked for.
    from pytest_espperf.sim.config import SimConfig
    from pytest_espperf.sim.process import SimProcess


class BoardFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a board in an artifact: its identity, its name, and the rest."""

    identity: str
    name: str
    description: dict[str, Any] = {}


def facts_unreached(settings: Settings) -> BoardFacts:
    """Describe the board before it is reached; "" where the options do not name it."""
    asked = asked_for(settings)
    name = board_name(*asked, settings) if asked is not None else settings.device_id
    identity = settings.device_id or name
    return BoardFacts(identity=identity, name=name, description={"id": identity} if identity else {})


@dataclass
class Board:
    """A locked board.

    Attributes:
        target: where requests go.
        identity: what makes two sessions' boards the same one: ``--device-id``, else host:port.
        name: what people call it: host:port as given.
        telemetry: reads its counters.
        sim: the reference device's process where it is one.
        console: its serial console, where one was given.
        link_probes: whether it bears connects that tell how the link is.
        notes: what a reader should know of it.
    """

    target: Target
    identity: str
    name: str
    telemetry: device.Telemetry
    settings: Settings
    asked: tuple[str, int]
    sim: SimProcess | None = None
    last_probe: device.Probe | None = None
    delayed_acks: load.DelayedAcks | None = None
    console: device.SerialConsole | None = None
    link_probes: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The board's origin: ``http://192.168.0.135:8080``."""
        return self.target.origin

    def is_at(self, host: str, port: int) -> bool:
        """Whether this is the board that was asked for by that name or address."""
        return (host, port) == self.asked or (host, port) == (self.target.address, self.target.port)

    @property
    def link_path(self) -> str:
        """What is asked for on the connections that tell how the link is; "" for nothing.

        A connection without a request is what no client opens, and small servers may die of one. Where an
        answer takes long, as TLS does, those requests would be a load of their own.
        """
        probe = self.last_probe
        quick = probe is not None and probe.took_s <= QUICK_S and self.target.scheme == "http"
        return self.settings.perf_probe_path if quick else ""

    def probe(self, budget_s: float = float("inf"), tries: int = 0) -> device.Probe:
        """Ask for a sign of life; ``tries`` in place of the option's.

        Raises:
            ProbeError: there is none.
        """
        second_look_s = min(SECOND_LOOK_S, budget_s / 4)
        try:
            self.last_probe = device.probe(
                self.target,
                self.settings.perf_probe_path,
                tries=tries or self.settings.perf_probe_retries,
                timeout_s=max(2.0, self.settings.perf_request_timeout),
                budget_s=budget_s - second_look_s,
            )
        except ProbeError as error:
            raise ProbeError(str(error), came=self._what_comes(second_look_s)) from None
        return self.last_probe

    def _what_comes(self, timeout_s: float) -> str:
        """Read with the load engine the answer that the probe could not use; "" where nothing comes."""
        if timeout_s <= 0:
            return ""
        why = why_unreadable(Caller(self.target, self.settings.perf_probe_path, timeout_s=timeout_s))
        return f"what comes is no whole answer: {why}" if why else ""

    def find_delayed_acks(self, profiles: Sequence[Profile], budget_s: float) -> None:
        """Find out, once, which of the profiles' paths answer late where acknowledgements are delayed."""
        if self.delayed_acks is None:
            self.delayed_acks = load.find_delayed_acks(self.target, profiles, budget_s=budget_s)

    def describe(self) -> dict[str, Any]:
        """Describe the board for the artifact."""
        return (
            {
                "id": self.identity,
                "address": self.target.address,
                "port": self.target.port,
                "scheme": self.target.scheme,
                "firmware": self.settings.device_firmware,
                "reference_device": self.sim is not None,
                "telemetry_notes": list(self.telemetry.notes),
                "telemetry_absent": sorted(self.telemetry.absent),
                "notes": list(self.notes),
            }
            | self._describe_version()
            | self._describe_acks()
            | self._describe_console()
        )

    def _describe_version(self) -> dict[str, Any]:
        """Name the version that the board tells, where the user names none: the first, that of the plan."""
        told = self.telemetry.versions
        if self.settings.device_firmware or not told:
            return {}
        return {"firmware": told[0], FIRMWARE_TOLD: True}

    def _describe_acks(self) -> dict[str, Any]:
        return {DELAYED_ACK: asdict(self.delayed_acks)} if self.delayed_acks is not None else {}

    def _describe_console(self) -> dict[str, Any]:
        if self.console is None:
            return {}
        return {
            "serial": self.console.url,
            "serial_log": self.console.log.name,
            "serial_notes": self.console.remarks(),
        }

    def listen(self, log: Path) -> None:
        """Open the serial console that the options name, and keep what it says in a file.

        Raises:
            UsageError: it cannot be opened.
        """
        url, source = self.settings.device_serial, self.settings.where("device_serial")
        if url == SIM:
            if self.sim is None:
                raise UsageError(f"{source}: {SIM!r} is the reference device's console, and this is a board")
            url = self.sim.console_url
        if url:
            baud = self.settings.device_serial_baud
            self.console = device.SerialConsole.open(url, log, baud=baud, source=source)

    def heard(self) -> list[device.ConsoleEvent]:
        """Return what the console printed since the last call."""
        return self.console.take() if self.console is not None else []

    def last_words(self) -> str:
        """Return the fatal lines that the console printed since the last call, in words; "" without any."""
        fatal = [str(event) for event in self.heard() if event.fatal]
        return f"the serial console says: {'; '.join(fatal[:SHOWN])}" if fatal else ""


def connect(
    settings: Settings,
    host: str,
    port: int,
    *,
    closing: ExitStack,
    telemetry: device.TelemetrySpec,
    source: str = "",
    reference: bool = False,
    session: str = "",
) -> Board:
    """Find and lock the board; start the reference device where ``host`` is ``sim``.

    Args:
        settings: the options in force.
        host: name or address, or ``sim``.
        port: of the board; not used for ``sim``.
        closing: ends what was started and releases what was taken.
        telemetry: where the board shows its figures.
        source: where the host came from, "" for the option.
        reference: it is the second board, whose firmware stays what it is; it has no console, its identity
            is its own, and a reference device that stands in for it has neither slowdowns nor faults.
        session: id of the session that it is for.

    Raises:
        UsageError: the name does not resolve, or a bad ``--sim-`` value.
        BoardBusyError: another session measures it.
        SimError: the reference device does not start.
    """
    asked, name = (host, port), board_name(host, port, settings)
    sim, ca_file = None, ""
    if host == SIM:
        sim, ca_file = _start_sim(settings, closing, reference=reference)
        host, port = sim.host, sim.port
    target = device.resolve_target(
        host,
        port,
        scheme=settings.device_scheme,
        headers=settings.device_header,
        ca_file=ca_file or _user_file(settings, "device_ca"),
        insecure=settings.device_insecure,
        source=source or settings.where("device_ip"),
    )
    tls_for(target)  # a bad CA file ends the run before the first test
    own_file = Path(_user_file(settings, "perf_lock_file")) if settings.perf_lock_file else None
    lock = device.BoardLock(target, extra=own_file if not reference else None, session=session)
    lock.acquire()
    closing.callback(lock.release)
    return Board(
        target=target,
        identity=name if reference else settings.device_id or name,
        name=name,
        telemetry=device.Telemetry(
            target,
            timeout_s=settings.perf_request_timeout,
            spec=device.TelemetrySpec(gauges=telemetry.gauges) if sim is not None else telemetry,
            retries=settings.perf_metrics_retries,
            retry_delay_s=settings.perf_metrics_retry_delay_ms / 1e3,
        ),
        settings=settings,
        asked=asked,
        sim=sim,
        link_probes=settings.perf_link_probes == "on",
    )


def _start_sim(settings: Settings, closing: ExitStack, *, reference: bool) -> tuple[SimProcess, str]:
    """Start the reference device, in place of the measured board or of the one beside it.

    Returns:
        its process, and the file of its CA; "" where it speaks plain HTTP.
    """
    from pytest_espperf.sim.process import SimProcess  # noqa: PLC0415 - see above

    ca_file = ""
    if settings.device_scheme == "https":
        folder = closing.enter_context(TemporaryDirectory(prefix="espperf-sim-"))
        ca_file = str(Path(folder) / "ca.pem")
    config = sim_config(settings)
    if reference:
        config = replace(config, slowdown={}, error_rate={}, faults=(), leak_bytes=0, slots={})
    sim = SimProcess.start(
        replace(config, slowdown={}, error_rate={}, faults=(), leak_bytes=0, slots={})
        if reference
        else config,
        ca_file=Path(ca_file) if ca_file else None,
        console="socket" if settings.device_serial == SIM and not reference else "",
    )
    closing.callback(sim.stop)
    return sim, ca_file


def _user_file(settings: Settings, dest: str) -> str:
    """Return the file that an option names, "" where it names none."""
    return expand_user(getattr(settings, dest), settings.where(dest))


def sim_config(settings: Settings) -> SimConfig:
    """Make the reference device's configuration from the ``--sim-`` options.

    Raises:
        UsageError: a bad value; names its source.
    """
    from pytest_espperf.sim import config as sim  # noqa: PLC0415 - see above
    from pytest_espperf.sim import images, values  # noqa: PLC0415 - see above

    def parsed(dest: str, parse: Callable[[str], Any], gather: Callable[[list[Any]], Any]) -> Any:
        try:
            return gather([parse(text) for text in getattr(settings, dest)])
        except ValueError as error:
            raise UsageError(f"{settings.where(dest)}: {error}") from None

    return sim.SimConfig(
        seed=settings.sim_seed,
        time_scale=settings.sim_time_scale,
        noise=settings.sim_noise,  # type: ignore[arg-type] # the option table allows these words alone
        slowdown=parsed(
            "sim_slowdown", values.parse_slowdown, lambda pairs: values.unique(pairs, "slowdown")
        ),
        error_rate=parsed(
            "sim_error_rate", values.parse_error_rate, lambda pairs: values.unique(pairs, "error rate")
        ),
        leak_bytes=settings.sim_leak_bytes,
        faults=parsed("sim_fault", sim.parse_fault, tuple),
        slots=parsed("sim_slot", images.parse_slot, sim.gather_slots),
    )
