"""A shared history and this machine's copy of it become the same set of sessions and decisions.

Both are only ever added to, on both sides: no writer can take anything from another one, and what was cut
short at any moment is made up for by the next sync. An object that is cut short, or is not what its name
says, is named and left out, and written again by whoever has the real one.

Checkpoints stay where they are. Sessions that were interrupted are shared as they are saved: they are never
a baseline, and of one on a machine that is thrown away after its job nothing else would be left.

Rooms within: ``address`` (URLs), ``place`` (a mounted folder), ``service`` (all others, over fsspec),
``refusals`` (what they say, in words), ``remote`` (any of them, in time), ``objects`` (what lies there),
``cache`` (this machine's copy), ``decisions`` (marks and events), ``exchange``, ``pull`` and ``push``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from pytest_espperf.errors import RemoteError
from pytest_espperf.history import names
from pytest_espperf.history.shared import pull, push
from pytest_espperf.history.shared.address import HistoryUrl
from pytest_espperf.history.shared.cache import Cache
from pytest_espperf.history.shared.exchange import Exchange
from pytest_espperf.history.shared.objects import MARKS
from pytest_espperf.history.shared.pull import Pulled
from pytest_espperf.history.shared.push import Pushed
from pytest_espperf.history.shared.remote import Remote

BOUND_S = 30.0
"""Seconds that a pull may take, and a push."""

IMPATIENT_S, IMPATIENT_FOR = 5.0, timedelta(minutes=10)
"""A server that has just let one wait for nothing does so to no other session, or board, for so long."""

LEAST_S = 1.0
"""What is left of the bound for the server, however long another process of this machine was at it."""


class Sync:
    """Brings both sides together.

    Args:
        url: of the shared history.
        folder: this machine's copy; made where needed.
        bound_s: seconds that a pull may take, and a push; from one second up.
    """

    def __init__(self, url: HistoryUrl, folder: Path, *, bound_s: float = BOUND_S) -> None:
        self.url = url
        self._cache = Cache(url, folder)
        self._bound_s = bound_s

    def pulled_at(self) -> str:
        """The stamp of the last pull that brought all, "" for none."""
        return self._cache.load().pulled_at

    def pull(self) -> Pulled:
        """Bring here what others have saved and decided.

        Raises:
            RemoteError: the shared history cannot be reached; what had come until then is here.
            HistoryError: the copy cannot be written.
        """
        with self._exchange() as exchange:
            listed, listed_marks = exchange.listed_sessions(), exchange.remote.listing(MARKS)
            done = pull.pull(exchange, listed, listed_marks)
            done.unsent = push.is_unsent(exchange, listed, listed_marks)
            return done

    def push(self) -> Pushed:
        """Send what is not there yet.

        Raises:
            RemoteError: the shared history cannot be reached; what is not there goes out with the next push.
            HistoryError: the copy cannot be written.
        """
        with self._exchange() as exchange:
            return push.push(exchange, exchange.listed_sessions(), exchange.remote.listing(MARKS))

    @contextlib.contextmanager
    def _exchange(self) -> Iterator[Exchange]:
        ends = time.monotonic() + self._bound_s
        with self._cache.locked(self._bound_s) as state:
            now = datetime.now(timezone.utc)
            silent = names.parse_stamp(state.silent_at)
            patient = silent is None or abs(now - silent) > IMPATIENT_FOR
            left_s = max(LEAST_S, ends - time.monotonic())
            remote = Remote(self.url, left_s if patient else min(left_s, IMPATIENT_S))
            exchange = Exchange(self.url, self._cache, state, remote)
            try:
                with remote:
                    yield exchange
            except RemoteError:
                if not remote.left_s() and not remote.answered:
                    state.silent_at = names.format_stamp(now)
                raise
            state.silent_at = ""
