"""A labgrid bench on loopback: coordinator, exporters and the client, as processes of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 60.0
# labgrid-client's own entry, in a fork for each command: what takes long is to import it.
_CLIENT = """
import json, os, signal, sys, tempfile
from labgrid.remote import client
for line in sys.stdin:
    order = json.loads(line)
    with tempfile.TemporaryFile("w+") as printed:
        if not (pid := os.fork()):
            signal.alarm(60)
            os.dup2(printed.fileno(), 1)
            os.dup2(printed.fileno(), 2)
            os.environ.update(order["environment"])
            sys.argv[1:] = order["words"]
            client.main()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        printed.seek(0)
        print(json.dumps([code, printed.read()]), flush=True)
"""
HOST = "bench"
USER = "tester"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LabBench:
    """A coordinator with its places, and exporters of addresses at which nothing need answer.

    Files of YAML are written as JSON, which is YAML.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._client: subprocess.Popen[str] | None = None

    @classmethod
    @contextmanager
    def running(cls, folder: Path, places: Mapping[str, str]) -> Iterator[LabBench]:
        """A bench whose coordinator runs, with places: by name the EXPORTER/GROUP of their resources."""
        bench = cls(folder)
        kept = {name: _place(group) for name, group in places.items()}
        (folder / "places.yaml").write_text(json.dumps(kept), encoding="utf-8")
        try:
            bench.start_coordinator()
            yield bench
        finally:
            bench.close()

    def start_coordinator(self) -> None:
        """Start it with the places that it keeps, at the bench's one address."""
        coordinator = self._start("coordinator", "-l", self.address)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert coordinator.poll() is None, self.said("coordinator")
                assert time.monotonic() < deadline, self.said("coordinator")
                time.sleep(0.05)
            else:
                return

    def start_exporter(self, name: str, groups: Mapping[str, Mapping[str, object]]) -> None:
        """Export groups of resources under a name, and wait until the coordinator has them."""
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(groups), encoding="utf-8")
        exporter = self._start("exporter", "-n", name, "--hostname", "127.0.0.1", str(path), key=name)
        deadline = time.monotonic() + PATIENCE_S
        while f"{name}/" not in self.client("resources"):
            assert exporter.poll() is None, self.said(name)
            assert time.monotonic() < deadline, self.said(name)
            time.sleep(0.1)

    def client(self, *commands: str, user: str = USER, token: str = "") -> str:
        """What ``labgrid-client`` prints at a user of this bench; each command must succeed."""
        if self._client is None:
            self._client = subprocess.Popen(
                [sys.executable, "-c", _CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        printed = ""
        for command in commands:
            environment = {**self._environment(user), "LG_TOKEN": token}
            order = {"words": command.split(), "environment": environment}
            self._client.stdin.write(json.dumps(order) + "\n")
            self._client.stdin.flush()
            code, said = json.loads(self._client.stdout.readline())
            assert code == 0, f"{command}: exit code {code}: {said}"
            printed += said
        return printed

    def acquired(self) -> list[str]:
        """The names of the places that somebody has."""
        return [line.split()[2] for line in self.client("who").splitlines()[1:]]

    def kill(self, key: str) -> None:
        """End the coordinator or an exporter, by its process id, with no chance to say good-bye."""
        process = self._running.pop(key)
        process.kill()
        process.wait(PATIENCE_S)

    def close(self) -> None:
        """End all that runs."""
        for key in list(self._running):
            self.kill(key)
        if self._client is not None:
            self._client.communicate(timeout=PATIENCE_S)

    def said(self, key: str) -> str:
        """What a process printed so far."""
        return (self.folder / f"{key}.log").read_text(encoding="utf-8", errors="replace")

    def _start(self, module: str, *words: str, key: str = "") -> subprocess.Popen[bytes]:
        with (self.folder / f"{key or module}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", f"labgrid.remote.{module}", *words],
                env={**os.environ, **self._environment(USER)},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._running[key or module] = process
        return process

    def _environment(self, user: str) -> dict[str, str]:
        return {"LG_COORDINATOR": self.address, "LG_HOSTNAME": HOST, "LG_USERNAME": user}


def service(address: str = "127.0.0.1", **values: object) -> dict[str, object]:
    """A resource that is a board."""
    return {"cls": "NetworkService", "address": address, "username": "-", **values}


def _place(group: str) -> dict[str, object]:
    exporter, _, name = group.partition("/")
    match = {"exporter": exporter, "group": name, "cls": "*", "name": None, "rename": None}
    return {"aliases": [], "comment": "", "tags": {}, "matches": [match], "created": 1.0, "changed": 1.0}
