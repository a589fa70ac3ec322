"""The check of one answer's body, while it passes. Pure."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import msgspec

from pytest_espperf.model.workload import RequestSpec

MAX_JSON_BYTES = 1024 * 1024
"""Longest body that is decoded as JSON."""

_SHOWN = 40
"""Bytes of an expected text, and digits of a digest, that a reason quotes."""


class BodyCheck:
    """Looks at one body while it passes: its digest, and whether what is wanted stands in it."""

    __slots__ = ("_contains", "_digest", "_found", "_json", "_json_bytes", "_spec", "_tail")

    def __init__(self, spec: RequestSpec) -> None:
        self._spec = spec
        self._digest = None if spec.sha256 is None else hashlib.sha256()
        self._contains = spec.contains
        self._found = not spec.contains
        self._tail = b""
        self._json: list[bytes] | None = None if spec.json_contains is None else []
        self._json_bytes = 0

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the body."""
        if self._digest is not None:
            self._digest.update(piece)
        if self._json is not None:
            self._json_bytes += len(piece)
            if self._json_bytes <= MAX_JSON_BYTES:
                self._json.append(piece)
        if not self._found and self._contains is not None:
            window = self._tail + piece
            self._found = self._contains in window
            keep = len(self._contains) - 1
            self._tail = window[-keep:] if keep else b""

    def error(self, body_bytes: int) -> str | None:
        """Find the error kind of the whole body, None if it is right."""
        spec = self._spec
        if spec.size_bytes is not None and body_bytes != spec.size_bytes:
            return "body_size"
        if self._digest is not None and self._digest.hexdigest() != str(spec.sha256).lower():
            return "body_sha256"
        if not self._found:
            return "body_contains"
        return "body_json" if self._json is not None and self._json_trouble() else None

    def reason(self, body_bytes: int) -> str:
        """Describe in words what is wrong with the whole body."""
        spec, kind = self._spec, self.error(body_bytes)
        if kind == "body_size":
            return f"the body has {body_bytes:,} bytes, not {spec.size_bytes:,}"
        if kind == "body_sha256" and self._digest is not None:
            return f"the body's SHA-256 is {self._digest.hexdigest()[:_SHOWN]}..., not {spec.sha256}"
        if kind == "body_json":
            return self._json_trouble()
        wanted = (spec.contains or b"").decode(errors="replace")
        return f"{wanted[:_SHOWN]!r} is not in the body of {body_bytes:,} bytes"

    def _json_trouble(self) -> str:
        """Describe what is wrong with the body as JSON; "" for nothing."""
        if self._json_bytes > MAX_JSON_BYTES:
            return f"the body has more than {MAX_JSON_BYTES:,} bytes, and is not looked into as JSON"
        try:
            found = msgspec.json.decode(b"".join(self._json or ()))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return f"the body of {self._json_bytes:,} bytes is no JSON"
        return missing_in(found, _decoded(str(self._spec.json_contains)))


@lru_cache(maxsize=256)
def _decoded(text: str) -> Any:
    return msgspec.json.decode(text)


def missing_in(found: object, wanted: object, where: str = "") -> str:
    """Describe the first thing of ``wanted`` that ``found`` has not; "" where it has all of it.

    Each key of an object must be there with its value, at any depth; other values are the same or not. What a
    board sends as text is not repeated: it may be a secret.
    """
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return f"{where or 'the body'} is no JSON object"
        for key, value in wanted.items():
            place = f"{where}.{key}" if where else str(key)
            if key not in found:
                return f"{place} is not in the JSON"
            if missing := missing_in(found[key], value, place):
                return missing
        return ""
    if same_json(found, wanted):
        return ""
    shown = msgspec.json.encode(wanted).decode()[:_SHOWN]
    plain = found is None or isinstance(found, (bool, int, float))
    is_now = msgspec.json.encode(found).decode() if plain else "another value"
    return f"{where or 'the JSON'} is {is_now}, not {shown}"


def same_json(one: object, other: object) -> bool:
    """Whether two JSON values are the same: 1 is 1.0, and neither is true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    return one == other
