"""Standard streams that whoever started this process had closed (``>&-``, a service without a console)."""

from __future__ import annotations

import os
import sys

_MODES = {"stdin": "r", "stdout": "w", "stderr": "w"}


def open_closed_streams() -> None:
    """Let closed standard streams lead to nowhere, as pytest and ``print`` expect them to be open.

    Their descriptors are taken first: the next file or socket to be opened would get them, and with it what
    is written to a standard stream.
    """
    for number, (name, mode) in enumerate(_MODES.items()):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # the lowest that is free
            # Whoever asked for nothing to be shown loses nothing by what is not encodable.
            stream = open(os.devnull, mode, encoding="utf-8", errors="replace")  # noqa: PTH123, SIM115 - for good
            setattr(sys, name, stream)
