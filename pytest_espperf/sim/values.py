"""Values that the reference device's settings and its firmware images have in common: read and checked. Pure.

Every ``ValueError`` raised here is one sentence that says what is wrong and what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from pytest_espperf.sim.catalog import ALL, COSTS, PROFILES, TARGETS

SLOWDOWNS = (0.01, 1000.0)
"""The least and the greatest factor on a service time."""

MOST_LEAKED_BYTES = 10**9


def parse_assignment(text: str) -> tuple[str, float]:
    """Read ``NAME=NUMBER`` where NAME is a profile, a built-in route, or ``all``.

    Raises:
        ValueError: it has another form, an unknown name, or a value that is no finite number.
    """
    name, equals, value = text.strip().partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not an assignment: write NAME=NUMBER, e.g. python_heavy=1.3")
    return target_of(name.strip()), parse_float(f"the value of {name.strip()}", value)


def parse_slowdown(text: str) -> tuple[str, float]:
    """Read ``NAME=FACTOR``, e.g. ``python_heavy=1.3``.

    Raises:
        ValueError: it is no assignment, or the factor is not within 0.01 and 1000.
    """
    name, value = parse_assignment(text)
    return name, check_number(f"slowdown of {name}", value, *SLOWDOWNS)


def parse_error_rate(text: str) -> tuple[str, float]:
    """Read ``NAME=SHARE``, e.g. ``/hello=0.05``.

    Raises:
        ValueError: it is no assignment, or the share is not within 0 and 1.
    """
    name, value = parse_assignment(text)
    return name, check_number(f"error rate of {name}", value, 0, 1)


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


def check_slowdowns(factors: Mapping[str, float]) -> Mapping[str, float]:
    """Check factors on service times by target; return them by the targets' full names.

    Raises:
        ValueError: an unknown target, one that is given twice, or a factor that is not allowed.
    """
    return _checked("slowdown", factors, *SLOWDOWNS)


def check_error_rates(shares: Mapping[str, float]) -> Mapping[str, float]:
    """Check shares of requests that fail by target; return them by the targets' full names.

    Raises:
        ValueError: an unknown target, one that is given twice, or a share that is not allowed.
    """
    return _checked("error_rate", shares, 0, 1)


def _checked(what: str, given: Mapping[str, float], low: float, high: float) -> Mapping[str, float]:
    pairs = [(target_of(target), number) for target, number in given.items()]
    for target, number in pairs:
        check_number(f"{what} of {target}", number, low, high)
    return MappingProxyType(unique(pairs, what))


def slowdown_of(factors: Mapping[str, float], path: str) -> float:
    """Compute the factor on the service time of a built-in route: all matching ones multiplied."""
    return math.prod(factors.get(name, 1.0) for name in _names_of(path))


def error_rate_of(shares: Mapping[str, float], path: str) -> float:
    """Find the share of requests to a built-in route that fail: the nearest name's."""
    return next((shares[name] for name in _names_of(path) if name in shares), 0.0)


def _names_of(path: str) -> tuple[str, str, str]:
    return path, COSTS[path].profile, ALL


def target_of(name: str) -> str:
    """Spell the name of a profile, of a route or ``all`` in full: ``hello`` is ``/hello``.

    Raises:
        ValueError: it is none.
    """
    slashed = name if name.startswith("/") or name in TARGETS else f"/{name}"
    if slashed not in TARGETS:
        raise ValueError(
            f"{name!r} is no profile or route: use {ALL}, {', '.join(PROFILES)} or a route such as /hello"
            f" ({', '.join(COSTS)})"
        )
    return slashed


def spell(value: float) -> str:
    """Write a number so that reading it gives the same one."""
    return str(value) if isinstance(value, int) else repr(value).removesuffix(".0")


def parse_float(what: str, text: str) -> float:
    """Read a finite number.

    Raises:
        ValueError: it is none; ``what`` names it.
    """
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{what} must be a number, not {text!r}") from None
    if not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number, not {text!r}")
    return value


def check_number(what: str, value: object, low: float, high: float) -> float:
    """Check that a value is a number within two others.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{what} must be a number, not {value!r}")  # noqa: TRY004 - one kind of error
    if not low <= value <= high:  # NaN too
        raise ValueError(f"{what} must be within {low:g} and {high:g}, not {value!r}")
    return value


def check_integer(what: str, value: object, low: int, high: int) -> int:
    """Check that a value is a whole number within two others.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{what} must be a whole number, not {value!r}")  # noqa: TRY004 - one kind of error
    if not low <= value <= high:
        raise ValueError(f"{what} must be within {low} and {high}, not {value!r}")
    return value


def check_flag(what: str, value: object) -> bool:
    """Check that a value is true or false.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{what} must be true or false, not {value!r}")  # noqa: TRY004 - one kind of error
    return value


def check_one_of(what: str, value: object, allowed: tuple[str, ...]) -> None:
    """Check that a value is one of several.

    Raises:
        ValueError: it is not.
    """
    if value not in allowed:
        raise ValueError(f"{value!r} is no {what}: use one of {', '.join(allowed)}")
