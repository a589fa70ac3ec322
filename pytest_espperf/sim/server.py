"""The reference device at work: sockets and timers around the pure model, routes and faults.

Waits are event-loop timers, good to about 1 ms (16 ms where the platform's timer is that coarse). An
answer may leave that much late; capacity and the order of answers are the model's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Collection
from typing import Any

from pytest_espperf.sim.catalog import EVENTS_PATH, WEBSOCKET_PATH
from pytest_espperf.sim.config import FaultKind, SimConfig
from pytest_espperf.sim.connection import DeviceConnection
from pytest_espperf.sim.console import FALLING_BACK, PANIC, WATCHDOG, Console
from pytest_espperf.sim.device import Device
from pytest_espperf.sim.faults import DOWN, HANG, SPOILING, FaultPlan, Spoiler
from pytest_espperf.sim.images import slot_of
from pytest_espperf.sim.listener import Listener
from pytest_espperf.sim.messages import Request, Response, error_response, json_response
from pytest_espperf.sim.model import RateLimiter, ScaledClock, Ticket, TimingModel
from pytest_espperf.sim.origin import refuse_foreign
from pytest_espperf.sim.routes import ORDERS, CostedResponse, reply
from pytest_espperf.sim.streams import open_stream
from pytest_espperf.sim.tls import Certificate, TlsConnection

CONTROL_PATH = "/sim/config"
_REBOOT_DELAY_S = 0.05
_ANSWER_FIRST_S = 0.01


class SimServer:
    """One reference device on one port."""

    def __init__(
        self,
        config: SimConfig,
        host: str,
        port: int,
        until: asyncio.Event,
        *,
        tls: Certificate | None = None,
        console: Console | None = None,
    ) -> None:
        """Bind the port. ``until`` is set, with ``failure``, where the device cannot go on.

        Raises:
            OSError: the port or the address cannot be had.
        """
        self.failure: OSError | None = None
        self._until = until
        self._tls = tls
        self._listener = Listener(host, port, self._accept)
        self.config = config
        self.clock = ScaledClock(config.time_scale)
        self._model = TimingModel(config, config.slots.get("a"))
        self._device = Device(config, self._model)
        self._limiter = RateLimiter()
        self._plan = FaultPlan(config.faults, 0.0)
        self._spoiler = Spoiler()
        self._connections: set[DeviceConnection] = set()
        self._cooling_s: list[float] = []
        self._held: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._fault_timer: asyncio.TimerHandle | None = None
        self._moving = False
        self._boots = 0
        self._console = console
        if console is not None:
            console.on_line = self._obey
        self._reset_reason = "power-on"
        self._asked_to_reboot = False

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._listener.port

    @property
    def is_loopback(self) -> bool:
        """Whether only this computer can reach it."""
        return self._listener.is_loopback

    async def start(self) -> None:
        """Begin to serve; the device's time, and with it that of its faults, starts here."""
        self.clock.restart()
        await self._listener.up()
        self._check_faults()

    async def stop(self) -> None:
        """Close everything."""
        if self._fault_timer is not None:
            self._fault_timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()
        for connection in list(self._connections):
            connection.reset()
        await asyncio.sleep(0)  # lets the transports close their sockets

    def _accept(self) -> asyncio.Protocol:
        """Make the protocol of a new connection."""
        connection = DeviceConnection(self)
        if self._tls is None:
            return connection
        settings = self._tls.settings(resume=not self.config.full_handshakes)
        return TlsConnection(connection, settings, self._handshake_delay_s)

    def _handshake_delay_s(self, resumed: bool) -> float:
        return self.clock.real_until(self._model.handshake(self.clock.now(), resumed=resumed))

    # For streams

    @property
    def model(self) -> TimingModel:
        """The worker that they share with the requests."""
        return self._model

    def fault(self, kinds: Collection[FaultKind]) -> FaultKind | None:
        """Find the fault of these kinds that is active now."""
        return self._plan.active(kinds, self.clock.now())

    def hold(self, action: Callable[[], None]) -> bool:
        """Keep an action until a hang is over; False where the device does not hang."""
        hangs = self.fault(HANG) is not None
        if hangs:
            self._held.append(action)
        return hangs

    # For connections

    def count(self, name: str) -> None:
        """Raise a counter of the device."""
        self._device.count(name)

    def admit(self, connection: DeviceConnection) -> bool:
        """Give a new connection a place, where one is free."""
        self._device.count("accepts_total")
        now_s = self.clock.now()
        self._cooling_s = [until for until in self._cooling_s if until > now_s]
        if len(self._connections) + len(self._cooling_s) >= self.config.max_connections:
            self._device.count("accepts_rejected")
            return False
        self._connections.add(connection)
        self._device.connected(+1)
        return True

    def on_closed(self, connection: DeviceConnection, *, by_device: bool) -> None:
        """Free the connection's place, after the cool-down where the device closed it."""
        self._connections.discard(connection)
        self._device.connected(-1)
        if not by_device:
            self._device.count("client_closes")
        elif self.config.cooldown_s and connection.cools:
            self._cooling_s.append(self.clock.now() + self.config.cooldown_s)

    def on_request(self, connection: DeviceConnection, request: Request) -> None:
        """Serve a request, unless the device hangs: then keep it until that is over."""
        if request.path == CONTROL_PATH:
            connection.cools = False
            connection.send(self._refuse_foreign(connection, request) or self._control(request))
        elif request.path in ORDERS and (refusal := self._refuse_foreign(connection, request)):
            connection.send(refusal)
        elif self._plan.active(HANG, self.clock.now()):
            self._held.append(lambda: self._serve(connection, request))
        else:
            self._serve(connection, request)

    def _refuse_foreign(self, connection: DeviceConnection, request: Request) -> Response | None:
        why = refuse_foreign(request, (self._listener.host, connection.local_address))
        return error_response(403, why) if why else None

    # Serving

    def _serve(self, connection: DeviceConnection, request: Request) -> None:
        now_s = self.clock.now()
        self._device.request_started()
        if self.config.rate_limit and not self._limiter.allows(now_s):
            self._device.count("rate_limit_429_sent")
            response = error_response(429, "Too Many Requests", headers=(("Retry-After", "1"),))
            due_s = now_s + self._model.link_delay_s(now_s)
        elif request.path in {WEBSOCKET_PATH, EVENTS_PATH}:
            refusal = open_stream(self, connection, request)
            if refusal is None:
                return
            response, due_s = refusal, now_s + self._model.link_delay_s(now_s)
        else:
            response, due_s = self._dispatch(reply(request, self._device, now_s), now_s)
        if not connection.alive:  # the client of a held request may be gone by now
            return
        delay_s = self.clock.real_until(due_s)
        asyncio.get_running_loop().call_later(delay_s, self._complete, connection, response, self._boots)

    def _dispatch(self, answer: CostedResponse, now_s: float) -> tuple[Response, float]:
        """Queue the work of an answer; return what is really answered, and when it is due."""
        cost, response = answer.cost, answer.response
        if cost is None:
            return response, now_s + self._model.link_delay_s(now_s)
        if cost.is_static or cost.is_upload:
            ticket = self._model.transfer(cost, answer.transfer_bytes, now_s)
        else:
            ticket = self._model.python_job(cost, now_s)
            self._device.peak("ipc_pending_peak", self._model.depth(now_s))
        refusal = self._refusal(ticket)
        if refusal is not None:
            return refusal, ticket.due_s
        if self._model.fails(cost):
            self._device.count("handler_exceptions")
            return error_response(500, "Internal Server Error"), ticket.due_s
        return response, ticket.due_s

    def _refusal(self, ticket: Ticket) -> Response | None:
        if ticket.fate == "queue-full":
            self._device.count("backpressure_503_sent")
            self._device.count("ipc_pending_dropped")
            return error_response(503, "Queue Full", closes=True)
        if ticket.fate == "timed-out":
            self._device.count("ipc_wait_timeouts")
            self._device.count("ipc_timeout_504_sent")
            return error_response(504, "Gateway Timeout", closes=True)
        return None

    def _complete(self, connection: DeviceConnection, response: Response, boot: int) -> None:
        """Send an answer that is due, the way the active fault wants it."""
        now_s = self.clock.now()
        if self._plan.active(HANG, now_s):
            self._held.append(lambda: self._complete(connection, response, boot))
            return
        if not connection.alive:
            if boot == self._boots:
                self._device.count("responses_orphaned")
            return
        kind = self._plan.active(SPOILING, now_s)
        if kind is not None:
            self._spoiler.spoil(kind, connection, response, lambda: self._lasts(kind))
            return
        pressed = self._model.pressed(now_s)
        if pressed:
            self._device.count("keepalive_pressure_closes")
        self._device.responded(response.status, len(response.payload()))
        connection.send(response, give_up=pressed)
        if response.reboots:
            self._reboot(now_s + _REBOOT_DELAY_S)

    def _reboot(self, at_s: float) -> None:
        """Plan a reboot that was asked for."""
        self._asked_to_reboot = True
        self._plan.add("reboot", at_s, self._device.slots.boot_s())
        self._check_faults()

    def _obey(self, typed: str) -> None:
        """Do what a line says that was typed into the console."""
        console, slots = self._console, self._device.slots
        assert console is not None  # it is its line
        words = typed.split()
        if words == ["ota"]:
            console.say(json.dumps(slots.describe()))
        elif words[:2] == ["ota", "switch"] and len(words) == 3:
            try:
                slots.chosen = slot_of(words[2])
            except ValueError as error:
                console.say(f"E (ota): {error}")
                return
            self._reboot(self.clock.now())
        elif words == ["restart"]:
            self._reboot(self.clock.now())
        else:
            console.say("Unrecognized command: use ota, ota switch SLOT or restart")

    def _lasts(self, kind: str) -> bool:
        return self._plan.active(SPOILING, self.clock.now()) == kind

    def _control(self, request: Request) -> Response:
        """Show or change the configuration; not part of the board, so no fault touches it."""
        if request.method == "GET":
            return json_response(self.config.to_json())
        if request.method != "POST":
            return error_response(405, "Method Not Allowed", headers=(("Allow", "GET, POST"),))
        try:
            changes = json.loads(request.body)
            if not isinstance(changes, dict):
                return error_response(400, f"the body must be a JSON object, not {type(changes).__name__}")
            config = self.config.merged(changes)
        except (ValueError, RecursionError) as error:
            return error_response(400, _sentence(error))
        if "slot" in changes:
            self._device.slots.replace(config.slots)
            self._model.image = self._device.slots.image
        self._device.slots.rollback = config.rollback
        self._reconfigure(config, new_faults="fault" in changes)
        return json_response(config.to_json())

    def _reconfigure(self, config: SimConfig, *, new_faults: bool) -> None:
        self.clock.rescale(config.time_scale)
        self._model.reconfigure(config)
        self._device.config = config
        if config.rate_limit and not self.config.rate_limit:
            self._limiter = RateLimiter(self.clock.now())
        if new_faults:
            self._plan = FaultPlan(config.faults, self.clock.now())
        self.config = config
        # A fault that begins now may reset every connection: the answer to this change goes first.
        self._come_back(_ANSWER_FIRST_S)

    # Faults

    def _check_faults(self) -> None:
        """Do what begins or ends by now, and come back for the next change."""
        now_s = self.clock.now()
        for kind in self._plan.begun(now_s):
            if kind in DOWN:
                self._say_death(kind)
                self._power_cut(now_s, "refuse" if kind == "refuse" else "software")
            elif kind in HANG and self._console is not None:
                self._console.say(*WATCHDOG)
        if not self._moving and self._wants_up(now_s) != self._listener.is_up:
            self._moving = True
            self._spawn(self._move_listener())
        if not self._plan.active(HANG, now_s):
            held, self._held = self._held, []
            for action in held:
                action()
        next_s = self._plan.next_change_s(now_s)
        if next_s is not None:
            self._come_back(self.clock.real_until(next_s))

    def _come_back(self, delay_s: float) -> None:
        if self._fault_timer is not None:
            self._fault_timer.cancel()
        self._fault_timer = asyncio.get_running_loop().call_later(delay_s, self._check_faults)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _say_death(self, kind: str) -> None:
        """Print the panic of a board that reboots without a request; without power it prints nothing."""
        self._reset_reason = "power-on" if kind == "refuse" else "software"
        if self._console is not None and kind != "refuse" and not self._asked_to_reboot:
            self._console.say(*PANIC)
        self._asked_to_reboot = False

    def _power_cut(self, now_s: float, reason: str) -> None:
        """Reset all connections and start the device anew."""
        for connection in list(self._connections):
            connection.reset()
        self._boots += 1
        self._held.clear()
        self._cooling_s.clear()
        slots = self._device.slots
        slots.boot()
        self._model.restart(now_s, slots.image)
        self._device.reboot(now_s, reason)
        if slots.dead:
            self._say_boot()

    def _say_boot(self) -> None:
        """Print a boot, and what became of each image that it tried."""
        slots, console = self._device.slots, self._console
        if console is None:
            return
        for slot in slots.tried:
            image = slots.images[slot]
            console.load(self._reset_reason, slot, image.version)
            if image.boots:
                console.up()
            else:
                console.say(*PANIC, *([FALLING_BACK] if slot != slots.tried[-1] else []))

    def _wants_up(self, now_s: float) -> bool:
        return not self._device.slots.dead and self._plan.active(DOWN, now_s) is None

    async def _move_listener(self) -> None:
        """Bring the listener to where the plan wants it; there is one such task at a time."""
        try:
            # It ends when both agree, or with the device where the port is lost.
            while (wanted := self._wants_up(self.clock.now())) != self._listener.is_up:
                if wanted:
                    await self._listener.up()
                    self._say_boot()
                else:
                    await self._listener.down()
                    for connection in list(self._connections):  # accepted while it went down
                        connection.reset()
        except OSError as error:
            self.failure = error
            self._until.set()
        finally:
            self._moving = False


def _sentence(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"the body is no JSON: {error.msg} at line {error.lineno} column {error.colno}"
    if isinstance(error, RecursionError):
        return "the body is nested too deeply"
    return str(error)


async def serve(
    config: SimConfig,
    host: str,
    port: int,
    *,
    ready: Callable[[int, bool], None],
    until: asyncio.Event,
    tls: Certificate | None = None,
    console: Console | None = None,
) -> None:
    """Run a device until the event is set; ``ready`` gets the port, and whether it is loopback's.

    Raises:
        OSError: the port or the address cannot be had, or not again after a reboot.
    """
    server = SimServer(config, host, port, until, tls=tls, console=console)
    await server.start()
    try:
        ready(server.port, server.is_loopback)
        with contextlib.suppress(asyncio.CancelledError):
            await until.wait()
    finally:
        await server.stop()
    if server.failure is not None:
        raise server.failure
