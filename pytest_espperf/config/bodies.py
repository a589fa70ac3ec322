"""Bodies of requests from TOML values. Pure: the same value is the same bytes, in every session."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlencode

OCTETS = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"

_QUOTED = {'"': "%22", "\r": "%0D", "\n": "%0A"}
"""What a name in a multipart body cannot hold, as browsers send it (WHATWG, form submission)."""


class Part(NamedTuple):
    """One part of a multipart body; a text has neither a file's name nor a type."""

    name: str
    data: bytes
    filename: str = ""
    content_type: str = ""


def json_bytes(value: object) -> bytes:
    """Encode a value as JSON, without blanks.

    Raises:
        ValueError: it has what JSON has not: a date, a number that is not finite.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except TypeError:
        raise ValueError("JSON has no dates and times: write them as text") from None
    except UnicodeEncodeError:
        raise ValueError("it has half of a character (a lone surrogate)") from None
    except ValueError:
        raise ValueError("JSON has no nan and no inf") from None


def form_bytes(fields: Mapping[str, object]) -> bytes:
    """Encode fields as a form does; a list is a field that occurs several times.

    Raises:
        ValueError: a value is neither text, a number, a boolean nor a list of them.
    """
    pairs = [(name, _field(name, one)) for name, value in fields.items() for one in _several(value)]
    return urlencode(pairs).encode("ascii")


def multipart_bytes(parts: Sequence[Part]) -> tuple[bytes, str]:
    """Encode parts as RFC 7578 has it; return the body and its content type.

    The boundary is made from the parts, and so the same each time.
    """
    digest = hashlib.sha256()
    for part in parts:
        for piece in (part.name.encode(), part.filename.encode(), part.content_type.encode(), part.data):
            digest.update(b"%d:%s" % (len(piece), piece))
    boundary = f"espperf-{digest.hexdigest()[:24]}"
    pieces: list[bytes] = []
    for part in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(part.name)}"'
        if part.filename:
            head += f'; filename="{_quoted(part.filename)}"'
        if part.content_type:
            head += f"\r\nContent-Type: {part.content_type}"
        pieces += (head.encode(), b"\r\n\r\n", part.data, b"\r\n")
    pieces.append(f"--{boundary}--\r\n".encode())
    return b"".join(pieces), f"multipart/form-data; boundary={boundary}"


def _several(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else (value,)


def _field(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(f"the value of {name!r} must be text, a number, a boolean or a list of them")


def _quoted(text: str) -> str:
    return "".join(_QUOTED.get(char, char) for char in text)
