"""The board apart from load: its address, its lock, the health probe, telemetry, the link to it."""

from pytest_espperf.device.address import resolve_target
from pytest_espperf.device.http import make_verify
from pytest_espperf.device.link import LinkReading, read_link
from pytest_espperf.device.lock import BoardLock
from pytest_espperf.device.probe import Probe, probe
from pytest_espperf.device.reboot import reboot_signs
from pytest_espperf.device.telemetry import Telemetry, TelemetryReading, TelemetrySpec

__all__ = [
    "BoardLock",
    "LinkReading",
    "Probe",
    "Telemetry",
    "TelemetryReading",
    "TelemetrySpec",
    "make_verify",
    "probe",
    "read_link",
    "reboot_signs",
    "resolve_target",
]
