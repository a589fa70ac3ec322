"""Many small files at once: a disk, or a server behind a mounted folder, serves several as fast as one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

THREADS = 8


def side_by_side(do: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
    """What ``do`` returns for each item, in their order, a few at a time.

    The first exception is raised, after what was begun by then has ended. No pool of the standard library:
    that waits for its threads when Python ends, and one of these may hang in a share that is gone.
    """
    if len(items) <= 1:
        return [do(item) for item in items]
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(items)):
        todo.put(number)
    done: dict[int, _R] = {}
    errors: list[BaseException] = []

    def work() -> None:
        while not errors:
            try:
                number = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done[number] = do(items[number])
            except BaseException as error:  # noqa: BLE001 - it is raised again below
                errors.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(THREADS, len(items)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [done[number] for number in range(len(items))]
