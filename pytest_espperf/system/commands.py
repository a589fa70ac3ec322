"""Running commands of others: bounded in time and in memory, whatever they start and print.

A command is done when its own process (for a text: its shell) has ended, not when its output does: a serial
server that a script leaves running holds the pipe open for good. Of the output the end is kept.
"""

from __future__ import annotations

import locale
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

KEPT_BYTES = 64 * 1024
"""How much of a command's output is kept: its end."""

_CHUNK_BYTES = 64 * 1024
_DRAIN_S = 0.5
_LATE_PAUSE_S = 0.1
_END_S = 5.0


@dataclass(frozen=True)
class Done:
    """How a command ended.

    Attributes:
        code: its exit code.
        output: the last bytes that it wrote, at most as many as were asked for.
    """

    code: int
    output: bytes

    @property
    def text(self) -> str:
        """The output as text, in the system's encoding."""
        return self.output.decode(locale.getpreferredencoding(do_setlocale=False), "replace")


def run(
    command: str | Sequence[str],
    timeout_s: float,
    *,
    keep: int = KEPT_BYTES,
    stderr: int | IO[bytes] = subprocess.STDOUT,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
) -> Done:
    """Run a command to its end; on a timeout, or an exception, it is ended with all that it started.

    Processes that left its group (a daemon, by ``setsid``) may survive that; they are not waited for.

    Args:
        command: a text is the user's own, and given to the system's shell.
        timeout_s: seconds that it may take.
        keep: bytes of the output that are kept.
        stderr: where its complaints go; by default they are part of the output.
        environment: its variables; by default this process's.
        folder: that it works in; by default this process's.
        stdin: what it reads; nothing by default.

    Raises:
        subprocess.TimeoutExpired: it was not done in time; ``output`` holds its last bytes.
        OSError: it cannot be started.
    """
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP  # Ctrl-C in the terminal is this process's business
    process = subprocess.Popen(  # noqa: S603 - a text is the user's own command, written for a shell
        command,
        shell=isinstance(command, str),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=folder,
        bufsize=0,
        env=environment,
        creationflags=flags,
        start_new_session=True,  # a group of its own, to be ended as one; Windows ignores it
    )
    assert process.stdout is not None
    tail = _Tail(process.stdout, keep)
    tail.start()
    try:
        process.wait(timeout_s)
    except BaseException as error:
        end_tree(process)
        if isinstance(error, subprocess.TimeoutExpired):
            error.output = tail.take()
        raise
    return Done(process.returncode, tail.take())


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started: a flashing tool left behind would hold the serial port.

    It must have been started with ``start_new_session``. Takes some seconds at most.
    """
    if sys.platform == "win32":
        words = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(  # noqa: S603 - fixed words
                words, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_END_S
            )
    else:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(OSError):
        process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)


class _Tail(threading.Thread):
    """Reads a pipe to its end, so that nobody waits for us to read, and keeps the last bytes.

    The end may never come: then this thread lives as long as whoever holds the pipe, and reads slowly, so
    that no survivor takes time from the load generator.
    """

    def __init__(self, stream: IO[bytes], keep: int) -> None:
        super().__init__(name="espperf-command", daemon=True)
        self._stream = stream
        self._keep = keep
        self._kept = b""
        self._late = threading.Event()

    def run(self) -> None:
        """Read until the end."""
        with self._stream, suppress(OSError):
            while chunk := self._stream.read(_CHUNK_BYTES):
                if self._late.is_set():
                    time.sleep(_LATE_PAUSE_S)
                else:
                    self._kept = (self._kept + chunk)[-self._keep :]

    def take(self) -> bytes:
        """Return what was kept; what comes later is read and dropped."""
        self.join(_DRAIN_S)
        self._late.set()
        return self._kept
