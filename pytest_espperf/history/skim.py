"""Skimming of a session's file: what the index needs of it, in a fraction of the time of reading it whole.

The typed parts are validated as they are on reading. The free ones (settings, telemetry) are passed over:
what is wrong in those is named when the session is loaded. A file in which anything is unusual is read whole.
"""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import structs

from pytest_espperf.history import names
from pytest_espperf.history.load import MAX_VALUES, read_bounded, read_session, with_tag
from pytest_espperf.history.rows import Keys, SessionRow, keys_of, row_of
from pytest_espperf.model.artifact import SCHEMA_VERSION, Comparability, SessionArtifact

_UNUSUAL = (msgspec.MsgspecError, ArithmeticError, RecursionError, ValueError, MemoryError)
_REQUIRED = {"timestamp_utc", "raw_runs"}
_INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_KEPT_KEYS = 100


class Skimmer:
    """Reader of rows from many files; the comparability that most of them share is decoded once."""

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(_light_session()).decode
        self._known: dict[bytes, tuple[Comparability | None, Keys]] = {}

    def row(self, path: Path, key: names.OrderKey) -> SessionRow:
        """Read the row of the session in a file, with details.

        Raises:
            ArtifactError: the file cannot be read, or is no session.
        """
        data = read_bounded(path)
        if len(data) <= MAX_VALUES:  # no more values fit into so few bytes
            try:
                return self._skim(data, path, key)
            except _UNUSUAL:
                pass
        return row_of(read_session(path)[0], key)

    def _skim(self, data: bytes, path: Path, key: names.OrderKey) -> SessionRow:
        light = self._decode(data)
        if names.parse_stamp(light.timestamp_utc) is None:
            raise ValueError(light.timestamp_utc)
        device = _decode_object(light.device)
        comparability, keys = self._comparability(light.comparability)
        environment = _commit_of(light.environment)
        artifact = structs.replace(light, device=device, environment=environment, comparability=comparability)
        return row_of(with_tag(artifact, path), key, keys)

    def _comparability(self, raw: Any) -> tuple[Comparability | None, Keys]:
        facts = bytes(raw) if raw is not None else b"null"
        found = self._known.get(facts)
        if found is None:
            comparability = _decode_comparability(facts)
            found = comparability, keys_of(comparability)
            if len(self._known) < _KEPT_KEYS:
                self._known[facts] = found
        return found


class _Commit(msgspec.Struct, frozen=True, gc=False):
    """What a row needs of the environment."""

    git_commit: Any = None
    git_dirty: Any = None


_decode_commit = msgspec.json.Decoder(_Commit).decode


def _commit_of(environment: Any) -> dict[str, Any]:
    return structs.asdict(_decode_commit(environment)) if isinstance(environment, msgspec.Raw) else {}


_decode_comparability = msgspec.json.Decoder(Comparability | None).decode
_decode_fields = msgspec.json.Decoder(dict[str, Any]).decode


def _decode_object(raw: Any) -> dict[str, Any]:
    """Decode a free part that was passed over, or take its default."""
    return _decode_fields(raw) if isinstance(raw, msgspec.Raw) else raw


def _light_session() -> type[SessionArtifact]:
    """Make the type of a session whose free parts stay bytes, and whose version is the present one."""
    made: dict[type, Any] = {}

    def light(kind: Any) -> Any:
        if kind is Comparability or kind == dict[str, Any]:
            return msgspec.Raw
        if kind is int:
            return _INT64
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if kind not in made:
                made[kind] = _derived(kind, light)
            return made[kind]
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if origin is list:
            return list[light(inner[0])]  # type: ignore[misc]
        if origin is dict:
            return dict[str, light(inner[1])]  # type: ignore[misc]
        if origin in (typing.Union, types.UnionType):
            lighter = tuple(light(one) for one in inner)
            # Raw takes null as well, and shares its place with nothing.
            return msgspec.Raw if msgspec.Raw in lighter else typing.Union[lighter]  # noqa: UP007 - values
        return kind

    found: type[SessionArtifact] = light(SessionArtifact)
    return found


def _derived(kind: type[msgspec.Struct], light: Any) -> type[msgspec.Struct]:
    """Make a struct with the same fields in lighter types."""
    hints = typing.get_type_hints(kind)
    fields: list[Any] = []
    for own in structs.fields(kind):
        required = kind is SessionArtifact and own.name in _REQUIRED
        options: dict[str, Any] = {"name": own.encode_name}
        if own.default is not msgspec.NODEFAULT and not required:
            options["default"] = own.default
        elif own.default_factory is not msgspec.NODEFAULT and not required:
            options["default_factory"] = own.default_factory
        type_ = light(hints[own.name])
        if kind is SessionArtifact and own.name == "schema_version":
            type_, options = Literal[SCHEMA_VERSION], {"name": own.encode_name}
        fields.append((own.name, type_, msgspec.field(**options)))
    # No reference of theirs can be circular: the garbage collector need not look at them.
    return msgspec.defstruct(kind.__name__, fields, bases=(kind,), kw_only=True, frozen=True, gc=False)
