"""HTTPS: a certificate made at start, and TLS whose handshakes take the time that a board needs for them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

_NAMES = ("localhost", "127.0.0.1", "::1")
_HANDSHAKE_S = 60.0
_READ_BYTES = 64 * 1024


class Certificate:
    """A certificate for the loopback names and ``host``.

    Args:
        host: the address that the device listens on.
        ca_file: where the certificate of its CA is written, None for nowhere.

    Raises:
        RuntimeError: trustme, which makes certificates, is not installed, or the CA cannot be written.
    """

    def __init__(self, host: str, ca_file: Path | None) -> None:
        try:
            trustme = importlib.import_module("trustme")  # optional, and not known to every type checker
        except ImportError:
            raise RuntimeError("HTTPS needs the package trustme: pip install trustme") from None
        authority = trustme.CA()
        self._issued = authority.issue_cert(*dict.fromkeys((*_NAMES, host)))
        self._shared = self._context()
        if ca_file is not None:
            try:
                authority.cert_pem.write_to_path(str(ca_file))
            except OSError as error:
                why = f"the CA cannot be written to {ca_file}: {error.strerror or error}"
                raise RuntimeError(why) from None

    def settings(self, *, resume: bool) -> ssl.SSLContext:
        """Return the settings of a new connection; with some of its own it can resume none before it."""
        if resume:
            return self._shared
        context = self._context()
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        return context

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._issued.configure_cert(context)
        return context


class TlsConnection(asyncio.Protocol):
    """TLS between a TCP connection and the protocol that is served over it, whose transport this is.

    Args:
        served: gets the connection once the handshake is over.
        settings: of TLS.
        delay_s: asked once, with whether a session is resumed: seconds that the board's answer to the
            client's first message takes.
    """

    def __init__(
        self, served: asyncio.Protocol, settings: ssl.SSLContext, delay_s: Callable[[bool], float]
    ) -> None:
        self._served = served
        self._delay_s = delay_s
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = settings.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._tcp: Any = None
        self._is_up = self._answered = self._is_over = False
        self._held: bytes | None = None
        self._timer: asyncio.TimerHandle | None = None

    # From asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Await the client's first message."""
        self._tcp = transport
        self._timer = asyncio.get_running_loop().call_later(_HANDSHAKE_S, self.abort)

    def data_received(self, data: bytes) -> None:
        """Shake hands, or decrypt."""
        self._incoming.write(data)
        if not self._is_up and not self._shake_hands():
            return
        while not self._is_over:
            try:
                plain = self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                self._flush()
                return
            except ssl.SSLError:
                self._flush()
                self._tcp.close()
                return
            if not plain:
                self.close()
                return
            self._served.data_received(plain)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything."""
        self._is_over = True
        self._stop_timer()
        if self._is_up:
            self._served.connection_lost(exc)

    # For the protocol that is served

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        if not self._is_over:
            self._tls.write(data)
            self._flush()

    def close(self) -> None:
        """End the connection in order, after what was written."""
        if not self._is_over:
            self._is_over = True
            with contextlib.suppress(ssl.SSLError):  # the client's farewell is not awaited
                self._tls.unwrap()
            self._flush()
        self._tcp.close()

    def abort(self) -> None:
        """End the connection at once."""
        self._is_over = True
        self._tcp.abort()

    def get_write_buffer_size(self) -> int:
        """Bytes written that wait in this process."""
        return int(self._tcp.get_write_buffer_size())

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Properties of the TCP connection."""
        return self._tcp.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Read no more."""
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._tcp.resume_reading()

    # Inside

    def _shake_hands(self) -> bool:
        """Go on with the handshake; whether it is over."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            if not self._answered and self._outgoing.pending:
                self._answered = True
                self._hold(self._delay_s(bool(self._tls.session_reused)))
            self._flush()
            return False
        except ssl.SSLError:
            self._flush()  # the alert
            self._tcp.close()
            return False
        self._is_up = True
        self._stop_timer()
        self._flush()
        self._served.connection_made(self)  # type: ignore[arg-type] # what it needs of a transport
        return True

    def _hold(self, delay_s: float) -> None:
        if delay_s > 0:
            self._held = b""
            asyncio.get_running_loop().call_later(delay_s, self._release)

    def _release(self) -> None:
        held, self._held = self._held, None
        if held and not self._tcp.is_closing():
            self._tcp.write(held)

    def _flush(self) -> None:
        data = self._outgoing.read()
        if self._held is not None:
            self._held += data
        elif data and not self._tcp.is_closing():
            self._tcp.write(data)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
