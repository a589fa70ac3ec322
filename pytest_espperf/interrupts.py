"""Signals that wait (for an event loop, for a file that is being written), and SIGTERM as an interruption."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def deferred_signals(*, at_once_from: int = 2) -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C, the watchdog's alarm and a handled SIGTERM back until they can be handled.

    Inside, the handlers of SIGINT, SIGALRM and SIGTERM only note the signal; the function that is yielded
    runs the previous handlers for what was noted, and so does the end of the block. Outside the main
    thread, where no signal arrives, nothing is changed.

    Args:
        at_once_from: the signal of a kind that is handled at once: whoever sends it has seen the ones before
            do nothing, and a disk, say, may hang for good.
    """
    noted: dict[int, tuple[int, FrameType | None]] = {}
    before: dict[int, Callable[[int, FrameType | None], object]] = {}

    def note(number: int, frame: FrameType | None) -> None:
        times = noted[number][0] + 1 if number in noted else 1
        noted[number] = times, frame
        if times >= at_once_from:
            before[number](number, frame)

    def deliver() -> None:
        while noted:
            number, (_, frame) = noted.popitem()
            before[number](number, frame)

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGALRM", "SIGTERM"):  # Windows has no SIGALRM
            number = getattr(signal, name, None)
            handler = signal.getsignal(number) if number is not None else None
            if number is not None and callable(handler):
                before[number] = handler
                signal.signal(number, note)
    try:
        yield deliver
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    deliver()


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM interrupt as Ctrl-C does, so that what was measured is kept and children are ended.

    The function that is given says whether one came. Where something else handles SIGTERM, and outside the
    main thread, nothing is changed.
    """
    came = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    free = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if free:
        signal.signal(signal.SIGTERM, interrupt)
    try:
        yield lambda: came
    finally:
        if free:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
