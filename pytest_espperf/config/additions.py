"""Additions to the text of a project's configuration files; what stands there keeps its bytes. Pure.

Tables are added at the end of a file and keys right behind the header of their section, so that comments stay
where they are. Each result is parsed, and is refused unless it says what the file said and the additions.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TomlValue = str | Sequence[str]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


class AdditionError(ValueError):
    """Nothing can be added to a file; says why, in words."""


def with_table(text: str, names: Sequence[str], values: Mapping[str, TomlValue]) -> str:
    """Add a table to the end of a TOML text.

    Args:
        text: of the file, "" for a new one.
        names: of the table, outermost first.
        values: its keys; a list is written with one item a line.

    Raises:
        AdditionError: the file is no TOML, or has no room for such a table.
    """
    lines = [f"[{_header(names)}]"]
    for key, value in values.items():
        if isinstance(value, str):
            lines.append(f"{key} = {_quoted(value)}")
        else:
            lines += [f"{key} = [", *(f"    {_quoted(item)}," for item in value), "]"]
    newline = _newline(text)
    gap = "" if not text.strip("\ufeff") else newline if text.endswith(("\n", "\r")) else 2 * newline
    return _checked(text, text + gap + newline.join(lines) + newline, names, values)


def with_keys(text: str, names: Sequence[str], values: Mapping[str, TomlValue]) -> str:
    """Add keys to a table of a TOML text, which is added where it is missing.

    Args:
        text: of the file.
        names: of the table, outermost first.
        values: keys that the table does not have.

    Raises:
        AdditionError: the file is no TOML, or the table is not written under a header of its own.
    """
    table: Any = _parsed(text)
    for name in names:
        table = table.get(name) if isinstance(table, dict) else None
    if table is None:
        return with_table(text, names, values)
    words = r"\s*\.\s*".join(rf"[\"']?{re.escape(name)}[\"']?" for name in names)
    lines = [f"{key} = {_inline(value)}" for key, value in values.items()]
    return _checked(text, _behind_header(text, rf"\[\s*{words}\s*\]", lines), names, values)


def pytest_table(text: str) -> tuple[str, ...]:
    """Name the table of a pyproject.toml that pytest reads; pytest 9 knows one with types.

    Raises:
        AdditionError: the text is no TOML.
    """
    tool = _parsed(text).get("tool")
    table = tool.get("pytest") if isinstance(tool, dict) else None
    typed = isinstance(table, dict) and "ini_options" not in table
    return ("tool", "pytest") if typed else ("tool", "pytest", "ini_options")


def with_ini_keys(text: str, section: str, values: Mapping[str, TomlValue]) -> str:
    """Add keys to a section of an ini file, which is added where it is missing.

    Args:
        text: of the file, "" for a new one.
        section: its name.
        values: keys that the section does not have; a list is written with commas.

    Raises:
        AdditionError: a value cannot be written on one line.
    """
    lines = [
        f"{key} = {value if isinstance(value, str) else ','.join(value)}" for key, value in values.items()
    ]
    if any("\n" in line or "\r" in line for line in lines):
        raise AdditionError("a value has more than one line")
    header = rf"\[{re.escape(section)}\]"
    if re.search(rf"^\ufeff?{header}", text, re.MULTILINE):
        return _behind_header(text, header, lines)
    newline = _newline(text)
    gap = "" if not text.strip("\ufeff") else newline if text.endswith(("\n", "\r")) else 2 * newline
    return text + gap + newline.join([f"[{section}]", *lines]) + newline


def _behind_header(text: str, header: str, lines: Sequence[str]) -> str:
    """Insert lines behind the header of a section.

    Raises:
        AdditionError: it has no such header.
    """
    found = re.search(rf"^\ufeff?[ \t]*{header}[^\r\n]*(\r\n|\n|\r|\Z)", text, re.MULTILINE)
    if found is None:
        raise AdditionError("the table has no header of its own in it")
    newline = _newline(text)
    gap = "" if found[1] else newline
    inserted = gap + "".join(line + newline for line in lines)
    return text[: found.end()] + inserted + text[found.end() :]


def _checked(before: str, after: str, names: Sequence[str], values: Mapping[str, TomlValue]) -> str:
    """Return the new text, if it says what the old one said and the additions.

    Raises:
        AdditionError: it does not.
    """
    expected = copy.deepcopy(_parsed(before))
    table: Any = expected
    for name in names:
        table = table.setdefault(name, {}) if isinstance(table, dict) else None
    if not isinstance(table, dict) or table.keys() & values.keys():
        raise AdditionError(f"{_header(names)} is no table that keys can be added to")
    table.update({key: value if isinstance(value, str) else list(value) for key, value in values.items()})
    if _parsed(after) != expected:
        raise AdditionError(f"its {names[0]} table is written in a form that nothing can be added to")
    return after


def _parsed(text: str) -> dict[str, Any]:
    """Parse a TOML text.

    Raises:
        AdditionError: it is none.
    """
    try:
        # The reader of tables drops a byte order mark as well.
        parsed: dict[str, Any] = tomllib.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise AdditionError(str(error)) from None
    return parsed


def _header(names: Sequence[str]) -> str:
    return ".".join(name if _BARE.fullmatch(name) else _quoted(name) for name in names)


def _quoted(text: str) -> str:
    """Write a basic string of TOML, which has the escapes of JSON."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _inline(value: TomlValue) -> str:
    if isinstance(value, str):
        return _quoted(value)
    return f"[{', '.join(map(_quoted, value))}]"


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
