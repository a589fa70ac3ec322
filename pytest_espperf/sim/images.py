"""Firmware images of the reference device: what a build makes and a slot holds. Pure.

An image is a JSON object, and on the command line a list of assignments (``version=1.1,python_heavy=1.12``).
Every ``ValueError`` raised here is one sentence that says what is wrong and what is allowed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pytest_espperf.model.text import nearest
from pytest_espperf.sim.catalog import TARGETS
from pytest_espperf.sim.values import (
    MOST_LEAKED_BYTES,
    check_error_rates,
    check_flag,
    check_integer,
    check_number,
    check_slowdowns,
    parse_error_rate,
    parse_float,
    parse_slowdown,
    spell,
    unique,
)

SlotName = Literal["a", "b"]
SLOTS: tuple[SlotName, ...] = get_args(SlotName)
PARTITIONS: Mapping[SlotName, str] = {"a": "ota_0", "b": "ota_1"}
"""What ESP-IDF calls them."""

BOOT_S = 2.0
LONGEST_VERSION = 60
_ERRORS = "error_rate:"


@dataclass(frozen=True)
class FirmwareImage:
    """What one firmware differs in from another. Values are checked when it is made.

    Attributes:
        version: what the device reports while it runs; "" for nothing.
        slowdown: factor on the service time by route, profile or ``all``; matching ones multiply, and so do
            those of the device's own settings.
        error_rate: share of requests answered 500; route before profile before ``all``.
        leak_bytes: internal heap lost per request.
        boot_s: seconds of the device that it takes to boot.
        boots: whether it boots at all; one that does not dies as it starts.

    Raises:
        ValueError: a value is not allowed.
    """

    version: str = ""
    slowdown: Mapping[str, float] = field(default_factory=dict)
    error_rate: Mapping[str, float] = field(default_factory=dict)
    leak_bytes: int = 0
    boot_s: float = BOOT_S
    boots: bool = True

    def __post_init__(self) -> None:
        _check_version(self.version)
        object.__setattr__(self, "slowdown", check_slowdowns(_mapping("slowdown", self.slowdown)))
        object.__setattr__(self, "error_rate", check_error_rates(_mapping("error_rate", self.error_rate)))
        check_integer("leak_bytes", self.leak_bytes, 0, MOST_LEAKED_BYTES)
        check_number("boot_s", self.boot_s, 0, 600)
        check_flag("boots", self.boots)

    def to_json(self) -> dict[str, Any]:
        """Convert it to JSON, as :func:`image_of` reads it; what is as usual is left out."""
        usual = FirmwareImage()
        values = {name: getattr(self, name) for name in _FIELDS}
        shown = {name: value for name, value in values.items() if value != getattr(usual, name)}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in shown.items()}

    def to_text(self) -> str:
        """Write it as assignments, as :func:`parse_slot` reads them."""
        usual = FirmwareImage()
        parts = [f"version={self.version}"] if self.version else []
        parts += [f"{target}={spell(factor)}" for target, factor in self.slowdown.items()]
        parts += [f"{_ERRORS}{target}={spell(share)}" for target, share in self.error_rate.items()]
        parts += [f"leak_bytes={self.leak_bytes}"] if self.leak_bytes else []
        parts += [f"boot_s={spell(self.boot_s)}"] if self.boot_s != usual.boot_s else []
        return ",".join([*parts, *([] if self.boots else ["boots=no"])])


_FIELDS = ("version", "slowdown", "error_rate", "leak_bytes", "boot_s", "boots")


def image_of(given: object) -> FirmwareImage:
    """Read an image from JSON.

    Raises:
        ValueError: it is no object, has an unknown name, or a value that is not allowed.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"an image is a JSON object, not {given!r:.60}")  # noqa: TRY004 - one kind of error
    unknown = next((name for name in given if name not in _FIELDS), None)
    if unknown is not None:
        raise ValueError(
            f"{unknown!r:.60} is nothing that an image has{nearest(str(unknown), _FIELDS)} "
            f"(known: {', '.join(_FIELDS)})"
        )
    return FirmwareImage(**given)


def read_image(body: bytes) -> FirmwareImage:
    """Read the file that a build made; it names its version.

    Raises:
        ValueError: it is no such file.
    """
    try:
        image = image_of(json.loads(body))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("the image is no JSON: build it again") from None
    if not image.version:
        raise ValueError("the image has no version")
    return image


def slot_of(text: str) -> SlotName:
    """Find a slot by its name, or by that of its partition.

    Raises:
        ValueError: there is none.
    """
    for name, partition in PARTITIONS.items():
        if text.strip().lower() in {name, partition}:
            return name
    raise ValueError(f"{text!r:.60} is no slot: use a or b (ota_0 or ota_1)")


def other_slot(name: SlotName) -> SlotName:
    """Return the slot beside one."""
    return "b" if name == "a" else "a"


def parse_slot(text: str) -> tuple[SlotName, FirmwareImage]:
    """Read ``SLOT:KEY=VALUE[,KEY=VALUE...]``, e.g. ``b:version=1.1,python_heavy=1.12``.

    A key is ``version``, ``leak_bytes``, ``boot_s``, ``boots`` (yes or no), what a slowdown may name, or
    ``error_rate:`` and that.

    Raises:
        ValueError: it has another form, an unknown slot or key, or a value that is not allowed.
    """
    slot, colon, rest = text.strip().partition(":")
    if not colon:
        raise ValueError(f"{text!r} is no slot: write SLOT:KEY=VALUE, e.g. b:version=1.1,python_heavy=1.12")
    name = slot_of(slot)
    values: dict[str, Any] = {}
    slowdowns: list[tuple[str, float]] = []
    errors: list[tuple[str, float]] = []
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, _, value = part.partition("=")
        if key in _PLAIN:
            if key in values:
                raise ValueError(f"{key} of slot {name} is given twice: give it once")
            values[key] = _PLAIN[key](value)
        elif key.startswith(_ERRORS):
            errors.append(parse_error_rate(part.removeprefix(_ERRORS)))
        elif key in TARGETS or f"/{key}" in TARGETS:
            slowdowns.append(parse_slowdown(part))
        else:
            known = (*_PLAIN, f"{_ERRORS}NAME")
            raise ValueError(
                f"{key!r} is nothing that a slot has{nearest(key, (*known, *TARGETS))} (known: "
                f"{', '.join(known)}, and what a slowdown names)"
            )
    image = FirmwareImage(
        slowdown=unique(slowdowns, "slowdown"), error_rate=unique(errors, "error rate"), **values
    )
    return name, image


def _check_version(version: object) -> None:
    if (
        not isinstance(version, str)
        or len(version) > LONGEST_VERSION
        or not version.isprintable()
        or "," in version
        or version != version.strip()
    ):
        raise ValueError(
            f"the version must be a text of {LONGEST_VERSION} printable characters at most and without a "
            f"comma, not {version!r:.80}"
        )


def _mapping(name: str, given: object) -> Mapping[str, float]:
    if not isinstance(given, Mapping):
        raise ValueError(f"{name} must be an object, not {given!r:.60}")  # noqa: TRY004 - one kind of error
    return given


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"leak_bytes must be a whole number, not {text!r}") from None


def _yes(text: str) -> bool:
    if text not in {"yes", "no"}:
        raise ValueError(f"boots must be yes or no, not {text!r}")
    return text == "yes"


_PLAIN: Mapping[str, Callable[[str], Any]] = {
    "version": str.strip,
    "boot_s": lambda text: parse_float("boot_s", text),
    "boots": _yes,
    "leak_bytes": _whole,
}
