"""The state that the board reports: counters, heap, boot. Pure; time comes in as an argument."""

from __future__ import annotations

from typing import Any

from pytest_espperf.sim.config import SimConfig
from pytest_espperf.sim.model import GC_THRESHOLD_BYTES, TimingModel
from pytest_espperf.sim.noise import stream
from pytest_espperf.sim.slots import Slots

SERVER_COUNTERS = (
    "accepts_total",
    "accepts_rejected",
    "accept_errors",
    "requests_started",
    "requests_handled",
    "request_errors",
    "request_parse_errors",
    "request_too_large",
    "responses_2xx",
    "responses_3xx",
    "responses_4xx",
    "responses_5xx",
    "responses_orphaned",
    "response_bytes",
    "response_write_errors",
    "backpressure_503_sent",
    "ipc_timeout_504_sent",
    "rate_limit_429_sent",
    "keepalive_reuses",
    "keepalive_limit_closes",
    "keepalive_pressure_closes",
    "keepalive_idle_closes",
    "client_closes",
    "connection_resets_sent",
    "sockets_in_use",
    "sockets_cooling",
    "event_conn_current",
    "event_conn_peak",
    "event_conn_dropped",
    "event_loop_wakeups",
    "event_queue_peak",
    "event_queue_full",
    "static_requests",
    "static_bytes",
    "static_gzip_hits",
    "static_range_hits",
    "static_not_modified",
    "static_open_errors",
    "dispatch_python",
    "dispatch_native",
    "dispatch_not_found",
    "dispatch_method_mismatch",
    "dispatch_validation_errors",
    "ipc_pending_current",
    "ipc_pending_peak",
    "ipc_pending_dropped",
    "ipc_wait_timeouts",
    "ipc_req_ring_alloc_fail",
    "ipc_req_queue_push_fail",
    "ipc_resp_ring_alloc_fail",
    "ipc_resp_queue_push_fail",
    "gc_collections",
    "gc_pause_total_us",
    "handler_exceptions",
    "stats_reads",
    "stats_resets",
)
"""The 56 integers of ``/debug/server-stats``; the alloc and push failures stay 0."""

MAX_TOKENS = 256
"""Clients that are logged in at once; of one more the oldest is forgotten."""

GC_HEAP_BYTES = 4_194_304
INTERNAL_TOTAL_BYTES = 345_000
INTERNAL_IDLE_BYTES = 196_000
INTERNAL_FLOOR_BYTES = 1_024
CONNECTION_BYTES = 1_600
PSRAM_TOTAL_BYTES = 8_388_608
PSRAM_IDLE_BYTES = 3_964_928
PSRAM_CONNECTION_BYTES = 4_096
_GC_BASE_BYTES = 612_000


class Device:
    """Counters and heap of one board, which a reboot sets back, and its two slots for firmware."""

    def __init__(self, config: SimConfig, model: TimingModel) -> None:
        self.config = config
        self.slots = Slots(config.slots, rollback=config.rollback)
        self._model = model
        self._boot_id = 0
        self._logins = 0
        self.connections = 0
        self.reboot(0.0, "power-on")

    def reboot(self, now_s: float, reason: str) -> None:
        """Start anew: counters, leak and low-water marks are gone."""
        self._boot_id += 1
        self._booted_s = now_s
        self._reason = reason
        self._leaked_bytes = 0
        self._tokens: dict[str, None] = {}
        self.reset_counters()
        self._internal_min_bytes = self._internal_free()
        self._psram_min_bytes = self._psram_free()

    def reset_counters(self) -> None:
        """Zero all counters, as ``?reset=1`` does."""
        self._counters = dict.fromkeys(SERVER_COUNTERS, 0)
        self._before = (self._model.collections, self._model.gc_pause_s)

    def count(self, name: str, by: int = 1) -> None:
        """Raise a counter."""
        self._counters[name] += by

    def peak(self, name: str, value: int) -> None:
        """Raise a high-water mark."""
        self._counters[name] = max(self._counters[name], value)

    def connected(self, change: int) -> None:
        """Count a connection that came (+1) or went (-1)."""
        self.connections += change
        self.peak("event_conn_peak", self.connections)
        self._watermark()

    def request_started(self) -> None:
        """Count a request that came in, and leak."""
        self.count("requests_started")
        self._leaked_bytes += self.config.leak_bytes + self.slots.image.leak_bytes
        self._watermark()

    def log_in(self) -> str:
        """Make the token of one more client; it is known until the next boot."""
        self._logins += 1
        token = stream(self.config.seed, f"token {self._logins}").randbytes(16).hex()
        self._tokens[token] = None
        if len(self._tokens) > MAX_TOKENS:
            del self._tokens[next(iter(self._tokens))]
        return token

    def knows(self, token: str) -> bool:
        """Whether a token is that of a client that is logged in."""
        return token in self._tokens

    def responded(self, status: int, n_bytes: int) -> None:
        """Count an answer that went out."""
        self.count("requests_handled")
        self.count(f"responses_{status // 100}xx")
        self.count("response_bytes", n_bytes)
        if status >= 400:
            self.count("request_errors")

    def server_stats(self, now_s: float) -> dict[str, Any]:
        """Make the JSON of ``/debug/server-stats``."""
        pending = self._model.depth(now_s)
        collections, pause_s = self._before
        self._counters |= {
            "event_conn_current": self.connections,
            "sockets_in_use": self.connections,
            "ipc_pending_current": pending,
            "gc_collections": self._model.collections - collections,
            "gc_pause_total_us": round((self._model.gc_pause_s - pause_s) * 1e6),
        }
        stats: dict[str, Any] = {
            "server": dict(self._counters),
            "ipc": {
                "dropped_requests": self._counters["ipc_pending_dropped"],
                "dropped_responses": self._counters["responses_orphaned"],
                "ring_full": 0,
                "ring_size": 65_536,
                "ring_psram": True,
            },
        }
        if self.slots.image.version:
            stats["firmware"] = self.slots.image.version
        if self.config.boot_info:
            stats |= {
                "uptime_ms": int((now_s - self._booted_s) * 1000),
                "boot_id": self._boot_id,
                "reset_reason": self._reason,
            }
        return stats

    def memory_stats(self) -> dict[str, Any]:
        """Make the JSON of ``/debug/memory-stats``, in bytes."""
        gc_alloc = _GC_BASE_BYTES + self._model.uncollected_bytes
        internal = self._internal_free()
        whole = INTERNAL_IDLE_BYTES * 3 // 5  # an ESP32's internal heap is several regions
        largest = min(internal, max(512, whole - self._leaked_bytes))
        return {
            "gc_mem_free": GC_HEAP_BYTES - gc_alloc,
            "gc_mem_alloc": gc_alloc,
            "heap": {
                "psram_available": True,
                "internal_total": INTERNAL_TOTAL_BYTES,
                "internal_free": internal,
                "internal_largest": int(largest * (1 - self.config.fragmentation)),
                "internal_min_free": self._internal_min_bytes,
                "psram_total": PSRAM_TOTAL_BYTES,
                "psram_free": self._psram_free(),
                "psram_largest": self._psram_free() * 15 // 16,
                "psram_min_free": self._psram_min_bytes,
            },
        }

    def _internal_free(self) -> int:
        # Finalisers run with the collection: until then dead handlers hold a little internal heap.
        held = self._model.uncollected_bytes * 8_192 // GC_THRESHOLD_BYTES
        used = self._leaked_bytes + self.connections * CONNECTION_BYTES + held
        return max(INTERNAL_FLOOR_BYTES, INTERNAL_IDLE_BYTES - used)

    def _psram_free(self) -> int:
        return PSRAM_IDLE_BYTES - self.connections * PSRAM_CONNECTION_BYTES

    def _watermark(self) -> None:
        self._internal_min_bytes = min(self._internal_min_bytes, self._internal_free())
        self._psram_min_bytes = min(self._psram_min_bytes, self._psram_free())
