"""Event loops of our own, whatever loop the calling thread is in.

A project's fixture may leave an event loop running in the main thread for the whole session (the synchronous
fixtures of pytest-playwright do, and so does a notebook): no second one can run there.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar

from pytest_espperf.interrupts import deferred_signals

_WAIT_S = 0.05
"""Between two looks at the signals; a wait that has an end is the only one that Windows interrupts."""

_T = TypeVar("_T")
Deliver = Callable[[], None]


def new_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop of asyncio that watches sockets of our own; that of Windows does not by itself."""
    return asyncio.SelectorEventLoop() if sys.platform == "win32" else asyncio.new_event_loop()


def run_async(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end as ``asyncio.run`` does, and return its result.

    It runs in a thread of its own, so that the event loop that the calling thread runs, or has set for later,
    is left alone. A signal handler's exception (Ctrl-C) cancels the coroutine and is raised here.
    """

    def run(relay: Deliver) -> _T:
        watched = _watched(main, relay)
        try:
            return _run(watched)
        finally:
            watched.close()  # where not even an event loop could be made
            main.close()

    with deferred_signals() as deliver:
        return _in_thread(run, deliver)


def run_apart(work: Callable[[Deliver], _T]) -> _T:
    """Call ``work`` where no event loop runs: in this thread, or in another one where this one runs a loop.

    Signals are held back meanwhile (:func:`~pytest_espperf.interrupts.deferred_signals`): what a handler
    raises in the midst of a C loop's callback can be lost, uvloop swallows it in some of its own.

    Args:
        work: gets a function that raises what their handlers raise, and has to call it now and then.
    """
    with deferred_signals() as deliver:
        return _in_thread(work, deliver) if _is_loop_running() else work(deliver)


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_thread(work: Callable[[Deliver], _T], deliver: Deliver) -> _T:
    """Call ``work`` in a thread and wait for it; what ``deliver`` raises here is raised there."""
    results: list[_T] = []
    raised: list[BaseException] = []
    interrupted: list[BaseException] = []

    def relay() -> None:
        if interrupted:
            raise interrupted[0]

    def run() -> None:
        try:
            results.append(work(relay))
        except BaseException as exc:  # noqa: BLE001 - raised again by the waiting thread
            raised.append(exc)

    thread = threading.Thread(target=run, name="espperf loop", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_WAIT_S)
        try:
            deliver()
        except BaseException as exc:  # noqa: BLE001 - raised by the thread, or below
            interrupted.append(exc)
    try:
        for error in (*interrupted, *raised):
            raise error
        return results[0]
    finally:
        # A traceback that holds its own frame would live until the next collection.
        raised.clear()
        interrupted.clear()


def _run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine as ``asyncio.run`` does, which takes no loop before Python 3.12."""
    loop = new_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        try:
            loop.run_until_complete(_end_all(loop, asyncio.all_tasks(loop)))
        finally:
            loop.close()


async def _end_all(loop: asyncio.AbstractEventLoop, left: Collection[asyncio.Task[Any]]) -> None:
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


async def _watched(main: Coroutine[Any, Any, _T], relay: Deliver) -> _T:
    """Await the coroutine; ``asyncio.run`` cancels it if ``relay`` raises."""
    task = asyncio.ensure_future(main)
    while not task.done():
        await asyncio.wait({task}, timeout=_WAIT_S)
        relay()
    return task.result()
