"""Real HTTP servers with the routes of the built-in profiles, for tests and benches.

* ``microdot``: MicroPython with microdot, one asyncio loop, a template rendered in Python
  (:file:`microdot_board.py`);
* ``two_writes``: a C server with one thread that sends head and body by a write each, as many boards do
  (:file:`two_writes.c`); ``one_write`` is the same with one write.

Each runs in a process of its own, on a loopback port, for the time of a block. ``heavy`` multiplies the work
of the template routes (profile ``python_heavy``), from the start or by :meth:`RealServer.cost` while it runs.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from processes import free_port, listens, running

HERE = Path(__file__).parent
MICROPYTHON = os.environ.get("MICROPYTHON") or shutil.which("micropython")
MICRODOT = importlib.util.find_spec("microdot")
CC = shutil.which("cc") if os.name == "posix" else None
TRIES = 5

needs_micropython = pytest.mark.skipif(
    MICROPYTHON is None or MICRODOT is None,
    reason="no MicroPython in PATH or MICROPYTHON (see .ci/micropython.sh), or no microdot (dev extra)",
)
needs_cc = pytest.mark.skipif(CC is None, reason="no C compiler (cc), or not a POSIX system")


@dataclass(frozen=True)
class RealServer:
    """A server that runs.

    Attributes:
        port: where it listens, on 127.0.0.1.
        pid: its process.
    """

    port: int
    pid: int

    @property
    def address(self) -> str:
        """What ``--device-ip`` takes."""
        return f"127.0.0.1:{self.port}"

    def cost(self, heavy: float) -> None:
        """Make the template routes ``heavy`` times as much work as they are by default."""
        httpx.get(f"http://{self.address}/cost?heavy={heavy}", trust_env=False).raise_for_status()


Start = Callable[[Path, float], AbstractContextManager[RealServer]]


@contextmanager
def microdot(folder: Path, heavy: float = 1.0) -> Iterator[RealServer]:
    """MicroPython with microdot; ``folder`` takes what it imports.

    MicroPython cannot say which port the system chose, so that one is chosen before: where somebody else has
    taken it by then, another is.
    """
    assert MICROPYTHON is not None
    assert MICRODOT is not None
    assert MICRODOT.origin is not None
    library = folder / "micropython"  # of nothing else: the rest of site-packages is CPython's
    if not library.exists():
        package = Path(MICRODOT.origin).parent
        shutil.copytree(package, library / "microdot", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "MICROPYPATH": f".frozen:{library}"}
    with ExitStack() as stack:
        for _ in range(TRIES):
            port = free_port()
            command = (MICROPYTHON, str(HERE / "microdot_board.py"), str(port), str(heavy))
            process = stack.enter_context(running(command, stdin=subprocess.PIPE, env=environment))
            if listens(process, port):
                yield RealServer(port, process.pid)
                return
        raise RuntimeError("MicroPython with microdot does not start")


@contextmanager
def two_writes(folder: Path, heavy: float = 1.0, writes: int = 2) -> Iterator[RealServer]:
    """The C server, which sends an answer by so many writes; ``folder`` takes the program."""
    assert CC is not None
    program = folder / "two_writes"
    if not program.exists():
        source = str(HERE / "two_writes.c")
        subprocess.run((CC, "-O2", "-Wall", "-Wextra", "-o", str(program), source), check=True)
    command = (str(program), str(writes), str(heavy))
    with running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield RealServer(int(process.stdout.readline()), process.pid)


SERVERS: Mapping[str, Start] = {
    "microdot": microdot,
    "two_writes": two_writes,
    "one_write": partial(two_writes, writes=1),
}
"""By name; each takes a folder and ``heavy``."""


def missing(server: str) -> str | None:
    """Why a server of that name cannot run here, or None."""
    mark = needs_micropython if server == "microdot" else needs_cc
    return str(mark.kwargs["reason"]) if mark.args[0] else None
