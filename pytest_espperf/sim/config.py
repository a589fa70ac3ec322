"""The settings of the reference device: one frozen value, its strings and its JSON. Pure.

The same names serve the command line (``--sim-time-scale 0.1``), ``POST /sim/config``
(``{"time_scale": 0.1}``) and Python (``SimConfig(time_scale=0.1)``). Every ``ValueError`` raised here
is one sentence that says what is wrong and what is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from pytest_espperf.sim.catalog import ALL, COSTS, PROFILES, TARGETS

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
        _one_of("fault kind", self.kind, FAULT_KINDS)
        _number("fault start", self.at_s, 0, 1e9)
        if self.duration_s is not None:
            _number("fault duration", self.duration_s, 0, 1e9)

    def __str__(self) -> str:
        duration = "" if self.duration_s is None else f":{_plain(self.duration_s)}"
        return f"{self.kind}@{_plain(self.at_s)}{duration}"


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
        _parse_float("fault start", match["at"]),
        None if duration is None else _parse_float("fault duration", duration),
    )


def parse_assignment(text: str) -> tuple[str, float]:
    """Read ``NAME=NUMBER`` where NAME is a profile, a built-in route, or ``all``.

    Raises:
        ValueError: it has another form, an unknown name, or a value that is no finite number.
    """
    name, equals, value = text.strip().partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not an assignment: write NAME=NUMBER, e.g. python_heavy=1.3")
    return _target(name.strip()), _parse_float(f"the value of {name.strip()}", value)


def parse_slowdown(text: str) -> tuple[str, float]:
    """Read ``NAME=FACTOR``, e.g. ``python_heavy=1.3``.

    Raises:
        ValueError: it is no assignment, or the factor is not within 0.01 and 1000.
    """
    name, value = parse_assignment(text)
    return name, _number(f"slowdown of {name}", value, 0.01, 1000)


def parse_error_rate(text: str) -> tuple[str, float]:
    """Read ``NAME=SHARE``, e.g. ``/hello=0.05``.

    Raises:
        ValueError: it is no assignment, or the share is not within 0 and 1.
    """
    name, value = parse_assignment(text)
    return name, _number(f"error rate of {name}", value, 0, 1)


def parse_time_scale(text: str) -> float:
    """Read a time scale.

    Raises:
        ValueError: it is no number within 0.001 and 1000.
    """
    return _number("time scale", _parse_float("time scale", text), 0.001, 1000)


def unique(pairs: Iterable[tuple[str, float]], what: str) -> dict[str, float]:
    """Make a mapping of assignments.

    Raises:
        ValueError: a name stands there twice.
    """
    result: dict[str, float] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"{what} of {name} is given twice: give it once")
        result[name] = value
    return result


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

    def __post_init__(self) -> None:
        _integer("seed", self.seed, -(2**63), 2**63)
        _number("time_scale", self.time_scale, 0.001, 1000)
        _one_of("noise", self.noise, NOISE_NAMES)
        for name, (low, high) in {"slowdown": (0.01, 1000), "error_rate": (0, 1)}.items():
            pairs = [(_target(target), number) for target, number in getattr(self, name).items()]
            for target, number in pairs:
                _number(f"{name} of {target}", number, low, high)
            object.__setattr__(self, name, MappingProxyType(unique(pairs, name)))
        _integer("leak_bytes", self.leak_bytes, 0, 10**9)
        _integer("max_connections", self.max_connections, 1, 1000)
        _integer("queue_limit", self.queue_limit, 1, 1000)
        _number("cooldown_s", self.cooldown_s, 0, 600)
        _number("fragmentation", self.fragmentation, 0, 1)
        _number("handshake_s", self.handshake_s, 0, 60)

    def slowdown_of(self, path: str) -> float:
        """Compute the factor on the service time of a built-in route: all matching ones multiplied."""
        factors = (self.slowdown.get(name, 1.0) for name in (path, COSTS[path].profile, ALL))
        return math.prod(factors)

    def error_rate_of(self, path: str) -> float:
        """Find the share of requests to a built-in route that are answered 500."""
        for name in (path, COSTS[path].profile, ALL):
            if name in self.error_rate:
                return self.error_rate[name]
        return 0.0

    def merged(self, changes: Mapping[str, Any]) -> SimConfig:
        """Replace some values, each as a whole (``{"slowdown": {}}`` clears).

        ``slowdown`` and ``error_rate`` are an object, a string or a list of strings, ``fault`` is a
        string or a list of strings, as on the command line.

        Raises:
            ValueError: an unknown name or a value that is not allowed.
        """
        values: dict[str, Any] = {}
        for name, value in changes.items():
            read = _READERS.get(name)
            if read is None:
                raise ValueError(f"{name!r} is no setting: use one of {', '.join(_READERS)}")
            values["faults" if name == "fault" else name] = read(name, value)
        return replace(self, **values)

    def to_json(self) -> dict[str, Any]:
        """Convert all values to JSON, as :meth:`merged` reads them."""
        values: dict[str, Any] = {name: getattr(self, name) for name in _READERS if name != "fault"}
        values["slowdown"] = dict(self.slowdown)
        values["error_rate"] = dict(self.error_rate)
        values["fault"] = [str(fault) for fault in self.faults]
        return values

    def to_args(self) -> list[str]:
        """Make the command line of ``python -m pytest_espperf.sim`` for this; defaults are left out."""
        default, args = SimConfig(), list[str]()
        for name in _READERS:
            if name in ("slowdown", "error_rate"):
                for target, number in getattr(self, name).items():
                    args.append(f"{option(name)}={target}={_plain(number)}")
            elif name == "fault":
                args.extend(f"{option(name)}={fault}" for fault in self.faults)
            elif (value := getattr(self, name)) == getattr(default, name):
                continue
            elif isinstance(value, bool):
                args.append(option(name))
            else:
                args.append(f"{option(name)}={value if isinstance(value, str) else _plain(value)}")
        return args


def option(name: str) -> str:
    """Spell a setting as an option: ``time_scale`` is ``--sim-time-scale``."""
    return f"--sim-{name.replace('_', '-')}"


def _target(name: str) -> str:
    slashed = name if name.startswith("/") or name in TARGETS else f"/{name}"
    if slashed not in TARGETS:
        raise ValueError(
            f"{name!r} is no profile or route: use {ALL}, {', '.join(PROFILES)} or a route such as /hello"
            f" ({', '.join(COSTS)})"
        )
    return slashed


def _plain(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(value).removesuffix(".0")


def _parse_float(what: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{what} must be a number, not {text!r}") from None
    if not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number, not {text!r}")
    return value


def _number(what: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{what} must be a number, not {value!r}")  # noqa: TRY004 - one kind of error
    if not low <= value <= high:  # NaN too
        raise ValueError(f"{what} must be within {low:g} and {high:g}, not {value!r}")
    return value


def _integer(what: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{what} must be a whole number, not {value!r}")  # noqa: TRY004 - one kind of error
    if not low <= value <= high:
        raise ValueError(f"{what} must be within {low} and {high}, not {value!r}")
    return value


def _one_of(what: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{value!r} is no {what}: use one of {', '.join(allowed)}")


def _read_plain(_name: str, value: object) -> object:
    return value  # SimConfig checks it


def _read_flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {value!r}")  # noqa: TRY004 - one kind of error
    return value


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


_READERS: Mapping[str, Callable[[str, object], object]] = {
    "seed": _read_plain,
    "time_scale": _read_plain,
    "noise": _read_plain,
    "slowdown": _read_assignments,
    "error_rate": _read_assignments,
    "leak_bytes": _read_plain,
    "fault": _read_faults,
    "rate_limit": _read_flag,
    "max_connections": _read_plain,
    "queue_limit": _read_plain,
    "cooldown_s": _read_plain,
    "fragmentation": _read_plain,
    "boot_info": _read_flag,
    "handshake_s": _read_plain,
    "full_handshakes": _read_flag,
}
