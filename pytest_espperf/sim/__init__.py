"""The reference device: a real HTTP server with the board's routes, timing, telemetry and faults.

``python -m pytest_espperf.sim --port 8080`` runs it alone; :class:`SimProcess` runs it for a session.
"""

from pytest_espperf.sim.config import Fault, SimConfig
from pytest_espperf.sim.process import SimProcess

__all__ = ["Fault", "SimConfig", "SimProcess"]
