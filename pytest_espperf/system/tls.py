"""How this computer checks a board's certificate: one way for the load and for every other request."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Sequence
from pathlib import Path

from pytest_espperf.errors import UsageError
from pytest_espperf.model.encoding import as_utf8
from pytest_espperf.model.workload import Target

HTTP_1 = ("http/1.1",)


def tls_for(target: Target, alpn: Sequence[str] = HTTP_1) -> ssl.SSLContext | None:
    """Make the TLS settings for requests to a board; None for plain HTTP.

    Raises:
        UsageError: the CA file cannot be read, or holds no certificate.
    """
    if target.scheme != "https":
        return None
    try:
        return tls_context(target.ca_file, insecure=target.insecure, alpn=alpn)
    except (OSError, ValueError) as error:
        raise UsageError(f"--device-ca: {target.ca_file} cannot be used ({error})") from None


def tls_context(
    ca_file: str | None, *, insecure: bool = False, alpn: Sequence[str] = HTTP_1
) -> ssl.SSLContext:
    """Make TLS settings that trust the system's certificates, or those of a file alone.

    Args:
        ca_file: PEM file of the certificates to trust, None for the system's.
        insecure: accept any certificate.
        alpn: the protocols offered to the server, most wanted first.

    Raises:
        OSError: the file cannot be read (ssl.SSLError: or holds no certificate).
    """
    if ca_file is not None:
        context = _trusting(ca_file)
    elif insecure:
        context = _trusting_nobody()
    else:
        context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(NotImplementedError):  # an OpenSSL without ALPN
        context.set_alpn_protocols(list(alpn))
    return context


def _trusting_nobody() -> ssl.SSLContext:
    """Make settings without the system's certificates: OpenSSL searches those even where none is asked for.

    That would be a quarter of what a handshake costs this computer.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if key_log := os.environ.get("SSLKEYLOGFILE"):  # as create_default_context() does, for Wireshark
        context.keylog_filename = key_log
    return context


def _trusting(ca_file: str) -> ssl.SSLContext:
    data = Path(ca_file).read_bytes()
    try:
        text = as_utf8(data)
    except UnicodeDecodeError:
        text = data
    if text == data:  # the text between the certificates may be in any encoding
        return ssl.create_default_context(cafile=ca_file)
    return ssl.create_default_context(cadata=text.decode("ascii", "replace").replace("\ufffd", "?"))
