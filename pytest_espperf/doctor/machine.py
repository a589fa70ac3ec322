"""This machine: its clock, its generator, its software, and where sessions are kept."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_espperf.doctor.findings import Check
from pytest_espperf.errors import HistoryError
from pytest_espperf.history.files import make_writable
from pytest_espperf.load.guard import BOUND_LAG_MS, fastest_loop
from pytest_espperf.load.stamped import kernel_stamps
from pytest_espperf.model.artifact import PhaseReport
from pytest_espperf.session.identity import describe_environment
from pytest_espperf.system import regular

COARSE_S = 1e-5
"""Resolution of the clock from which on it shows in answers of a millisecond."""


def examine_machine(
    root: Path, history: Path, reports: Sequence[PhaseReport], *, scheme: str
) -> Iterator[Check]:
    """All checks of it.

    Args:
        root: the project's root directory.
        history: where its sessions are kept.
        reports: of the short load; [] where there was none.
        scheme: the board's.
    """
    clock = time.get_clock_info("perf_counter")
    yield judge_clock(clock.implementation, clock.resolution)
    yield judge_generator(reports)
    yield judge_loop(fastest_loop().__module__.partition(".")[0])
    yield judge_stamps(kernel_stamps(), scheme=scheme, platform=sys.platform)
    yield from judge_environment(describe_environment(root, history))
    yield judge_history(history, try_to_write(history), exists=regular.is_folder(history))


def try_to_write(folder: Path) -> str:
    """Why sessions cannot be kept there, "" where they can; the folder is not made."""
    there = next(place for place in (folder, *folder.absolute().parents) if regular.exists(place))
    try:
        make_writable(there)
    except HistoryError as error:
        return str(error) if there == folder else f"{folder} cannot be made ({error})"
    return ""


def judge_clock(name: str, resolution_s: float) -> Check:
    """Whether it resolves what is measured."""
    figure = f"{name}, resolution {1e6 * resolution_s:g} us"
    values = {"implementation": name, "resolution_s": resolution_s}
    if resolution_s > COARSE_S:
        advice = "measure from another machine: this one's clock is too coarse for quick answers."
        return Check("machine", "clock", "warn", figure, advice, values)
    return Check("machine", "clock", "ok", figure, values=values)


def judge_generator(reports: Sequence[PhaseReport]) -> Check:
    """Whether the load generator kept pace with the short load."""
    generators = [report.generator for report in reports if report.generator is not None]
    if not generators:
        advice = "look again once the board can be loaded."
        return Check("machine", "generator", "note", "not measured: there was no load", advice)
    lag = max((one.lag_p99_ms for one in generators if one.lag_p99_ms is not None), default=None)
    cpu = max(one.cpu_share for one in generators)
    turnaround = max((one.turnaround_ms for one in generators if one.turnaround_ms is not None), default=None)
    parts = [] if lag is None else [f"lag p99 {lag:.1f} ms"]
    parts.append(f"{100 * cpu:.0f} % of a core")
    if turnaround is not None:
        parts.append(f"{turnaround:.2f} ms from an answer to the next request")
    values = {
        "lag_p99_ms": lag,
        "cpu_share": round(cpu, 4),
        "turnaround_ms": turnaround,
        "engine": generators[-1].engine,
    }
    if any(one.bound for one in generators):
        advice = "end what else this machine does: it, and not the board, set the pace."
        if lag is None or lag <= BOUND_LAG_MS:
            advice = "measure from a faster machine: this one, and not the board, set the pace."
        return Check("machine", "generator", "warn", ", ".join(parts), advice, values)
    return Check("machine", "generator", "ok", ", ".join(parts), values=values)


def judge_loop(name: str) -> Check:
    """Which event loop the generator runs on."""
    values = {"event_loop": name}
    if name == "asyncio":
        advice = "pip install 'pytest-espperf[fast]' gives it one that takes half of the time."
        return Check("machine", "event loop", "note", name, advice, values)
    return Check("machine", "event loop", "ok", name, values=values)


def judge_stamps(kernel: bool, *, scheme: str, platform: str) -> Check:
    """Who says when an answer arrived."""
    values = {"kernel": kernel and scheme == "http"}
    if values["kernel"]:
        return Check("machine", "time stamps", "ok", "the kernel's", values=values)
    why = "inside TLS the kernel's say nothing"
    if scheme == "http":
        why = "this kernel gives none" if platform == "linux" else "only Linux gives the kernel's"
    advice = "keep to one machine for sessions that are to be compared: here the process itself stamps."
    return Check("machine", "time stamps", "note", f"the process's own: {why}", advice, values)


def judge_environment(environment: Mapping[str, Any]) -> Iterator[Check]:
    """Versions, system, repository; the machine's name is nobody's business in a bug report."""
    packages = {"pytest-espperf": environment["pytest_espperf"], **environment["packages"]}
    listed = [f"Python {environment['python']}", *(f"{name} {packages[name]}" for name in packages)]
    values = {"python": environment["python"], "packages": packages}
    yield Check("machine", "software", "ok", ", ".join(listed), values=values)
    system = str(environment["platform"])
    yield Check("machine", "system", "ok", system, values={"platform": system})
    yield from judge_repository(environment)


def judge_repository(environment: Mapping[str, Any]) -> Iterator[Check]:
    """Whether it is known what is measured; nothing where the project is no repository."""
    commit, dirty, trouble = (environment[key] for key in ("git_commit", "git_dirty", "git_trouble"))
    values = {"commit": commit, "dirty": bool(dirty), "trouble": trouble}
    if trouble:
        advice = "sessions are measured all the same; their artifacts lack it."
        yield Check("machine", "repository", "note", trouble, advice, values)
    elif commit:
        figure = f"{commit}{' with uncommitted changes' * bool(dirty)}"
        yield Check("machine", "repository", "ok", figure, values=values)
    elif dirty is not None:
        advice = "commit what you measure: its sessions then say which commit they are of."
        yield Check("machine", "repository", "note", "it has no commit yet", advice, values)


def judge_history(folder: Path, trouble: str, *, exists: bool) -> Check:
    """Whether sessions can be kept."""
    values = {"folder": str(folder), "exists": exists, "writable": not trouble}
    if trouble:
        advice = "give another folder with --perf-history=DIR, or the right to write in this one."
        return Check("machine", "history", "fail", trouble, advice, values)
    figure = f"{folder} can be written" if exists else f"{folder} can be made"
    return Check("machine", "history", "ok", figure, values=values)
