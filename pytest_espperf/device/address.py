"""From what the user calls the board to where requests go."""

from __future__ import annotations

import ipaddress
import socket

from pytest_espperf.errors import UsageError
from pytest_espperf.workload import Target


def resolve_target(
    host: str,
    port: int,
    *,
    scheme: str = "http",
    headers: tuple[tuple[str, str], ...] = (),
    ca_file: str = "",
    insecure: bool = False,
    source: str = "--device-ip",
) -> Target:
    """Resolve the board's name once, so that name service is no part of a measurement.

    The ``Host`` header is what the user wrote, but for an mDNS name (``board.local``), where it is the
    address: boards answer ``400 Invalid Host`` to their own mDNS name.

    Args:
        host: address or name, IPv6 without brackets.
        port: 1..65535.
        scheme: ``http`` or ``https``.
        headers: sent with every request.
        ca_file: PEM file to verify the board with, "" for the system's trust store.
        insecure: switch verification off.
        source: where the host came from, for the message.

    Raises:
        UsageError: the name does not resolve.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{source}: {host!r} does not resolve to an address ({reason}); "
            "give the board's address, as 192.168.0.135"
        ) from None
    # IPv4 first: the boards this is for listen there, whatever the resolver prefers.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    address = str(found[0][4][0])
    shown = address if host.lower().endswith(".local") else host
    try:
        if ipaddress.ip_address(shown.partition("%")[0]).version == 6:
            shown = f"[{shown.partition('%')[0]}]"
    except ValueError:
        pass  # a name
    return Target(
        scheme=scheme,
        address=address,
        port=port,
        host_header=f"{shown}:{port}",
        headers=headers,
        ca_file=ca_file or None,
        insecure=insecure,
    )
