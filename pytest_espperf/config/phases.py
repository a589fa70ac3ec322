"""The phases of a project's profiles: one table for each kind of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from pytest_espperf.config.parsers import one_of, url_path
from pytest_espperf.config.requests import MOST_PATHS
from pytest_espperf.config.tables import check, convert
from pytest_espperf.errors import TableError
from pytest_espperf.model.workload import DIGITS, NUMBER, PageSpec, PhaseSpec, StreamSpec

MOST_MESSAGE_BYTES = 1 << 20
"""Of a WebSocket message."""

DEFAULT_MESSAGE_BYTES = 32
"""Of a WebSocket message where a phase says neither what it is nor how long."""

MOST_CONNECTIONS = 32
"""Of one client: browsers open six to a server."""


_Rate = Annotated[float, Meta(gt=0, le=1e6)]


class PhaseTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What phases of all kinds have; 0 where the options or the preset decide."""

    kind: str = "requests"
    clients: Annotated[int, Meta(ge=1, le=1000)] = 0
    duration_s: Annotated[float, Meta(gt=0, le=86400)] = 0.0


class RequestsTable(PhaseTable, forbid_unknown_fields=True, kw_only=True):
    """A phase of requests for the paths of the profile."""

    rate: _Rate | None = None
    reuse: bool = True
    tls_resumption: bool | None = None
    think_time_s: Annotated[float, Meta(gt=0, le=3600)] | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and self.think_time_s is not None:
            raise ValueError("rate and think_time_s exclude each other: both say when a request is sent")
        if self.reuse and self.tls_resumption is not None:
            raise ValueError("tls_resumption needs reuse = false: a connection in use has one handshake")


class PageTable(RequestsTable, forbid_unknown_fields=True, kw_only=True):
    """A phase of pages with their assets."""

    path: str
    assets: list[str]
    connections: Annotated[int, Meta(ge=1, le=MOST_CONNECTIONS)] = 6
    revalidate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.path = check("path", url_path, self.path)
        self.assets = [check("assets", url_path, asset) for asset in self.assets]
        if not self.assets:
            raise ValueError("assets must be a list of at least one path")
        if len(self.assets) >= MOST_PATHS:
            raise ValueError(f"assets: a page has {MOST_PATHS - 1} at most, not {len(self.assets)}")
        seen = {self.path}
        for asset in self.assets:
            if asset in seen:
                raise ValueError(f"assets: {asset!r} is asked for twice by one page")
            seen.add(asset)


class WebSocketTable(PhaseTable, forbid_unknown_fields=True, kw_only=True):
    """A phase of WebSocket messages and their echoes."""

    path: str
    message: str = ""
    size: Annotated[int, Meta(ge=1, le=MOST_MESSAGE_BYTES)] | None = None
    binary: bool = False
    rate: _Rate | None = None

    def __post_init__(self) -> None:
        self.path = check("path", url_path, self.path)
        length = len(self.message.replace(NUMBER, "0" * DIGITS, 1).encode())
        if length > (self.size or MOST_MESSAGE_BYTES):
            raise ValueError(f"message has {length:,} bytes, more than {self.size or MOST_MESSAGE_BYTES:,}")


class EventsTable(PhaseTable, forbid_unknown_fields=True, kw_only=True):
    """A phase of server-sent events."""

    path: str

    def __post_init__(self) -> None:
        self.path = check("path", url_path, self.path)


def _requests(name: str, value: Mapping[str, Any], where: str) -> PhaseSpec:
    return _spec(name, convert(value, RequestsTable, where))


def _page(name: str, value: Mapping[str, Any], where: str) -> PhaseSpec:
    table = convert(value, PageTable, where)
    page = PageSpec(table.path, tuple(table.assets), table.connections, table.revalidate)
    return replace(_spec(name, table), kind="page", page=page)


def _websocket(name: str, value: Mapping[str, Any], where: str) -> PhaseSpec:
    table = convert(value, WebSocketTable, where)
    size = table.size or (0 if table.message else DEFAULT_MESSAGE_BYTES)
    stream = StreamSpec(table.path, message=table.message, size=size, binary=table.binary)
    return PhaseSpec(name, table.clients, table.duration_s, table.rate, kind="websocket", stream=stream)


def _events(name: str, value: Mapping[str, Any], where: str) -> PhaseSpec:
    table = convert(value, EventsTable, where)
    return PhaseSpec(name, table.clients, table.duration_s, kind="events", stream=StreamSpec(table.path))


def _spec(name: str, table: RequestsTable) -> PhaseSpec:
    """Make a phase of what all kinds have."""
    return PhaseSpec(
        name,
        table.clients,
        table.duration_s,
        table.rate,
        reuse=table.reuse,
        tls_resumption=table.tls_resumption is not False,
        think_time_s=table.think_time_s or 0.0,
    )


_KINDS: Mapping[str, tuple[type[msgspec.Struct], Callable[[str, Mapping[str, Any], str], PhaseSpec]]] = {
    "requests": (RequestsTable, _requests),
    "page": (PageTable, _page),
    "websocket": (WebSocketTable, _websocket),
    "events": (EventsTable, _events),
}
"""By the word in ``kind``: the table, and what reads it."""


def read_phase(name: str, value: object, where: str) -> PhaseSpec:
    """Read one phase of a profile.

    Raises:
        TableError: it has an unknown kind, a key that its kind has not, or a bad value.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.]*", name):
        raise TableError(f"{where}: a phase's name is made of letters, digits, '_' and '.'")
    kind = value.get("kind", "requests") if isinstance(value, dict) else "requests"
    if not isinstance(value, dict) or not isinstance(kind, str):
        return _requests(name, value, where)  # type: ignore[arg-type] # which refuses it
    try:
        table, read = _KINDS[check("kind", one_of(*_KINDS), kind)]
    except ValueError as error:
        raise TableError(f"{where}: {error}") from None
    for key in value:
        others = [word for word, (other, _) in _KINDS.items() if key in other.__struct_fields__]
        if others and key not in table.__struct_fields__:
            has = f"kind = {others[0]!r}" if len(others) == 1 else f"another kind ({', '.join(others)})"
            raise TableError(f"{where}: key {key!r} is one of phases of {has}, and this one is {kind!r}")
    return read(name, value, where)
