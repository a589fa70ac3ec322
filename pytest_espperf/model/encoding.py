"""Conversion of text from elsewhere to UTF-8. Pure.

Editors and shells of Windows put a byte order mark in front (Notepad, ``Out-File -Encoding utf8``), or write
UTF-16 (``>`` in Windows PowerShell).
"""

from __future__ import annotations

import codecs

_MARKS = (  # that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def as_utf8(data: bytes) -> bytes:
    """Convert text to UTF-8 without a byte order mark.

    Text without a mark is taken as UTF-8, or as UTF-16 where every other of its first bytes is zero.

    Raises:
        UnicodeDecodeError: it is not in the encoding that its first bytes announce.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            rest = data[len(mark) :]
            return rest if encoding == "utf-8" else rest.decode(encoding).encode("utf-8", "surrogatepass")
    if data[:2].count(0) == 1 and len(data) > 1:
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le").encode("utf-8", "surrogatepass")
    return data


def encodable(text: str) -> str:
    """Replace each lone surrogate, which UTF-8 and JSON cannot hold, by U+FFFD.

    They stand for the bytes of a command line or a path that are not in the locale's encoding.
    """
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
