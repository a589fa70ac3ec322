"""``espperf``: run a session, look at the history, accept or pin a session, start the reference device."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pytest_espperf import __version__
from pytest_espperf.errors import EspperfError, UsageError
from pytest_espperf.lookup import add_arguments
from pytest_espperf.option import Option
from pytest_espperf.options import OPTIONS
from pytest_espperf.parsers import whole

USAGE_ERROR = 4
DEFAULT_HISTORY = Path("tools") / "perf_history"

QUIET = ("-W", "ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning")
"""This very module is loaded before pytest, which wants to say so."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (``run``: pytest's, usage errors: 4)."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a code page without the sign that a board sent
    parser = _parser()
    if words[:1] == ["sim"]:
        return _sim(words[1:])
    try:
        arguments, rest = parser.parse_known_args(words)
        if rest and arguments.run_command not in {_run, _calibrate}:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        code: int = arguments.run_command(arguments, rest)
    except EspperfError as error:
        print(f"espperf: {error}", file=sys.stderr)
        return USAGE_ERROR
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


class _Parser(argparse.ArgumentParser):
    """argparse, but with pytest's exit code for usage errors."""

    def error(self, message: str) -> Any:
        self.print_usage(sys.stderr)
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}\n")


def _parser() -> _Parser:
    parser = _Parser(prog="espperf", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = _command(
        commands,
        "run",
        _run,
        "measure a board and judge it: the packaged suite through pytest. Takes every option of "
        "'pytest --help', and the original tool's flag names (--runs for --perf-runs, ...).",
    )
    _add_run_arguments(run)
    calibration = _command(
        commands,
        "calibrate",
        _calibrate,
        "measure the noise of a bench: several sessions of one firmware, what they could have seen, and how "
        "many runs a wanted slowdown takes. Takes what 'espperf run' takes.",
    )
    calibration.add_argument(
        "--sessions", type=_sessions, default=5, metavar="N", help="default: %(default)s"
    )
    _add_run_arguments(calibration)

    listing = _command(commands, "list", _list, "list the sessions of the history, oldest first")
    listing.add_argument("--json", action="store_true", help="as JSON, one object a session")
    show = _command(commands, "show", _show, "show one session")
    show.add_argument("session", help="id, file, tag, 'latest' or 'latest~1'")
    show.add_argument("--json", action="store_true", help="the whole artifact as JSON")
    accept = _command(
        commands,
        "accept",
        _accept,
        "accept a session's figures as intended: later ones are judged from it on",
    )
    accept.add_argument("session", help="id, file, tag or 'latest'")
    accept.add_argument("--reason", required=True, help="why, for those who come later")
    pin = _command(commands, "pin", _pin, "hold a session as a fixed anchor of the drift guard")
    pin.add_argument("session", help="id, file, tag or 'latest'")
    pin.add_argument("--reason", default="", help="why, for those who come later")
    for command in (listing, show, accept, pin):
        command.add_argument(
            "--perf-history", type=Path, metavar="DIR", help=f"default: {DEFAULT_HISTORY} here or above"
        )
    _command(commands, "sim", _sim, "start the reference device alone (see espperf sim --help)")
    return parser


def _add_run_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("host", metavar="HOST", help="the board, or 'sim' for the built-in reference device")
    options = [option for option in OPTIONS if option.dest != "device_ip"]
    add_arguments(command.add_argument, options, lambda option: option.flag)
    originals = command.add_argument_group("the original tool's names")
    add_arguments(
        originals.add_argument,
        [option for option in options if option.original],
        lambda option: option.original,
    )


def _sessions(text: str) -> int:
    try:
        return whole(least=2, most=1000)(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _command(commands: Any, name: str, run: Callable[..., int], help_text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=help_text.partition(":")[0], description=help_text, allow_abbrev=False
    )
    command.set_defaults(run_command=run)
    return command


def _run(arguments: argparse.Namespace, rest: list[str]) -> int:
    import pytest  # noqa: PLC0415 - the other commands do without

    return int(pytest.main([*_pytest_words(arguments), *_own_words(rest)]))


def _calibrate(arguments: argparse.Namespace, rest: list[str]) -> int:
    from pytest_espperf.calibrate import describe, run_sessions  # noqa: PLC0415 - only here

    history = Path(arguments.perf_history or DEFAULT_HISTORY)
    words = [*_pytest_words(arguments), f"--perf-history={history.absolute()}", *_own_words(rest)]
    print("\n".join(["", *describe(run_sessions(words, history, arguments.sessions))]))
    return 0


def _own_words(rest: list[str]) -> list[str]:
    """Words for pytest itself; never a second device, which would quietly take the first one's place."""
    if any(word.split("=")[0] == "--device-ip" for word in rest):
        raise UsageError("the board is named by HOST: leave out --device-ip")
    return rest


def _pytest_words(arguments: argparse.Namespace) -> list[str]:
    words = ["--pyargs", "pytest_espperf.suite", "-m", "perf", f"--device-ip={arguments.host}", *QUIET]
    for option in OPTIONS:
        value = getattr(arguments, option.dest, None)
        if option.dest != "device_ip" and value is not None:
            words += _words(option, value)
    return words


def _words(option: Option, value: object) -> list[str]:
    if option.kind == "flag":
        return [option.flag] if value else []
    values = value if isinstance(value, list) else [value]
    return [f"{option.flag}={item}" for item in values]


def _sim(words: list[str]) -> int:
    from pytest_espperf.sim.__main__ import main as sim_main  # noqa: PLC0415 - the other commands do without

    return sim_main(words)


def _default_history() -> Path:
    """Where pytest's root directory would have it: here, or in the nearest folder above that has one."""
    here = Path.cwd()
    found = (
        folder / DEFAULT_HISTORY for folder in (here, *here.parents) if (folder / DEFAULT_HISTORY).is_dir()
    )
    return next(found, here / DEFAULT_HISTORY)


def _store(arguments: argparse.Namespace) -> Any:
    from pytest_espperf.history import HistoryStore  # noqa: PLC0415 - run leaves that to pytest

    folder: Path = arguments.perf_history or _default_history()
    if not folder.is_dir():
        raise UsageError(f"--perf-history: there is no folder {folder}")
    return HistoryStore(folder)


def _list(arguments: argparse.Namespace, _rest: list[str]) -> int:
    store = _store(arguments)
    for session in store.sessions():
        verdict = session.gate.kind if session.gate is not None else "unjudged"
        row = {
            "session_id": session.session_id,
            "timestamp_utc": session.timestamp_utc,
            "target": session.target,
            "verdict": verdict,
            "accepted": session.accepted is not None,
            "tag": session.tag,
            "profiles": session.profiles,
        }
        if arguments.json:
            print(json.dumps(row))
            continue
        accepted = " (accepted)" if session.accepted is not None else ""
        print(
            f"{session.timestamp_utc:<17} {session.session_id[:8]:<9}{verdict + accepted:<24}"
            f"{session.target:<24}{session.tag}"
        )
    for error in store.skipped:
        print(f"skipped: {error}", file=sys.stderr)
    return 0


def _show(arguments: argparse.Namespace, _rest: list[str]) -> int:
    import msgspec  # noqa: PLC0415 - run leaves that to pytest

    from pytest_espperf.report import render_terminal  # noqa: PLC0415 - likewise

    session = _find(arguments)
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(session)).decode())
    else:
        print("\n".join(line.text for line in render_terminal(session, verbosity=1)))
    return 0


def _find(arguments: argparse.Namespace) -> Any:
    path = Path(arguments.session)
    from pytest_espperf.judging import is_file  # noqa: PLC0415 - run leaves that to pytest

    if is_file(path):
        from pytest_espperf.history import load_session  # noqa: PLC0415 - run leaves that to pytest

        return load_session(path)
    return _store(arguments).find(arguments.session).artifact


def _accept(arguments: argparse.Namespace, _rest: list[str]) -> int:
    if not arguments.reason.strip():
        raise UsageError("--reason: it is empty; say why, for those who come later")
    accepted = _store(arguments).accept(arguments.session, arguments.reason, _user())
    print(f"accepted {accepted.json_path.name}: {arguments.reason}")
    return 0


def _pin(arguments: argparse.Namespace, _rest: list[str]) -> int:
    pinned = _store(arguments).pin(arguments.session, arguments.reason, _user())
    print(f"pinned {pinned.json_path.name}")
    return 0


def _user() -> str:
    import getpass  # noqa: PLC0415 - only here

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no user name on this machine
        return ""


if __name__ == "__main__":
    raise SystemExit(main())
