"""Figures of the firmware's own: their names, and how values are gathered from several sources. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from msgspec import structs

from pytest_espperf.model.artifact import OwnFigure
from pytest_espperf.model.registry import METRICS, Better

MOST_FIGURES = 100
"""Names in one session."""

MOST_VALUES = 1000
"""Values of one name in one session: the first ones."""

MOST_OF_A_NAME = 64
MOST_OF_A_UNIT = 16
"""Characters."""

GREATEST = 1e15
"""Values beyond it (either way) are no measurement."""

_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{MOST_OF_A_NAME - 1}}}")
_STRANGE = re.compile(r"[^A-Za-z0-9_.-]+")
_RATE = re.compile(r"/\s*s(ec)?$|bps$|bit/s|hz$", re.IGNORECASE)
_FAST = re.compile(r"per_sec|speed|throughput|bandwidth", re.IGNORECASE)


def check_name(name: str) -> str:
    """Check the name of a figure.

    Raises:
        ValueError: it is none, or one of our own metrics has it.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name of a figure: up to {MOST_OF_A_NAME} letters, digits, '_', '.' and '-', "
            "the first one no '.' and no '-'"
        )
    if name in METRICS:
        raise ValueError(f"{name!r} is a metric of every session: choose another name")
    return name


def check_value(value: object) -> float:
    """Check the value of a figure.

    Raises:
        ValueError: it is no finite number, or beyond what is ever measured.
    """
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number")  # noqa: TRY004 - one kind of error for all bad values
    if not isinstance(value, (int, float)):
        try:
            value = float(value)  # type: ignore[arg-type] # numpy's numbers and decimals are numbers as well
        except (TypeError, ValueError):
            raise ValueError(f"{value!r} is not a number") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    if abs(value) > GREATEST:  # a whole number of any size, too
        raise ValueError(f"the value is beyond {GREATEST:g}")
    return float(value)


def check_unit(unit: str) -> str:
    """Check the unit of a figure.

    Raises:
        ValueError: it is too long, or not one line of printable text.
    """
    if not isinstance(unit, str) or len(unit) > MOST_OF_A_UNIT or not unit.isprintable():
        raise ValueError(f"{unit!r} is no unit: at most {MOST_OF_A_UNIT} printable characters")
    return unit.strip()


def check_better(better: str) -> Better:
    """Check the direction of a figure.

    Raises:
        ValueError: it is neither of the two words.
    """
    if better == "lower":
        return "lower"
    if better == "higher":
        return "higher"
    raise ValueError(f"better is 'lower' or 'higher', not {better!r}")


def safe_name(text: str) -> str:
    """Make a name of a text that a board sent; "" where nothing is left of it."""
    name = _STRANGE.sub("_", text.strip()).strip("_.-")[:MOST_OF_A_NAME].rstrip("_.-")
    return f"own_{name}"[:MOST_OF_A_NAME] if name in METRICS else name


def likely_better(name: str, unit: str) -> Better:
    """Guess which direction is better where nobody says so: of a rate and a speed more, else less."""
    return "higher" if _RATE.search(unit) or _FAST.search(name) else "lower"


def add_value(
    figures: dict[str, OwnFigure],
    name: str,
    value: float,
    *,
    unit: str = "",
    better: Better = "lower",
    source: str,
) -> None:
    """Add one value of a figure; beyond :data:`MOST_VALUES` none more is kept.

    Raises:
        ValueError: there are too many figures, or the name has another unit, direction or source already.
    """
    known = figures.get(name)
    if known is None:
        if len(figures) >= MOST_FIGURES:
            raise ValueError(f"a session has at most {MOST_FIGURES} figures of its own")
        figures[name] = OwnFigure(unit=unit, better=better, values=[value], source=source)
        return
    for what, was, now in (
        ("unit", known.unit, unit),
        ("direction", known.better, better),
        ("source", known.source, source),
    ):
        if was != now:
            raise ValueError(f"the figure {name!r} has the {what} {was!r} already, not {now!r}")
    if len(known.values) < MOST_VALUES:
        figures[name] = structs.replace(known, values=[*known.values, value])


def add_figures(figures: dict[str, OwnFigure], later: Mapping[str, OwnFigure]) -> list[str]:
    """Add what another process gathered; return what could not be added, in words."""
    notes = []
    for name, figure in later.items():
        try:
            for value in figure.values:
                add_value(figures, name, value, unit=figure.unit, better=figure.better, source=figure.source)
        except ValueError as error:
            notes.append(str(error))
    return notes
