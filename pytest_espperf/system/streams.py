"""Standard streams that cannot fail: where the reader is gone or the disk is full, the work goes on unseen.

The exit code of a command says what it found, whoever reads its output.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class Guard(io.RawIOBase):
    """Passes bytes on to a stream until one write fails; what comes later is dropped.

    Attributes:
        lost: why the stream takes no more; None while it does.
    """

    def __init__(self, inner: io.RawIOBase) -> None:
        self._inner = inner
        self.lost: OSError | None = None

    def writable(self) -> bool:
        """Return True: it takes everything."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor behind it."""
        return self._inner.fileno()

    def isatty(self) -> bool:
        """Whether a terminal is behind it."""
        return self._inner.isatty()

    def write(self, data: Any) -> int | None:
        """Take bytes; return the number of those taken."""
        if self.lost is None:
            try:
                return self._inner.write(data)
            except OSError as error:
                self.lost = error
        return len(data)

    @property
    def reader_gone(self) -> bool:
        """Whether it was a pipe that nobody reads any more; Windows calls that an invalid argument."""
        return isinstance(self.lost, BrokenPipeError) or (
            sys.platform == "win32" and self.lost is not None and self.lost.errno == errno.EINVAL
        )


@contextlib.contextmanager
def guarded(name: str) -> Iterator[Guard]:
    """Put a guarded stream in the place of ``sys.stdout`` or ``sys.stderr`` for the time of the block.

    A stream that is no file of this process's (a test's) stays as it is. One that was closed at the start is
    opened onto nothing: the next file that is opened would get its number.
    """
    open_closed_streams()
    stream: TextIO = getattr(sys, name)
    raw = getattr(stream, "buffer", None)
    raw = getattr(raw, "raw", raw)
    if type(stream) is not io.TextIOWrapper or not isinstance(raw, io.RawIOBase):
        yield Guard(io.RawIOBase())
        return
    if isinstance(raw, Guard):
        yield raw
        return
    guard = Guard(raw)
    try:
        stream.flush()
    except OSError as error:
        guard.lost = error
        _discard(stream)
    mine = io.TextIOWrapper(
        io.BufferedWriter(guard),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    setattr(sys, name, mine)
    try:
        yield guard
    finally:
        mine.flush()
        if getattr(sys, name) is mine:
            setattr(sys, name, stream)


def open_closed_streams() -> None:
    """Let closed standard streams lead to nowhere: pytest and ``print`` expect them to be open."""
    _fill_closed()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Whoever asked for nothing to be shown loses nothing by what is not encodable.
            stream = open(os.devnull, mode, encoding="utf-8", errors="replace")  # noqa: PTH123, SIM115 - for good
            setattr(sys, name, stream)


def _discard(stream: io.TextIOWrapper) -> None:
    """Empty the buffer of a stream that takes no more: Python would try it once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
        stream.flush()


def _fill_closed() -> None:
    """Open every closed standard descriptor onto nothing."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
