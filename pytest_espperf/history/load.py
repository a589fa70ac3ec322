"""Reading of a session file: bounded, recognised, migrated, validated. Nothing in it is trusted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from pytest_espperf.errors import ArtifactError, NewerSchemaError
from pytest_espperf.history import migrate, names
from pytest_espperf.model.artifact import (
    DELAYED_ACK,
    SCHEMA_VERSION,
    PathReport,
    PhaseReport,
    SessionArtifact,
    Verdict,
)
from pytest_espperf.model.encoding import as_utf8, encodable
from pytest_espperf.model.figures import KNOWN, PEAKS, watched
from pytest_espperf.model.findings import ANSWERS, STANDING
from pytest_espperf.model.gates import with_counted
from pytest_espperf.system import regular
from pytest_espperf.system.redaction import settings_without_secrets

MAX_BYTES = 64 * 1024 * 1024
"""Largest session file that is read (or written): some 10,000 phases with their histograms."""

MAX_VALUES = 4_000_000
"""Most values in one file: what bounds the memory that a small hostile file could ask for."""

MAX_DEPTH = 64
"""Deepest nesting of the free parts (settings, telemetry), so that no reader's recursion is in danger."""

_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_MANY_DIGITS = b"0" * 19
_INT64 = 2**63
_CONTAINERS = frozenset({dict, list})
_AT = re.compile(r" - at `(.*)`$", re.DOTALL)


class _Head(msgspec.Struct):
    """Fields that distinguish a session from foreign JSON, and its version; all others are skipped unread."""

    schema_version: int | msgspec.UnsetType = msgspec.UNSET
    timestamp_utc: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    raw_runs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_session = msgspec.json.Decoder(SessionArtifact).decode
_decode_any = msgspec.json.Decoder(dict[str, Any]).decode


def load_session(path: str | os.PathLike[str]) -> SessionArtifact:
    """Read the session in the file ``path``, of any version of the format; a link is followed.

    Raises:
        ArtifactError: the file cannot be read, or is no session; it carries the path and the field.
        NewerSchemaError: a later version of this package wrote it.
    """
    return read_session(Path(path), follow=True)[0]


def load_listed(path: Path) -> SessionArtifact:
    """Read the session in a file that was found in a folder; unlike :func:`load_session`, follow no link.

    Raises:
        ArtifactError: as :func:`load_session`.
    """
    return read_session(path)[0]


def read_session(path: Path, *, follow: bool = False) -> tuple[SessionArtifact, bytes]:
    """Read the session in the file ``path``, and the file's bytes, which are converted to UTF-8.

    Args:
        path: the file.
        follow: whether it may be a link.

    Raises:
        ArtifactError: as :func:`load_session`.
    """
    data = _utf8(read_bounded(path, follow=follow), path)
    return with_tag(decode_session(data, path=path), path), data


def with_tag(artifact: SessionArtifact, path: Path) -> SessionArtifact:
    """Fill in the tag of a session in the file ``path``: the original kept it in the file's name only."""
    if artifact.tag or not artifact.session_id.startswith("s0-"):
        return artifact
    tag = names.tag_of(path.name)
    return structs.replace(artifact, tag=tag) if tag else artifact


def decode_session(data: bytes, *, path: Path | None = None) -> SessionArtifact:
    """Decode the session in ``data``; ``path`` is its origin, for messages.

    Raises:
        ArtifactError: ``data`` is no session.
        NewerSchemaError: a later version of this package wrote it.
    """
    data = _utf8(data, path)
    try:
        _check_size(data)
        artifact = with_counted(_decode(data))
        _check_values(artifact, data)
    except ArtifactError as error:
        raise type(error)(error.reason, path=path, field=error.field) from error.__cause__
    except msgspec.ValidationError as error:
        reason, field = _split(str(error))
        raise ArtifactError(f"is not a valid session: {reason}", path=path, field=field) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"is not JSON: {error}", path=path) from None
    except RecursionError:
        raise ArtifactError("is nested too deeply", path=path) from None
    except MemoryError:
        raise ArtifactError("does not fit into memory", path=path) from None
    settings = settings_without_secrets(artifact.settings)
    return artifact if settings == artifact.settings else structs.replace(artifact, settings=settings)


def _utf8(data: bytes, path: Path | None) -> bytes:
    try:
        return as_utf8(data)
    except UnicodeDecodeError as error:
        raise ArtifactError(f"is not JSON: save it as UTF-8 ({error})", path=path) from None


def _standing(verdict: Verdict) -> Verdict:
    """Reduce a verdict to what decides whether its session is a baseline."""
    kept = STANDING | {ANSWERS}
    findings = [finding for finding in verdict.findings if finding.kind in kept]
    return structs.replace(verdict, places=[], findings=findings)


_COMPARED = (DELAYED_ACK,)
"""Keys of a board's description that later sessions are compared with."""


def for_judging(artifact: SessionArtifact) -> SessionArtifact:
    """Drop what no later session is compared with: a baseline of 200 sessions is held in memory at once."""

    def lighter(report: PhaseReport) -> PhaseReport:
        before = watched(report.stats_before)
        return structs.replace(
            report,
            path_metrics={
                path: PathReport(status_counts=one.status_counts, body_bytes=one.body_bytes)
                for path, one in report.path_metrics.items()
            },
            error_reasons=[],
            histogram=None,
            timeline=None,
            events=[],
            stats_before={KNOWN: {name: value for name, value in before.items() if name in PEAKS}},
            stats_after={KNOWN: watched(report.stats_after)},
            mem_before={},
            mem_after={KNOWN: watched(report.mem_after)},
        )

    runs = [
        structs.replace(
            run,
            results=[structs.replace(result, report=lighter(result.report)) for result in run.results],
        )
        for run in artifact.raw_runs
    ]
    gate = artifact.gate
    return structs.replace(
        artifact,
        raw_runs=runs,
        gate=_standing(gate) if gate is not None else None,
        comparison_to_previous={},
        settings={},
        environment={},
        device={key: artifact.device[key] for key in _COMPARED if key in artifact.device},
    )


def encode_session(artifact: SessionArtifact) -> bytes:
    """Encode ``artifact`` as the bytes of its file, which are checked to be readable again.

    Lone surrogates, which a board's console may cause, become U+FFFD; NaN in an optional figure becomes null.

    Raises:
        ArtifactError: it would not be readable again; the message names the field.
    """
    try:
        try:
            data = msgspec.json.encode(artifact)
        except UnicodeEncodeError:
            data = msgspec.json.encode(_printable(msgspec.to_builtins(artifact, str_keys=True)))
    except (TypeError, ValueError, OverflowError, RecursionError, UnicodeEncodeError) as error:
        raise ArtifactError(f"cannot be written as JSON: {error}") from error
    data = msgspec.json.format(data, indent=1) + b"\n"
    decode_session(data)
    return data


def read_bounded(path: Path, limit: int = MAX_BYTES, *, follow: bool = False) -> bytes:
    """Read a regular file of at most ``limit`` bytes.

    Args:
        path: the file.
        limit: bytes.
        follow: whether it may be a link, since the user named this very file.

    Raises:
        ArtifactError: it cannot be read, is no regular file, is a link, or is larger.
    """
    try:
        return regular.read_whole(path, limit, follow=follow)
    except (regular.NotRegularError, regular.TooLargeError) as error:
        raise ArtifactError(str(error.strerror), path=path) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ArtifactError(f"cannot be read: {reason}", path=path) from error


def _check_size(data: bytes) -> None:
    if not data.strip():
        raise ArtifactError("is empty")
    if len(data) > MAX_BYTES:
        raise ArtifactError(f"is larger than {MAX_BYTES:,} bytes ({len(data):,})")
    if len(data) <= MAX_VALUES:  # more do not fit into so few bytes
        return
    # Each value is followed by a comma or closes a container, so this counts no value twice or never.
    values = data.count(b",") + data.count(b"[") + data.count(b"{")
    if values > MAX_VALUES:
        raise ArtifactError(f"holds more than {MAX_VALUES:,} values")


def _decode(data: bytes) -> SessionArtifact:
    head = _decode_head(data)
    version = head.schema_version
    if version is msgspec.UNSET:
        old = _decode_any(data)
        if not migrate.looks_like_schema_0(old):
            raise ArtifactError("is JSON, but not a session of this tool")
        return _migrate(old, 0)
    assert isinstance(version, int)
    if version > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"was written by a later version (schema {_short(version)}; this one reads {SCHEMA_VERSION})",
            field="$.schema_version",
        )
    if version < 1:
        raise ArtifactError(f"has the impossible schema {_short(version)}", field="$.schema_version")
    if head.timestamp_utc is msgspec.UNSET or head.raw_runs is msgspec.UNSET:
        missing = "timestamp_utc" if head.timestamp_utc is msgspec.UNSET else "raw_runs"
        raise ArtifactError(f"is JSON, but not a session of this tool: no {missing!r}", field=f"$.{missing}")
    if version < SCHEMA_VERSION:
        return _migrate(_decode_any(data), version)
    return _decode_session(data)


def _migrate(old: dict[str, Any], version: int) -> SessionArtifact:
    try:
        new = migrate.migrate(old, version)
    except (TypeError, AttributeError, KeyError, ValueError, IndexError, ArithmeticError) as error:
        raise ArtifactError(f"is not a valid session of schema {version}: {error}") from error
    return msgspec.convert(new, SessionArtifact)


def _check_values(artifact: SessionArtifact, data: bytes) -> None:
    if names.parse_stamp(artifact.timestamp_utc) is None:
        raise ArtifactError("is not a valid session: no UTC time", field="$.timestamp_utc")
    for field, value in _free_parts(artifact):
        if value and not _shallow(value):
            raise ArtifactError(f"is nested more than {MAX_DEPTH} levels deep", field=field)
    if _MANY_DIGITS in data.translate(_DIGITS) and not _small_ints(msgspec.to_builtins(artifact)):
        raise ArtifactError("holds an integer of more than 64 bits")


def _free_parts(artifact: SessionArtifact) -> Iterator[tuple[str, Any]]:
    yield "$.settings", artifact.settings
    yield "$.environment", artifact.environment
    yield "$.device", artifact.device
    yield "$.accepted", artifact.accepted
    if artifact.gate is not None:
        yield "$.gate.baseline", artifact.gate.baseline
    if artifact.comparability is not None:
        yield "$.comparability.fields", artifact.comparability.fields
    for i, run in enumerate(artifact.raw_runs):
        for j, result in enumerate(run.results):
            report = result.report
            where = f"$.raw_runs[{i}].results[{j}].report"
            yield where, [report.stats_before, report.stats_after, report.mem_before, report.mem_after]


def _shallow(value: Any) -> bool:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for outer in level:
            values = _values(outer)
            if not _CONTAINERS.isdisjoint(map(type, values)):  # telemetry is mostly integers: this is fast
                below += [inner for inner in values if type(inner) in _CONTAINERS]
        if not below:
            return True
        level = below
    return False


def _small_ints(value: Any) -> bool:
    todo: list[Any] = [value]
    while todo:
        for inner in _values(todo.pop()):
            if isinstance(inner, (dict, list)):
                todo.append(inner)
            elif isinstance(inner, int) and not -_INT64 <= inner < _INT64:
                return False
    return True


def _values(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, dict):
        return {_printable(key): _printable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_printable(inner) for inner in value]
    return value


def _split(message: str) -> tuple[str, str]:
    match = _AT.search(message)
    return (message[: match.start()], match[1]) if match else (message, "$")


def _short(number: int) -> str:
    return str(number) if -_INT64 <= number < _INT64 else "of more than 64 bits"
