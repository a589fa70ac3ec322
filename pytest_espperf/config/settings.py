"""ONE table of options for every front end: pytest's command line, ini files, environment, ``espperf run``.

The table is :class:`Settings` itself: each field declares its option. A value is looked up on the
command line, then in the environment (``ESPPERF_<NAME>``), then in the ini file, then in the default,
and remembers where it came from, so that a bad one can name its source.

This module is imported by every pytest run of a project that has the plugin installed: keep it light.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_espperf.config.option import Option, option
from pytest_espperf.config.parsers import (
    bool_word,
    header,
    host,
    locale_text,
    number,
    one_of,
    percent,
    serial_url,
    url_path,
    whole,
    word,
)
from pytest_espperf.system.redaction import REDACTED, hidden, redact

EXPORT_FORMATS = (
    "badge, bencher, csv, github-action-benchmark, hdrlog, junit, openmetrics or pytest-benchmark"
)
PRESETS = ("quick", "balanced", "classic", "soak")
DEFAULT_PROFILES = ("c_static_only", "python_light", "python_heavy")
SIM = "sim"


class Settings:
    """Every option's value. Seconds, milliseconds, bytes and percent as the names say. Immutable.

    No dataclass: making one of sixty fields would take a third of what a plain pytest run may notice.

    Attributes:
        sources: where each value that is no default came from, by attribute name.
    """

    device_ip: tuple[str, ...] = option(
        (),
        "the board: address, name, name.local, HOST:PORT, or 'sim' for the built-in reference device; "
        "several boards, comma-separated or repeated, are measured and judged independently",
        parse=host,
        metavar="HOST",
        separator=",",
        once=True,
    )
    device_port: int = option(
        8080, "HTTP port of the board", parse=whole(least=1, most=65535), metavar="PORT", original="--port"
    )
    device_scheme: str = option("http", "http or https", parse=one_of("http", "https"), metavar="http|https")
    device_ca: str = option("", "CA certificate (PEM) to verify an https board with", metavar="FILE")
    device_insecure: bool = option(
        False, "do not verify the certificate of an https board (self-signed)", parse=bool_word
    )
    device_header: tuple[tuple[str, str], ...] = option(
        (),
        "header sent with every request; repeatable; values are redacted everywhere",
        parse=header,
        metavar="'Name: value'",
        separator="\n",
        secret=True,
    )
    device_id: str = option(
        "",
        "identity of the board: sessions of the same identity are compared (default: host:port)",
        parse=locale_text,
        metavar="NAME",
    )
    device_reference: str = option(
        "",
        "a control board whose firmware does not change, or 'sim': it runs the same phases, and changes seen "
        "on both boards are subtracted",
        parse=host,
        metavar="HOST",
    )
    device_serial: str = option(
        "",
        "serial console of the board: COM14, /dev/ttyUSB0, socket://HOST:PORT, rfc2217://...; 'sim' for "
        "that of the reference device",
        parse=serial_url,
        metavar="URL",
    )
    device_serial_baud: int = option(
        115_200,
        "baud rate of a serial console on a UART",
        parse=whole(least=300, most=4_000_000),
        metavar="N",
    )
    device_reset_cmd: str = option(
        "",
        "shell command that resets the board: the time from its end to the first healthy answer of the probe "
        "path is measured before the load, as figure boot_ms; redacted everywhere",
        metavar="CMD",
        secret=True,
    )
    device_reset_lines: bool = option(
        False,
        "reset the board by the serial console's RTS line, as esptool does, in place of a command",
        parse=bool_word,
    )
    device_resets: int = option(
        3, "how often the board is reset for that", parse=whole(least=1, most=20), metavar="N"
    )
    device_boot_timeout_s: float = option(
        60.0,
        "time limit of such a command, and of a boot, in seconds each",
        parse=number(above=0, most=3600),
        metavar="S",
    )
    device_firmware: str = option("", "firmware version, recorded in the artifact", metavar="TEXT")

    perf_profiles: tuple[str, ...] = option(
        DEFAULT_PROFILES,
        "profiles to run, comma-separated; repeatable, values add up",
        parse=word,
        metavar="a,b",
        separator=",",
        original="--profiles",
    )
    perf_list_profiles: bool = option(False, "list the known profiles and exit", parse=bool_word)
    perf_preset: str = option(
        "balanced",
        "schedule: quick (3 short runs), balanced, classic (3 runs of 12/30 s) or soak",
        parse=one_of(*PRESETS),
        metavar="NAME",
    )
    perf_runs: int | None = option(
        None,
        "repetitions of every profile and phase (default: the preset's)",
        parse=whole(least=1, most=1000),
        metavar="N",
        original="--runs",
    )
    perf_burst_clients: int = option(
        12,
        "concurrent clients of the burst phase",
        parse=whole(least=1, most=1000),
        metavar="N",
        original="--burst-clients",
    )
    perf_burst_duration: float | None = option(
        None,
        "seconds of the burst phase (default: the preset's)",
        parse=number(above=0, most=86400),
        metavar="S",
        original="--burst-duration",
    )
    perf_long_clients: int = option(
        8,
        "concurrent clients of the long phase",
        parse=whole(least=1, most=1000),
        metavar="N",
        original="--long-clients",
    )
    perf_long_duration: float | None = option(
        None,
        "seconds of the long phase (default: the preset's)",
        parse=number(above=0, most=86400),
        metavar="S",
        original="--long-duration",
    )
    perf_warmup_s: float | None = option(
        None,
        "seconds of unmeasured load before each phase (default: the preset's)",
        parse=number(least=0, most=3600),
        metavar="S",
    )
    perf_request_timeout: float = option(
        6.0,
        "time limit of a whole request in seconds, connecting included",
        parse=number(above=0, most=300),
        metavar="S",
        original="--timeout",
    )
    perf_heartbeat_ms: float = option(
        5000.0,
        "milliseconds between progress lines",
        parse=number(least=100, most=3.6e6),
        metavar="MS",
        original="--heartbeat-ms",
    )
    perf_phase_timeout_multiplier: float = option(
        2.5,
        "time limit of a phase: max(min, duration * this + 2 * request timeout + 10)",
        parse=number(least=1, most=1000),
        metavar="X",
        original="--phase-timeout-multiplier",
    )
    perf_phase_timeout_min_s: float = option(
        45.0,
        "lowest time limit of a phase in seconds",
        parse=number(least=0, most=86400),
        metavar="S",
        original="--phase-timeout-min-s",
    )
    perf_hard_timeout_s: float = option(
        0.0,
        "time limit of the session in seconds (with several boards: of the phases of each); 0 for none",
        parse=number(least=0),
        metavar="S",
        original="--hard-timeout-s",
    )
    perf_probe_path: str = option(
        "/hello",
        "path of the health probe before each phase",
        parse=url_path,
        metavar="PATH",
        original="--probe-path",
    )
    perf_probe_retries: int = option(
        12,
        "attempts of the health probe, with a growing delay",
        parse=whole(least=1, most=1000),
        metavar="N",
        original="--probe-retries",
    )
    perf_settle_ms: float = option(
        250.0,
        "milliseconds from the planned end of a phase to its heap reading; less if the heap is steady "
        "earlier",
        parse=number(least=0, most=3.6e6),
        metavar="MS",
        original="--post-phase-settle-ms",
    )
    perf_between_runs_ms: float = option(
        500.0,
        "milliseconds between the planned end of a run and the next one",
        parse=number(least=0, most=3.6e6),
        metavar="MS",
        original="--between-runs-sleep-ms",
    )
    perf_link_probes: str = option(
        "on",
        "connect to the idle board around each phase, to measure the link: on or off",
        parse=one_of("on", "off"),
        metavar="on|off",
    )
    perf_metrics_retries: int = option(
        20,
        "retries of a telemetry read that the board refuses because it is busy",
        parse=whole(least=0, most=1000),
        metavar="N",
        original="--metrics-retries",
    )
    perf_metrics_retry_delay_ms: float = option(
        100.0,
        "milliseconds before the first of these retries; grows linearly",
        parse=number(least=0, most=60000),
        metavar="MS",
        original="--metrics-retry-delay-ms",
    )
    perf_tag: str = option(
        "", "name of the session, a part of its file name", metavar="TEXT", original="--tag"
    )
    perf_history: str = option(
        "",
        "folder of the session artifacts, or URL of a history that a team shares: s3://BUCKET/PREFIX, gs://, "
        "az://, sftp://USER@HOST/FOLDER or file:///FOLDER (default: tools/perf_history under the root "
        "directory)",
        metavar="DIR",
        original="--history-dir",
    )
    perf_lock_file: str = option(
        "", "an additional lock file to hold during the session", metavar="FILE", original="--lock-file"
    )
    perf_save_samples: bool = option(
        False, "store the raw samples of every phase next to the artifact, as gzipped CSV", parse=bool_word
    )
    device_lab: str = option(
        "",
        "labgrid environment file: each of its targets is a board, named after its place",
        parse=word,
        metavar="ENV.yaml",
    )
    perf_report: str = option(
        "",
        "write an HTML report of the session to this file, relative to the directory where pytest was "
        "started",
        parse=word,
        metavar="PATH.html",
    )
    perf_site: str = option(
        "",
        "keep a static site up to date in this folder, relative to the directory where pytest was started: a "
        "page over the whole history, and a report of each of its newest sessions",
        parse=word,
        metavar="DIR",
    )
    perf_export: tuple[str, ...] = option(
        (),
        f"also write the session in the format of another tool: {EXPORT_FORMATS}; PATH is relative to the "
        "directory where pytest was started, like that of --junitxml; repeatable",
        parse=word,
        metavar="FORMAT=PATH",
        separator="\n",
    )
    perf_baseline: str = option(
        "history",
        "baseline: history (the accepted sessions), previous, a tag, or an artifact file",
        parse=word,
        metavar="history|previous|TAG|FILE",
    )
    perf_fail_on: tuple[str, ...] = option(
        (),
        "additional fixed rules against the last accepted session: p95_ms:10%%,rps_ok:5%%; repeatable, "
        "values add up",
        parse=word,
        metavar="METRIC:PCT",
        separator=",",
    )
    perf_min_effect: tuple[str, ...] = option(
        (),
        "changes smaller than this never fail: p95_ms:2 (in the metric's unit); repeatable, values add up",
        parse=word,
        metavar="METRIC:ABS",
        separator=",",
    )
    perf_file: tuple[str, ...] = option(
        (),
        "record the size of a file of the firmware as a figure of the session: its bytes, or the bytes of "
        "the sections of an ELF file; PATH is relative to the directory where pytest was started; repeatable",
        parse=word,
        metavar="NAME=PATH",
        separator="\n",
    )
    perf_figure_limit: tuple[str, ...] = option(
        (),
        "budget of a figure of the firmware's own: boot_ms:1500 (in its unit; at least so much where more is "
        "better); repeatable, values add up",
        parse=word,
        metavar="NAME:VALUE",
        separator=",",
    )
    perf_tolerance: float = option(
        25.0,
        "slowdown in percent that 'unchanged' excludes (twice as much for the p95 of a closed loop); if it "
        "can be neither shown nor excluded, the verdict is 'inconclusive'",
        parse=percent(above=0, most=1000),
        metavar="PCT",
    )
    perf_confirm: int = option(
        3,
        "additional runs of a profile whose verdict is not clear; 0 for none",
        parse=whole(least=0, most=100),
        metavar="N",
    )
    perf_confirm_pause_s: float = option(
        20.0,
        "pause in seconds before a profile is measured again, so that a short disturbance can end",
        parse=number(least=0, most=3600),
        metavar="S",
    )
    perf_all_rounds: bool = option(
        False, "measure every planned run, even if the verdict is certain earlier", parse=bool_word
    )
    perf_ab_baseline_cmd: str = option(
        "",
        "shell command that flashes the firmware of the baseline; with --perf-ab-candidate-cmd, suspected "
        "regressions are decided by interleaved pairs of both firmwares; redacted everywhere",
        metavar="CMD",
        secret=True,
    )
    perf_ab_candidate_cmd: str = option(
        "",
        "shell command that flashes the firmware of this session again; redacted everywhere",
        metavar="CMD",
        secret=True,
    )
    perf_ab_timeout_s: float = option(
        300.0, "time limit of such a command in seconds", parse=number(above=0, most=86400), metavar="S"
    )
    perf_strict: bool = option(False, "an inconclusive verdict fails too", parse=bool_word)
    perf_require_baseline: bool = option(
        False,
        "a session without a baseline (no-baseline) fails: for CI, where a history must be there",
        parse=bool_word,
    )
    perf_no_gate: bool = option(
        False, "record and show the session, but judge the absolute budgets only", parse=bool_word
    )
    perf_max_error_rate: float = option(
        2.0,
        "budget: errors in percent",
        parse=number(least=0, most=100),
        metavar="PCT",
        original="--max-error-rate",
    )
    perf_max_transport_error_rate: float | None = option(
        None,
        "budget: requests without a complete answer, in percent (refused, reset, timed out, malformed); "
        "default: --perf-max-error-rate alone",
        parse=number(least=0, most=100),
        metavar="PCT",
    )
    perf_max_status_error_rate: float | None = option(
        None,
        "budget: answers with a wrong status, in percent; default: --perf-max-error-rate alone",
        parse=number(least=0, most=100),
        metavar="PCT",
    )
    perf_max_body_error_rate: float | None = option(
        None,
        "budget: answers with a wrong body, in percent; default: --perf-max-error-rate alone",
        parse=number(least=0, most=100),
        metavar="PCT",
    )
    perf_worst_error_rate: float = option(
        10.0,
        "budget of each single run: errors in percent; if a run exceeds it, the profile is measured again, "
        "and fails if another run exceeds it",
        parse=number(least=0, most=100),
        metavar="PCT",
    )
    perf_worst_p95_ms: float = option(
        4000.0,
        "budget of each single run: p95 latency, with the same second attempt",
        parse=number(above=0),
        metavar="MS",
    )
    perf_max_p95_ms: float = option(
        2000.0, "budget: p95 latency", parse=number(above=0), metavar="MS", original="--max-p95-ms"
    )
    perf_max_p99_ms: float = option(
        3000.0, "budget: p99 latency", parse=number(above=0), metavar="MS", original="--max-p99-ms"
    )
    perf_max_tail_p95_ratio: float = option(
        1.8,
        "budget: p95 of the last quarter of a phase divided by its p95; needs 59 answers, and 20 per "
        "client, in that quarter",
        parse=number(above=0),
        metavar="X",
        original="--max-tail-p95-ratio",
    )
    perf_max_internal_free_drop: float = option(
        131072.0,
        "budget: internal heap lost during a phase",
        parse=number(least=0),
        metavar="BYTES",
        original="--max-internal-free-drop",
    )
    perf_max_psram_free_drop: float = option(
        524288.0,
        "budget: PSRAM lost during a phase",
        parse=number(least=0),
        metavar="BYTES",
        original="--max-psram-free-drop",
    )

    sim_seed: int = option(
        1, "seed of the noise of the reference device", parse=whole(least=0, most=2**32), metavar="N"
    )
    sim_time_scale: float = option(
        1.0,
        "factor on all times of the reference device",
        parse=number(least=0.001, most=1000),
        metavar="X",
    )
    sim_noise: str = option(
        "low",
        "noise of the reference device: low, medium, high or none",
        parse=one_of("low", "medium", "high", "none"),
        metavar="LEVEL",
    )
    sim_slowdown: tuple[str, ...] = option(
        (),
        "factor on the service time of a profile or route of the reference device: python_heavy=1.3; "
        "repeatable",
        parse=word,
        metavar="NAME=X",
        separator="\n",
    )
    sim_error_rate: tuple[str, ...] = option(
        (),
        "share of the requests of a route that the reference device answers with 500: /hello=0.05; "
        "repeatable",
        parse=word,
        metavar="ROUTE=SHARE",
        separator="\n",
    )
    sim_leak_bytes: int = option(
        0,
        "bytes of heap that the reference device loses per request",
        parse=whole(least=0, most=2**31),
        metavar="N",
    )
    sim_fault: tuple[str, ...] = option(
        (),
        "fault of the reference device, SECONDS after its start: hang, reboot, reset, truncate, malformed, "
        "slowloris, close, refuse, garbage-length, huge-body; repeatable",
        parse=word,
        metavar="KIND@SECONDS[:DURATION]",
        separator="\n",
    )
    sim_slot: tuple[str, ...] = option(
        (),
        "firmware in a slot of the reference device, which starts from slot a: "
        "b:version=1.1,python_heavy=1.12; repeatable",
        parse=word,
        metavar="SLOT:KEY=VALUE",
        separator="\n",
    )

    sources: Mapping[str, str]

    def __init__(self, sources: Mapping[str, str] | None = None, **values: Any) -> None:
        unknown = values.keys() - BY_DEST.keys()
        if unknown:
            raise TypeError(f"no such options: {', '.join(sorted(unknown))}")
        vars(self).update(DEFAULTS, **values, sources=dict(sources or {}))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"settings are immutable: {name}")

    def but(self, **changes: Any) -> Settings:
        """Make settings with other values; each keeps its source."""
        return Settings(**{**vars(self), **changes})

    @property
    def device(self) -> str:
        """The one board that is named, "" where none is."""
        return self.device_ip[0] if self.device_ip else ""

    def where(self, dest: str) -> str:
        """Name the source of a value, for messages: ``--perf-runs``, ``environment variable ...``."""
        return self.sources.get(dest, f"the default of {BY_DEST[dest].flag}")

    def describe(self) -> dict[str, Any]:
        """Describe all values as JSON, secrets redacted."""
        shown: dict[str, Any] = {}
        for row in OPTIONS:
            value = getattr(self, row.dest)
            if isinstance(value, tuple):
                value = [f"{item[0]}: {REDACTED}" if row.secret else _shown(item) for item in value]
            shown[row.dest] = hidden(value) if row.secret and isinstance(value, str) else _shown(value)
        return shown


def _shown(value: Any) -> Any:
    return redact(value, {}) if isinstance(value, str) else value


OPTIONS: tuple[Option, ...] = tuple(
    row._replace(dest=name) for name, row in vars(Settings).items() if isinstance(row, Option)
)
BY_DEST: Mapping[str, Option] = {option.dest: option for option in OPTIONS}
DEFAULTS: Mapping[str, Any] = {option.dest: option.default for option in OPTIONS}
