"""Look-up of option values: command line, environment, ini file, default; each value keeps its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pytest_espperf.config.option import ENV_PREFIX, Option
from pytest_espperf.config.settings import OPTIONS, Settings
from pytest_espperf.errors import UsageError
from pytest_espperf.model.text import nearest


def _texts(option: Option, raw: object) -> list[str]:
    """Split the raw value of a list option into its texts; the value of another option is one text."""
    many = [str(item) for item in raw] if isinstance(raw, (list, tuple)) else [str(raw)]
    if option.kind != "list":
        return many[-1:]
    return [part.strip() for text in many for part in text.split(option.separator) if part.strip()]


def _parse(option: Option, raw: object, source: str) -> Any:
    if isinstance(raw, bool) and option.kind == "flag":
        return raw
    try:
        values = [option.parse(text) for text in _texts(option, raw)]
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from None
    if option.kind == "list":
        if not values:
            raise UsageError(f"{source}: it names nothing")
        if option.once and (twice := next((one for one in values if values.count(one) > 1), None)):
            raise UsageError(f"{source} names {twice} twice, and each is measured once: leave one out")
        return tuple(dict.fromkeys(values))
    return values[0]


def resolve(
    command_line: Mapping[str, object],
    environment: Mapping[str, str],
    ini: Mapping[str, object],
    ini_path: str = "",
) -> Settings:
    """Look every option up: command line, environment, ini, default.

    Args:
        command_line: values by option ``dest``; absent or None where not given.
        ini: likewise.
        environment: as ``os.environ``.
        ini_path: the ini file, for messages.

    Raises:
        UsageError: a value is bad, or an ``ESPPERF_`` variable is none of ours; names its source.
    """
    known = {option.env for option in OPTIONS}
    for name in environment:
        if name.upper().startswith(ENV_PREFIX) and name.upper() not in known:
            raise UsageError(
                f"environment variable {name} is no option of pytest-espperf{nearest(name, known)}"
            )
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for option in OPTIONS:
        candidates = (
            (option.flag, command_line.get(option.dest)),
            (f"environment variable {option.env}", environment.get(option.env) or None),
            (f"{option.dest} in {ini_path}", ini.get(option.dest) or None),
        )
        for source, raw in candidates:
            if raw is not None:
                values[option.dest] = _parse(option, raw, source)
                sources[option.dest] = source
                break
    return Settings(**values, sources=sources)


def add_arguments(add: Callable[..., Any], options: Iterable[Option], flag: Callable[[Option], str]) -> None:
    """Give each option to an argparse-like ``add_argument``, with None as "not given".

    Values stay text here: they are parsed in :func:`resolve`, the same for every front end.
    """
    for option in options:
        kind: dict[str, Any] = {"action": "append", "metavar": option.metavar}
        if option.kind == "flag":
            kind = {"action": "store_true"}
        elif option.kind == "value":
            kind = {"metavar": option.metavar or "TEXT"}
        add(flag(option), dest=option.dest, default=None, help=option.help, **kind)
