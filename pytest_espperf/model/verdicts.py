"""The verdict words: the only table of what each one means, for judging, for the exit code and for readers.

Data only. What a set of words is asked for elsewhere (``FAILING``, ``BLAMING``, ...) is a view of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

VerdictWord = Literal[
    "unchanged",
    "improved",
    "no-baseline",
    "inconclusive",
    "environment-shift",
    "regressed",
    "drift",
    "failed",
    "incomplete",
]

Mood = Literal["good", "bad", "warn", "plain"]
"""How a line is meant; a renderer chooses the colour."""

Exit = Literal["pass", "require-baseline", "strict", "fail"]
"""Exit code of a session: 0; 1 with ``--perf-require-baseline``; 1 with ``--perf-strict``; 1."""

Joins = Literal["yes", "provisional", "no"]
"""Whether a session joins the baseline: unless it is held back, only where it is provisional, never."""

NOT_GATEABLE = "not-gateable"
"""Verdict of a gate that could not be judged; no session has it."""

UNJUDGED = "unjudged"
"""Name of a session without a verdict, such as one of the original tool; no artifact has it."""


@dataclass(frozen=True)
class Headline:
    """A verdict in words for a reader.

    Attributes:
        text: the sentence behind the word, without a full stop.
        next_steps: what to do next, one sentence each.
    """

    text: str
    next_steps: tuple[str, ...] = ()


@dataclass(frozen=True)
class VerdictKind:
    """One verdict word and what it means.

    Attributes:
        word: the verdict as artifacts have it.
        mood: of its lines.
        exit: what it means for the exit code.
        joins: whether its session joins the baseline.
        headline: the verdict in words.
        neutral: it gives way to any other verdict of the same session.
        opens_epoch: earlier sessions are no longer the baseline, where its session joins.
        slower: the session or gate is slower than the baseline.
        blames: a reader wants to know which path is slower.
        excludes_slowdown: the session or gate is shown not to be slower.
        complete: everything that was planned was measured.
        valid: the board was measured: others may be compared with the session where a user names it.
        short: label where the word does not fit; "" for the word itself.
    """

    word: VerdictWord
    mood: Mood
    exit: Exit
    joins: Joins
    headline: Headline
    neutral: bool = False
    opens_epoch: bool = False
    slower: bool = False
    blames: bool = False
    excludes_slowdown: bool = False
    complete: bool = True
    valid: bool = True
    short: str = ""

    @property
    def fails(self) -> bool:
        """Whether the verdict fails its session by itself (exit code 1)."""
        return self.exit == "fail"


VERDICTS: Mapping[str, VerdictKind] = {
    kind.word: kind
    for kind in (
        VerdictKind(
            "failed",
            mood="bad",
            exit="fail",
            joins="no",
            blames=True,
            valid=False,
            headline=Headline(
                "a budget is exceeded, or the board could not be measured",
                ("fix the findings above and run again",),
            ),
        ),
        VerdictKind(
            "regressed",
            mood="bad",
            exit="fail",
            joins="no",
            slower=True,
            blames=True,
            headline=Headline(
                "slower than the accepted sessions",
                ("run again to confirm; failing sessions never become the baseline",),
            ),
        ),
        VerdictKind(
            "drift",
            mood="bad",
            exit="fail",
            joins="no",
            slower=True,
            blames=True,
            headline=Headline(
                "a slow slide since the beginning of this epoch",
                ("compare with the oldest sessions of this epoch: no single change did it",),
            ),
        ),
        VerdictKind(
            "incomplete",
            mood="warn",
            exit="pass",
            joins="no",
            complete=False,
            valid=False,
            headline=Headline(
                "not everything planned was measured: shown, never compared against",
                ("run without -k, --lf or an interruption to be judged",),
            ),
        ),
        VerdictKind(
            "inconclusive",
            mood="warn",
            exit="strict",
            joins="provisional",
            blames=True,
            short="unclear",
            headline=Headline(
                "a slowdown is neither shown nor excluded",
                (
                    (
                        "run again with more or longer runs (--perf-runs, --perf-long-duration), or with "
                        "less load on this computer; --perf-strict makes this verdict fail"
                    ),
                ),
            ),
        ),
        VerdictKind(
            "environment-shift",
            mood="warn",
            exit="pass",
            joins="yes",
            opens_epoch=True,
            short="shifted",
            headline=Headline("both firmwares are slower now: the bench changed, not the firmware"),
        ),
        VerdictKind(
            "no-baseline",
            mood="good",
            exit="require-baseline",
            joins="yes",
            neutral=True,
            headline=Headline(
                "the first session of its kind; budgets apply",
                ("run the same command again: the next session is compared with this one",),
            ),
        ),
        VerdictKind(
            "unchanged",
            mood="good",
            exit="pass",
            joins="yes",
            neutral=True,
            excludes_slowdown=True,
            headline=Headline("a slowdown beyond the tolerance is excluded"),
        ),
        VerdictKind(
            "improved",
            mood="good",
            exit="pass",
            joins="yes",
            excludes_slowdown=True,
            headline=Headline("faster than the accepted sessions"),
        ),
    )
}
"""The only list of verdicts, the worst first."""

WORST_FIRST: tuple[VerdictWord, ...] = tuple(kind.word for kind in VERDICTS.values())
"""The only ranking of verdicts."""


def words_where(holds: Callable[[VerdictKind], bool]) -> frozenset[str]:
    """Return the words for whose row of the table a condition holds."""
    return frozenset(word for word, kind in VERDICTS.items() if holds(kind))


ACCEPTED = words_where(lambda kind: kind.joins == "yes")
"""Verdicts whose session joins the baseline unless it is held back."""

MAY_JOIN = words_where(lambda kind: kind.joins != "no")
"""The same, and those whose session joins where it is provisional."""

FAILING = words_where(lambda kind: kind.fails)
"""Verdicts that fail the session (exit code 1)."""

SLOWER = words_where(lambda kind: kind.slower)
"""Verdicts that a session or gate is slower than the baseline."""

BLAMING = words_where(lambda kind: kind.blames)
"""Verdicts of a gate after which a reader wants to know which path is slower."""

NOT_SLOWER = words_where(lambda kind: kind.excludes_slowdown)
"""Verdicts that a session or gate is not slower."""

INVALID = words_where(lambda kind: not kind.valid)
"""Verdicts of sessions that nothing can be compared with, even where a user names them."""


def worst_of(words: Iterable[str]) -> VerdictWord:
    """Return the worst of several sessions' verdicts, at least one."""
    return min((VERDICTS[word].word for word in words), key=rank)


def session_word(words: Iterable[str]) -> VerdictWord:
    """Return the verdict of a session from those of its gates: the worst one that is not neutral.

    ``unchanged`` where all others are neutral; ``no-baseline`` where nothing was compared.
    """
    known = {VERDICTS[word].word for word in words if word in VERDICTS}
    telling = [word for word in known if not VERDICTS[word].neutral]
    if telling:
        return worst_of(telling)
    return "unchanged" if "unchanged" in known else "no-baseline"


def rank(word: str) -> int:
    """Place of a word in :data:`WORST_FIRST`; the last one for any other word, such as that of a gate."""
    kind = VERDICTS.get(word)
    return WORST_FIRST.index(kind.word) if kind is not None else len(WORST_FIRST)


def mood_of(word: str) -> Mood:
    """Mood of a verdict, ``plain`` for any other word."""
    kind = VERDICTS.get(word)
    return kind.mood if kind is not None else "plain"


def short_of(word: str) -> str:
    """Label of a gate's verdict behind its figures, where there is little room."""
    if word == NOT_GATEABLE:
        return "-"
    kind = VERDICTS.get(word)
    return (kind.short if kind is not None else "") or word


# --- headlines of special cases -----------------------------------------------------------------------------

_FIX = VERDICTS["failed"].headline.next_steps

NAMED_BASELINE_UNUSABLE = Headline("nothing of it could be compared with the baseline that was named", _FIX)
"""Headline of a failed session that has no other fault."""

LEFT_OUT = Headline(
    "no earlier session can be compared; budgets apply",
    (
        "run the same command again: the next session is compared with this one",
        "to compare with the earlier sessions instead, measure as they did",
    ),
)
"""Headline of a session without a baseline whose earlier sessions differ, or did not pass."""

LOST_WORKER = Headline(
    "a worker was lost, and with it a part of what was planned: shown, never compared against",
    ("find out what ended the worker (the test, a signal, memory), then run again",),
)
"""Headline of an incomplete session of which a worker of pytest-xdist died."""

COMPARISON_OFF = Headline("the comparison was switched off")
NOTHING_COMPARED = Headline(
    "nothing of it could be compared with earlier sessions",
    ("fix the warnings above and run again: this session is no baseline",),
)
NOT_ALL_COMPARED = Headline(
    "not every profile could be compared with earlier sessions", ("fix the warnings above and run again",)
)
"""Headlines of an inconclusive session that has no inconclusive gate: none at all, or none of a profile."""

CLIENTS_WITHOUT_ANSWER = Headline(
    "not every client got an answer",
    ("follow the warning above and run again: only the clients that were served are in the figures",),
)
"""Headline of an inconclusive session in which the board served fewer connections than there were clients."""

OTHER_ANSWERS = Headline(
    "the board answers something else than in the accepted sessions",
    ("check that the board answers what it should: the warnings above list what changed",),
)
"""Headline of an inconclusive session whose answers are not those of the baseline."""
