"""``espperf``: run sessions, inspect the history, accept and pin sessions, export them.

Only the function imports: Ctrl-C while a command is loaded causes no traceback.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code (``run``: pytest's, usage errors: 4).

    Args:
        argv: the words after the program's name; None: those of this process, which ends afterwards.

    Raises:
        SystemExit: with the exit code, for ``--help``, ``--version`` and what argparse refuses.
    """
    try:
        from pytest_espperf.cli.program import program  # noqa: PLC0415 - inside the handler of Ctrl-C
    except KeyboardInterrupt:
        if sys.stderr is not None:
            sys.stderr.write("espperf: interrupted\n")
        return 2
    return program(argv)
