"""A project's own tables: ``[tool.espperf.*]`` of pyproject.toml and the same of espperf.toml."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pytest_espperf.errors import UsageError
from pytest_espperf.model.encoding import as_utf8
from pytest_espperf.model.text import nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SECTIONS = ("profiles", "telemetry")
"""What a project may say in its tables."""


def read_tables(root: Path, section: str) -> list[tuple[str, Any]]:
    """The section of both files, where they have it: how to name it in a message, and its value.

    Raises:
        UsageError: a file cannot be read or parsed, or says something unknown.
    """
    tool = _read_toml(root / "pyproject.toml").get("tool", {})
    pyproject = tool.get("espperf", {}) if isinstance(tool, dict) else {}
    found = []
    for path, prefix, table in (
        (root / "pyproject.toml", "tool.espperf", pyproject),
        (root / "espperf.toml", "", _read_toml(root / "espperf.toml")),
    ):
        check_keys(table, SECTIONS, f"{path}: [{prefix}]" if prefix else str(path))
        if section in table:
            found.append((f"{path}: [{f'{prefix}.{section}'.lstrip('.')}]", table[section]))
    return found


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = as_utf8(path.read_bytes()).decode("utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: cannot be read, save it as UTF-8 ({error})") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error})") from None
    try:
        loaded: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}") from None
    return loaded


def check_keys(table: object, known: Collection[str] | None, where: str) -> dict[str, Any]:
    """The table itself, once its keys are known ones (None: they are the user's own words).

    Raises:
        UsageError: it is no table, or has an unknown key.
    """
    if not isinstance(table, dict):
        raise UsageError(f"{where}: it must be a table, not {table!r}")
    for key in table:
        if known is not None and key not in known:
            raise UsageError(
                f"{where}: unknown key {key!r}{nearest(key, known)} (known: {', '.join(sorted(known))})"
            )
    return table


def checked(table: Mapping[str, Any], key: str, parse: Any, default: Any, where: str) -> Any:
    """A checked value of a table: parsed from its text, as an option would be.

    Raises:
        UsageError: it is of the wrong kind, or ``parse`` refuses it.
    """
    if key not in table:
        return default
    value = table[key]
    if isinstance(value, (bool, dict, list)):
        raise UsageError(f"{where}: {key}: {value!r} is of the wrong kind")
    try:
        return parse(str(value))
    except ValueError as error:
        raise UsageError(f"{where}: {key}: {error}") from None
