"""Synchronisation of a shared history with this machine's copy: both get the same sessions and decisions.

Sessions and decisions are only added, on both sides: no writer can remove anything of another one, and the
next synchronisation completes an interrupted one. An object that is truncated, or does not match its name, is
reported and left out, and written again by a machine that has the right one.

Checkpoints are not shared. Sessions that were interrupted are shared like others: they are never a baseline,
and a machine that is discarded after its job would leave nothing else.
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
from pytest_espperf.history.shared.objects import MARKS
from pytest_espperf.history.shared.pull import Pulled
from pytest_espperf.history.shared.push import Pushed
from pytest_espperf.history.shared.remote import Remote, check_installed
from pytest_espperf.history.shared.transfer import Transfer

BOUND_S = 30.0
"""Seconds that a pull may take, and a push."""

IMPATIENT_S, IMPATIENT_FOR = 5.0, timedelta(minutes=10)
"""A server that did not answer in time gets only so many seconds, for so long."""

LEAST_S = 1.0
"""Least seconds for the server, however long another process of this machine held the lock."""


class Sync:
    """Synchronisation of a shared history with this machine's copy.

    Args:
        url: of the shared history.
        folder: this machine's copy; created if needed.
        bound_s: seconds that a pull may take, and a push; from one second up.
    """

    def __init__(self, url: HistoryUrl, folder: Path, *, bound_s: float = BOUND_S) -> None:
        self.url = url
        self._cache = Cache(url, folder)
        self._bound_s = bound_s

    def pulled_at(self) -> str:
        """Read the stamp of the last complete pull, "" for none."""
        return self._cache.load().pulled_at

    def check_installed(self, source: str) -> None:
        """Check that the packages for the address are installed.

        Args:
            source: the option that named the address, for messages.

        Raises:
            UsageError: one is missing; the message names the command that installs it.
        """
        check_installed(self.url, source)

    def pull(self) -> Pulled:
        """Import what other machines have saved and decided.

        Raises:
            RemoteError: the shared history cannot be reached; what was imported until then stays.
            HistoryError: the copy cannot be written.
        """
        with self._transfer() as transfer:
            listed, listed_marks = transfer.listed_sessions(), transfer.remote.listing(MARKS)
            done = pull.pull(transfer, listed, listed_marks)
            done.unsent = push.is_unsent(transfer, listed, listed_marks)
            return done

    def push(self) -> Pushed:
        """Send what the shared history does not have yet.

        Raises:
            RemoteError: the shared history cannot be reached; the next push sends what is missing.
            HistoryError: the copy cannot be written.
        """
        with self._transfer() as transfer:
            return push.push(transfer, transfer.listed_sessions(), transfer.remote.listing(MARKS))

    @contextlib.contextmanager
    def _transfer(self) -> Iterator[Transfer]:
        ends = time.monotonic() + self._bound_s
        with self._cache.locked(self._bound_s) as state:
            now = datetime.now(timezone.utc)
            silent = names.parse_stamp(state.silent_at)
            patient = silent is None or abs(now - silent) > IMPATIENT_FOR
            left_s = max(LEAST_S, ends - time.monotonic())
            remote = Remote(self.url, left_s if patient else min(left_s, IMPATIENT_S))
            transfer = Transfer(self.url, self._cache, state, remote)
            try:
                with remote:
                    yield transfer
            except RemoteError:
                if not remote.left_s() and not remote.answered:
                    state.silent_at = names.format_stamp(now)
                raise
            state.silent_at = ""
