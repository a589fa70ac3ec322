"""Use of a history, shared or not, by sessions and commands: from the option's text to a folder and messages.

The text is a folder, or the URL of a shared history. This machine keeps a copy of a shared history, which is
an ordinary history folder; a session or a command works on it, and synchronises it before and after.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_espperf.errors import HistoryError, UsageError
from pytest_espperf.history import HistoryStore, SavedSession
from pytest_espperf.history.names import horizon, parse_stamp, sort_key
from pytest_espperf.history.shared.address import is_url, parse_url
from pytest_espperf.model.artifact import Finding
from pytest_espperf.model.findings import SHARED_HISTORY, UNREADABLE_ARTIFACT
from pytest_espperf.system.homes import cache_folder, expand_user

if TYPE_CHECKING:
    from pytest_espperf.history.shared.sync import Sync

Say = Callable[[str], None]

GITIGNORE = """\
# The sessions in this folder stay out of git. To commit them, remove this file: it is not written again.
*
"""

_SHOWN = 5


def cache_root() -> Path:
    """Find the folder of this user's copies of shared histories.

    Raises:
        UsageError: this user has no home folder.
    """
    return cache_folder() / "history"


class Sent(NamedTuple):
    """Result of sending, in one line.

    Attributes:
        arrived: whether everything was sent.
        text: the line.
    """

    arrived: bool
    text: str


@dataclass
class Sharing:
    """History folder, and the shared history that it is a copy of.

    The sessions of one run have one: :meth:`pull_once` before each, :meth:`after_saving` after each, and
    :meth:`send_saved` after the last.

    Attributes:
        store: of the folder.
        sync: with the shared history; None where nothing is shared.
        source: the option that named it, for messages.
        findings: those that the verdict of each session carries: that the history may be old, what in it is
            unusable, that the repository cannot be read.
        saved: how many sessions of this run are on this machine's disk.
    """

    store: HistoryStore
    sync: Sync | None = None
    source: str = ""
    findings: list[Finding] = field(default_factory=list)
    saved: int = 0
    _last_error: str = ""
    _pulled: bool = False
    _behind: set[str] = field(default_factory=set)

    @property
    def folder(self) -> Path:
        """Folder of the sessions."""
        return self.store.folder

    def prepare(self) -> None:
        """Create the folder, see :meth:`HistoryFolder.prepare`; git ignores the content of the default one.

        Raises:
            HistoryError: it cannot be written.
        """
        made = not self.folder.exists()
        self.store.prepare()
        if made and not self.source:
            with contextlib.suppress(OSError):  # a full disk is reported by what matters
                (self.folder / ".gitignore").write_text(GITIGNORE, encoding="utf-8")

    def pull(self, say: Say, *, quiet: bool = False) -> bool:
        """Import what other machines have saved and decided, and send what could not be sent before.

        Args:
            say: takes one line for the user.
            quiet: report only what is wrong.

        Returns:
            False where the shared history was not reached.

        Raises:
            UsageError: a package for such an address is missing.
        """
        if self.sync is None:
            return True
        self.sync.check_installed(self.source)
        try:
            done = self.sync.pull()
        except HistoryError as error:
            self._warn(say, self._stale(error))
            return False
        if not quiet:
            there = "no session yet" if not done.sessions else _sessions(done.sessions)
            say(f"shared history {self.sync.url}: {there}, {done.new} new on this machine")
        if done.left:
            self._warn(
                say,
                f"the time was over before {_sessions(done.left)} could be copied: the next time does that",
            )
        for one in done.skipped[:_SHOWN]:
            say(f"skipped: {one}")
            self.findings.append(
                Finding(severity="warn", kind=UNREADABLE_ARTIFACT, message=f"skipped: {one}")
            )
        if len(done.skipped) > _SHOWN:
            self._warn(say, f"{len(done.skipped) - _SHOWN} more objects of {self.sync.url} cannot be used")
        if done.unsent:
            self.push(say, quiet=quiet)
        return True

    def add(self, findings: Iterable[Finding]) -> None:
        """Add findings to the verdict of each session, once."""
        self.findings += [finding for finding in findings if finding not in self.findings]

    def pull_once(self, say: Say, *, quiet: bool = False) -> None:
        """Pull before the first session of a run, for all of them. See :meth:`pull`."""
        if not self._pulled:
            self.pull(say, quiet=quiet)
            self._pulled = True

    def push(self, say: Say, *, quiet: bool = True) -> None:
        """Send what is not sent yet; a failure is reported, and the next synchronisation sends it.

        Args:
            say: takes one line for the user.
            quiet: report only what is wrong.
        """
        sent = self._send()
        if sent is not None and not (sent.arrived and quiet):
            say(sent.text)

    def after_saving(self, saved: SavedSession, say: Say) -> None:
        """Count a session that is on this machine's disk, and warn if the clock was wrong."""
        self.saved += 1
        if saved.clock_behind is not None and saved.clock_behind not in self._behind:
            self._behind.add(saved.clock_behind)
            why = "the clock was set back"
            if self.sync is not None:
                why = "this machine's clock, or that of the bench that saved the other one, is wrong"
            far = sort_key(saved.clock_behind).stamp > horizon()
            order = "and counts as the oldest" if far else "which is listed before it"
            say(f"WARNING: {why}: {saved.clock_behind} is later than this session, {order}")

    def send_saved(self, note: Callable[[Sent], None]) -> None:
        """Send all sessions of a run at once, if any was saved and the history is shared.

        Args:
            note: takes the result, and before it what holds if the user does not wait for it.
        """
        if self.sync is None or not self.saved:
            return
        note(self._unsent("was not waited for"))
        sent = self._send()
        if sent is not None:
            note(sent)

    def _send(self) -> Sent | None:
        if self.sync is None:
            return None
        url = self.sync.url
        try:
            done = self.sync.push()
        except HistoryError as error:
            reason = (
                "still cannot be used, see above"
                if str(error) == self._last_error
                else f"cannot be used now: {error}"
            )
            return self._unsent(reason)
        sent = [_counted(done.sessions, "session"), _counted(done.decisions, "decision")]
        what = " and ".join(words for words in sent if not words.startswith("0 ")) or "nothing new"
        there = f"{_sessions(done.there)} there; {self._copied()}"
        return Sent(arrived=True, text=f"shared: {what} to {url} ({there})")

    def _unsent(self, reason: str) -> Sent:
        assert self.sync is not None
        kept = "it is kept on this machine and is sent"
        if self.saved > 1:
            kept = f"{_sessions(self.saved)} of this run are kept on this machine and are sent"
        return Sent(
            arrived=False,
            text=f"NOT SHARED: {self.sync.url} {reason}; {kept} by the next session or command that "
            f"reaches it ({self._copied()})",
        )

    def _copied(self) -> str:
        """Describe the age of this machine's copy."""
        assert self.sync is not None
        moment = parse_stamp(self.sync.pulled_at())
        return f"this machine's copy is of {_when(moment)}" if moment else "it was never copied here"

    def _stale(self, error: HistoryError) -> str:
        """Describe what is used instead of a shared history that cannot be reached."""
        assert self.sync is not None
        self._last_error = str(error)
        cannot = f"the shared history {self.sync.url} cannot be used now: {error}"
        here = len(self.store.select())
        moment = parse_stamp(self.sync.pulled_at())
        if moment is not None:
            return f"{cannot}; going on with this machine's copy of {_when(moment)}, {_sessions(here)}"
        if here:
            return (
                f"{cannot}; it was never copied here: going on with what this machine has, {_sessions(here)}"
            )
        return f"{cannot}; it was never copied here: there is no baseline"

    def _warn(self, say: Say, message: str) -> None:
        say(f"WARNING: {message}")
        self.findings.append(Finding(severity="warn", kind=SHARED_HISTORY, message=message))


def sharing_at(text: str, here: Path, source: str) -> Sharing:
    """Open the history that a text names: a folder, relative to ``here``, or a URL.

    Raises:
        UsageError: a URL that cannot be one of a history, or a folder of an unknown user.
    """
    if not is_url(text):
        return Sharing(HistoryStore(here / expand_user(text, source)), source=source)
    # 25 ms of imports (of it filelock 9 ms) that no local history needs: a fifth of `espperf list`.
    from pytest_espperf.history.shared.sync import Sync  # noqa: PLC0415 - see above

    try:
        url = parse_url(text)
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from None
    folder = cache_root() / url.cache_name(os.environ)
    return Sharing(HistoryStore(folder), Sync(url, folder), source)


def _sessions(count: int) -> str:
    return _counted(count, "session")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _when(moment: datetime) -> str:
    """Format a moment, and how long ago it was."""
    age = _age((datetime.now(timezone.utc) - moment).total_seconds())
    return f"{moment:%Y-%m-%d %H:%M} UTC, {age} old"


def _age(seconds: float) -> str:
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}" + ("s" if count > 1 else "")
    return "less than a minute"
