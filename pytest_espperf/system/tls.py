"""How this computer checks a board's certificate: one way for the load and for every other request."""

from __future__ import annotations

import ssl
from pathlib import Path

from pytest_espperf.model.encoding import as_utf8


def tls_context(ca_file: str | None, *, insecure: bool) -> ssl.SSLContext:
    """TLS settings: the system's trust store, or ``ca_file``, or (``insecure``) no check at all.

    Raises:
        OSError: the file cannot be read (ssl.SSLError: or holds no certificate).
    """
    context = ssl.create_default_context() if ca_file is None else _trusting(ca_file)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def _trusting(ca_file: str) -> ssl.SSLContext:
    data = Path(ca_file).read_bytes()
    try:
        text = as_utf8(data)
    except UnicodeDecodeError:
        text = data
    if text == data:  # what stands between the certificates may be in any encoding
        return ssl.create_default_context(cafile=ca_file)
    return ssl.create_default_context(cadata=text.decode("ascii", "replace").replace("\ufffd", "?"))
