"""Two drivers at once: each prepares and reads its board in a thread of its own, the loads are one.

One event loop drives both loads, in the calling thread: two would take turns by the interpreter's lock, and
what held one of them up would not show in the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from pytest_espperf import load
from pytest_espperf.errors import DeviceError
from pytest_espperf.load import Job
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.workload import PhaseSpec, RequestSpec, Target

_LOOK_S = 0.05
_END_S = 30.0


class TwinLoad:
    """Brings the loads of threads together, and drives them in one.

    Its :meth:`run_phase` stands in for that of :mod:`pytest_espperf.load` in each of the threads.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[int, Job] = {}
        self._done: dict[int, PhaseSamples] = {}
        self._over: DeviceError | None = None

    def run_phase(
        self, target: Target, requests: Sequence[RequestSpec], phase: PhaseSpec, **more: Any
    ) -> PhaseSamples:
        """Hand a phase over, and return what came of it.

        Raises:
            DeviceError: another thread has failed, so that it was not driven.
        """
        me = threading.get_ident()
        with self._changed:
            self._waiting[me] = Job(target, requests, phase, **more)
            self._changed.notify_all()
            while me not in self._done:
                if self._over is not None:
                    raise self._over
                self._changed.wait()
            return self._done.pop(me)

    def run(self, parts: Sequence[Callable[[], object]]) -> None:
        """Call each part in a thread; once all wait for their loads, drive these here.

        Raises:
            Exception: what the first part raised that failed by itself.
        """
        self._waiting.clear()
        self._done.clear()
        self._over = None
        raised: list[tuple[bool, BaseException]] = []

        def call(part: Callable[[], object]) -> None:
            try:
                part()
            except BaseException as error:  # noqa: BLE001 - raised below
                raised.append((error is not self._over, error))
            finally:
                with self._changed:
                    self._changed.notify_all()

        threads = [
            threading.Thread(target=call, args=(part,), name="espperf twin", daemon=True) for part in parts
        ]
        for thread in threads:
            thread.start()
        try:
            self._serve(threads, raised)
        finally:
            self._end("the comparison was interrupted")
            for thread in threads:
                thread.join(_END_S)
        for _, error in sorted(raised, key=lambda one: not one[0]):
            raise error

    def _serve(self, threads: Sequence[threading.Thread], raised: Sequence[object]) -> None:
        """Drive loads until all threads have ended."""
        while any(thread.is_alive() for thread in threads):
            with self._changed:
                if raised:
                    self._over = self._over or DeviceError("the other board could not be measured")
                    self._changed.notify_all()
                if len(self._waiting) < len(threads):
                    self._changed.wait(_LOOK_S)
                    continue
                jobs, self._waiting = self._waiting, {}
            samples = load.run_together(list(jobs.values()))
            with self._changed:
                self._done.update(zip(jobs, samples, strict=True))
                self._changed.notify_all()

    def _end(self, why: str) -> None:
        with self._changed:
            self._over = self._over or DeviceError(why)
            self._changed.notify_all()
