"""The reference device as a process of its own, tied to the life of this one."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from urllib.parse import urlsplit

from pytest_espperf.errors import SimError
from pytest_espperf.sim.config import CONSOLE, READY, SimConfig
from pytest_espperf.system.tls import tls_context

_TAIL_LINES = 20
_STOP_S = 3.0


class SimProcess:
    """A running reference device. Made by :meth:`start`; usable as a context manager.

    It ends when its standard input does, so it cannot outlive this process, however that ends. It
    is kept out of the terminal's process group: Ctrl-C is this process's business, and the device
    answers until it is stopped.
    """

    def __init__(self, process: subprocess.Popen[str], ca_file: Path | None = None) -> None:
        self._process = process
        self._ca_file = ca_file
        self._stderr: deque[str] = deque(maxlen=_TAIL_LINES)
        self._stdout: queue.Queue[str | None] = queue.Queue()
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = (
            _reader(process.stdout, self._stdout.put, end=lambda: self._stdout.put(None)),
            _reader(process.stderr, self._stderr.append),
        )
        self.host = ""
        self.port = 0
        self.console_url = ""

    @classmethod
    def start(
        cls,
        config: SimConfig | None = None,
        *,
        timeout_s: float = 15.0,
        ca_file: Path | None = None,
        console: str = "",
    ) -> SimProcess:
        """Start a device on a free port of 127.0.0.1 and wait until it listens.

        With a ``ca_file`` it speaks HTTPS and writes there what verifies its certificate. With a
        ``console`` (``socket`` or ``pty``) its serial console is at ``console_url``.

        Raises:
            SimError: it did not start within ``timeout_s``, or ended instead.
        """
        args = () if config is None else config.to_args()
        command = [sys.executable, "-m", "pytest_espperf.sim", "--port", "0", "--exit-with-stdin", *args]
        if ca_file is not None:
            command.append(f"--ca-out={ca_file}")
        if console:
            command.append(f"--console={console}")
        try:
            process = _popen(command)
        except OSError as error:
            message = f"the reference device could not be started with {sys.executable}: {error}"
            raise SimError(message) from None
        started = cls(process, ca_file)
        try:
            started._await_ready(timeout_s)
        except BaseException:
            started.stop()
            raise
        return started

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def stderr_tail(self) -> str:
        """The last lines it wrote to standard error."""
        return "".join(self._stderr).strip()

    def configuration(self) -> dict[str, Any]:
        """Read the settings in force, as JSON.

        Raises:
            SimError: the device did not answer.
        """
        return self._control("GET", None)

    def configure(self, **changes: Any) -> dict[str, Any]:
        """Change settings while it runs, by the names of ``POST /sim/config``; return all in force.

        Raises:
            SimError: the device did not answer, or refused a value (the message says which).
        """
        return self._control("POST", json.dumps(changes))

    def stop(self) -> None:
        """End the process. Takes a few seconds at most; doing it again does nothing."""
        process = self._process
        with contextlib.suppress(OSError):  # closing flushes, into a pipe that may be broken
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
        for thread in self._readers:
            thread.join(_STOP_S)

    def __enter__(self) -> SimProcess:  # noqa: PYI034 - typing.Self needs Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _await_ready(self, timeout_s: float) -> None:
        try:
            line = self._stdout.get(timeout=timeout_s)
            if line is not None and line.startswith(CONSOLE):
                self.console_url = line.removeprefix(CONSOLE).strip()
                line = self._stdout.get(timeout=timeout_s)
        except queue.Empty:
            message = f"the reference device did not start within {timeout_s:g} s{self._output()}"
            raise SimError(message) from None
        if line is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
            self._readers[1].join(_STOP_S)
            code = self._process.poll()
            raise SimError(f"the reference device ended at its start with exit code {code}{self._output()}")
        url = urlsplit(line.removeprefix(READY).strip())
        if not line.startswith(READY) or url.hostname is None or url.port is None:
            raise SimError(
                f"the reference device printed {line.strip()!r} instead of its address{self._output()}"
            )
        self.host, self.port = url.hostname, url.port

    def _control(self, method: str, body: str | None) -> dict[str, Any]:
        if not self.alive:
            code = self._process.poll()
            raise SimError(f"the reference device has ended with exit code {code}{self._output()}")
        status, answer = self._exchange(method, body)
        try:
            data = json.loads(answer)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise SimError(f"the reference device answered /sim/config with {answer[:80]!r}")
        if status != 200:
            raise SimError(f"the reference device refused the change: {data.get('error', status)}")
        return data

    def _exchange(self, method: str, body: str | None) -> tuple[int, bytes]:
        deadline = time.monotonic() + _CONTROL_S
        while True:
            connection = self._connection()
            try:
                connection.request(method, "/sim/config", body, {"Connection": "close"})
                response = connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException) as error:
                # Down for a reboot, or out of sockets: both pass.
                if time.monotonic() >= deadline or not self.alive:
                    raise SimError(
                        f"the reference device did not answer /sim/config: {error!r}{self._output()}"
                    ) from None
            finally:
                connection.close()
            time.sleep(_CONTROL_PAUSE_S)

    def _connection(self) -> http.client.HTTPConnection:
        if self._ca_file is None:
            return http.client.HTTPConnection(self.host, self.port, timeout=_CONTROL_S)
        context = tls_context(str(self._ca_file))
        return http.client.HTTPSConnection(self.host, self.port, timeout=_CONTROL_S, context=context)

    def _output(self) -> str:
        tail = self.stderr_tail
        return f"; its last output: {tail}" if tail else ""


_CONTROL_S = 5.0
_CONTROL_PAUSE_S = 0.05


def _popen(command: list[str]) -> subprocess.Popen[str]:
    # The child imports this very package, wherever it lies, and nothing from the working directory.
    package_root = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    path = package_root if not inherited else os.pathsep.join((package_root, inherited))
    env = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    # A group of its own on either platform: Ctrl-C in the terminal is not meant for the device.
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        encoding="utf-8",
        errors="replace",
        creationflags=flags,
        start_new_session=sys.platform != "win32",
    )


def _reader(stream: IO[str], take: Any, end: Any = lambda: None) -> threading.Thread:
    """Read a pipe to its end in a thread, so that the child never waits for us; then close it."""

    def read() -> None:
        with stream:
            for line in stream:
                take(line)
        end()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread
