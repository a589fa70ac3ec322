"""A board's address as text: host and port. Pure."""

from __future__ import annotations

import re


def split_host(text: str) -> tuple[str, int | None]:
    """Split ``HOST[:PORT]``.

    Returns:
        the host (IPv6 without brackets) and the port, None where none was given.

    Raises:
        ValueError: it is a URL, is empty, or has a port that is none.
    """
    text = text.strip()
    if "://" in text:
        raise ValueError("it is a URL: give the host alone, and the scheme with --device-scheme")
    if "@" in text:
        raise ValueError("it holds credentials: give them with --device-header 'Authorization: ...'")
    match = re.fullmatch(r"\[([0-9A-Fa-f:.%\w-]+)\](?::(\d+))?|([^\s:/\[\]]+)(?::(\d+))?", text)
    if match is None:
        if re.fullmatch(r"[0-9A-Fa-f:.]+(%[\w.-]+)?", text) and text.count(":") >= 2:
            return text, None
        raise ValueError(f"{text!r} is no host: give an address or a name, as 192.168.0.135")
    name = match[1] or match[3]
    port_text = match[2] or match[4]
    if port_text is None:
        return name, None
    port = int(port_text)
    if not 1 <= port <= 65535:
        raise ValueError(f"port {port_text} is not between 1 and 65535")
    return name, port


def is_address(host: str) -> bool:
    """Whether a host is an IP address, with a zone or without, and no name."""
    import ipaddress  # noqa: PLC0415 - heavy, and needed only once a board is measured

    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
