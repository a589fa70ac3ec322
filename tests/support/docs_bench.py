"""Where the commands of a page are run: a firmware repository in a folder, and boards that are none.

What needs hardware is replaced where the page does not see it: a board's address and its serial port by the
reference device's, tools that build and flash by the few lines below, minutes by parts of a second.
This file is also a program: it stands on PATH under the names of those tools, for scripts of the pages.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support.paths import ROOT
from support.pytest_alone import ENVIRONMENT as ALONE
from support.pytest_alone import INSIDE
from support.short_sessions import ANY_FIGURE, SHORT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


_FLOORS = f"p95_ms:150,rps_ok:350,{ANY_FIGURE}"
"""What is slow on purpose is so by more than this; chance, in phases of 0.1 s, is not."""

ENVIRONMENT = {
    "COLUMNS": "80",
    "ESPPERF_SIM_TIME_SCALE": "0.1",
    "ESPPERF_SIM_NOISE": "none",
    **SHORT,
    **ALONE,
    "PYTEST_ADDOPTS": " ".join((ALONE["PYTEST_ADDOPTS"], *INSIDE)),
    # A phase of 0.1 s has a handful of answers: a busy machine may lose a third of them.
    "ESPPERF_PERF_MAX_ERROR_RATE": "100",
    "ESPPERF_PERF_WORST_ERROR_RATE": "100",
    "ESPPERF_PERF_MIN_EFFECT": _FLOORS,
    # What is slow on purpose is called so by this where the machine is too busy for the noise floor to.
    "ESPPERF_PERF_FAIL_ON": "rps_ok:85%",
}

SLOWER = 30
"""What is slow on purpose: the factor of its service time."""

STAND_INS = (
    (r"(--(?:perf-)?(?:burst|long)-duration[ =])\S+", r"\g<1>0.1"),
    (r"(--(?:perf-)?runs[ =])[1-9]\d*", r"\g<1>1"),
    (r"(duration_s = )\d+", r"\g<1>0.1"),
    (r"(--perf-confirm[ =])[1-9]", r"\g<1>1"),
    (r"(--sim-slowdown \w+=)1\.(?:75|8)", rf"\g<1>{SLOWER}"),
    (r"(--sim-slot b:\S*python_heavy=)1\.(?:12|8)", rf"\g<1>{SLOWER}"),
    (r"(p95_ms = )1\.2(, rps_ok = )0\.8", r"\g<1>1e4\g<2>1e-4"),  # a budget that a busy machine may exceed
    (r"--perf-min-effect[ =]\S+", f"--perf-min-effect={_FLOORS}"),
    (r"(espperf ab \S+)", r"\g<1> --pairs 3"),
    (r"(espperf sweep \S+)", r"\g<1> --rounds 3"),
    (r"(espperf calibrate \S+)(?: --sessions \d+)?", r"\g<1> --sessions 2 --perf-runs 1"),
    (r"(sim .*--port[ =])8080", r"\g<1>0"),
    (r"\btools/(?=\w+\.py)", f"{ROOT.as_posix()}/tools/"),
)
"""What a page says, and what is run in its place. Addresses of boards, which differ each time, come first."""

TOOLS = ("espperf", "pytest", "pip", "idf.py", "esptool.py")

_READY = "listening on"


@dataclass
class Bench:
    """A firmware repository, and what is behind its addresses.

    Attributes:
        folder: the repository.
        stand_ins: patterns, and what is run in their place.
        environment: of all that is run.
    """

    folder: Path
    stand_ins: Sequence[tuple[str, str]]
    environment: Mapping[str, str]
    _serving: list[subprocess.Popen[str]] = field(default_factory=list)

    @classmethod
    def set_up(cls, folder: Path, stand_ins: Sequence[tuple[str, str]], board: str) -> Bench:
        """A repository with one perf test; the tools that it uses on PATH."""
        project, tools = folder / "firmware", folder / "bin"
        for made in (project / "tests", tools):
            made.mkdir(parents=True)
        (project / "tests" / "test_perf.py").write_text(
            "from pytest_espperf.suite import test_perf\n", encoding="utf-8"
        )
        for name, words in [("python", ""), *((name, f'"{__file__}" {name}') for name in TOOLS)]:
            tool = tools / name
            tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n', encoding="utf-8")
            tool.chmod(0o755)
        environment = ENVIRONMENT | {
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),  # the user's own locks stay out of it
            "DOCS_BOARD": board,
            "PYTHONUNBUFFERED": "1",
        }
        return cls(project, (*stand_ins, *STAND_INS), environment)

    def replaced(self, text: str) -> str:
        """What is run, or written, in place of a text of a page."""
        for pattern, by in self.stand_ins:
            text = re.sub(pattern, by, text)
        return text

    def write(self, name: str, text: str) -> None:
        """A file of a page."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.replaced(text), encoding="utf-8")

    def ignore_changes(self, setenv: Callable[[str, str], None]) -> None:
        """Call no difference between two sessions: nothing on this page is slow on purpose."""
        setenv("ESPPERF_PERF_MIN_EFFECT", f"p95_ms:1e5,rps_ok:1e5,{ANY_FIGURE}")
        setenv("ESPPERF_PERF_FAIL_ON", "")

    def run(self, command: str) -> tuple[int, str]:
        """Exit code and output of a command line; what it leaves running ends with :meth:`close`."""
        text = self.replaced(command)
        if text.endswith("&"):
            return self._serve(text.rstrip(" &"), ready="\n")
        if re.match(r"(espperf sim|python -m pytest_espperf\.sim)( |$)", text):
            code, output = self._serve(text, ready=_READY)
            self.close()
            return code, output
        parts = [list(part) for part in _parts(os.path.expandvars(text))]
        if all(_runs_here(_command_of(part)[1]) for part in parts):
            return self._here(parts)
        return self.script(text)

    def script(self, text: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Exit code and output of a script for bash, which stops at the first command that fails."""
        done = subprocess.run(
            ["bash", "-e", "-c", text],
            cwd=self.folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout

    def close(self) -> None:
        """End what serves."""
        while self._serving:
            process = self._serving.pop()
            process.terminate()
            process.communicate(timeout=60)

    def _serve(self, text: str, *, ready: str) -> tuple[int, str]:
        """Start what runs until it is stopped, and wait until it has said that it is ready."""
        words = shlex.split(text)
        if words[0] == "espperf":
            words[:1] = [sys.executable, "-m", "pytest_espperf.cli"]
        process = subprocess.Popen(
            words,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._serving.append(process)
        output = ""
        while ready not in output:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                return process.wait(timeout=60), output
            output += line
        return 0, output

    def _here(self, parts: list[list[str]]) -> tuple[int, str]:
        """Commands of ours, in this process: they start much faster."""
        code, whole = 0, io.StringIO()
        for part in parts:
            settings, words = _command_of(part)
            words, target = _redirected(words)
            output = io.StringIO()
            out, err = contextlib.redirect_stdout(output), contextlib.redirect_stderr(whole)
            with _as_a_process(settings), out, err:
                code = call(words)
            whole.write(output.getvalue())
            if target:
                (self.folder / target).write_text(output.getvalue(), encoding="utf-8")
            if code:
                break
        return code, whole.getvalue()


def _runs_here(words: Sequence[str]) -> bool:
    return words[0] in {"espperf", "pytest", "pip"} or (words[0] == "python" and "/tools/" in words[1])


def _parts(text: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    part: list[str] = []
    for word in lexer:
        if word == "&&":
            yield part
            part = []
        else:
            part.append(word)
    yield part


def _command_of(part: list[str]) -> tuple[dict[str, str], list[str]]:
    """``A=1 espperf list`` -> ``{"A": "1"}, ["espperf", "list"]``."""
    settings: dict[str, str] = {}
    for index, word in enumerate(part):
        name, equals, value = word.partition("=")
        if not (equals and name.isidentifier()):
            return settings, part[index:]
        settings[name] = value
    return settings, []


def _redirected(words: list[str]) -> tuple[list[str], str]:
    return (words[:-2], words[-1]) if words[-2:-1] == [">"] else (words, "")


@contextlib.contextmanager
def _as_a_process(settings: Mapping[str, str]) -> Iterator[None]:
    """Environment, modules and paths as before, afterwards."""
    environment, path, modules = dict(os.environ), list(sys.path), set(sys.modules)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if name.partition(".")[0] in {"conftest", "test_perf", "tests"}:
                del sys.modules[name]


def call(words: Sequence[str]) -> int:
    """One of the tools, in this process; its exit code."""
    name, *rest = words
    try:
        if name == "espperf":
            from pytest_espperf.cli import main

            return main(rest)
        if name == "pytest":
            import pytest

            return int(pytest.main(rest))
        if name == "python":
            return _script(*rest)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    tools = {"pip": _install, "idf.py": _build, "esptool.py": _flash}
    return tools[name](rest)


def _script(path: str, *words: str) -> int:
    before, sys.argv = sys.argv, [path, *words]
    try:
        runpy.run_path(path, run_name="__main__")
    finally:
        sys.argv = before
    return 0


def _install(words: Sequence[str]) -> int:
    """Nothing is installed: the extras that are asked for must be the project's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = set(project["optional-dependencies"])
    asked = {extra for word in words for found in re.findall(r"\[(.*)\]", word) for extra in found.split(",")}
    named = all(re.fullmatch(r"(install|-e|\.|pytest-espperf)(\[.*\])?", word) for word in words)
    if asked - known or not named:
        print(f"pip {' '.join(words)}: no such extra as {', '.join(sorted(asked - known))}", file=sys.stderr)
    return int(bool(asked - known) or not named)


def _build(_: Sequence[str]) -> int:
    """The firmware of this bench is the factor that it is slower by."""
    source = Path("slowness.txt")
    if source.exists():
        text = source.read_text(encoding="utf-8")
        if not re.fullmatch(r"[\d.]+\s*", text):
            print("ninja: build stopped: subcommand failed.", file=sys.stderr)
            return 2
        Path("build").mkdir(exist_ok=True)
        Path("build", "firmware.bin").write_text(text, encoding="utf-8")
    return 0


def _flash(words: Sequence[str]) -> int:
    """Tell the board its factor."""
    image = Path(words[-1])
    if image.exists():
        change = f'{{"slowdown": {{"python_heavy": {float(image.read_text(encoding="utf-8"))}}}}}'
        url = f"http://{os.environ['DOCS_BOARD']}/sim/config"
        urllib.request.urlopen(
            urllib.request.Request(url, change.encode(), method="POST"), timeout=10
        ).close()
    return 0


def hurry(replace: Callable[[Any, str, Any], None]) -> None:
    """Make sessions shorter than options can, and blind to what else a busy machine does.

    Args:
        replace: ``setattr``, or one that is undone.
    """
    from pytest_espperf import device
    from pytest_espperf.gate import generator
    from pytest_espperf.load import guard
    from pytest_espperf.session import boots, confirming, placer

    for name in ("BOUND_CPU_SHARE", "BOUND_TURNAROUND_SHARE", "BOUND_LAG_MS"):
        replace(guard, name, float("inf"))
    replace(generator, "LOST", float("inf"))
    replace(device, "read_link", partial(device.read_link, connects=1))
    replace(confirming, "PAIRS", 3)
    replace(boots, "GOES_AWAY_S", 0.5)
    replace(placer, "WARM_S", 0.1)


def hurry_examinations(replace: Callable[[Any, str, Any], None]) -> None:
    """The same of ``espperf doctor`` and ``espperf calibrate``."""
    from pytest_espperf.cli import calibrate, doctor
    from pytest_espperf.doctor import examine
    from pytest_espperf.doctor.visit import Effort

    effort = Effort(
        connects=4, idle_s=0.05, wakes=2, connections=14, rounds=2, round_s=0.2, listen_s=0.1, recover_s=0.2
    )
    replace(doctor, "examine", partial(examine, effort=effort))
    replace(calibrate, "subprocess", SimpleNamespace(run=_session_here))


def _session_here(words: Sequence[str], **_: object) -> SimpleNamespace:
    """In place of a process of its own: ``python -m pytest ...``."""
    return SimpleNamespace(returncode=call(words[2:]))


if __name__ == "__main__":
    if sys.argv[1] == "pytest" or sys.argv[1:3] in (["espperf", "run"], ["espperf", "ab"]):
        hurry(setattr)
    sys.exit(call(sys.argv[1:]))
