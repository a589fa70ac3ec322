"""Text -> value: the parsers of option values. Pure; a ValueError explains what is wrong, in one sentence.

Imported by every pytest run of a project that has the plugin installed: keep it light.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from pytest_espperf.model.address import split_host
from pytest_espperf.model.text import nearest


def file_of(source: str) -> str:
    """Get the file's name from a profile's source: ``/me/espperf.toml: [profiles.x]`` -> ``espperf.toml``."""
    head = source.rpartition(": [")[0] or source
    return head.replace("\\", "/").rpartition("/")[2]


def bool_word(text: str) -> bool:
    """Parse ``yes/no``, ``true/false``, ``on/off`` or ``1/0``."""
    word = text.strip().lower()
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError(f"{text!r} is neither yes nor no")


def number(
    *, least: float = -math.inf, most: float = math.inf, above: float = -math.inf
) -> Callable[[str], float]:
    """Make the parser of a finite number within bounds."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a number") from None
        if not math.isfinite(value):
            raise ValueError(f"{text!r} is not a finite number")
        if value < least:
            raise ValueError(f"{text} is below the least value, {least:g}")
        if value <= above:
            raise ValueError(f"{text} must be above {above:g}")
        if value > most:
            raise ValueError(f"{text} is above the greatest value, {most:g}")
        return value

    return parse


def percent(
    *, least: float = -math.inf, most: float = math.inf, above: float = -math.inf
) -> Callable[[str], float]:
    """Make the parser of a finite percentage within bounds; ``25%`` and ``25`` are the same."""
    parse_number = number(least=least, most=most, above=above)

    def parse(text: str) -> float:
        return parse_number(text.strip().removesuffix("%").strip())

    return parse


def whole(*, least: int, most: int = 2**62) -> Callable[[str], int]:
    """Make the parser of a whole number within bounds."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a whole number") from None
        if not least <= value <= most:
            bounds = f"at least {least}" if value < least else f"at most {most}"
            raise ValueError(f"{text} must be {bounds}")
        return value

    return parse


def one_of(*words: str) -> Callable[[str], str]:
    """Make the parser of one of a few words; the message for another one names the nearest."""

    def parse(text: str) -> str:
        word = text.strip()
        if word not in words:
            raise ValueError(f"{text!r} is not one of {', '.join(words)}{nearest(word, words)}")
        return word

    return parse


def word(text: str) -> str:
    """Parse any text but an empty one."""
    stripped = text.strip()
    if not stripped:
        raise ValueError("it is empty")
    return stripped


def locale_text(text: str) -> str:
    """Parse text whose bytes are in the locale's encoding: others cannot be distinguished once written."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        shown = "".join("?" if "\ud800" <= char <= "\udfff" else char for char in text)
        raise ValueError(f"{shown!r} has bytes (?) that are not in the encoding of this locale")
    return text


def header(text: str) -> tuple[str, str]:
    """Parse ``Name: value`` of an HTTP header."""
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    # The value is never repeated in a message: it may be a credential.
    if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ValueError("a header reads 'Name: value', with a name of letters, digits and dashes")
    if any((ord(char) < 32 and char != "\t") or ord(char) == 127 for char in value):
        raise ValueError(f"the value of header {name} has a control character")
    if not value.isascii():
        raise ValueError(f"the value of header {name} has a character outside ASCII: encode it")
    return name, value


def url_path(text: str) -> str:
    """Parse a request target, which begins with a slash."""
    if not text.startswith("/") or any(char.isspace() or not char.isprintable() for char in text):
        raise ValueError(f"{text!r} is no request path: it begins with '/' and has no blanks")
    return text


def host(text: str) -> str:
    """Parse ``HOST``, ``HOST:PORT``, ``[IPv6]:PORT`` or ``sim``: the text, checked for its form."""
    split_host(text)
    return text.strip()


def serial_url(text: str) -> str:
    """Parse what pyserial opens; credentials are refused, since the artifact would keep them."""
    text = word(text)
    if "@" in text.partition("://")[2].partition("/")[0]:
        raise ValueError("it holds credentials, and no kind of serial port takes any: leave them out")
    return text
