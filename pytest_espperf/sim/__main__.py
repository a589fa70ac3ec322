"""``python -m pytest_espperf.sim``: the reference device alone."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pytest_espperf.errors import UsageError
from pytest_espperf.model.text import inert
from pytest_espperf.sim.config import (
    CONSOLE,
    NOISE_NAMES,
    READY,
    SimConfig,
    gather_slots,
    option,
    parse_fault,
    parse_time_scale,
)
from pytest_espperf.sim.console import KINDS, open_console
from pytest_espperf.sim.images import parse_slot
from pytest_espperf.sim.server import serve
from pytest_espperf.sim.tls import Certificate
from pytest_espperf.sim.values import parse_error_rate, parse_slowdown, unique
from pytest_espperf.system.homes import expand_user

T = TypeVar("T")


def main(argv: Sequence[str] | None = None, *, parser: argparse.ArgumentParser | None = None) -> int:
    """Run a device until Ctrl-C, or until standard input ends; return the exit code.

    Args:
        argv: the options; those of the process where None.
        parser: made by :func:`make_parser`, for a program with a name and exit codes of its own.

    Raises:
        SystemExit: with code 2 (or that of ``parser``) and one sentence, for a bad option.
    """
    parser = parser or make_parser()
    args = parser.parse_args(argv)
    if args.console == "pty" and sys.platform == "win32":
        parser.error("there is no pty on this platform: use --console socket")
    try:
        config = _config(args)
    except ValueError as error:
        parser.error(str(error))
    try:
        asyncio.run(_run(config, args))
    except KeyboardInterrupt:
        return 0
    except RuntimeError as error:
        _complain(f"error: {error}")
        return 1
    except OSError as error:
        where = f"{args.host}:{args.port}"
        _complain(f"error: cannot listen on {where}: {error.strerror or error}; try another --port")
        return 1
    return 0


def _complain(sentence: str) -> None:
    sys.stderr.write(f"{inert(sentence)}\n")


async def _run(config: SimConfig, args: argparse.Namespace) -> None:
    host: str = args.host
    https = args.https or args.ca_out is not None
    tls = Certificate(host, args.ca_out) if https else None
    until = asyncio.Event()
    if args.exit_with_stdin:
        loop = asyncio.get_running_loop()
        threading.Thread(target=_wait_for_eof, args=(loop, until), daemon=True).start()
    gc.freeze()  # what is loaded by now stays: the collector need not look at it between requests

    def ready(real_port: int, loopback: bool) -> None:
        if not loopback:
            _complain(f"warning: {host} is not loopback: whoever reaches this computer can use this device")
        shown = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"{READY}{'https' if https else 'http'}://{shown}:{real_port}\n")
        sys.stdout.flush()

    console = await open_console(args.console) if args.console else None
    if console is not None:
        sys.stdout.write(f"{CONSOLE}{console.url}\n")
    try:
        await serve(config, host, args.port, ready=ready, until=until, tls=tls, console=console)
    finally:
        if console is not None:
            console.close()


def _wait_for_eof(loop: asyncio.AbstractEventLoop, until: asyncio.Event) -> None:
    """Read standard input to its end, past Python's buffer: a daemon thread must not hold its lock."""
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass  # closed from the start: the same as its end
    with contextlib.suppress(RuntimeError):  # the loop is closed: the device is ending already
        loop.call_soon_threadsafe(until.set)


def _config(args: argparse.Namespace) -> SimConfig:
    return SimConfig(
        seed=args.seed,
        time_scale=args.time_scale,
        noise=args.noise,
        slowdown=unique(args.slowdown, "slowdown"),
        error_rate=unique(args.error_rate, "error rate"),
        leak_bytes=args.leak_bytes,
        faults=tuple(args.fault),
        rate_limit=args.rate_limit,
        max_connections=args.max_connections,
        queue_limit=args.queue_limit,
        cooldown_s=args.cooldown_s,
        fragmentation=args.fragmentation,
        boot_info=args.boot_info,
        handshake_s=args.handshake_s,
        full_handshakes=args.full_handshakes,
        slots=gather_slots(args.slot),
        rollback=args.rollback,
        boot_noise=args.boot_noise,
    )


def _typed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Make a parser whose ValueError argparse shows as it is."""

    def typed(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return typed


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise ValueError(f"{text!r} is no port: use 0 to 65535, 0 for any free one")
    return int(text)


def _file(text: str) -> Path:
    try:
        return Path(expand_user(text, "FILE"))
    except UsageError as error:
        raise ValueError(str(error)) from None


def make_parser(
    prog: str = "python -m pytest_espperf.sim", kind: type[argparse.ArgumentParser] = argparse.ArgumentParser
) -> argparse.ArgumentParser:
    """Make the parser of the options, which a program of this name refuses in the way of this kind."""
    parser = kind(
        prog=prog,
        usage="%(prog)s [--host HOST] [--port PORT] [options]; --help lists them",
        description="A stand-in for an ESP32-class HTTP server: its routes, timing, telemetry and faults.",
        allow_abbrev=False,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_typed(_port), default=8080, help="0 for any free one (default: 8080)")
    parser.add_argument("--exit-with-stdin", action="store_true", help="end when standard input ends")
    parser.add_argument("--https", action="store_true", help="with a certificate made at start")
    parser.add_argument(
        "--ca-out", type=_typed(_file), metavar="FILE", help="HTTPS; write its CA certificate there"
    )
    parser.add_argument("--console", choices=KINDS, help="a serial console, for pyserial to open")
    default = SimConfig()

    def add(name: str, text: str, **how: object) -> None:
        parser.add_argument(option(name), dest=name, help=text, **how)  # type: ignore[arg-type]

    add("seed", "of all noise (default: 1)", type=int, default=default.seed)
    add("time_scale", "all times times this", type=_typed(parse_time_scale), default=1.0, metavar="X")
    add("noise", "strength of its noise (default: low)", choices=NOISE_NAMES, default=default.noise)
    add(
        "slowdown",
        "NAME=FACTOR on the service time of a profile, a route or all; repeatable",
        type=_typed(parse_slowdown),
        action="append",
        default=[],
    )
    add(
        "error_rate",
        "NAME=SHARE of requests answered 500; repeatable",
        type=_typed(parse_error_rate),
        action="append",
        default=[],
    )
    add("leak_bytes", "internal heap lost per request", type=int, default=0, metavar="N")
    add(
        "fault",
        "KIND@SECONDS[:DURATION]; repeatable",
        type=_typed(parse_fault),
        action="append",
        default=[],
    )
    add("rate_limit", "answer 429 beyond 200 requests/s", action="store_true")
    add("max_connections", "sockets", type=int, default=default.max_connections, metavar="N")
    add("queue_limit", "Python jobs held at once", type=int, default=default.queue_limit, metavar="N")
    add("cooldown_s", "how long a closed socket stays taken", type=float, default=0.0, metavar="S")
    add("fragmentation", "0 to 1", type=float, default=0.0, metavar="X")
    add("boot_info", "report uptime, boot id and reset reason", action="store_true")
    add("handshake_s", "time of a full TLS handshake", type=float, default=0.0, metavar="S")
    add("full_handshakes", "let no client resume a TLS session", action="store_true")
    add(
        "slot",
        "SLOT:KEY=VALUE[,...]: the firmware in slot a or b: version, what a slowdown names, error_rate:NAME, "
        "leak_bytes, boot_s, boots=no; repeatable",
        type=_typed(parse_slot),
        action="append",
        default=[],
    )
    add("rollback", "boot the other slot where a firmware does not boot", action="store_true")
    add("boot_noise", "how much boots differ, as 0.002 (default: by the noise)", type=float, metavar="X")
    return parser


if __name__ == "__main__":
    sys.exit(main())
