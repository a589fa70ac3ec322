"""``espperf completion``: a script that lets a shell complete the commands."""

from __future__ import annotations

import argparse
from typing import Any

from pytest_espperf.cli.common import SESSION_HELP, add_command, print_data
from pytest_espperf.errors import UsageError

SHELLS = ("bash", "zsh", "tcsh", "fish", "powershell")
INSTALL = 'pip install "pytest-espperf[completion]"'


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    completion = add_command(
        commands,
        "completion",
        _completion,
        "print a script that completes espperf's commands and options in a shell: "
        'eval "$(espperf completion bash)" in ~/.bashrc; for zsh, a file _espperf in a folder of $fpath',
    )
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def _completion(arguments: argparse.Namespace) -> int:
    try:
        import shtab  # noqa: PLC0415 - an extra
    except ImportError:
        raise UsageError(f"completion needs the package shtab: {INSTALL}") from None

    shell: str = arguments.shell
    if shell not in shtab.SUPPORTED_SHELLS:
        raise UsageError(f"this version of shtab ({shtab.__version__}) knows no {shell}: {INSTALL} --upgrade")
    parser: argparse.ArgumentParser = arguments.parser
    for action in _actions(parser):
        if action.metavar == "DIR":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined] # where shtab looks for it
        elif action.metavar in {"FILE", "FILE|DIR"} or SESSION_HELP in (action.help or ""):
            action.complete = shtab.FILE  # type: ignore[attr-defined] # likewise
    print_data(f"{shtab.complete(parser, shell)}\n")
    return 0


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """All actions of a parser and of its commands."""
    found = []
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to ask
        found.append(action)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - likewise
            found += [inner for command in action.choices.values() for inner in _actions(command)]
    return found
