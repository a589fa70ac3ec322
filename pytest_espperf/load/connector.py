"""Opening of connections to a board: TCP, and the TLS handshake."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Callable

import httpx

from pytest_espperf.load.endpoint import Endpoint
from pytest_espperf.load.faults import transport_error
from pytest_espperf.load.stamped import StampedTransport, kernel_stamps
from pytest_espperf.load.transport import Dial, EncryptedTransport, Transport
from pytest_espperf.model.workload import Target
from pytest_espperf.system.dialing import SocketAddress, begin_connect, numeric_address
from pytest_espperf.system.tls import tls_for


class Connector:
    """Opens connections to one address.

    Args:
        address: the board's, numeric: no look-up of a name is part of a measurement.
        port: TCP port.
        context: TLS settings, None for plain TCP.
        tls_name: what a certificate is checked against, "" for the address.

    Attributes:
        stamped: whether the kernel says when bytes arrived: plain TCP, where it can.
        encrypted: whether TLS is spoken.
    """

    def __init__(
        self, address: str, port: int, context: ssl.SSLContext | None = None, *, tls_name: str = ""
    ) -> None:
        self.stamped = context is None and kernel_stamps()
        self.encrypted = context is not None
        self._kind = _kind_of(context, stamped=self.stamped)
        self._address = address
        self._port = port
        self._context = context
        self._tls_name = tls_name or address

    def begin(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[], Endpoint],
        failed: Callable[[httpx.TransportError], None],
        session: ssl.SSLSession | None = None,
    ) -> Dial:
        """Begin to open a connection; it may be given up by ``cancel``.

        Args:
            loop: one that has ``add_reader``, and runs.
            make: makes our end once TCP is up; it gets the transport once that is ready.
            failed: takes the error where there is no connection: refused, unreachable, or no TLS
                (``httpx.ConnectError``), or this computer lacks what it needs (``LocalError``).
            session: of an earlier connection, which the TLS handshake may take up.
        """

        def fail(error: BaseException) -> None:
            failed(transport_error(error, httpx.ConnectError))

        wrap = None
        if self._context is not None:
            wrap = functools.partial(
                self._context.wrap_socket,
                server_hostname=self._tls_name,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,
                session=session,
            )
        return Dial(loop, self._connect, wrap, make, self._kind, fail)

    def _connect(self) -> socket.socket:
        return begin_connect(self._place, self._kind.OPTIONS)

    @functools.cached_property
    def _place(self) -> SocketAddress:
        return numeric_address(self._address, self._port)


def _kind_of(context: ssl.SSLContext | None, *, stamped: bool) -> type[Transport]:
    if context is not None:
        return EncryptedTransport
    return StampedTransport if stamped else Transport


def connector_to(target: Target, *, resume: bool = True) -> Connector:
    """Make what opens connections to a board.

    Args:
        target: the board.
        resume: whether a board is asked for what a later handshake can take up.

    Raises:
        UsageError: the CA file cannot be used.
    """
    context = tls_for(target)
    if context is not None and not resume:
        context.options |= ssl.OP_NO_TICKET
    return Connector(target.address, target.port, context, tls_name=target.tls_name)
