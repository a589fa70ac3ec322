"""A project's own tables: ``[tool.espperf.*]`` of pyproject.toml and the same of espperf.toml.

Each table is described by a msgspec struct: its fields are the known keys, their types the kinds and bounds
of the values, and ``__post_init__`` checks what a type cannot express. :func:`convert` turns what msgspec
finds into one sentence that names the file, the table and the key.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pytest_espperf.errors import TableError
from pytest_espperf.model.encoding import as_utf8
from pytest_espperf.model.text import nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_Table = TypeVar("_Table", bound=msgspec.Struct)
_Value = TypeVar("_Value")

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<key>\w+)`")
_WRONG = re.compile(r"(?P<what>.*) - at `\$\.(?P<key>[^`]*)`", re.DOTALL)
_KIND = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<got>[^`]*)`")
_BOUND = re.compile(r"Expected `\w+` (?P<relation>[<>]=?) (?P<bound>\S+)")

_KINDS = {
    "object": "a table",
    "array": "a list",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "a boolean",
}
"""Words for msgspec's kinds of values; others (a date, a time) have their own name."""

_RELATIONS = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}


class Sections(msgspec.Struct, forbid_unknown_fields=True):
    """The sections of a project's tables."""

    profiles: Any = msgspec.UNSET
    telemetry: Any = msgspec.UNSET


def read_tables(root: Path, section: str) -> list[tuple[str, Any]]:
    """Read a section of both files, where they have it.

    Returns:
        for each file that has it, how a message names it (``FILE: [tool.espperf.profiles]``) and its value.

    Raises:
        TableError: a file cannot be read or parsed, or has an unknown section.
    """
    tool = _read_toml(root / "pyproject.toml").get("tool", {})
    pyproject = tool.get("espperf", {}) if isinstance(tool, dict) else {}
    found = []
    for path, prefix, table in (
        (root / "pyproject.toml", "tool.espperf", pyproject),
        (root / "espperf.toml", "", _read_toml(root / "espperf.toml")),
    ):
        sections = convert(table, Sections, f"{path}: [{prefix}]" if prefix else str(path))
        value = getattr(sections, section)
        if value is not msgspec.UNSET:
            found.append((f"{path}: [{f'{prefix}.{section}'.lstrip('.')}]", value))
    return found


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = as_utf8(path.read_bytes()).decode("utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: cannot be read, save it as UTF-8 ({error})") from None
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error})") from None
    try:
        loaded: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        raise TableError(f"{path}: its values are nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and a number of too many digits
        raise TableError(f"{path}: {error}") from None
    return loaded


def convert(value: object, kind: type[_Table], where: str) -> _Table:
    """Convert a table to its struct; text that is a number may stand for one.

    Args:
        value: what the file has there.
        kind: the struct.
        where: the file and the table, for the message.

    Raises:
        TableError: it is no table, has an unknown key, or a value of the wrong kind or out of bounds.
    """
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        known = kind.__struct_fields__
        raise TableError(f"{where}: {_explain(str(error), value, known)}") from None


def check(key: str, parse: Callable[[str], _Value], text: str) -> _Value:
    """Parse the text of a key, in a struct's ``__post_init__``.

    Raises:
        ValueError: ``parse`` refuses it; the sentence begins with the key.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _explain(message: str, value: object, known: Collection[str]) -> str:
    """Explain in plain words what msgspec found wrong."""
    if unknown := _UNKNOWN.fullmatch(message):
        key = unknown["key"]
        return f"unknown key {key!r}{nearest(key, known)} (known: {', '.join(sorted(known))})"
    if missing := _MISSING.fullmatch(message):
        return f"it has no {missing['key']}"
    wrong = _WRONG.fullmatch(message)
    what, key = (wrong["what"], wrong["key"]) if wrong else (message, "")
    if kind := _KIND.fullmatch(what):
        wanted = " or ".join(_in_words(one) for one in kind["wanted"].split(" | ") if one != "null")
        got = "a fraction" if (kind["wanted"], kind["got"]) == ("int", "float") else _in_words(kind["got"])
        return f"{key or 'it'} must be {wanted}, not {got}"
    if (bound := _BOUND.fullmatch(what)) and isinstance(value, Mapping):
        limit = f"{_RELATIONS[bound['relation']]} {float(bound['bound']):g}"
        return f"{key}: {value[key]} must be {limit}"
    return f"{key}: {what[:1].lower()}{what[1:]}" if key else what


def _in_words(kind: str) -> str:
    return _KINDS.get(kind, f"a {kind}")
