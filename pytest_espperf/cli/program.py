"""The program around the commands: streams, signals, exit codes."""

from __future__ import annotations

import argparse
import io
import signal
import sys
from collections.abc import Sequence

from pytest_espperf import __version__
from pytest_espperf.cli.common import FAILED, INTERRUPTED, USAGE_ERROR
from pytest_espperf.errors import EspperfError
from pytest_espperf.interrupts import sigterm_interrupts
from pytest_espperf.model.text import inert
from pytest_espperf.system.streams import Guard, guarded

ABOUT = "espperf: run sessions, look at the history, decide about it, take it elsewhere."

READER_GONE, TERMINATED = 128 + 13, 128 + 15
"""Exit codes as a shell reports the signals SIGPIPE and SIGTERM."""


def program(argv: Sequence[str] | None) -> int:
    """The command line; see :func:`pytest_espperf.cli.main`."""
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
    """The exit code of a command, where Ctrl-C or SIGTERM end it too."""
    with sigterm_interrupts() as terminated:
        try:
            code = _command(words)
        except KeyboardInterrupt:
            _complain("terminated" if terminated() else "interrupted")
            code = INTERRUPTED
        return TERMINATED if terminated() else code


def _command(words: list[str]) -> int:
    # Imported here and in make_parser(): Ctrl-C meanwhile is no traceback.
    from pytest_espperf.cli.run import start_sim  # noqa: PLC0415 - see above

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a code page without the sign that a board sent
    parser = make_parser()
    if words[:1] == ["sim"]:
        return start_sim(words[1:])
    try:
        arguments, rest = parser.parse_known_args(words)
        if rest and not arguments.passes_on:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        arguments.rest, arguments.parser = rest, parser
        code: int = arguments.do(arguments)
    except EspperfError as error:
        _complain(str(error))
        return USAGE_ERROR
    return code


def _settle(code: int, output: Guard, command: str) -> int:
    """The exit code of a command whose output may have been lost.

    A failure stays one. What passes stays so where a session's verdict is the answer, which is kept; else the
    output was the answer.
    """
    sys.stdout.flush()
    if output.lost is None:
        return code
    if output.reader_gone:  # head, less: it has seen enough
        return READER_GONE if code == 0 and command not in _VERDICTS else code
    _complain(f"standard output: {output.lost.strerror or output.lost}")
    return FAILED if code == 0 and command != "run" else code


_VERDICTS = frozenset({"run", "judge", "compare"})
"""Commands whose exit code says what they found."""


def _complain(sentence: str) -> None:
    print(inert(f"espperf: {sentence}"), file=sys.stderr)


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from pytest_espperf.cli import (  # noqa: PLC0415 - see _command
        compare,
        completion,
        doctor,
        export,
        judge,
        listing,
        prune,
        report,
        run,
        sessions,
        transfer,
    )
    from pytest_espperf.cli.common import Parser  # noqa: PLC0415 - see _command

    parser = Parser(prog="espperf", description=ABOUT, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for room in (run, doctor, listing, sessions, report, compare, judge, prune, transfer, export, completion):
        room.add_commands(commands)
    return parser
