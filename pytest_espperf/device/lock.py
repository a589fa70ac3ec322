"""One session per board: a lock that the operating system frees, whatever becomes of its holder.

It lies in the user's own state folder, under the board's address, so that two tools with two history
folders still see each other. (The original's lock lay in the history folder, and two sessions halved
each other's throughput.)
"""

from __future__ import annotations

import os
import re
import socket
import sys
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from pytest_espperf.errors import BoardBusyError, UsageError
from pytest_espperf.model.encoding import encodable
from pytest_espperf.model.workload import Target
from pytest_espperf.system import regular
from pytest_espperf.system.homes import state_folder
from pytest_espperf.system.redaction import redact, redact_words

_NOTE_BYTES = 64 * 1024


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lock; written beside it, for the message of the refusal."""

    pid: int
    host: str
    started_utc: str
    command: str
    session: str = ""


def lock_folder() -> Path:
    """Locate the folder of the locks of this user's boards.

    Raises:
        UsageError: nowhere can they.
    """
    return state_folder() / "locks"


class BoardLock:
    """The lock of one board, and of one more file where the user names one.

    Args:
        target: where the board is.
        extra: the other file.
        folder: where the locks lie.
        session: id of the session that the board is measured for; shown to others that find it locked.
    """

    def __init__(
        self, target: Target, *, extra: Path | None = None, folder: Path | None = None, session: str = ""
    ) -> None:
        self._board = f"{target.address}:{target.port}"
        name = re.sub(r"[^A-Za-z0-9.]+", "-", self._board)
        self._paths = [(folder or lock_folder()) / f"board-{name}.lock"]
        if extra is not None:
            self._paths.append(extra)
        self._session = session
        self._held: ExitStack | None = None

    def acquire(self) -> None:
        """Take the lock, or name its holder. Never waits.

        Raises:
            BoardBusyError: another live process has it; names its pid, host, start and command.
            UsageError: the lock file cannot be made.
        """
        with ExitStack() as stack:
            for path in self._paths:
                self._take(path, stack)
            self._held = stack.pop_all()

    def _take(self, path: Path, stack: ExitStack) -> None:
        lock = FileLock(path, is_singleton=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            holder = _read_holder(path)
            who = _described(holder) if holder is not None else f"holder unknown, lock file {path}"
            raise BoardBusyError(
                f"the board {self._board} is being measured by another session ({who}); "
                "wait for it to end, or stop it",
                session=holder.session if holder is not None else "",
            ) from None
        except OSError as error:
            raise UsageError(f"the lock file {path} cannot be made ({error.strerror or error})") from None
        stack.callback(lock.release)
        holder = Holder(
            pid=os.getpid(),
            host=socket.gethostname(),
            started_utc=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            command=encodable(" ".join(redact_words(sys.argv))),
            session=self._session,
        )
        # The holder's file only improves a message: a full disk must not stop the session here.
        with suppress(OSError):
            _holder_path(path).write_bytes(msgspec.json.encode(holder))
        stack.callback(_forget, _holder_path(path))

    def release(self) -> None:
        """Give it back; idempotent."""
        if self._held is not None:
            self._held.close()
            self._held = None


def _holder_path(lock: Path) -> Path:
    return lock.with_name(lock.name + ".json")


def _forget(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _read_holder(lock: Path) -> Holder | None:
    try:
        return msgspec.json.decode(regular.read_whole(_holder_path(lock), _NOTE_BYTES), type=Holder)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _described(holder: Holder) -> str:
    command = redact(holder.command)[:300]  # an earlier version may have written it
    return f"pid {holder.pid} on {holder.host}, started {holder.started_utc}, command: {command}"
