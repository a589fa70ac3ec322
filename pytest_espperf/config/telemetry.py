"""The table ``[tool.espperf.telemetry]``: where another board shows its figures, and what it calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from pytest_espperf.config.parsers import url_path
from pytest_espperf.config.tables import check, convert, read_tables
from pytest_espperf.errors import TableError
from pytest_espperf.model.figures import WATCHED
from pytest_espperf.model.own_figures import check_name, check_unit
from pytest_espperf.model.workload import Gauge, TelemetrySpec


class TelemetryTable(msgspec.Struct, forbid_unknown_fields=True):
    """The table; see :class:`~pytest_espperf.model.workload.TelemetrySpec`."""

    stats: str = TelemetrySpec.stats
    memory: str = TelemetrySpec.memory
    reset: str = TelemetrySpec.reset
    keys: dict[str, Any] = {}
    counters: list[str] = []
    gauges: dict[str, Any] = {}

    def __post_init__(self) -> None:
        for key in ("stats", "memory"):
            if path := getattr(self, key):
                check(key, url_path, path)
        for name in self.counters:
            check("counters", _path_in_json, name)


class GaugeTable(msgspec.Struct, forbid_unknown_fields=True):
    """One gauge; see :class:`~pytest_espperf.model.workload.Gauge`."""

    path: str
    unit: str = ""
    better: Literal["lower", "higher"] = "lower"

    def __post_init__(self) -> None:
        self.path = check("path", _path_in_json, self.path)
        self.unit = check("unit", check_unit, self.unit)


KeysTable = msgspec.defstruct(
    "KeysTable", [(name, str | None, None) for name in WATCHED], forbid_unknown_fields=True
)
"""The names that the project's board gives to our figures."""


def load_telemetry(root: Path) -> TelemetrySpec:
    """Load what the project in ``root`` declares about its board's telemetry; ViperHTTP's by default.

    Raises:
        TableError: a file cannot be parsed, the table stands in both, or has an unknown key or a bad value.
    """
    tables = read_tables(root, "telemetry")
    if not tables:
        return TelemetrySpec()
    if len(tables) > 1:
        raise TableError(f"{tables[1][0]}: the telemetry is described twice (also in {tables[0][0]})")
    where, value = tables[0]
    table = convert(value, TelemetryTable, where)
    return TelemetrySpec(
        stats=table.stats,
        memory=table.memory,
        reset=table.reset.lstrip("?"),
        keys=_keys(table.keys, f"{where} keys"),
        counters=tuple(dict.fromkeys(table.counters)),
        gauges=tuple(_gauge(name, value, f"{where} gauges.{name}") for name, value in table.gauges.items()),
    )


def _gauge(name: str, value: object, where: str) -> Gauge:
    try:
        check_name(name)
    except ValueError as error:
        raise TableError(f"{where}: {error}") from None
    table = convert({"path": value} if isinstance(value, str) else value, GaugeTable, where)
    return Gauge(name=name, path=table.path, unit=table.unit, better=table.better)


def _keys(given: dict[str, Any], where: str) -> dict[str, str]:
    table = convert(given, KeysTable, where)
    try:
        return {name: check(name, _path_in_json, getattr(table, name)) for name in given}
    except ValueError as error:
        raise TableError(f"{where}: {error}") from None


def _path_in_json(text: str) -> str:
    if not all(text.split(".")):
        raise ValueError(f"{text!r} is no path in JSON: write names joined by dots, as heap.free")
    return text
