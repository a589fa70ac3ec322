"""HTTP messages as data, and their bytes. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

SERVER = "espperf-sim"


@dataclass(frozen=True)
class Request:
    """One parsed request. Header names are in lower case; of a repeated one the last counts."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool


@dataclass(frozen=True)
class Response:
    """One answer.

    Attributes:
        status: the HTTP status.
        body: what is sent; None for an answer that has no body by nature (304).
        content_type: media type of the body.
        headers: further headers.
        closes: whether the connection is given up after it.
        head_only: whether only the head is sent (answer to HEAD).
        reboots: whether the device reboots after it.
    """

    status: int
    body: bytes | None = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    closes: bool = False
    head_only: bool = False
    reboots: bool = field(default=False, kw_only=True)

    def head(self, *, close: bool, framing: tuple[tuple[str, str], ...] | None = None) -> bytes:
        """Encode the status line and headers; ``framing`` replaces the right Content-Length."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}", f"Server: {SERVER}"]
        if self.body is not None:
            lines.append(f"Content-Type: {self.content_type}")
            honest = (("Content-Length", str(len(self.body))),)
            lines.extend(f"{name}: {value}" for name, value in (honest if framing is None else framing))
        lines.extend(f"{name}: {value}" for name, value in self.headers)
        lines.append(f"Connection: {'close' if close else 'keep-alive'}")
        return "\r\n".join((*lines, "", "")).encode("latin-1")

    def payload(self) -> bytes:
        """Return the body bytes that follow the head."""
        return b"" if self.head_only or self.body is None else self.body


def json_response(data: Any, status: int = 200, **more: Any) -> Response:
    """Make a JSON answer in the board's compact spelling."""
    return Response(status, json.dumps(data, separators=(",", ":")).encode(), **more)


def error_response(status: int, sentence: str, **more: Any) -> Response:
    """Make an error answer: ``{"error": sentence}``."""
    return json_response({"error": sentence}, status, **more)


def parse_query(query: bytes | None) -> dict[str, str]:
    """Read a query; of a repeated name the last counts, bytes that are no UTF-8 are replaced."""
    if not query:
        return {}
    text = query.decode("ascii", errors="replace")
    return dict(parse_qsl(text, keep_blank_values=True, errors="replace"))
