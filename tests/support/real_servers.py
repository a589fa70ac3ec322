"""Real HTTP servers with the routes of the built-in profiles, for tests and benches.

* ``microdot``: MicroPython with microdot, one asyncio loop, a template rendered in Python
  (:file:`microdot_board.py`);
* ``two_writes``: a C server with one thread that sends head and body by a write each, as many boards do
  (:file:`two_writes.c`); ``one_write`` is the same with one write;
* ``http_server``: Python's http.server, HTTP/1.0, a connection per request (:file:`http_server_board.py`);
* ``nginx`` and ``lighttpd``: quick routes from files, the template routes from ``one_write`` behind them.

Each runs in a process of its own, on a loopback port, for the time of a block. ``heavy`` multiplies the work
of the template routes (profile ``python_heavy``), from the start or by :meth:`RealServer.cost` while it runs.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from support.processes import free_port, listens, running

HERE = Path(__file__).parent
MICROPYTHON = os.environ.get("MICROPYTHON") or shutil.which("micropython")
MICRODOT = importlib.util.find_spec("microdot")
CC = shutil.which("cc") if os.name == "posix" else None
PROGRAMS = {
    name: shutil.which(name) or shutil.which(name, path="/usr/sbin") for name in ("nginx", "lighttpd")
}
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
        url = f"http://{self.address}/cost?heavy={heavy}"
        httpx.get(url, trust_env=False, timeout=60).raise_for_status()


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


@contextmanager
def http_server(folder: Path, heavy: float = 1.0) -> Iterator[RealServer]:
    """Python's http.server."""
    command = (sys.executable, str(HERE / "http_server_board.py"), str(heavy))
    with running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield RealServer(int(process.stdout.readline()), process.pid)


FILES = {
    "hello": b"hello",
    "api/ping": b'{"ok": true}',
    "query-typed": b'{"page": 2}',
    "deps": b'{"value": 42}',
    "file": b"0123456789" * 1600,
    "static/large.txt": b"0123456789" * 1600,
}
BEHIND = ("/template", "/template-compat", "/cost")
"""Routes that a server asks another one for."""


@contextmanager
def proxy(folder: Path, heavy: float = 1.0, *, program: str) -> Iterator[RealServer]:
    """nginx or lighttpd, with files for the quick routes and the C server behind the others."""
    www = folder / "www"
    for name, content in FILES.items():
        (www / name).parent.mkdir(parents=True, exist_ok=True)
        (www / name).write_bytes(content)
    with two_writes(folder, heavy, writes=1) as behind:
        for _ in range(TRIES):
            port = free_port()
            config = folder / f"{program}.conf"
            make = nginx_config if program == "nginx" else lighttpd_config
            config.write_text(make(folder, port, behind.port))
            path = PROGRAMS[program]
            assert path is not None
            flags = ["-c"] if program == "nginx" else ["-D", "-f"]
            with running([path, *flags, str(config)], stderr=subprocess.DEVNULL) as process:
                if listens(process, port):
                    yield RealServer(port, process.pid)
                    return
    raise RuntimeError(f"{program} does not start")


def nginx_config(folder: Path, port: int, behind: int) -> str:
    """Of an nginx of one process."""
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    routes = "".join(f"location {route} {{ proxy_pass http://127.0.0.1:{behind}; }} " for route in BEHIND)
    return f"""
        daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
        events {{ worker_connections 64; }}
        http {{
            access_log off; {temporary}
            server {{ listen 127.0.0.1:{port}; root {folder}/www; default_type text/plain; {routes} }}
        }}
    """


def lighttpd_config(folder: Path, port: int, behind: int) -> str:
    """Of a lighttpd that runs in the foreground."""
    routes = ", ".join(
        f'"{route}" => (("host" => "127.0.0.1", "port" => {behind}))' for route in ("/template", "/cost")
    )
    return f"""
        server.modules = ("mod_proxy")
        server.document-root = "{folder}/www"
        server.bind = "127.0.0.1"
        server.port = {port}
        server.errorlog = "{folder}/lighttpd.log"
        mimetype.assign = ("" => "text/plain")
        proxy.server = ({routes})
    """


SERVERS: Mapping[str, Start] = {
    "microdot": microdot,
    "two_writes": two_writes,
    "one_write": partial(two_writes, writes=1),
    "http_server": http_server,
    "nginx": partial(proxy, program="nginx"),
    "lighttpd": partial(proxy, program="lighttpd"),
}
"""By name; each takes a folder and ``heavy``."""


def missing(server: str) -> str | None:
    """Why a server of that name cannot run here, or None."""
    if server == "http_server":
        return None
    if server in PROGRAMS and PROGRAMS[server] is None:
        return f"{server} is not installed"
    mark = needs_micropython if server == "microdot" else needs_cc
    return str(mark.kwargs["reason"]) if mark.args[0] else None
