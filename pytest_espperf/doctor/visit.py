"""The examination: what is looked at in which order, and how long it may take."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pytest_espperf import device, load
from pytest_espperf.config.settings import SIM, Settings
from pytest_espperf.config.telemetry import load_telemetry
from pytest_espperf.device import TelemetryReading
from pytest_espperf.doctor import judge_pace, judge_reach, measures
from pytest_espperf.doctor.findings import Check, without_secrets
from pytest_espperf.doctor.machine import examine_machine
from pytest_espperf.errors import BoardBusyError, ProbeError, SimError, UsageError
from pytest_espperf.load.capacity import hold
from pytest_espperf.load.talk import Caller, TimedAnswer, first_answer
from pytest_espperf.model.address import is_address
from pytest_espperf.model.artifact import PhaseReport
from pytest_espperf.model.figures import moved_counters, number_at
from pytest_espperf.model.workload import Profile, RequestSpec
from pytest_espperf.session.board import Board, connect
from pytest_espperf.session.folder import history_folder
from pytest_espperf.session.identity import asked_for


@dataclass(frozen=True)
class Effort:
    """How much of each is done: counts, seconds, and the most seconds that a step may take.

    Attributes:
        whole_s: bounds the sum of the steps on a board that answers, however badly.
    """

    whole_s: float = 60.0
    contact_s: float = 5.0
    probe_s: float = 12.0
    telemetry_s: float = 4.0
    connects: int = 20
    link_s: float = 5.0
    idle_s: float = 1.0
    wakes: int = 5
    wake_s: float = 12.0
    requests: int = 40
    requests_s: float = 6.0
    acks_s: float = 4.0
    connections: int = 16
    connections_s: float = 8.0
    served_s: float = 3.0
    recover_s: float = 0.5
    clients: int = 4
    rounds: int = 3
    round_s: float = 2.0
    pause_s: float = 0.2
    listen_s: float = 2.0


FULL = Effort()


def examine(
    settings: Settings,
    root: Path,
    *,
    say: Callable[[str], None],
    effort: Effort = FULL,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Check, None, None]:
    """Look at the board that ``device_ip`` names, and at this machine; one check after the other.

    The board is locked meanwhile, as in a session; closing the iterator gives it back.

    Args:
        settings: the options in force.
        root: the project's root directory.
        say: takes one line of progress.
        effort: how much is done.
        clock: monotonic seconds.

    Raises:
        UsageError: an option cannot be used. That a name does not resolve is no such error here.
    """
    reports: list[PhaseReport] = []
    secrets = [value for _, value in settings.device_header]
    with ExitStack() as closing:
        visit = _Visit(settings, root, say=say, effort=effort, clock=clock, closing=closing, reports=reports)
        for check in visit.checks():
            yield without_secrets(check, secrets)
    say("this machine")
    yield from examine_machine(root, history_folder(settings, root), reports, scheme=settings.device_scheme)


class _Visit:
    """The part of it that is about the board; ``reports`` is filled with what the short load measured."""

    def __init__(
        self,
        settings: Settings,
        root: Path,
        *,
        say: Callable[[str], None],
        effort: Effort,
        clock: Callable[[], float],
        closing: ExitStack,
        reports: list[PhaseReport],
    ) -> None:
        self._settings = settings
        self._say = say
        self._effort = effort
        self._clock = clock
        self._closing = closing
        self._reports = reports
        self._telemetry = load_telemetry(root)
        self._host, self._port = _asked(settings)
        self._ends = clock() + effort.whole_s

    def _left(self, most_s: float) -> Callable[[], float]:
        """Seconds left for a step that begins now."""
        ends = min(self._clock() + most_s, self._ends)
        return lambda: max(0.0, ends - self._clock())

    def checks(self) -> Iterator[Check]:
        """All of them, as far as the board lets it come."""
        settings = self._settings
        self._say(f"address of {self._host}")
        if self._host != SIM:
            found = self._resolve()
            yield found
            if found.status == "fail":
                return
        try:
            board = connect(
                settings, self._host, self._port, closing=self._closing, telemetry=self._telemetry
            )
        except BoardBusyError as error:
            yield judge_reach.lock(str(error))
            return
        except SimError as error:
            yield judge_reach.no_reference_device(str(error))
            return
        if board.sim is not None:
            where = f"port {board.target.port}, the built-in reference device"
            yield judge_reach.address(board.target.address, how=where, took_s=0.0)
        yield judge_reach.lock("")
        caller = Caller(board.target, settings.perf_probe_path, timeout_s=settings.perf_request_timeout)
        trouble = self._listen(board)
        began = self._clock()
        yield from self._talk(board, caller)
        yield from self._heard(board, trouble, began)

    # --- reaching it

    def _resolve(self) -> Check:
        """Look the name up here, so that its failure is a finding and no usage error."""
        began = self._clock()
        try:
            target = device.resolve_target(self._host, self._port, source="HOST")
        except UsageError as error:
            return judge_reach.no_address(str(error))
        took_s = self._clock() - began
        how = f"port {self._port}, given as an address"
        if not is_address(self._host):
            how = f"port {self._port}, {_source(self._host, self._port)}"
        return judge_reach.address(target.address, how=how, took_s=took_s)

    def _listen(self, board: Board) -> str:
        """Open the console, where one is asked for; why it cannot be, "" where it can."""
        if not self._settings.device_serial:
            return ""
        folder = self._closing.enter_context(TemporaryDirectory(prefix="espperf-doctor-"))
        try:
            board.listen(Path(folder) / "console.log")
        except UsageError as error:
            return str(error)
        if board.console is not None:
            self._closing.callback(board.console.close)
        return ""

    def _heard(self, board: Board, trouble: str, began: float) -> Iterator[Check]:
        if trouble:
            yield judge_reach.no_console(trouble)
        console = board.console
        if console is None:
            return
        self._say("the console")
        time.sleep(max(0.0, self._effort.listen_s - (self._clock() - began)))
        events = board.heard()
        log = console.log.read_text(encoding="utf-8") if console.log.exists() else ""
        yield judge_reach.console(
            console.url,
            log.splitlines(),
            events,
            console.remarks(),
            listened_s=self._clock() - began,
        )

    # --- talking to it

    def _talk(self, board: Board, caller: Caller) -> Iterator[Check]:
        effort = self._effort
        self._say(f"does {board.url} answer?")
        contact = measures.touch(board.target, self._settings.perf_probe_path, timeout_s=effort.contact_s)
        if contact.tls_trouble:
            yield judge_reach.connect(contact)
            yield judge_reach.tls(contact, insecure=board.target.insecure)
            return
        try:
            probe = board.probe(effort.probe_s)
        except ProbeError as error:
            yield judge_reach.connect(contact)
            yield judge_reach.unreadable(str(error)) if error.came else judge_reach.no_answer(str(error))
            return
        if contact.trouble:  # it came to life meanwhile
            contact = measures.touch(board.target, self._settings.perf_probe_path, timeout_s=effort.contact_s)
        yield judge_reach.connect(contact)
        if contact.tls:
            yield judge_reach.tls(contact, insecure=board.target.insecure)
        answer = first_answer(caller)
        if isinstance(answer, str):
            yield judge_reach.unreadable(answer)  # the health probe reads what the load engine does not
            return
        yield judge_reach.answer(
            self._settings.perf_probe_path, answer, tries=probe.tries, redirect=probe.redirect
        )
        yield judge_reach.encoding(answer)
        yield from self._figures(board)
        alive = yield from self._at_rest(board, caller)
        if alive:
            yield from self._under_load(board, caller, answer)

    def _figures(self, board: Board) -> Iterator[Check]:
        self._say("telemetry")
        reading = board.telemetry.read(budget_s=self._left(self._effort.telemetry_s)())
        yield judge_reach.telemetry(reading, board.telemetry.spec, board.telemetry.notes)
        heap = judge_reach.heap(reading.memory)
        if heap is not None:
            yield heap

    def _at_rest(self, board: Board, caller: Caller) -> Generator[Check, None, bool]:
        """Examine the link and keep-alive; return whether the board still answers."""
        effort = self._effort
        self._say(f"link: {effort.connects} connects, {effort.wakes} times {effort.idle_s:g} s of rest")
        link = device.read_link(
            board.target,
            budget_s=self._left(effort.link_s)(),
            connects=effort.connects,
            path=board.link_path,
        )
        yield judge_pace.idle_connects(link)
        wakes = measures.wake(
            caller, idle_s=effort.idle_s, rounds=effort.wakes, left=self._left(effort.wake_s)
        )
        yield judge_pace.power_save(link, wakes, idle_s=effort.idle_s)
        if wakes.trouble:
            return False
        self._say("limits: connections")
        kept = measures.keep_alive(caller, most=effort.requests, left=self._left(effort.requests_s))
        yield judge_pace.keep_alive(kept, most=effort.requests)
        path = self._settings.perf_probe_path
        profile = Profile("doctor", (RequestSpec(path),), ())
        acks = load.find_delayed_acks(board.target, [profile], budget_s=self._left(effort.acks_s)())
        yield judge_pace.delayed_acks(acks, path)
        return not kept.trouble

    def _under_load(self, board: Board, caller: Caller, answer: TimedAnswer) -> Iterator[Check]:
        effort, settings = self._effort, self._settings
        time.sleep(effort.recover_s)  # until it has let go of the connections before
        wait_s = max(effort.served_s, 3e-3 * answer.took_ms)
        held = hold(
            caller,
            most=effort.connections,
            patience_s=lambda _: wait_s,
            left=self._left(effort.connections_s),
        )
        clients = max(settings.perf_burst_clients, settings.perf_long_clients)
        yield judge_pace.connections(held, clients=clients, most=effort.connections)
        if answer.status >= 400:
            why = f"{settings.perf_probe_path} answers {answer.status}"
            yield judge_pace.not_loaded(why, "name a path that it has with --perf-probe-path.")
            return
        time.sleep(effort.recover_s)  # likewise
        before = board.telemetry.read(budget_s=self._left(effort.telemetry_s)())
        clients = max(1, min(effort.clients, held.connections or effort.clients))
        self._say(f"noise: {effort.rounds} runs of {effort.round_s:g} s, {clients} clients")
        self._reports.extend(
            measures.rounds_of_load(
                board.target,
                settings.perf_probe_path,
                clients=clients,
                rounds=effort.rounds,
                round_s=effort.round_s,
                pause_s=effort.pause_s,
                timeout_s=settings.perf_request_timeout,
                left=self._left(self._effort.whole_s),
            )
        )
        if not self._reports:
            yield judge_pace.not_loaded("no time was left", "give it a quicker path with --perf-probe-path.")
            return
        yield judge_pace.rate_limiter(self._reports)
        for metric, name in (("rps_ok", "throughput"), ("p95_ms", "p95")):
            pace = judge_pace.pace(self._reports, metric, name)
            if pace is not None:
                yield pace
        yield judge_pace.errors(self._reports)
        after = board.telemetry.read(budget_s=self._left(effort.telemetry_s)())
        if before.stats or before.memory:
            yield self._survived(board, before, after)

    def _survived(self, board: Board, before: TelemetryReading, after: TelemetryReading) -> Check:
        answered = sum(report.ok for report in self._reports)
        free = [number_at(reading.memory, "internal_free") for reading in (before, after)]
        return judge_reach.after_load(
            device.reboot_signs(before, after, answered=answered),
            moved_counters(before.stats, after.stats, board.telemetry.spec.counter_names),
            free[0] - free[1] if free[0] is not None and free[1] is not None else None,
        )


def _asked(settings: Settings) -> tuple[str, int]:
    """Host and port of the board.

    Raises:
        UsageError: two ports were given.
    """
    host, port = asked_for(settings) or ("", settings.device_port)
    if host != SIM and port != settings.device_port and "device_port" in settings.sources:
        raise UsageError(
            f"HOST says port {port} and {settings.where('device_port')} says {settings.device_port}: "
            "give one of them"
        )
    return host, port


def _source(host: str, port: int) -> str:
    """How a name came to its address, in words."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return f"of {host}, by mDNS, asked by ourselves"
    addresses = {str(entry[4][0]) for entry in found}
    several = f"one of {len(addresses)} addresses of" if len(addresses) > 1 else "of"
    return f"{several} {host}, from the system"
