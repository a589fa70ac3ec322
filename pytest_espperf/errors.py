"""Every exception that pytest-espperf raises on purpose.

::

    EspperfError                 base: catch this to catch all of ours
    +-- UsageError               a bad option, profile or selection; pytest exit code 4
    |   +-- TableError           a bad table ([tool.espperf]) or marker of a project
    +-- ArtifactError            a session file that cannot be read, or is not one
    |   +-- NewerSchemaError     written by a later version of this package
    +-- HistoryError             the history folder cannot be used (unwritable, full)
    |   +-- RemoteError          a shared history cannot be reached, or does not answer in time
    +-- DeviceError              the board could not be measured
        +-- BuildError           a firmware cannot be built
        +-- BoardBusyError       another session holds the board's lock
        +-- ComputerError        this computer lacks what a connection needs
        +-- ProbeError           the health probe got no healthy answer
        +-- SimError             the reference device did not start, or died

What a *request* of a measured phase meets is not an exception here but a counted outcome
(:mod:`pytest_espperf.model.samples`); inside a transport it is one of httpx's own exceptions.

Messages are one sentence: what is wrong, where the value came from, what to do.
"""

from __future__ import annotations

from pathlib import Path

from pytest_espperf.model.text import printable


class EspperfError(Exception):
    """Base of all exceptions raised on purpose by this package.

    ``str()`` of one is a single printable line, whatever a board or a file put into the message: pytest
    prints it as it is.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(EspperfError):
    """A value given by the user cannot be used; becomes pytest's exit code 4."""


class TableError(UsageError):
    """A project's table or marker cannot be used; it stops no test that measures no board."""


class ArtifactError(EspperfError):
    """A session artifact cannot be used.

    Attributes:
        path: the file, or None where the bytes came from elsewhere.
        field: the JSON path of the offending value (``$.raw_runs[0].profile``), "" for the whole.
    """

    def __init__(self, reason: str, *, path: Path | None = None, field: str = "") -> None:
        self.reason = reason
        self.path = path
        self.field = field
        where = str(path) if path is not None else "artifact"
        at = f" at {field}" if field else ""
        super().__init__(f"{where}: {reason}{at}")


class NewerSchemaError(ArtifactError):
    """The artifact was written by a later version of this package."""


class HistoryError(EspperfError):
    """The history folder cannot be read or written."""


class RemoteError(HistoryError):
    """A shared history cannot be reached, refuses, or does not answer in time."""


class DeviceError(EspperfError):
    """The board could not be measured."""


class BuildError(DeviceError):
    """A firmware cannot be built, so that it cannot be measured."""


class BoardBusyError(DeviceError):
    """Another session holds the lock of this board.

    Attributes:
        session: its id, "" where that is not known.
    """

    def __init__(self, message: str, *, session: str = "") -> None:
        super().__init__(message)
        self.session = session


class ComputerError(DeviceError):
    """This computer lacks what a connection to the board needs."""


class ProbeError(DeviceError):
    """The health probe got no healthy answer within its tries.

    Attributes:
        came: what the load engine made of what the board sends, in words; "" where nothing came.
    """

    def __init__(self, message: str, *, came: str = "") -> None:
        super().__init__(f"{message}; {came}" if came else message)
        self.came = came


class SimError(DeviceError):
    """The reference device did not start, or ended while it was needed."""
