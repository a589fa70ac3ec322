"""The reference device's part of the option table. Imported by every pytest run: keep it light."""

from __future__ import annotations

from pytest_espperf.config.option import option
from pytest_espperf.config.parsers import number, one_of, whole, word


class SimOptions:
    """What ``--device-ip sim`` starts."""

    sim_seed: int = option(
        1, "seed of the reference device's noise", parse=whole(least=0, most=2**32), metavar="N"
    )
    sim_time_scale: float = option(
        1.0,
        "all times of the reference device times this",
        parse=number(least=0.001, most=1000),
        metavar="X",
    )
    sim_noise: str = option(
        "low",
        "its noise: low, medium, high or none",
        parse=one_of("low", "medium", "high", "none"),
        metavar="LEVEL",
    )
    sim_slowdown: tuple[str, ...] = option(
        (),
        "make a profile or route slower: python_heavy=1.3; repeatable",
        parse=word,
        metavar="NAME=X",
        separator="\n",
    )
    sim_error_rate: tuple[str, ...] = option(
        (),
        "share of a route's requests answered 500: /hello=0.05; repeatable",
        parse=word,
        metavar="ROUTE=SHARE",
        separator="\n",
    )
    sim_leak_bytes: int = option(
        0, "bytes of heap lost per request", parse=whole(least=0, most=2**31), metavar="N"
    )
    sim_fault: tuple[str, ...] = option(
        (),
        "a fault SECONDS after its start: hang, reboot, reset, truncate, malformed, slowloris, close, "
        "refuse, garbage-length, huge-body; repeatable",
        parse=word,
        metavar="KIND@SECONDS[:DURATION]",
        separator="\n",
    )
