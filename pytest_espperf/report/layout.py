"""The layout of text in 80 columns: lines, wrapping, clipping."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_espperf.model.text import printable
from pytest_espperf.model.verdicts import Mood

WIDTH = 80


@dataclass(frozen=True)
class Line:
    """One line of printable text and how it is meant."""

    text: str
    mood: Mood = "plain"
    bold: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", printable(self.text))
