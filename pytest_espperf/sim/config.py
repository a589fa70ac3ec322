"""The settings of the reference device: one frozen value, its strings and its JSON. Pure.

The same names serve the command line (``--sim-time-scale 0.1``), ``POST /sim/config``
(``{"time_scale": 0.1}``) and Python (``SimConfig(time_scale=0.1)``). Every ``ValueError`` raised here
is one sentence that says what is wrong and what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from pytest_espperf.sim.images import FirmwareImage, SlotName, image_of, parse_slot, slot_of
from pytest_espperf.sim.values import (
    MOST_LEAKED_BYTES,
    check_error_rates,
    check_flag,
    check_integer,
    check_number,
    check_one_of,
    check_slowdowns,
    parse_error_rate,
    parse_float,
    parse_slowdown,
    spell,
    unique,
)

READY = "espperf reference device listening on "
"""Beginning of the line that a device prints once it can be measured."""

CONSOLE = "its serial console is "
"""The same of the line before it, where there is a console."""

NoiseName = Literal["low", "medium", "high", "none"]
FaultKind = Literal[
    "hang",
    "reboot",
    "reset",
    "truncate",
    "malformed",
    "slowloris",
    "close",
    "refuse",
    "garbage-length",
    "huge-body",
]
NOISE_NAMES: tuple[NoiseName, ...] = get_args(NoiseName)
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

_FAULT = re.compile(r"(?P<kind>[^@]+)@(?P<at>[^:]+)(?::(?P<duration>.+))?")


@dataclass(frozen=True)
class Fault:
    """A misbehaviour that starts by itself.

    Attributes:
        kind: one of :data:`FAULT_KINDS`.
        at_s: seconds after the start of the device, or after the ``POST`` that set it.
        duration_s: how long it lasts; None for good (a reboot: the usual 2 s).

    Times are the device's own seconds: a time scale stretches them like all others.
    """

    kind: FaultKind
    at_s: float
    duration_s: float | None = None

    def __post_init__(self) -> None:
        check_one_of("fault kind", self.kind, FAULT_KINDS)
        check_number("fault start", self.at_s, 0, 1e9)
        if self.duration_s is not None:
            check_number("fault duration", self.duration_s, 0, 1e9)

    def __str__(self) -> str:
        duration = "" if self.duration_s is None else f":{spell(self.duration_s)}"
        return f"{self.kind}@{spell(self.at_s)}{duration}"


def parse_fault(text: str) -> Fault:
    """Read ``KIND@SECONDS[:DURATION]``, e.g. ``hang@3:2``.

    Raises:
        ValueError: it has another form, an unknown kind, or a time that is no number >= 0.
    """
    match = _FAULT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a fault: write KIND@SECONDS[:DURATION], e.g. hang@3:2")
    duration = match["duration"]
    return Fault(
        cast("FaultKind", match["kind"]),  # checked by Fault itself
        parse_float("fault start", match["at"]),
        None if duration is None else parse_float("fault duration", duration),
    )


def parse_time_scale(text: str) -> float:
    """Read a time scale.

    Raises:
        ValueError: it is no number within 0.001 and 1000.
    """
    return check_number("time scale", parse_float("time scale", text), 0.001, 1000)


@dataclass(frozen=True)
class SimConfig:
    """How the reference device behaves. Values are checked when it is made.

    Attributes:
        seed: of all noise; the same seed gives the same sequence.
        time_scale: all times of the device times this; 0.1 is ten times as fast.
        noise: strength of the noise of the link, the worker and the session.
        slowdown: factor on the service time by route, profile or ``all``; matching ones multiply.
        error_rate: share of requests answered 500, 0..1; route before profile before ``all``.
        leak_bytes: internal heap lost per request.
        faults: what goes wrong, and when.
        rate_limit: answer 429 beyond 200 requests/s (burst 400), all clients together.
        max_connections: sockets; a connection beyond them is closed at once.
        queue_limit: Python jobs held at once; one more is answered 503.
        cooldown_s: how long a socket closed by the device stays taken, as in TIME_WAIT.
        fragmentation: 0..1, share by which the largest free block falls short of the free heap.
        boot_info: report ``uptime_ms``, ``boot_id`` and ``reset_reason`` in the server stats.
        handshake_s: HTTPS: what a full TLS handshake takes, one after the other; a resumed one takes a tenth.
        full_handshakes: HTTPS: no client can resume a TLS session.
        slots: the firmware images in its two slots; it starts from slot a.
        rollback: boot the other slot where the firmware of one does not boot.
        boot_noise: how much boots differ: sigma of the logarithm of a factor on all service times that holds
            until the next boot; None for what fits the noise. The first boot has the factor 1.

    Raises:
        ValueError: a value is not allowed.
    """

    seed: int = 1
    time_scale: float = 1.0
    noise: NoiseName = "low"
    slowdown: Mapping[str, float] = field(default_factory=dict)
    error_rate: Mapping[str, float] = field(default_factory=dict)
    leak_bytes: int = 0
    faults: tuple[Fault, ...] = ()
    rate_limit: bool = False
    max_connections: int = 20
    queue_limit: int = 16
    cooldown_s: float = 0.0
    fragmentation: float = 0.0
    boot_info: bool = False
    handshake_s: float = 0.0
    full_handshakes: bool = False
    slots: Mapping[SlotName, FirmwareImage] = field(default_factory=dict)
    rollback: bool = False
    boot_noise: float | None = None

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, -(2**63), 2**63)
        check_number("time_scale", self.time_scale, 0.001, 1000)
        check_one_of("noise", self.noise, NOISE_NAMES)
        object.__setattr__(self, "slowdown", check_slowdowns(self.slowdown))
        object.__setattr__(self, "error_rate", check_error_rates(self.error_rate))
        check_integer("leak_bytes", self.leak_bytes, 0, MOST_LEAKED_BYTES)
        check_integer("max_connections", self.max_connections, 1, 1000)
        check_integer("queue_limit", self.queue_limit, 1, 1000)
        check_number("cooldown_s", self.cooldown_s, 0, 600)
        check_number("fragmentation", self.fragmentation, 0, 1)
        check_number("handshake_s", self.handshake_s, 0, 60)
        if self.boot_noise is not None:
            check_number("boot_noise", self.boot_noise, 0, 1)
        object.__setattr__(self, "slots", MappingProxyType(gather_slots(self.slots.items())))

    def merged(self, changes: Mapping[str, Any]) -> SimConfig:
        """Replace some values, each as a whole (``{"slowdown": {}}`` clears).

        ``slowdown`` and ``error_rate`` are an object, a string or a list of strings, ``fault`` is a
        string or a list of strings, as on the command line; so is ``slot``, or an object of images.

        Raises:
            ValueError: an unknown name or a value that is not allowed.
        """
        values: dict[str, Any] = {}
        for name, value in changes.items():
            read = _READERS.get(name)
            if read is None:
                raise ValueError(f"{name!r} is no setting: use one of {', '.join(_READERS)}")
            values[_FIELDS.get(name, name)] = read(name, value)
        return replace(self, **values)

    def to_json(self) -> dict[str, Any]:
        """Convert all values to JSON, as :meth:`merged` reads them."""
        values: dict[str, Any] = {name: getattr(self, name) for name in _READERS if name not in _FIELDS}
        values["slowdown"] = dict(self.slowdown)
        values["error_rate"] = dict(self.error_rate)
        values["fault"] = [str(fault) for fault in self.faults]
        values["slot"] = {slot: image.to_json() for slot, image in self.slots.items()}
        return values

    def to_args(self) -> list[str]:
        """Make the command line of ``python -m pytest_espperf.sim`` for this; defaults are left out."""
        default, args = SimConfig(), list[str]()
        for name in _READERS:
            if name in ("slowdown", "error_rate"):
                for target, number in getattr(self, name).items():
                    args.append(f"{option(name)}={target}={spell(number)}")
            elif name == "fault":
                args.extend(f"{option(name)}={fault}" for fault in self.faults)
            elif name == "slot":
                args.extend(f"{option(name)}={slot}:{image.to_text()}" for slot, image in self.slots.items())
            elif (value := getattr(self, name)) == getattr(default, name):
                continue
            elif isinstance(value, bool):
                args.append(option(name))
            else:
                args.append(f"{option(name)}={value if isinstance(value, str) else spell(value)}")
        return args


def option(name: str) -> str:
    """Spell a setting as an option: ``time_scale`` is ``--sim-time-scale``."""
    return f"--sim-{name.replace('_', '-')}"


def _read_plain(_name: str, value: object) -> object:
    return value  # SimConfig checks it


def _strings(name: str, value: object, also: str = "") -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} must be a string or a list of strings{also}, not {value!r}")
    return texts


def _read_assignments(name: str, value: object) -> dict[str, float]:
    if isinstance(value, Mapping):
        return dict(value)  # SimConfig checks it
    parse = parse_slowdown if name == "slowdown" else parse_error_rate
    return unique((parse(text) for text in _strings(name, value, " or an object")), name)


def _read_faults(name: str, value: object) -> tuple[Fault, ...]:
    return tuple(parse_fault(text) for text in _strings(name, value))


def gather_slots(pairs: Iterable[tuple[SlotName, FirmwareImage]]) -> dict[SlotName, FirmwareImage]:
    """Make a mapping of slots to their images.

    Raises:
        ValueError: a slot stands there twice, or nothing could start from slot a.
    """
    images: dict[SlotName, FirmwareImage] = {}
    for slot, image in pairs:
        if slot in images:
            raise ValueError(f"slot {slot} is given twice: give it once")
        images[slot] = image
    if "a" in images and not images["a"].boots:
        raise ValueError("slot a is what the device starts from: it has to boot")
    return images


def _read_slots(name: str, value: object) -> dict[SlotName, FirmwareImage]:
    if isinstance(value, Mapping):
        return gather_slots((slot_of(str(slot)), image_of(image)) for slot, image in value.items())
    return gather_slots(parse_slot(text) for text in _strings(name, value, " or an object"))


_READERS: Mapping[str, Callable[[str, object], object]] = {
    "seed": _read_plain,
    "time_scale": _read_plain,
    "noise": _read_plain,
    "slowdown": _read_assignments,
    "error_rate": _read_assignments,
    "leak_bytes": _read_plain,
    "fault": _read_faults,
    "rate_limit": check_flag,
    "max_connections": _read_plain,
    "queue_limit": _read_plain,
    "cooldown_s": _read_plain,
    "fragmentation": _read_plain,
    "boot_info": check_flag,
    "handshake_s": _read_plain,
    "full_handshakes": check_flag,
    "slot": _read_slots,
    "rollback": check_flag,
    "boot_noise": _read_plain,
}

_FIELDS: Mapping[str, str] = {"fault": "faults", "slot": "slots"}
"""The fields whose names say that there may be several."""
