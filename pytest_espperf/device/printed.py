"""Figures that a firmware prints on its console, in the form of ESP-IDF. Pure.

``IDF_LOG_PERFORMANCE`` and ``TEST_PERFORMANCE_LESS_THAN`` print ``[Performance][NAME]: VALUE``, with a unit
behind the value or none, and sometimes more behind a comma::

    [Performance][SPI_PER_TRANS_POLLING]: 15us
    [Performance][DMA_COPY]: 34.21 MB/s, dir: SRAM->SRAM, size: 4096 Bytes
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pytest_espperf.model.own_figures import MOST_OF_A_UNIT, check_value, safe_name

_LINE = re.compile(
    r"\[Performance\]\[(?P<name>[^\]]{1,200})\]:\s*"
    r"(?P<value>[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)"
    r"(?![\d.])\s*(?P<unit>[^\s,;()\[\]]*)"
)


class PrintedFigure(NamedTuple):
    """One value that was printed, with the unit behind it, "" for none."""

    name: str
    value: float
    unit: str


def read_figure(line: str) -> PrintedFigure | None:
    """Read the figure in a line of the console; None where it has none, or no finite number."""
    match = _LINE.search(line)
    if match is None:
        return None
    name = safe_name(match["name"])
    try:
        value = check_value(match["value"])
    except ValueError:
        return None
    unit = match["unit"].rstrip(".:")
    # What is too long for a unit, or a number, is a text of its own.
    known = len(unit) <= MOST_OF_A_UNIT and unit.isprintable() and not unit[:1].isdigit()
    return PrintedFigure(name, value, unit if known else "") if name else None
