"""JSON objects as the answer of a command."""

from __future__ import annotations

import io
import sys
from typing import Any

import msgspec

from pytest_espperf.cli.common import print_data
from pytest_espperf.model.text import json_printable


def print_json(value: Any, *, spread: bool = False) -> None:
    """Print one object: UTF-8 whatever the code page, NaN as null; on one line, or ``spread``.

    Characters that a terminal would obey are escaped.
    """
    try:
        data = msgspec.json.encode(value)
    except UnicodeEncodeError:  # a file name of any bytes
        data = msgspec.json.encode(_plain(msgspec.to_builtins(value)))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(encoding="utf-8")
    print_data(json_printable((msgspec.json.format(data) if spread else data).decode()) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
