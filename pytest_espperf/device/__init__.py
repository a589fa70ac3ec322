"""The board apart from load: its address, its lock, the health probe, telemetry."""

from pytest_espperf.device.address import resolve_target
from pytest_espperf.device.http import make_verify
from pytest_espperf.device.lock import BoardLock
from pytest_espperf.device.probe import Probe, probe
from pytest_espperf.device.reboot import reboot_signs
from pytest_espperf.device.telemetry import Telemetry, TelemetryReading

__all__ = [
    "BoardLock",
    "Probe",
    "Telemetry",
    "TelemetryReading",
    "make_verify",
    "probe",
    "reboot_signs",
    "resolve_target",
]
