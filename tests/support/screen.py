"""A terminal for tests: what stands on it after a program has written, and what stood on it before."""

from __future__ import annotations

import re

_SEQUENCE = re.compile(r"\x1b\[(\d*)([A-Za-z])|[\r\n]|[^\x1b\r\n]+")


class Screen:
    """Lines of text under a cursor; colours are left out, and no line is wrapped."""

    def __init__(self) -> None:
        self.lines = [""]
        self.row = self.column = 0

    def feed(self, output: str) -> None:
        """Take what a program writes: text, carriage returns, line feeds, cursor movements, erasing."""
        for found in _SEQUENCE.finditer(output):
            count = int(found[1] or 1)
            if found[2] == "A":
                self.row = max(0, self.row - count)
            elif found[2] == "C":
                self.column += count
            elif found[2] == "K":
                self.lines[self.row] = self.lines[self.row][: self.column]
            elif found[0] == "\r":
                self.column = 0
            elif found[0] == "\n":  # no carriage return of its own: a pty adds it
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif not found[2]:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + found[0] + line[self.column + len(found[0]) :]
                self.column += len(found[0])


def shown(output: str) -> list[str]:
    """Return the lines that stand on a terminal after all of an output."""
    screen = Screen()
    screen.feed(output)
    return [line.rstrip() for line in screen.lines]
