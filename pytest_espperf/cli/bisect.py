"""``espperf bisect``: the commit that made a board slower."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pytest_espperf.cli.common import FAILED, add_command, checked, print_lines
from pytest_espperf.cli.json_lines import print_json
from pytest_espperf.cli.rounds import (
    add_build_arguments,
    add_round_options,
    check_build_commands,
    print_saved,
    running_check,
    say_begin,
    settings_of,
    showing,
)
from pytest_espperf.config.parsers import number, whole
from pytest_espperf.errors import ArtifactError, UsageError
from pytest_espperf.gate.series import COMPOSITES
from pytest_espperf.history import load_session
from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.model.verdicts import mood_of
from pytest_espperf.report import Line
from pytest_espperf.report.contest import candidate_table
from pytest_espperf.session.bisecting import MOST_READINGS, Bisection
from pytest_espperf.session.joining import join_parts
from pytest_espperf.session.revisions import Revision, Revisions
from pytest_espperf.session.round_meter import RoundMeter
from pytest_espperf.session.searches import SearchFile, SearchState, counted

_OF_THE_ANSWER = frozenset({"do", "passes_on", "rest", "parser", "resume", "new", "json"})
"""What a search does not keep for its next part."""

_BOARD = ("host", "device_ip", "device_lab")
"""The ways in which a board is named."""


def add_commands(commands: Any) -> None:
    """Add the command to the command line."""
    bisect = add_command(
        commands,
        "bisect",
        _bisect,
        "find the commit that made a board slower: builds, flashes and measures commits between GOOD and "
        "BAD, each beside GOOD, until it is certain where the step began. Noise is allowed for: no answer is "
        "final, and the commit that says most is measured next. A search that was interrupted continues with "
        "--resume. Exit code 0 where the commit was found, 1 where not.",
    )
    named = [
        bisect.add_argument("good", metavar="GOOD", help="a commit that was fast, as v1.0 or HEAD~20"),
        bisect.add_argument("bad", metavar="BAD", help="a later commit that is slow, as main"),
        bisect.add_argument(
            "host", metavar="HOST", help="the board, or 'sim' for the built-in reference device"
        ),
    ]
    bisect.add_argument(
        "--resume",
        action=_Resume,
        others=named,
        help="continue with the search that was begun in this repository, in the folder where it was begun; "
        "its options are kept, GOOD, BAD and HOST are left out. A board has to be the same one: at a new "
        "address it is named by HOST's option --device-ip and by the same --device-id as before",
    )
    bisect.add_argument(
        "--new",
        action="store_true",
        help="begin another search, and drop an unfinished one of this repository",
    )
    add_build_arguments(bisect, "shell command that builds a commit, in a folder of its own")
    bisect.add_argument(
        "--profile",
        metavar="P",
        help="the profile that shows the step; by default that in which BAD is slowest, of those chosen",
    )
    bisect.add_argument(
        "--gate",
        choices=COMPOSITES,
        help="the figure that shows it (default: rps_ok; p95_ms where a schedule paces the requests)",
    )
    bisect.add_argument(
        "--most",
        metavar="N",
        type=checked(whole(least=3, most=10_000)),
        default=MOST_READINGS,
        help="end without an answer after so many measurements (default: %(default)s)",
    )
    bisect.add_argument(
        "--minutes",
        metavar="M",
        type=checked(number(above=0, most=100_000)),
        default=0.0,
        help="begin no measurement after so many minutes; --resume goes on (default: no limit)",
    )
    bisect.add_argument("--json", action="store_true", help="one JSON object: session_id, answer, contest")
    add_round_options(bisect, named[-1])


class _Resume(argparse.Action):
    """A flag with which the positional arguments may be left out."""

    def __init__(self, *words: Any, others: Sequence[argparse.Action], **how: Any) -> None:
        super().__init__(*words, **(how | {"nargs": 0, "default": False}))
        self._others = others

    def __call__(self, parser: object, namespace: object, values: object, flag: object = None) -> None:  # noqa: ARG002 - argparse's own
        """Set it."""
        setattr(namespace, self.dest, True)
        for other in self._others:
            other.required = False


def _bisect(arguments: argparse.Namespace) -> int:
    state: SearchState | None = None
    if arguments.resume:
        if arguments.new:
            raise UsageError("--resume continues with a search, and --new drops it: give one of them")
        state = SearchFile(_repository(arguments).key).load()
        _refuse_other_ends(arguments, state)
        _take_kept(arguments, state)
    _check(arguments)
    revisions = _repository(arguments)
    file = SearchFile(revisions.key)
    file.prepare()
    try:
        with FileLock(file.path.with_suffix(".lock"), timeout=0):
            if state is None and not arguments.new:
                _refuse_to_drop(file)
            if state is not None and (session := _answered(state)) is not None:
                return _show(arguments, session)
            return _search(arguments, revisions, file, state)
    except Timeout:
        raise UsageError(
            f"another search runs in this repository ({file.path}): wait until it has ended"
        ) from None


def _search(
    arguments: argparse.Namespace,
    revisions: Revisions,
    file: SearchFile,
    state: SearchState | None,
) -> int:
    ends = _ends(arguments, revisions)
    line = [one.commit for one in ends[1:]]
    revisions.warn_of_uncommitted()
    settings, root = settings_of(arguments, "bisect")
    board = next(iter([*settings.device_ip, *settings.device_lab]), "")
    if state is None:
        state = SearchState(
            options=_kept(arguments),
            folder=str(Path.cwd()),
            good=ends[0].commit,
            line=line,
            board=board,
            device_id=settings.device_id,
        )
    elif state.board and (state.board, state.device_id) != (board, settings.device_id):
        _refuse_another_board(arguments, state, board, settings.device_id)
    if (state.good, state.line) != (ends[0].commit, line):
        raise UsageError(
            "--resume: the commits between GOOD and BAD are other ones than before: begin again with --new"
        )
    revisions.flash_s = settings.perf_ab_timeout_s
    with (
        showing() as show,
        RoundMeter(
            settings, root, kind="bisect", say=say_begin, show=show, running=running_check(arguments)
        ) as meter,
    ):
        say_begin(
            f"{meter.boards[0].name}: {counted(len(line), 'commit')}, {ends[0].shown} is good, "
            f"{ends[-1].shown} is bad; "
            "interrupted, it continues with espperf bisect --resume"
        )
        join_parts(meter, state, file.save)
        search = Bisection(
            meter,
            revisions,
            ends,
            state,
            file.save,
            metric=arguments.gate or "",
            most=arguments.most,
            minutes=arguments.minutes,
        )
        outcome = search.run()
        state.finished = search.is_certain
        state.saved = str(outcome.saved.json_path) if outcome.saved is not None else ""
        file.save(state)
    code = _show(arguments, outcome.artifact, lost=bool(search.lost))
    print_saved(outcome, aside=arguments.json)
    return FAILED if outcome.save_error else code


def _answered(state: SearchState) -> SessionArtifact | None:
    """Return the session of a search that has its answer; None where there is more to measure."""
    if not state.finished or not state.saved:
        return None
    try:
        return load_session(Path(state.saved))
    except ArtifactError:  # it was removed: its answer can be had again
        return None


def _show(arguments: argparse.Namespace, session: SessionArtifact, *, lost: bool = False) -> int:
    """Print the answer; return the exit code."""
    found = session.overall_pass
    if arguments.json:
        print_json({"session_id": session.session_id, "found": found, "contest": session.contest})
    else:
        print_lines(_lines(session, lost=lost))
    return 0 if found else FAILED


def _lines(session: SessionArtifact, *, lost: bool) -> list[Line]:
    contest, gate = session.contest, session.gate
    assert contest is not None
    assert gate is not None
    mood = (
        "good" if session.overall_pass else mood_of(gate.kind if gate.kind == "inconclusive" else "unchanged")
    )
    lines = [Line(f"{contest.word.upper()}: {contest.answer}", mood, bold=True), Line("")]
    lines += candidate_table(contest)
    likeliest = max(contest.candidates, key=lambda one: one.probability or 0.0)
    if session.overall_pass:
        lines += [Line(""), Line(f"next: git show {likeliest.commit[:12]}")]
    elif lost:
        lines += [Line(""), Line("next: espperf bisect --resume continues when it can be measured")]
    elif gate.kind == "inconclusive":
        lines += [Line(""), Line("next: espperf bisect --resume --most N measures on")]
    return lines


def _repository(arguments: argparse.Namespace) -> Revisions:
    return Revisions(
        Path(arguments.repo).absolute(),
        build=arguments.build_cmd or "",
        flash=arguments.flash_cmd or "",
        build_s=arguments.build_timeout,
        say=say_begin,
    )


def _ends(arguments: argparse.Namespace, revisions: Revisions) -> list[Revision]:
    good, bad = (
        revisions.revision(commit, end) for commit, end in ((arguments.good, "GOOD"), (arguments.bad, "BAD"))
    )
    if arguments.resume:  # the names may be those of other commits by now
        good, bad = replace(good, name=arguments.good_name), replace(bad, name=arguments.bad_name)
    return [good, *revisions.line(good, bad)]


def _check(arguments: argparse.Namespace) -> None:
    """Refuse missing or wrong commands, and measure the profile that ``--profile`` names.

    Raises:
        UsageError: a command is missing, or it or the path of a check has a placeholder that nobody knows.
    """
    for flag, value in (("--build-cmd", arguments.build_cmd), ("--flash-cmd", arguments.flash_cmd)):
        if not value:
            raise UsageError(f"{flag} is missing: commits are built and flashed by commands")
    check_build_commands(arguments.build_cmd, arguments.flash_cmd)
    running_check(arguments)
    if arguments.profile:
        chosen = arguments.perf_profiles
        if chosen and chosen != arguments.profile and not arguments.resume:
            raise UsageError("--profile names the one that is measured: leave out --perf-profiles")
        arguments.perf_profiles = arguments.profile


def _kept(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that the next part of the search needs."""
    return {name: value for name, value in vars(arguments).items() if name not in _OF_THE_ANSWER}


def _refuse_to_drop(file: SearchFile) -> None:
    """Refuse to begin a search in the place of one that is not finished.

    Raises:
        UsageError: there is one.
    """
    kept = file.kept()
    if kept is not None and not kept.finished and (kept.measured or kept.skipped):
        raise UsageError(
            f"a search in this repository is not finished ({kept.span}, {kept.many}, begun in "
            f"{kept.folder}): "
            "espperf bisect --resume continues with it, --new drops it"
        )


def _refuse_other_ends(arguments: argparse.Namespace, state: SearchState) -> None:
    """Refuse ends that are not those of the search that goes on.

    Raises:
        UsageError: GOOD or BAD is another commit, or no commit.
    """
    revisions = _repository(arguments)
    for given, kept, name in ((arguments.good, state.good, "GOOD"), (arguments.bad, state.line[-1], "BAD")):
        if given is not None and revisions.revision(given, f"--resume: {name}").commit != kept:
            raise UsageError(
                f"--resume takes no GOOD, BAD: {name} is {given!r}, and the search is that of {state.span}; "
                "leave them out, or begin another search with --new"
            )


def _refuse_another_board(
    arguments: argparse.Namespace, state: SearchState, board: str, device_id: str
) -> None:
    """Refuse to join measurements of two boards, unless the user says that they are one.

    Raises:
        UsageError: nothing says that it is the same board.
    """
    said = arguments.device_id_again or not state.options.get("device_id")
    if device_id and device_id == state.device_id and said:
        return
    raise UsageError(
        f"--resume: the search measures {_board_text(state.board, state.device_id)}, not "
        f"{_board_text(board, device_id)}: what was measured on two boards cannot be joined; give the "
        "--device-id of before if it is the same board, or begin another search with --new"
    )


def _board_text(board: str, device_id: str) -> str:
    return f"{board} ({device_id})" if device_id else board or "a board that is looked for"


def _take_kept(arguments: argparse.Namespace, state: SearchState) -> None:
    """Take the options of the search where no other ones are given.

    Raises:
        UsageError: it was begun in another folder.
    """
    if state.folder != str(Path.cwd()):
        raise UsageError(f"--resume: the search was begun in {state.folder}: go there first")
    arguments.device_id_again = getattr(arguments, "device_id", None)
    named = any(getattr(arguments, name, None) for name in _BOARD)
    for name, value in state.options.items():
        if named and name in _BOARD:
            continue
        if getattr(arguments, name, None) in (None, arguments.parser.get_default(name)):
            setattr(arguments, name, value)
    arguments.good_name, arguments.bad_name = (state.options.get(end) or "" for end in ("good", "bad"))
    arguments.good, arguments.bad = state.good, state.line[-1]
