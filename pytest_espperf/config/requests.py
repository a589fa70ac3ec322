"""A profile's requests from TOML: paths with methods and bodies, and the login that comes first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from pytest_espperf.config.bodies import (
    FORM,
    JSON,
    OCTETS,
    TEXT,
    Part,
    form_bytes,
    json_bytes,
    multipart_bytes,
)
from pytest_espperf.config.parsers import header, url_path
from pytest_espperf.config.tables import check, convert
from pytest_espperf.errors import TableError, UsageError
from pytest_espperf.model.text import nearest
from pytest_espperf.model.workload import NUMBER, PLACEHOLDER, Header, LoginSpec, PhaseSpec, RequestSpec
from pytest_espperf.system.homes import expand_user
from pytest_espperf.system.regular import read_whole

MOST_PATHS = 255
"""Paths of one profile at most: a sample has one byte for the number of its path."""

MOST_BODY_BYTES = 64 * 1024 * 1024
"""Longest body of a request."""

PATH_LIMITS = (
    "max_error_rate",
    "max_transport_error_rate",
    "max_status_error_rate",
    "max_body_error_rate",
    "max_p95_ms",
    "max_p99_ms",
)
"""Absolute budgets that one path can have; the others are of all paths together, or of the board."""

SOURCES = ("json", "header", "cookie")
"""Where a login's values are taken from."""

_BODIES = ("json", "form", "body", "body_file", "multipart")
_FRAMING = {
    "content-length": "it follows from the body",
    "transfer-encoding": "write chunked = true",
    "expect": "write expect_continue = true",
    "host": "it is the board's; --device-header replaces it",
    "connection": "the load engine sets it; write reuse = false in a phase",
}
"""Headers that a request cannot name, and what to do instead."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

Limit = Annotated[float, Meta(ge=0, le=1e18)]


class AskedTable(msgspec.Struct, forbid_unknown_fields=True):
    """What a request asks for, and what a right answer looks like."""

    path: str
    method: str = ""
    headers: dict[str, Any] = {}
    json: Any = UNSET
    form: dict[str, Any] | None = None
    body: str | None = None
    body_file: str | None = None
    multipart: dict[str, Any] | None = None
    chunked: bool = False
    expect_continue: bool = False
    status: int | list[int] | None = None
    size: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    sha256: str | None = None
    contains: str | None = None
    json_contains: Any = UNSET

    def __post_init__(self) -> None:
        self.path = check("path", url_path, self.path)
        self.method = check("method", _method, self.method) if self.method else ""
        if self.status is not None:
            statuses = _listed(self.status)
            if not statuses or not all(100 <= one <= 599 for one in statuses):
                raise ValueError(f"status: {self.status} is no HTTP status, nor a list of them")
        if self.sha256 is not None:
            self.sha256 = check("sha256", _digest, self.sha256)
        if self.contains == "":
            raise ValueError("contains must be text, and not empty")
        given = self.bodies()
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: a request has one body")
        for key in ("chunked", "expect_continue"):
            if getattr(self, key) and not given:
                raise ValueError(f"{key} needs a body: one of {', '.join(_BODIES)}")
        checks = [key for key in ("size", "sha256", "contains") if getattr(self, key) is not None]
        checks += ["json_contains"] if self.json_contains is not UNSET else []
        if self.method == "HEAD" and checks:
            raise ValueError(f"{checks[0]}: the answer to a HEAD has no body")

    def bodies(self) -> list[str]:
        """Return the keys that give it a body."""
        return [key for key in _BODIES if getattr(self, key) not in (None, UNSET)]


class RequestTable(AskedTable, forbid_unknown_fields=True):
    """One path of a profile."""

    weight: Annotated[int, Meta(ge=1, le=1000)] = 1
    limits: dict[str, Any] = {}


class SessionTable(AskedTable, forbid_unknown_fields=True):
    """The login of each client, and what is taken from its answer."""

    take: dict[str, Any] = {}


class FileTable(msgspec.Struct, forbid_unknown_fields=True):
    """A file as a part of a multipart body."""

    file: str
    filename: str = ""
    content_type: str = OCTETS


PathLimitsTable = msgspec.defstruct(
    "PathLimitsTable", [(name, Limit | None, None) for name in PATH_LIMITS], forbid_unknown_fields=True
)
"""The absolute budgets of one path."""


@dataclass(frozen=True)
class RequestReader:
    """Makes the requests of one profile.

    Attributes:
        root: of the project: files of bodies are named from there.
        where: the file and the profile's table, for messages.
        headers: of the profile.
        limits: names of all absolute budgets that a profile has.
    """

    root: Path
    where: str
    headers: Sequence[Header] = ()
    limits: Iterable[str] = ()

    def requests(
        self, paths: Sequence[object], login: LoginSpec | None, phases: Sequence[PhaseSpec] = ()
    ) -> tuple[RequestSpec, ...]:
        """Make the requests of ``paths``; ``login`` fills their placeholders, and those of ``phases``.

        Raises:
            TableError: one is wrong, or listed twice, or a placeholder is not filled.
        """
        take = login.take if login is not None else {}
        requests = [
            self._request(item, f"{self.where} paths[{place}]", take) for place, item in enumerate(paths)
        ]
        seen: set[str] = set()
        for request in requests:
            if request.label in seen:
                what = "path" if request.method == "GET" else "request"
                raise TableError(
                    f"{self.where}: {what} {request.label!r} is listed twice: give it a weight instead"
                )
            seen.add(request.label)
        self._check_placeholders(requests, login, phases)
        return tuple(requests)

    def login(self, value: object) -> LoginSpec:
        """Make the login of the table ``session``.

        Raises:
            TableError: it is wrong.
        """
        where = f"{self.where} session"
        table = convert(value, SessionTable, where)
        take = {}
        for name, source in table.take.items():
            if not PLACEHOLDER.fullmatch(f"{{{name}}}"):
                raise TableError(f"{where} take: {name!r} is no name: letters, digits and '_'")
            take[name] = _source(source, f"{where} take.{name}")
        for key, text in [("path", table.path), *_sent_texts(table)]:
            if found := _of(take, text):
                raise TableError(f"{where} {key}: {found}: the login's own request has no value yet")
        return LoginSpec(self._spec(table, where), take)

    def _request(self, item: object, where: str, take: Mapping[str, str]) -> RequestSpec:
        table = convert({"path": item} if isinstance(item, str) else item, RequestTable, where)
        for key, text in _sent_texts(table):
            if found := _of(take, text):
                raise TableError(f"{where} {key}: a body is sent as it stands: {found} is not filled in it")
        for name in table.limits:
            if name not in PATH_LIMITS and name in self.limits:
                raise TableError(
                    f"{where} limits: {name} is a budget of a whole profile, not of one path"
                    f" (of a path: {', '.join(PATH_LIMITS)})"
                )
        limits = convert(table.limits, PathLimitsTable, f"{where} limits")
        kept = {name: limit for name in table.limits if (limit := getattr(limits, name)) is not None}
        return self._spec(table, where, weight=table.weight, limits=kept)

    def _spec(
        self,
        table: AskedTable,
        where: str,
        *,
        weight: int = 1,
        limits: Mapping[str, float] | None = None,
    ) -> RequestSpec:
        given = table.bodies()
        headers = tuple(
            read_header(name, text, f"{where} headers", framed=True) for name, text in table.headers.items()
        )
        named = {name.lower() for name, _ in headers}
        if table.multipart is not None and "content-type" in named:
            raise TableError(f"{where} headers: leave Content-Type out: multipart sets it, with its boundary")
        body, content_type = self._body(table, given[0], where) if given else (None, "")
        if body is not None and len(body) > MOST_BODY_BYTES:
            raise TableError(f"{where}: a body of {len(body):,} bytes is above {MOST_BODY_BYTES:,}")
        everywhere = {name.lower() for name, _ in self.headers} if table.multipart is None else set()
        if content_type and "content-type" not in named | everywhere:
            headers = (*headers, ("Content-Type", content_type))
        return RequestSpec(
            path=table.path,
            weight=weight,
            statuses=None if table.status is None else frozenset(_listed(table.status)),
            size_bytes=table.size,
            sha256=table.sha256,
            contains=table.contains.encode() if table.contains is not None else None,
            json_contains=_json_text(table.json_contains, where),
            method=table.method or ("POST" if given else "GET"),
            headers=headers,
            body=body,
            chunked=table.chunked,
            expect_continue=table.expect_continue,
            limits=limits or {},
        )

    def _body(self, table: AskedTable, key: str, where: str) -> tuple[bytes, str]:
        """Make a body and its content type."""
        if key == "json":
            return _made(json_bytes, table.json, f"{where} json"), JSON
        if key == "form":
            return _made(form_bytes, table.form, f"{where} form"), FORM
        if key == "body":
            return (table.body or "").encode(), TEXT
        if key == "body_file":
            return self._read(table.body_file or "", f"{where} body_file"), OCTETS
        parts = [self._part(name, one, f"{where} multipart") for name, one in (table.multipart or {}).items()]
        if not parts:
            raise TableError(f"{where} multipart: it has no part")
        return multipart_bytes(parts)

    def _part(self, name: str, value: object, where: str) -> Part:
        if isinstance(value, str):
            return Part(name, value.encode())
        table = convert(value, FileTable, f"{where}.{name}")
        # A line end would begin a header of its own.
        if not table.content_type.isascii() or not table.content_type.isprintable():
            raise TableError(f"{where}.{name}: content_type {table.content_type!r} is no media type")
        filename = table.filename or table.file.replace("\\", "/").rpartition("/")[2]
        return Part(name, self._read(table.file, f"{where}.{name}"), filename, table.content_type)

    def _read(self, name: str, where: str) -> bytes:
        """Read a file, named from the project's root."""
        if not name:
            raise TableError(f"{where}: it names no file")
        try:
            path = self.root / expand_user(name, where)
            return read_whole(path, MOST_BODY_BYTES, follow=True)
        except UsageError as error:
            raise TableError(str(error)) from None
        except FileNotFoundError:
            raise TableError(f"{where}: there is no file {path}") from None
        except OSError as error:
            raise TableError(f"{where}: {path} cannot be read: {error.strerror or error}") from None
        except ValueError:  # a NUL
            raise TableError(f"{where}: no file can have the name {name!r}") from None

    def _check_placeholders(
        self, requests: Sequence[RequestSpec], login: LoginSpec | None, phases: Sequence[PhaseSpec]
    ) -> None:
        """Refuse a placeholder that nothing fills; without a login, braces in a path are its own."""
        if login is not None:
            for name, value in login.request.headers:
                if unfilled := PLACEHOLDER.search(value):
                    raise TableError(
                        f"{self.where} session headers: {unfilled[0]} in {name!r}: the login's own request"
                        " has no value yet"
                    )
        places = [(f"headers: {name!r}", value) for name, value in self.headers]
        for request in requests:
            places += [(f"{request.label}: header {name!r}", value) for name, value in request.headers]
            places += [(request.label, request.path)] if login is not None else []
        take = login.take if login is not None else {}
        for phase in phases if login is not None else ():
            place, stream = f"phases.{phase.name}", phase.stream
            places += [(place, path) for path in phase.own_paths]
            places += [(place, stream.path)] if stream is not None else []
            if stream is not None and (found := _of(take, stream.message.replace(NUMBER, ""))):
                raise TableError(
                    f"{self.where} {place} message: a message is sent as it stands: {found} is not filled"
                    " in it"
                )
        for place, text in places:
            for name in PLACEHOLDER.findall(text):
                if name not in take:
                    how = nearest(name, take) or "; name it in the take of the profile's session"
                    raise TableError(f"{self.where} {place}: nothing takes {{{name}}}{how}")


def read_header(name: str, value: object, where: str, *, framed: bool = False) -> Header:
    """Read one header; with ``framed``, refuse one that says how the request is framed: the load engine does.

    Raises:
        TableError: it is none, or one that a request cannot name.
    """
    if not isinstance(value, str):  # never shown: it may be a credential
        raise TableError(f"{where}: the value of {name!r} must be text")
    try:
        pair = header(f"{name}: {value}")
    except ValueError as error:
        raise TableError(f"{where}: {error}") from None
    if framed and (instead := _FRAMING.get(pair[0].lower())):
        raise TableError(f"{where}: leave {pair[0]} out: {instead}")
    return pair


def _made(make: Callable[[Any], bytes], value: object, where: str) -> bytes:
    try:
        return make(value)
    except ValueError as error:
        raise TableError(f"{where}: {error}") from None


def _json_text(value: object, where: str) -> str | None:
    return None if value is UNSET else _made(json_bytes, value, f"{where} json_contains").decode()


def _sent_texts(table: AskedTable) -> Iterator[tuple[str, str]]:
    """Yield the texts that a table writes into a body, each with the key that it stands under."""
    if table.body is not None:
        yield "body", table.body
    if table.json is not UNSET:
        yield from (("json", text) for text in _texts(table.json))
    if table.form is not None:
        yield from (("form", text) for text in _texts(table.form))
    for value in (table.multipart or {}).values():
        if isinstance(value, str):
            yield "multipart", value


def _texts(value: object) -> Iterator[str]:
    """Yield all texts in a value of TOML, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield str(key)
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _of(take: Mapping[str, str], text: str) -> str:
    """Find the first placeholder in a text that a login takes a value for; "" where there is none."""
    return next((f"{{{name}}}" for name in PLACEHOLDER.findall(text) if name in take), "")


def _source(value: object, where: str) -> str:
    """Read where a value is taken from: ``json:a.b``, ``header:X-Token``, ``cookie:sid``."""
    if not isinstance(value, str):
        raise TableError(f'{where} must be text, as "json:token"')
    kind, colon, name = value.partition(":")
    kind, name = kind.strip().lower(), name.strip()
    if kind not in SOURCES:
        raise TableError(
            f"{where}: {value!r} begins with none of json:, header:, cookie:{nearest(kind, SOURCES)}"
        )
    if not colon or not name or (kind != "json" and not _TOKEN.fullmatch(name)):
        raise TableError(f'{where}: {value!r} names nothing: write "{kind}:NAME"')
    return f"{kind}:{name}"


def _method(text: str) -> str:
    method = text.strip().upper()
    if not _TOKEN.fullmatch(method):
        raise ValueError(f"{text!r} is no HTTP method")
    if method == "CONNECT":
        raise ValueError("CONNECT opens a tunnel, and asks a board for nothing")
    return method


def _digest(text: str) -> str:
    digest = text.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError(f"{text!r} is no SHA-256: 64 hexadecimal digits")
    return digest


def _listed(status: int | list[int]) -> list[int]:
    return status if isinstance(status, list) else [status]
