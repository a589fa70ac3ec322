"""What the plugin's hooks and fixtures share during one pytest run, kept in ``config.stash``."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_espperf.config.lookup import resolve
from pytest_espperf.config.settings import BY_DEST, OPTIONS, Settings
from pytest_espperf.errors import EspperfError, UsageError
from pytest_espperf.model.text import clip, nearest, printable

if TYPE_CHECKING:
    # Loaded when a perf test is there to be run: a plain pytest run must not pay for httpx.
    from pytest_espperf.history.shared.sharing import Sent, Sharing
    from pytest_espperf.session.driver import PhaseDriver
    from pytest_espperf.session.plan import PlannedPhase
    from pytest_espperf.session.saving import SessionOutcome
    from pytest_espperf.session.session import PerfSession
    from pytest_espperf.session.worker import Worker

NO_XDIST = "under pytest-xdist, perf tests are run by themselves: add -m perf, or -n0"
HANDED = "espperf"
"""Key under which the controller of pytest-xdist and its workers exchange data."""

HANDED_FIGURES = "espperf-figures"
"""Key under which a worker hands over figures of the firmware's own, with the name of their board."""

INI_PREFIXES = ("device_", "perf_", "sim_")
"""How our ini keys begin."""

ONLY_LOOKS = "not measured: --setup-only runs no test"

NO_DEVICE = "no device: pass --device-ip HOST (or --device-ip sim for the built-in reference device)"


class VerdictKey(NamedTuple):
    """What a verdict item is about: a profile of a board, or all else of the board's session ("")."""

    board: str
    profile: str

    @property
    def name(self) -> str:
        """The name of the item: ``verdict[python_heavy]`` or ``session_verdict``, with the board's name."""
        if self.profile:
            return f"verdict[{f'{self.board}-' if self.board else ''}{self.profile}]"
        return f"session_verdict{f'[{self.board}]' if self.board else ''}"


class VerdictText(NamedTuple):
    """What a verdict item says: why it fails, or why nothing was judged; "" for neither."""

    failure: str = ""
    unjudged: str = ""


class PerfState:
    """The shared state of one pytest run, filled in as the run goes on.

    No dataclass: making one takes as long as importing all else that is here.

    Attributes:
        error: the first bad value met while collecting; raised once collecting is over.
        collected: the perf_phase items that were collected, and the verdict items.
        selected: those that are to be run.
        failed: of each board, node ids of selected items that failed.
        device_needed: whether any selected item needs a board.
        sessions: one for each board, by its name ("" where there is one only); empty until they are made.
        sharing: the history that all of them work on; None until they are made.
        workers: in their place in a worker of pytest-xdist.
        awaited: names of the boards of which phases are to be measured.
        outcomes: what became of them.
        verdicts: what each verdict item says, once its board was judged.
        verdict_places: node id of the module or class that each verdict item belongs to.
        reported: the verdicts that were reported by an item, or in the place of one.
        stopped_in: of each board whose session was stopped, the test that reports why.
        measured_again: of each board, what failed while phases were measured again, by the profile.
        ended_by: why pytest stopped early, where its exit status may not tell.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.error: EspperfError | None = None
        self.collected: list[pytest.Item] = []
        self.selected: list[pytest.Item] = []
        self.failed: dict[str, list[str]] = {}
        self.device_needed: bool = False
        self.sessions: dict[str, PerfSession] = {}
        self.sharing: Sharing | None = None
        self.workers: dict[str, Worker] = {}
        self.awaited: set[str] = set()
        self.outcomes: dict[str, SessionOutcome] = {}
        self.ended_by: str = ""
        self.verdicts: dict[VerdictKey, VerdictText] = {}
        self.verdict_places: dict[VerdictKey, str] = {}
        self.reported: set[VerdictKey] = set()
        self.stopped_in: dict[str, str] = {}
        self.measured_again: dict[str, list[tuple[str, str]]] = {}
        self._settings: Settings | None = None
        self._live: bool = False

    @property
    def settings(self) -> Settings:
        """The options in force.

        Raises:
            UsageError: a bad value; names its source.
        """
        if self._settings is None:
            config = self.config
            try:
                ini = {option.dest: config.getini(option.dest) for option in OPTIONS}
            except (pytest.UsageError, TypeError) as error:  # pytest 9 checks the types of [tool.pytest]
                raise UsageError(str(error)) from None
            self._refuse_unknown_ini(config)
            self._settings = resolve(
                {option.dest: config.getoption(option.dest) for option in OPTIONS},
                os.environ,
                ini,
                str(config.inipath or "the ini file"),
            )
        return self._settings

    def _refuse_unknown_ini(self, config: pytest.Config) -> None:
        for name in ini_keys_of(config):
            if name.startswith(INI_PREFIXES) and name not in BY_DEST:
                try:
                    config.getini(name)  # it is another plugin's
                except ValueError:
                    raise UsageError(
                        f"{name} in {config.inipath} is no option of pytest-espperf{nearest(name, BY_DEST)}"
                    ) from None

    @property
    def device_named(self) -> bool:
        """Whether the options name a board."""
        return bool(self.settings.device_ip or self.settings.device_lab)

    @property
    def asked_for(self) -> bool:
        """Whether this run was started for perf tests: ``-m`` names perf, or the packaged suite was named."""
        config = self.config
        expression = re.sub(r"\bnot\s+\(?\s*perf\b", "", config.getoption("markexpr") or "")
        marked = re.search(r"\bperf\b", expression)
        suite = any(
            re.search(r"pytest_espperf[./\\]suite", str(given)) for given in config.invocation_params.args
        )
        return bool(marked) or suite

    @property
    def only_looks(self) -> bool:
        """Whether no test is to be run: then no board is reached for, and nothing is kept."""
        return any(self.config.getoption(name, False) for name in ("collectonly", "setuponly", "setupplan"))

    @property
    def may_measure(self) -> bool:
        """Whether a board may be measured in this run, as far as options tell."""
        try:
            return self.asked_for or self.device_named
        except UsageError:
            return False

    def verdict_id(self, key: VerdictKey) -> str:
        """Return the node id that the item of a verdict has, or would have."""
        return f"{self.verdict_places.get(key, 'espperf')}::{key.name}"

    def planned(self, *, marked: bool = False) -> list[PlannedPhase]:
        """Return every phase of every board, run-major; [] after a bad option, which is kept for later.

        Args:
            marked: with those of profiles that only tests measure whose marker names them.
        """
        try:
            sessions = self.make_sessions()
        except EspperfError as error:
            self.error = self.error or error
            return []
        phases = [
            phase
            for session in sessions.values()
            for phase in session.planned()
            if marked or phase.profile.name not in session.context.plan.marked
        ]
        return sorted(phases, key=lambda phase: phase.run)

    def make_sessions(self) -> dict[str, PerfSession]:
        """Make the sessions on first use, and return them; nothing is touched yet.

        Raises:
            UsageError: a bad option, profile or rule.
        """
        if not self.sessions:
            from pytest_espperf.plugin.sessions import make_sessions  # noqa: PLC0415 - heavy: httpx, asyncio

            self.sharing, self.sessions = make_sessions(
                self.settings, self.config.rootpath, self.say, self.rewrite if self.is_live else None
            )
        return self.sessions

    def make_workers(self, given: Mapping[str, Mapping[str, Any]]) -> dict[str, Worker]:
        """Make the workers of the boards in a worker of pytest-xdist, on first use, and return them.

        Args:
            given: by board, what the controller hands to :class:`pytest_espperf.session.worker.Worker`.
        """
        if not self.workers:
            from pytest_espperf.plugin.sessions import make_workers  # noqa: PLC0415 - as above

            self.workers = make_workers(self.settings, self.config.rootpath, given)
        return self.workers

    def driving(self) -> Mapping[str, PhaseDriver]:
        """Return what drives the boards in this process, by the name of the board."""
        return {name: one.driver for name, one in (self.workers or self.opened()).items()}

    def at_hand(self) -> dict[str, Settings]:
        """Return the options of the boards that are driven in this run, by the id of their session."""
        contexts = [driver.context for driver in self.driving().values()]
        return {context.session_id: context.settings for context in contexts}

    def opened(self) -> dict[str, PerfSession]:
        """Return the sessions that are open, by the name of their board."""
        return {name: session for name, session in self.sessions.items() if session.is_open}

    def announce(self, board: str, phases: Sequence[PlannedPhase]) -> None:
        """Say once of a board what will be measured, where its session is open and the run is not quiet."""
        perf = self.opened().get(board)
        if perf is not None and self.config.get_verbosity() >= 0:
            perf.announce(phases)

    def share(self) -> None:
        """Send what was saved of all boards, at once."""
        if self.sharing is not None:
            self.sharing.send_saved(self._note_sent)

    def _note_sent(self, sent: Sent) -> None:
        for board, outcome in self.outcomes.items():
            if outcome.saved is not None:
                self.outcomes[board] = replace(outcome, sent=sent)

    def close(self) -> None:
        """Give back the boards and end the reference devices; idempotent."""
        for session in self.sessions.values():
            session.close()
        for worker in self.workers.values():
            worker.close()

    def say(self, text: str) -> None:
        """Write one line of progress, on a line of its own, whatever the verbosity and capturing."""
        with self._terminal() as reporter:
            if reporter is not None:
                self._begin_line(reporter)
                reporter.write_line(f"[espperf] {printable(text)}")
                reporter.flush()

    def rewrite(self, text: str) -> None:
        """Write the line of the running phase over the one before; "" wipes it away."""
        with self._terminal() as reporter:
            if reporter is not None:
                self._show(text)

    @property
    def is_live(self) -> bool:
        """Whether the output goes to a terminal, on which a line can be written over."""
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        return reporter is not None and reporter.isatty and os.environ.get("TERM") != "dumb"

    def _show(self, text: str) -> None:
        """Write the live line, and return to where pytest goes on; its writer does not know of the line.

        A line of dots, or the name of a running test, stays as it is.
        """
        writer = self.config.get_terminal_writer()
        column = writer.width_of_current_line
        # Beyond the right margin a terminal goes on in the next line, and cannot come back.
        shown = clip(text, writer.fullwidth - 1)
        if not shown and not self._live:
            return
        self._live = bool(shown)
        there, back = ("\n", f"\x1b[A\x1b[{column}C") if column else ("\r", "")
        stream = writer._file  # noqa: SLF001 - pytest's: on Windows it knows what the sequences mean
        stream.write(f"{there}\x1b[K{shown}\r{back}")
        stream.flush()

    @contextmanager
    def _terminal(self) -> Generator[Any, None, None]:
        """Switch capturing off, and yield the terminal reporter; None where there is none."""
        plugins = self.config.pluginmanager
        capture = plugins.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
            yield plugins.getplugin("terminalreporter")

    def _begin_line(self, reporter: Any) -> None:
        self._show("")
        reporter.ensure_newline()
        writer = self.config.get_terminal_writer()
        if writer.width_of_current_line:  # dots without a file name before them, as with -q
            writer.line()


STATE = pytest.StashKey[PerfState]()


def state_of(config: pytest.Config) -> PerfState:
    """Return the state of a pytest run, made on first use."""
    if STATE not in config.stash:
        config.stash[STATE] = PerfState(config)
    return config.stash[STATE]


def ini_keys_of(config: pytest.Config) -> frozenset[str]:
    """Return the keys of the file that pytest is configured by, of all plugins."""
    # pytest has no public way to ask for them; before 9.2 this was public.
    found = getattr(config, "_inicfg", None)
    return frozenset(config.inicfg if found is None else found)
