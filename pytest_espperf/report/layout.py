"""The layout of text in 80 columns: lines, wrapping, table rows."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_espperf.model.text import clip, flat, printable
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


def wrapped(text: str, *, indent: int = 0, hanging: int = 0, break_words: bool = False) -> list[str]:
    """Break a text into lines of at most 80 columns; [] for an empty one.

    Args:
        text: any text; runs of white space become one blank.
        indent: blanks before each line.
        hanging: blanks more before each line but the first.
        break_words: break a word that is longer than a line. Else it sticks out, as a path that is to be
            copied has to.
    """
    return textwrap.wrap(
        flat(text),
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hanging),
        break_on_hyphens=False,
        break_long_words=break_words,
    )


def columns(cells: Sequence[str], widths: Sequence[int], *, texts: int = 1) -> str:
    """Lay out one row of a table.

    Args:
        cells: of the row.
        widths: columns that each cell has, as many as there are cells.
        texts: so many of the first cells are texts: on the left, clipped so that a blank follows. The others
            are figures: on the right, and whole.
    """
    return "".join(
        f"{clip(cell, width - 1):<{width}}" if index < texts else f"{cell:>{width}}"
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )


def short_commit(commit: str, shown: int, *, dirty: bool) -> str:
    """Cut a commit to its first characters, with a plus where something was not committed.

    Args:
        commit: its full name; "" where it is unknown, which stays "".
        shown: characters of the name.
        dirty: whether something was not committed.
    """
    return commit[:shown] + ("+" if commit and dirty else "")
