"""Failed system calls: a fault of the board or the link, or one of this computer."""

from __future__ import annotations

import httpx

from pytest_espperf.model.computer import lack_of


class LocalError(httpx.TransportError):
    """This computer could not open or use a connection.

    Attributes:
        lack: the name of what it lacks, see :data:`pytest_espperf.model.computer.LACKS`.
    """

    def __init__(self, message: str, lack: str) -> None:
        super().__init__(message)
        self.lack = lack


class LoginError(httpx.TransportError):
    """A client got an answer to its login that is none; the words have nothing of the answer."""


def transport_error(error: BaseException | None, kind: type[httpx.TransportError]) -> httpx.TransportError:
    """Make the transport error for a failed system call: ``kind``, unless this computer is at fault."""
    message = f"{type(error).__name__}: {error}"
    lack = lack_of(error) if error is not None else ""
    return LocalError(message, lack) if lack else kind(message)
