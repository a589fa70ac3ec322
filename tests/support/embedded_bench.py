"""What pytest-embedded is tried with: a project, and boards that their serial port resets, as DTR does."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.short_sessions import SHORT

from pytest_espperf.sim import SimConfig, SimProcess

ORDERS = (("pytest_embedded", "espperf"), ("espperf", "pytest_embedded"))

ENVIRONMENT = {
    **SHORT,
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}
"""Of each session; plugins are named by ``-p``, so that it is known in which order."""

Samples = dict[str, dict[frozenset[tuple[str, str]], float]]
"""Of each name the values by labels."""

DUMP = """
import argparse, json

class Parser:
    def __init__(self):
        self.options, self.ini = argparse.ArgumentParser(add_help=False), []

    def getgroup(self, *_, **__):
        return self

    def addoption(self, *names, **how):
        self.options.add_argument(*names, **how)

    def addini(self, name, *_, **__):
        self.ini.append(name)

def pytest_collection_finish(session):
    plugins = session.config.pluginmanager
    found = {"order": [name for name, _ in plugins.list_name_plugin()]}
    for name in ("pytest_embedded", "espperf"):
        plugin, parser = plugins.get_plugin(name), Parser()
        plugin.pytest_addoption(parser)
        package = plugin.__name__.partition(".")[0]
        registered = [plugin for _, plugin in plugins.list_name_plugin() if plugin and (
            getattr(plugin, "__name__", "") or type(plugin).__module__).partition(".")[0] == package]
        found[name] = {
            "flags": [flag for action in parser.options._actions for flag in action.option_strings],
            "dests": [action.dest for action in parser.options._actions],
            "ini": parser.ini,
            # Of such a hook the first that gives an answer keeps all others from being asked.
            "answers": [
                caller.name
                for plugin in registered
                for caller in plugins.get_hookcallers(plugin)
                if caller.spec and caller.spec.opts["firstresult"]
                for impl in caller.get_hookimpls()
                if impl.plugin is plugin and not impl.hookwrapper and not impl.wrapper
            ],
        }
    markers = [line.partition(":")[0].partition("(")[0] for line in session.config.getini("markers")]
    found["markers"] = markers
    session.config.rootpath.joinpath("found.json").write_text(json.dumps(found))
"""
"""A plugin that writes found.json: what the two plugins register."""

ADDRESS = b"I (2311) example_connect: - IPv4 address: 127.0.0.1,\r\n"
UP = b"http server on port"
EACH_S = 0.3


class Board:
    """A reference device that boots when its serial port is opened, and then says its address.

    Attributes:
        device: behind the port.
        port: what pyserial opens.
        boots: how many times the port was opened.
    """

    def __init__(self, device: SimProcess) -> None:
        import pty  # there is none on Windows
        import tty  # likewise

        self.device = device
        self.boots = 0
        self._console = os.open(device.console_url, os.O_RDWR | os.O_NOCTTY)
        self._line, theirs = pty.openpty()
        tty.setraw(theirs)
        self.port = os.ttyname(theirs)
        os.close(theirs)  # from now on the line is hung up wherever nobody has opened it
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Board]:
        """One, until the end of the block."""
        config = SimConfig(time_scale=0.1, noise="none", boot_info=True)
        with SimProcess.start(config, console="pty") as device:
            board = cls(device)
            try:
                yield board
            finally:
                board._close()

    def _serve(self) -> None:
        """Hand on what the device prints, once it was reported to reboot by the port's being opened."""
        was_open, heard, said_at = False, b"", 0.0
        while not self._ending.wait(0.02):
            is_open = not self._hung_up()
            if is_open and not was_open:
                self.boots += 1
                heard = b""
                self._reset()
            was_open = is_open
            while select.select([self._console], [], [], 0)[0]:
                printed = os.read(self._console, 4096)
                heard += printed
                self._say(printed)
            # A board that is up says its address more than once: what comes before pyserial has flushed
            # its buffers is lost.
            if UP in heard and time.monotonic() - said_at > EACH_S:
                said_at = time.monotonic()
                self._say(ADDRESS)

    def _hung_up(self) -> bool:
        line = select.poll()
        line.register(self._line, 0)
        return any(event & select.POLLHUP for _, event in line.poll(0))

    def _reset(self) -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{self.device.port}/debug/reboot", method="POST")
        urllib.request.urlopen(request, timeout=60).close()

    def _say(self, data: bytes) -> None:
        if not self._hung_up():
            os.write(self._line, data)

    def _close(self) -> None:
        self._ending.set()
        self._thread.join(10)
        os.close(self._line)
        os.close(self._console)


class Project:
    """A firmware repository; pytest is run in it as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("pytest.ini", "[pytest]\n")

    def write(self, name: str, text: str) -> None:
        """A file of it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(
        self, *words: str, order: Sequence[str] = ORDERS[0], exit_code: int = 0, **environment: str
    ) -> str:
        """Run pytest, which must end with this code; what it printed."""
        others = ("ESPPERF_", "PYTEST_", "GITHUB_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        plugins = [word for name in (*order, "timeout", "xdist") for word in ("-p", name)]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *plugins, f"--root-logdir={self.folder}", *words],
            cwd=self.folder,
            env=kept | ENVIRONMENT | {"XDG_STATE_HOME": str(self.folder / "state")} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == exit_code, done.stdout
        return done.stdout

    def artifact(self) -> dict[str, Any]:
        """Of its latest session."""
        text = (self.folder / "tools" / "perf_history" / "latest.json").read_text(encoding="utf-8")
        return dict(json.loads(text))

    def logged(self, name: str = "perf.prom") -> Samples:
        """A file of metrics, by parsers of others: of each name the samples by their labels."""
        from prometheus_client import parser
        from prometheus_client.openmetrics import parser as strict

        text = (self.folder / name).read_text(encoding="utf-8")
        found: Samples = {}
        parse: Any = parser.text_string_to_metric_families  # it has no types
        parse_strictly: Any = strict.text_string_to_metric_families
        list(parse_strictly(text if text.endswith("# EOF\n") else f"{text}# EOF\n"))
        for family in parse(text):
            for sample in family.samples:
                # A label without a value is as good as none.
                labels = frozenset((label, value) for label, value in sample.labels.items() if value)
                assert labels not in found.setdefault(sample.name, {}), f"{sample.name} twice"
                found[sample.name][labels] = sample.value
        return found
