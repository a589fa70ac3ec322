"""Progress messages while a large history is read, once that takes noticeably long."""

from __future__ import annotations

import time
from collections.abc import Callable

AFTER_S = 2.0
EVERY_S = 5.0


class IndexProgress:
    """Progress of reading a history, as lines of text; see :attr:`HistoryFolder.progress`.

    Args:
        say: takes one line.
        after_s: seconds of silence before the first one.
        every_s: seconds between two.
        finish: is called after the last line, where there was one.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        after_s: float = AFTER_S,
        every_s: float = EVERY_S,
        finish: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say = say
        self._after_s = after_s
        self._every_s = every_s
        self._finish = finish
        self._clock = clock
        self._next_s: float | None = None
        self._has_said = False

    def __call__(self, done: int, total: int) -> None:
        """Record that ``done`` of ``total`` files were read."""
        now_s = self._clock()
        if done >= total:
            if self._has_said and self._finish is not None:
                self._finish()
            self._next_s, self._has_said = None, False
        elif self._next_s is None:
            self._next_s = now_s + self._after_s
        elif now_s >= self._next_s:
            self._say(f"reading the history for its index: {done:,} of {total:,} files")
            self._next_s, self._has_said = now_s + self._every_s, True
