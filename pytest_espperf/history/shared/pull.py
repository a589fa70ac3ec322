"""Pull: sessions and decisions of other machines are imported into this machine's copy."""

from __future__ import annotations

import contextlib
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from pytest_espperf.errors import ArtifactError, HistoryError, NewerSchemaError, RemoteError
from pytest_espperf.history import files, marks, names
from pytest_espperf.history.adopt import Adoption
from pytest_espperf.history.load import MAX_BYTES, load_listed, read_bounded
from pytest_espperf.history.rows import Query
from pytest_espperf.history.shared import objects
from pytest_espperf.history.shared.objects import MARKS, SESSIONS
from pytest_espperf.history.shared.remote_errors import words_of
from pytest_espperf.history.shared.storage import Contents, side_by_side
from pytest_espperf.history.shared.transfer import Listing, Transfer, batches, count, summary_name


@dataclass
class Pulled:
    """Result of a pull.

    Attributes:
        sessions: how many the shared history has.
        new: how many of them were imported.
        left: how many are not imported yet, because the time was over.
        skipped: objects that cannot be used, and why.
        unsent: whether something here is missing in the shared history.
    """

    sessions: int = 0
    new: int = 0
    left: int = 0
    skipped: list[str] = field(default_factory=list)
    unsent: bool = False


def pull(transfer: Transfer, listed: Listing, listed_marks: Listing) -> Pulled:
    """Import what is not here yet.

    Args:
        transfer: both sides.
        listed: the sessions of the shared history.
        listed_marks: the decisions of the shared history.

    Raises:
        RemoteError: the shared history does not answer (any more); what was imported until then stays.
        HistoryError: the copy cannot be written.
    """
    work = _Pull(transfer, Pulled(sessions=count(listed)))
    work.bring_decisions(listed_marks)
    work.bring_sessions(listed)
    transfer.decisions.apply(transfer.store.select())
    done = work.done
    if done.new:
        work.renew_latest()
    if not done.left:
        transfer.state.pulled_at = names.format_stamp(datetime.now(timezone.utc))
    transfer.state.sessions = done.sessions
    return done


class _Pull:
    def __init__(self, transfer: Transfer, done: Pulled) -> None:
        self.done = done
        self._transfer = transfer
        self._cache = transfer.cache

    def bring_decisions(self, listed: Listing) -> None:
        decisions = self._transfer.decisions
        unknown = [name for name in listed if objects.is_decision(name) and name not in decisions]
        for batch in batches(self._worth(MARKS, unknown, listed, marks.MAX_BYTES), _size_in(listed)):
            found = self._transfer.remote.read(MARKS, batch)
            for name in batch:
                self._take(MARKS, name, listed, found, decisions.learn)

    def bring_sessions(self, listed: Listing) -> None:
        store = self._transfer.store
        here = {objects.session_name(row.session_id) for row in store.select()}
        unknown = [
            name for name in listed if (session := objects.parse_session(name)) and session not in here
        ]
        wanted = self._worth(SESSIONS, unknown, listed, MAX_BYTES)
        if not wanted:
            return
        adoption = Adoption(store)
        shutil.rmtree(self._cache.incoming, ignore_errors=True)
        files.make_writable(self._cache.incoming)
        came = 0
        for batch in batches(wanted, _size_in(listed)):
            summaries = [summary for name in batch if (summary := summary_name(name)) in listed]
            try:
                found = self._transfer.remote.read(SESSIONS, batch + summaries)
            except RemoteError:
                if self._transfer.remote.left_s() or not self.done.new:
                    raise
                self.done.left = len(wanted) - came
                return
            came += len(batch)
            self._bring(batch, listed, found, adoption)

    def _bring(self, batch: Sequence[str], listed: Listing, found: Contents, adoption: Adoption) -> None:
        # They are imported without marks; of one that was here before, the marks were not withdrawn.
        for name in batch:
            self._transfer.decisions.forget(objects.parse_session(name) or "")
        self._cache.save(self._transfer.state)
        of_second: dict[str, list[str]] = defaultdict(list)

        def unpack(name: str, data: bytes) -> None:
            of_second[self._unpack(name, data, found.get(summary_name(name)))].append(name)

        def adopt(name: str, _: bytes) -> None:
            adoption.adopt(self._cache.incoming / name)

        def adopt_all(alike: Sequence[str]) -> int:
            # Sessions of one second get their numbers in the order in which they were written.
            in_order = sorted(alike, key=lambda name: (listed[name].written, name))
            return sum(self._take(SESSIONS, name, listed, found, adopt) for name in in_order)

        side_by_side(lambda name: self._take(SESSIONS, name, listed, found, unpack), batch)
        self.done.new += sum(side_by_side(adopt_all, list(of_second.values())))

    def _unpack(self, name: str, data: bytes, summary: object) -> str:
        """Write a session and its summary into the folder of imports; returns the session's stamp."""
        artifact = objects.check_session(name, data)
        path = self._cache.incoming / name
        try:
            path.write_bytes(data)
            if isinstance(summary, bytes):
                path.with_suffix(".md").write_bytes(summary)
        except OSError as error:
            reason = error.strerror or str(error)
            raise HistoryError(f"the history folder {path.parent} cannot be written: {reason}") from error
        return names.stamp_at(artifact.timestamp_utc)

    def _worth(self, folder: str, unknown: Sequence[str], listed: Listing, limit: int) -> list[str]:
        """List those that are not known to be bad or too large, newest first: the time may not suffice."""
        worth = []
        for name in sorted(unknown, key=lambda name: listed[name].written, reverse=True):
            wrong = self._transfer.examined(folder, name, listed[name])
            if listed[name].size > limit:
                wrong = f"is larger than {limit:,} bytes ({listed[name].size:,})"
            if wrong:
                self._skip(folder, name, wrong)
            else:
                worth.append(name)
        return worth

    def _take(
        self,
        folder: str,
        name: str,
        listed: Listing,
        found: Contents,
        take: Callable[[str, bytes], None],
    ) -> bool:
        """Take an object, and report what is wrong with it (recorded if permanent). Whether it was good."""
        data = found.get(name)
        if not isinstance(data, bytes):
            self._skip(folder, name, f"cannot be read: {words_of(data)}" if data is not None else "is gone")
            return False
        try:
            take(name, data)
        except ArtifactError as error:
            wrong = f"{error.reason} at {error.field}" if error.field else error.reason
            self._skip(folder, name, wrong)
            if not isinstance(error, NewerSchemaError):
                self._transfer.note(folder, name, listed[name], wrong)
            return False
        return True

    def _skip(self, folder: str, name: str, wrong: str) -> None:
        self.done.skipped.append(f"{self._transfer.url}/{folder}/{name}: {wrong}")

    def renew_latest(self) -> None:
        """Replace ``latest.json`` by the newest completed session of all, unless this machine's is newer."""
        folder = self._cache.folder
        newest = self._transfer.store.select(Query(completed_only=True, limit=1))
        own_id = own_stamp = ""
        with contextlib.suppress(ArtifactError):
            own = load_listed(folder / names.LATEST)
            own_id, own_stamp = own.session_id, names.stamp_at(own.timestamp_utc)
        if own_stamp > names.horizon():
            own_stamp = ""  # its clock was wrong
        # One of the same second that is the newest here came after this machine's.
        if newest and newest[0].session_id != own_id and newest[0].stamp >= own_stamp:
            with contextlib.suppress(ArtifactError):
                files.write_atomic(folder, names.LATEST, read_bounded(folder / newest[0].name))


def _size_in(listed: Listing) -> Callable[[str], int]:
    return lambda name: listed[name].size
