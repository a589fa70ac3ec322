"""Our end of one connection: what is known of it, and how it is closed.

What goes over it is decided elsewhere: a request and its answer (:mod:`~pytest_espperf.load.connection`), or
bytes both ways at any time (:mod:`~pytest_espperf.load.channel`).
"""

from __future__ import annotations

import ssl
from time import perf_counter_ns
from typing import Any

from pytest_espperf.load.transport import Transport


class Endpoint:
    """One connection; see :class:`~pytest_espperf.load.transport.Receiver`.

    Args:
        all_open: the connections of the phase that are open.

    Attributes:
        connected_ns, opened_ns: when TCP was up, and when it was ready (TLS included); ``perf_counter_ns``
            values, ``opened_ns`` 0 before.
    """

    __slots__ = ("_all", "_transport", "connected_ns", "opened_ns")

    def __init__(self, all_open: set[Any]) -> None:
        self._all = all_open
        self._transport: Transport | None = None
        self.connected_ns = perf_counter_ns()
        self.opened_ns = 0

    # --- the subclass's

    def ready(self) -> None:
        """Tell the owner that it is ready."""
        raise NotImplementedError

    def received(self, data: bytes, arrived_ns: int) -> bool:
        """Take bytes of the server, and when they arrived; return whether more are due now."""
        raise NotImplementedError

    def eof_received(self) -> None:
        """Close our side when the server has ended its own."""
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner that the connection is gone."""
        raise NotImplementedError

    def close(self) -> None:
        """Close at once; the owner gets no more calls."""
        raise NotImplementedError

    # --- for the subclass

    def drop_transport(self) -> None:
        """Close the connection."""
        self._all.discard(self)
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    # --- what is known of it

    @property
    def closed(self) -> bool:
        """Whether it is closed, by either side."""
        return self._transport is None

    @property
    def _tls(self) -> ssl.SSLSocket | None:
        transport = self._transport
        return None if transport is None else transport.tls

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS is spoken on it."""
        return self._tls is not None

    @property
    def is_resumed(self) -> bool:
        """Whether its TLS handshake took up an earlier session."""
        tls = self._tls
        return tls is not None and bool(tls.session_reused)

    @property
    def has_new_session(self) -> bool:
        """Whether a later handshake needs another session than this one took up: of TLS 1.3 each one does.

        (To ask OpenSSL for the session costs more than to take it up.)
        """
        tls = self._tls
        return tls is not None and (not tls.session_reused or tls.version() == "TLSv1.3")

    @property
    def session(self) -> ssl.SSLSession | None:
        """What a later handshake can take up: of TLS 1.3 known once the server has sent something."""
        tls = self._tls
        return None if tls is None else tls.session

    # --- for the transport

    def connection_made(self, transport: Transport) -> None:
        """Start with a transport that is ready."""
        self.opened_ns = perf_counter_ns()
        self._transport = transport
        self._all.add(self)
        self.ready()
