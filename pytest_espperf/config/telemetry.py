"""The table ``[tool.espperf.telemetry]``: where another board tells its figures, and what it calls them."""

from __future__ import annotations

from pathlib import Path

from pytest_espperf.config.parsers import url_path
from pytest_espperf.config.tables import check_keys, checked, read_tables
from pytest_espperf.errors import UsageError
from pytest_espperf.model.figures import WATCHED
from pytest_espperf.model.workload import TelemetrySpec

KEYS = ("stats", "memory", "reset", "keys", "counters")


def load_telemetry(root: Path) -> TelemetrySpec:
    """What the project in ``root`` says about its board's telemetry; ViperHTTP's where it says nothing.

    Raises:
        UsageError: a file cannot be parsed, the table stands in both, or has an unknown key or a bad value.
    """
    tables = read_tables(root, "telemetry")
    if not tables:
        return TelemetrySpec()
    if len(tables) > 1:
        raise UsageError(f"{tables[1][0]}: the telemetry is described twice (also in {tables[0][0]})")
    where, value = tables[0]
    table = check_keys(value, KEYS, where)
    keys = check_keys(table.get("keys", {}), WATCHED, f"{where} keys")
    default = TelemetrySpec()
    return TelemetrySpec(
        stats=checked(table, "stats", _path_or_none, default.stats, where),
        memory=checked(table, "memory", _path_or_none, default.memory, where),
        reset=checked(table, "reset", str, default.reset, where).lstrip("?"),
        keys={name: checked(keys, name, _path_in_json, "", f"{where} keys") for name in keys},
        counters=_counters(table.get("counters", []), where),
    )


def _path_or_none(text: str) -> str:
    return url_path(text) if text else ""


def _path_in_json(text: str) -> str:
    if not all(text.split(".")):
        raise ValueError(f"{text!r} is no path in JSON: write names joined by dots, as heap.free")
    return text


def _counters(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise UsageError(f"{where}: counters: {value!r} is no list of names")
    try:
        return tuple(dict.fromkeys(_path_in_json(name) for name in value))
    except ValueError as error:
        raise UsageError(f"{where}: counters: {error}") from None
