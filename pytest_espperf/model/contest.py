"""What a session rests on that measures several firmwares against each other. Data only."""

from __future__ import annotations

from typing import Literal

import msgspec

ContestKind = Literal["ab", "bisect", "sweep"]
"""What compares the firmwares: two in pairs, the commits between two, the values of a knob."""


class FirmwareFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One firmware of a contest.

    Attributes:
        label: its name in messages.
        how: what puts it on a board: ``command``, ``slot`` or ``revision``.
        commit: of its sources, where that is known.
        slot: of the board, where it stays in one.
        version: that the board told while it ran, "" where it tells none.
        running: what the board answered when it was asked which firmware runs, "" where it was not asked.
    """

    label: str
    how: str = ""
    commit: str = ""
    slot: str = ""
    version: str = ""
    running: str = ""


class Switch(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the firmware on a board.

    Attributes:
        label: of the firmware that was put on it.
        seconds: that the command, or the request to the board, took.
        boot_s: seconds from its end to the first healthy answer; None where the board was not seen away.
        board: its name, where there are several.
    """

    label: str
    seconds: float
    boot_s: float | None = None
    board: str = ""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One of several firmwares among which an answer is looked for.

    Attributes:
        label: its name in messages.
        commit: of its sources, where that is known.
        subject: first line of that commit's message.
        rounds: that were measured of it.
        d_pct: change in percent against the firmware that all are compared with, slower positive; None where
            none was measured.
        probability: that a slowdown began here; None where that is not the question.
        word: what came of it, where each has an answer of its own.
        trouble: why it could not be measured, "" where it could.
        figure: geometric mean of what was measured of it, in the unit of ``metric``; None where nothing was.
        metric: of that figure, by name.
        unit: of a throughput that counts no requests.
    """

    label: str
    commit: str = ""
    subject: str = ""
    rounds: int = 0
    d_pct: float | None = None
    probability: float | None = None
    word: str = ""
    trouble: str = ""
    figure: float | None = None
    metric: str = ""
    unit: str = ""


class Contest(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison of firmwares in one session: such a session is no baseline of others.

    Attributes:
        kind: what compares them.
        firmwares: those that were measured.
        switches: every change of firmware, in order.
        boards: names of the boards, where there are several: measured at the same time, and swapped half way.
        pairs: of old and new that were measured, of the profile with most of them.
        most_pairs: after which an open answer stays open.
        seconds: from the first switch to the last phase.
        board_pct: by how much the second board is slower than the first, in percent, by profile; where each
            had both firmwares.
        word: what came of it, in a word, where the session's verdict is not the answer.
        answer: the same in a sentence.
        candidates: the firmwares among which the answer was looked for.
        told_apart: whether the board itself said that it runs another firmware after each switch; None where
            it says nothing of that, and was not asked.
    """

    kind: ContestKind
    firmwares: list[FirmwareFacts] = []
    switches: list[Switch] = []
    boards: list[str] = []
    pairs: int = 0
    most_pairs: int = 0
    seconds: float = 0.0
    board_pct: dict[str, float] = {}
    word: str = ""
    answer: str = ""
    candidates: list[Candidate] = []
    told_apart: bool | None = None
