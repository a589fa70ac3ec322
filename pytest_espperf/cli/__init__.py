"""``espperf``: run sessions, look at the history, decide about it, take it elsewhere.

Nothing is imported here but in the functions: Ctrl-C while a command is loaded is no traceback.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (``run``: pytest's, usage errors: 4).

    Args:
        argv: the words after the program's name; None: those of this process, which ends afterwards.

    Raises:
        SystemExit: with the exit code, for ``--help``, ``--version`` and what argparse refuses.
    """
    try:
        from pytest_espperf.cli.program import program  # noqa: PLC0415 - see above
    except KeyboardInterrupt:
        if sys.stderr is not None:
            sys.stderr.write("espperf: interrupted\n")
        return 2
    return program(argv)


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from pytest_espperf.cli import program  # noqa: PLC0415 - see above

    return program.make_parser()
