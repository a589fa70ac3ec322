"""The program around the commands: streams, signals, exit codes."""

from __future__ import annotations

import argparse
import io
import signal
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from types import ModuleType

from pytest_espperf import __version__
from pytest_espperf.cli.common import FAILED, INTERRUPTED, USAGE_ERROR, Parser
from pytest_espperf.errors import EspperfError
from pytest_espperf.interrupts import sigterm_interrupts
from pytest_espperf.model.text import inert
from pytest_espperf.system.streams import Guard, guarded

ABOUT = "espperf: run sessions, inspect the history, accept and pin sessions, export them."

READER_GONE, TERMINATED = 128 + 13, 128 + 15
"""Exit codes as a shell reports the signals SIGPIPE and SIGTERM."""


MODULES = {
    "run": "run",
    "watch": "watch",
    "ab": "ab",
    "bisect": "bisect",
    "sweep": "sweep",
    "init": "init",
    "calibrate": "calibrate",
    "sim": "sim",
    "doctor": "doctor",
    "list": "list",
    "show": "show",
    "accept": "decide",
    "pin": "decide",
    "report": "report",
    "trend": "trend",
    "compare": "compare",
    "judge": "judge",
    "prune": "prune",
    "import": "import_sessions",
    "export": "export",
    "comment": "comment",
    "completion": "completion",
}
"""The module of each command, in the order of ``espperf --help``."""


def program(argv: Sequence[str] | None) -> int:
    """Run a command; see :func:`pytest_espperf.cli.main`."""
    words = list(sys.argv[1:] if argv is None else argv)
    with guarded("stderr"), guarded("stdout") as output:
        try:
            code = _until_a_signal(words)
        except SystemExit as ended:
            ended.code = _settle(int(ended.code or 0), output, "")
            raise
        code = _settle(code, output, words[0] if words else "")
    # Where code in a string (a dataclass being made) was interrupted, Python ends itself by SIGINT in the
    # end, whoever handled that; it forgets it with the next code in a string.
    eval("0")  # noqa: S307 - a constant
    if argv is None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to interrupt: the code stands
    return code


def _until_a_signal(words: list[str]) -> int:
    """Run a command, which Ctrl-C or SIGTERM may end, and return its exit code."""
    with sigterm_interrupts() as terminated:
        try:
            code = _command(words)
        except KeyboardInterrupt:
            _complain("terminated" if terminated() else "interrupted")
            code = INTERRUPTED
        return TERMINATED if terminated() else code


def _command(words: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a code page without the sign that a board sent
    named = words[0] if words else ""
    if named == "sim":
        code: int = _module("sim").start_sim(words[1:])
        return code
    parser = make_parser("" if named == "completion" else named)  # that completes all commands
    try:
        arguments, rest = parser.parse_known_args(words)
        if rest and not arguments.passes_on:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        arguments.rest, arguments.parser = rest, parser
        code = arguments.do(arguments)
    except EspperfError as error:
        _complain(str(error))
        return USAGE_ERROR
    return code


def _settle(code: int, output: Guard, command: str) -> int:
    """Return the exit code of a command whose output may have been lost.

    A failure stays one. What passes stays so where a session's verdict is the answer, which is kept; else the
    output was the answer.
    """
    sys.stdout.flush()
    if output.lost is None:
        return code
    if output.reader_gone:  # head, less: it has seen enough
        return READER_GONE if code == 0 and command not in _VERDICTS else code
    _complain(f"standard output: {output.lost.strerror or output.lost}")
    return FAILED if code == 0 and command not in {"run", "ab", "bisect"} else code


_VERDICTS = frozenset({"run", "ab", "bisect", "judge", "compare"})
"""Commands whose exit code is their result."""


def _complain(sentence: str) -> None:
    print(inert(f"espperf: {sentence}"), file=sys.stderr)


def make_parser(named: str = "") -> argparse.ArgumentParser:
    """Make the parser of the command line.

    Args:
        named: the command that the user named: the modules of all others are not loaded; any other word, as
            "" and ``--help``, has all commands.
    """
    parser = Parser(prog="espperf", description=ABOUT, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in _modules(named):
        _module(name).add_commands(commands)
    return parser


def _modules(named: str) -> Iterable[str]:
    if named == "--version":
        return ()
    return (MODULES[named],) if named in MODULES else dict.fromkeys(MODULES.values())


def _module(name: str) -> ModuleType:
    """Import a module of this package: each loads what its commands need."""
    return import_module(f"pytest_espperf.cli.{name}")
