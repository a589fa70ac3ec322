"""A certificate made at start, for a device that speaks HTTPS."""

from __future__ import annotations

import importlib
import ssl
from pathlib import Path

_NAMES = ("localhost", "127.0.0.1", "::1")


def server_context(host: str, ca_file: Path | None) -> ssl.SSLContext:
    """Make a certificate for the loopback names and ``host``; write its CA where it is asked for.

    Raises:
        RuntimeError: trustme, which makes certificates, is not installed, or the CA cannot be written.
    """
    try:
        trustme = importlib.import_module("trustme")  # optional, and not known to every type checker
    except ImportError:
        raise RuntimeError("HTTPS needs the package trustme: pip install trustme") from None
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*dict.fromkeys((*_NAMES, host))).configure_cert(context)
    if ca_file is not None:
        try:
            authority.cert_pem.write_to_path(str(ca_file))
        except OSError as error:
            raise RuntimeError(f"the CA cannot be written to {ca_file}: {error.strerror or error}") from None
    return context
