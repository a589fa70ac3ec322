"""The board apart from load: its address, its lock, the health probe, telemetry, link, console."""

from pytest_espperf.device.address import resolve_target
from pytest_espperf.device.console import SerialConsole
from pytest_espperf.device.link import LinkReading, ask, read_link
from pytest_espperf.device.lock import BoardLock
from pytest_espperf.device.markers import ConsoleEvent
from pytest_espperf.device.printed import PrintedFigure
from pytest_espperf.device.probe import Probe, Redirect, probe
from pytest_espperf.device.reboot import reboot_signs
from pytest_espperf.device.telemetry import Telemetry, TelemetryReading
from pytest_espperf.model.workload import TelemetrySpec

__all__ = [
    "BoardLock",
    "ConsoleEvent",
    "LinkReading",
    "PrintedFigure",
    "Probe",
    "Redirect",
    "SerialConsole",
    "Telemetry",
    "TelemetryReading",
    "TelemetrySpec",
    "ask",
    "probe",
    "read_link",
    "reboot_signs",
    "resolve_target",
]
